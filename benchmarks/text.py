"""Text: speed and validation bits against the MDLM recipe at equal minutes, weights and data; samplers by quality.

    LANGEVIN_DATA=FOLDER python benchmarks/text.py --minutes 10

Part one trains ours (masked, by mask counts, without time conditioning, Muon), a plain re-statement of MDLM (`text_peer`)
and our autoregressive network in turns of a few seconds until each has had its minutes. All are measured by one estimator:
the bound by mask counts, or the chain rule for the autoregressive one. The autoregressive network has learning rates and a
dropout of its own, the best of a few tried for a tenth of its minutes each, and keeps the weights of its least held-out
loss. A second one, of another seed, judges what all of them write. MDLM has the width whose number of weights is nearest to
ours. Equal weights are not equal work: our n-gram tables are lookups, and its time weights are used once per sequence. So
it is also timed at equal width.
Part two samples with each sampler at several numbers of steps, and from the autoregressive network with its keys and values
kept, and measures bits under the judge, unigram entropy and distinct word pairs. A sampler's speed at equal quality is that
of its fastest setting that is no worse in any of the three than `unmask` with the most steps. Part three times block
diffusion with cached keys and values against recomputing them. One thread.

    LANGEVIN_DATA=FOLDER python benchmarks/text.py --tasks RUN ...

measures stored runs in place of that: repair (`text_repair.py`) or summaries (`text_summaries.py`).
"""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import harness
import text_peer
import text_repair
import text_summaries
from langevin.diffusion.batch import Batch
from langevin.diffusion.likelihood.tokens import count_bound, whole
from langevin.diffusion.posterior import Categorical
from langevin.diffusion.process import Masked
from langevin.diffusion.sampler import AncestralUnmask
from langevin.modalities.modality import Samples
from langevin.modalities.text.batches import batch_of
from langevin.modalities.text.infill import Writer
from langevin.modalities.text.metrics.variety import distinct, unigram_entropy
from langevin.modalities.text.task import Seq2Seq
from langevin.recipe.build import Built, build
from langevin.recipe.complete import complete
from langevin.recipe.sampling import parse_sampler
from langevin.recipe.tree import AutoregressiveConfig
from langevin.run.directory import open_run
from langevin.run.generate import RunModel
from langevin.training.loop import TrainingState
from text_sides import (
    AVERAGE,
    SHARE,
    Autoregressive,
    Side,
    bits,
    in_turns,
    of_equal_weights,
    ours,
    peer_network,
    peer_side,
    recipe,
    searched,
    weights,
)

NEAR = 0.02  # "equal quality": no measure worse than the reference by more than this fraction
SAMPLERS = (
    "unmask", "confidence", "confidence score=margin", "confidence score=entropy", "threshold",
    "threshold rule=entropy_bound", "remdm", "psi",
)  # fmt: skip


def speeds(config: Any, train: Any, width: int, args: Any) -> float:
    """Tokens/s of ours over those of the peer at a width, on fresh networks with steps in turns."""
    _, _, step = ours(config, train, lambda: 10**6)
    _, peer = peer_side(config, train, peer_network(config, width), args.seed)

    def rate(one: Callable[[], int]) -> Callable[[], float]:
        def run() -> float:
            begin = time.perf_counter()
            return one() / (time.perf_counter() - begin)

        return run

    times = harness.interleave({"ours": rate(step), "peer": rate(peer.step)}, pairs=2 * args.pairs, warm_up=2)
    return statistics.median(a / b for a, b in zip(times["ours"], times["peer"], strict=True))


def tasks(runs: Sequence[Path], *, quick: bool) -> dict[str, Any]:
    """Figures of stored runs: of summaries for runs on texts with summaries, else of repair."""
    found = dict[str, Any]()
    for path in runs:
        of = text_summaries if isinstance(open_run(path).recipe.data.task, Seq2Seq) else text_repair
        found |= of.measured(path, quick=quick)
    return found


def main() -> None:
    parser = harness.options(__doc__ or "", pairs=5)
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, for each of the three")
    parser.add_argument(
        "--samplers", nargs="+", default=SAMPLERS, metavar="SAMPLER", help="that are compared, unmask among them"
    )
    parser.add_argument("--rows", type=int, default=400, help="validation windows for bits per character")
    parser.add_argument(
        "--tasks",
        nargs="+",
        type=Path,
        default=[],
        metavar="RUN",
        help="measure repair or summaries of runs, and no more",
    )
    args = harness.parse(parser)
    if "unmask" not in args.samplers:
        parser.error("--samplers: at equal quality means that of unmask, so it is one of them")
    torch.set_num_threads(1)
    if args.tasks:
        return harness.conclude({"benchmark": "text", **tasks(args.tasks, quick=args.quick)})
    root = os.environ.get("LANGEVIN_DATA")
    if not root:
        raise SystemExit("set LANGEVIN_DATA to the folder that holds books/")
    minutes, rows = (0.1, 16) if args.quick else (args.minutes, args.rows)
    config = recipe(Path(root) / "books", args)
    train, val = config.data.open()
    config = complete(config, train)
    causal = replace(
        config,
        process=AutoregressiveConfig(vocab_size=config.process.vocab_size),
        network=replace(config.network, attention="causal"),
    )
    foreseen = {"ours": 10**6, "autoregressive": 10**6, "judge": 10**6}
    built, state, step = ours(config, train, lambda: foreseen["ours"])
    tried = searched(causal, train, val, SHARE * minutes)
    lr_factor, dropout = min(tried, key=lambda candidate: tried[candidate])
    twin, judge = (
        Autoregressive.of(
            causal, train, val, lambda name=name: foreseen[name], lr_factor=lr_factor, dropout=dropout,
            seed=args.seed + i,
        )
        for i, name in enumerate(("autoregressive", "judge"))
    )  # fmt: skip
    torch.manual_seed(args.seed)
    width = of_equal_weights(config, weights(built.model.network))
    peer, side = peer_side(config, train, peer_network(config, width), args.seed)
    sides = {"ours": Side(step), "mdlm": side, "autoregressive": Side(twin.step), "judge": Side(judge.step)}
    sizes = {"ours": weights(built.model.network), "mdlm": weights(peer.network)}
    rates = {name: speeds(config, train, w, args) for name, w in (("weights", width), ("width", config.network.width))}
    steps = {
        "ours": lambda: state.step,
        "autoregressive": lambda: twin.state.step,
        "judge": lambda: judge.state.step,
    }
    in_turns(sides, steps, foreseen, minutes, looks=(twin.stop.look, judge.stop.look))
    averaged(built, state)
    for one in (twin, judge):
        one.stop.best()
    result = measured(built, twin.built, judge.built, peer, built.batches(val), rows)
    print(f"\nweights {sizes}, tokens { ({n: s.tokens for n, s in sides.items()}) }, ratios of tokens/s {rates}")
    for name, value in result.items():
        print(f"{name:16} {value:.4f} bits per character")
    written = autoregressive(twin.built, judge.built, args) | samplers(built, judge.built, args)
    equal = at_equal_quality(written)
    print(f"tokens/s at the quality of unmask with the most steps: {equal}")
    cache = blocks(config, args)
    harness.conclude({
        "tokens_ratio": round(rates["weights"], 3), "tokens_ratio_at_equal_width": round(rates["width"], 3),
        "bits_per_char": round(result["ours"], 4), "peer_bits_per_char": round(result["mdlm"], 4),
        "autoregressive_bits_per_char": round(result["autoregressive"], 4), "minutes": minutes, "weights": sizes,
        "samplers": written, "at_equal_quality": equal, "cache_ratio": cache,
        "judge_bits_per_char": round(result["judge"], 4), "autoregressive_lr_factor": lr_factor,
        "autoregressive_dropout": dropout, "autoregressive_kept": {"step": twin.stop.step, "of": twin.state.step},
        "autoregressive_search": {f"{rate:g} {drop:g}": round(nats, 3) for (rate, drop), nats in tried.items()},
    })  # fmt: skip


@torch.no_grad()
def averaged(built: Built, state: TrainingState) -> None:
    parameters = dict(built.model.method.players["denoiser"].module.named_parameters())
    for name, value in state.ema["denoiser"].tensors(AVERAGE).items():
        parameters[name].copy_(value)
    built.model.network.eval()


def measured(
    built: Built, twin: Built, judge: Built, peer: text_peer.Trainer, read: Any, rows: int
) -> dict[str, float]:
    """Bits per character of the same validation windows."""
    items = torch.arange(rows) * len(read) // rows
    network, process = peer.averaged(), Masked(vocab_size=built.recipe.process.vocab_size)

    def theirs(x_t: Tensor, t: Tensor, condition: Any = None) -> Categorical:
        return Categorical(network(x_t, t.clamp_min(text_peer.EPS)))

    totals: dict[str, list[Tensor]] = {"ours": [], "mdlm": [], "autoregressive": [], "judge": []}
    texts: list[Tensor] = []
    for part in items.split(32):
        batch: Batch = read(part)
        totals["ours"].append(count_bound(built.model.denoiser, process, batch, names=part, draws=4))
        totals["mdlm"].append(count_bound(theirs, process, batch, names=part, draws=4))
        totals["autoregressive"].append(whole(twin.model.denoiser, batch))
        totals["judge"].append(whole(judge.model.denoiser, batch))
        texts += list(batch.x)
    return {name: bits(torch.cat(parts), texts, built) for name, parts in totals.items()}


def written(built: Built, sampling: Any, x: Tensor, block: int | None = None) -> tuple[Tensor, int]:
    """x (b, n) with tokens at its masked positions, and the function evaluations per text."""
    model = RunModel(built=built, sampling=sampling)
    writer = writer_of(built, sampling, block)

    def plan() -> Any:
        ids = yield from writer.write(x, torch.arange(len(x)))
        return Samples(modality=model.modality, values=ids)

    samples = model.run(plan())
    return samples.values, samples.nfe


def writer_of(built: Built, sampling: Any, block: int | None = None) -> Writer:
    return Writer(codec=built.recipe.data.codec, model=built.model, sampling=sampling, block=block)


def samplers(built: Built, judge: Built, args: Any) -> dict[str, dict[str, float]]:
    """Each sampler at several numbers of steps: tokens/s, bits under the judge, entropy, distinct word pairs."""
    mask, length = writer_of(built, built.recipe.sampling).words.mask, built.recipe.data.task.context_length
    count, grid = (4, (8, 64)) if args.quick else (32, (8, 16, 32, 64, 128))
    found: dict[str, dict[str, float]] = {}
    for name in args.samplers:
        for steps in grid:
            sampler = parse_sampler(name, built.model.process)
            sampling = replace(built.recipe.sampling, sampler=sampler, steps=steps)
            blank = torch.full((count, length), mask)
            written(built, replace(sampling, steps=2), blank[:2])  # warm-up
            begin = time.perf_counter()
            x, nfe = written(built, sampling, blank)
            seconds = time.perf_counter() - begin
            found[f"{name} {steps}"] = line = judged(x, built, judge, nfe=nfe, seconds=seconds)
            print(f"{name} {steps}: {line}", flush=True)
    return found


def judged(x: Tensor, built: Built, judge: Built, *, nfe: int, seconds: float) -> dict[str, float]:
    """What was written in so many seconds: tokens/s, bits under the judge, entropy, distinct word pairs."""
    texts = [built.recipe.data.codec.decode(row) for row in x]
    every = [(row, torch.ones_like(row, dtype=torch.bool)) for row in x]
    padding = writer_of(built, built.recipe.sampling).words.padding
    nats = whole(judge.model.denoiser, batch_of(every, padding=padding, device=x.device))
    split = [text.split() for text in texts]
    return {
        "nfe": nfe, "tokens_per_second": round(x.numel() / seconds), "judge_bits": round(bits(nats, list(x), built), 3),
        "entropy": round(unigram_entropy(split), 3), "distinct_2": round(distinct(split, 2), 3),
    }  # fmt: skip


def autoregressive(twin: Built, judge: Built, args: Any) -> dict[str, dict[str, float]]:
    """The autoregressive network with its keys and values kept: the same figures.

    Raises:
        SystemExit: what it says of its own text is not what the network without the cache says."""
    count, length = 4 if args.quick else 32, twin.recipe.data.task.context_length
    words, network = writer_of(twin, twin.recipe.sampling).words, twin.model.network
    text_peer.write(network, count, 2, limit=words.codec)  # warm-up
    begin = time.perf_counter()
    x, nats = text_peer.write(network, count, length, limit=words.codec, seed=args.seed)
    seconds = time.perf_counter() - begin
    every = [(row, torch.ones_like(row, dtype=torch.bool)) for row in x]
    anew = whole(twin.model.denoiser, batch_of(every, padding=words.padding, device=x.device))
    if not torch.allclose(nats.double().sum(1), anew, rtol=1e-3):
        raise SystemExit(f"kept keys and values give other likelihoods: {nats.sum(1)} and {anew}")
    line = judged(x, twin, judge, nfe=length, seconds=seconds)
    print(f"autoregressive {length}: {line}", flush=True)
    return {f"autoregressive {length}": line}


def at_equal_quality(found: dict[str, dict[str, float]]) -> dict[str, float | None]:
    """Tokens/s of each sampler's fastest setting as good as the reference; None if no setting is."""
    reference = [line for name, line in found.items() if name.startswith("unmask ")][-1]

    def good(line: dict[str, float]) -> bool:
        varied = all(line[k] >= (1 - NEAR) * reference[k] for k in ("entropy", "distinct_2"))
        return varied and line["judge_bits"] <= (1 + NEAR) * reference["judge_bits"]

    rates = {
        name: [line["tokens_per_second"] for key, line in found.items() if key.rsplit(" ", 1)[0] == name and good(line)]
        for name in dict.fromkeys(key.rsplit(" ", 1)[0] for key in found)
    }
    return {name: max(good_ones, default=None) for name, good_ones in rates.items()}


def blocks(config: Any, args: Any) -> float:
    """Seconds of block diffusion with recomputed keys and values over those with cached ones; the network is untrained."""
    size = 16
    config = replace(config, data=replace(config.data, task=replace(config.data.task, context_length=256)))
    cached = build(replace(config, network=replace(config.network, attention="block", block_size=size)))
    full = build(config)
    sampling = replace(config.sampling, sampler=AncestralUnmask(), steps=size)
    x = torch.full((2 if args.quick else 8, config.data.task.context_length), writer_of(cached, sampling).words.mask)

    def seconds(one: Built) -> Callable[[], float]:
        def run() -> float:
            begin = time.perf_counter()
            written(one, sampling, x, block=size)
            return time.perf_counter() - begin

        return run

    times = harness.interleave({"anew": seconds(full), "kept": seconds(cached)}, pairs=args.pairs)
    ratio = statistics.median(a / b for a, b in zip(times["anew"], times["kept"], strict=True))
    print(f"blocks of {size}: cached keys and values are {ratio:.2f} times as fast")
    return round(ratio, 3)


if __name__ == "__main__":
    main()
