"""Text: training and held-out bits beside the MDLM recipe at equal minutes, weights and data; samplers by quality.

    LANGEVIN_DATA=FOLDER python benchmarks/text.py --minutes 10

Part one trains ours (masked, by counts, no time, Muon), a plain re-statement of MDLM (`text_peer`) and an autoregressive
network of ours in turns of a few seconds until each has had its minutes, and measures all by one estimator: the bound by
counts, and the chain rule for the autoregressive one. The peer has the width whose number of weights is nearest to ours.
Weights are not work: ours looks up a table of neighbours, and the peer's weights of the time are used once a row. So it is
also timed at equal width.
Part two writes with each sampler at several numbers of calls, judged by the autoregressive network beside unigram entropy
and distinct word pairs; a sampler's rate at equal quality is that of its fastest row that is no worse in any of the three
than ancestral with the most calls. Part three times writing by blocks with kept keys and values against writing them
anew. One thread.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import table
import text_peer
from langevin.diffusion.batch import Batch
from langevin.diffusion.likelihood.tokens import count_bound, whole
from langevin.diffusion.posterior import Categorical
from langevin.diffusion.process import Masked
from langevin.modalities.text.metrics.variety import distinct, unigram_entropy
from langevin.modalities.text.rows import batch_of
from langevin.recipe.build import Built, build, complete, open_data, reader, training_batches
from langevin.recipe.read import check
from langevin.recipe.tree import LeftToRight
from langevin.run.write import codec_of, fill, vocabulary
from langevin.training.distributed import World
from langevin.training.loop import TrainingState, fit

NEAR = 0.02  # "equal quality": no figure of it worse than this share of the bar's
SAMPLERS = ("ancestral", "confidence", "margin", "entropy", "threshold", "entropy_bound", "remask", "psi")


@dataclass
class Side:
    """One of those that train in turns: a step on a step's data; seconds and symbols so far."""

    step: Callable[[], int]
    seconds: float = 0.0
    tokens: int = 0

    def turn(self, seconds: float) -> None:
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            self.tokens += self.step()
        self.seconds += time.perf_counter() - begin


def recipe(data: Path, asked: Any, **changes: Any) -> Any:
    small = asked.quick
    tree = {
        "name": "text/benchmark",
        "data": {"kind": "text", "path": str(data)},
        "codec": {"kind": "letter_pairs", "size": 400 if small else 4096},
        "layout": {"kind": "corpus", "length": 64 if small else 128, "between": " "},
        "network": {"kind": "transformer", "width": 64 if small else 192, "depth": 2,
                    "head_width": 32 if small else 48, "neighbours": 2, **changes.pop("network", {})},
        "process": {"kind": "masked"},
        "training": {"steps": 10**6, "batch": 8 if small else 32, "averages": [0.05], "precision": "float32",
                     "optimizer": {"kind": "muon", "lr": 0.02, "adamw_lr": 0.002, "embedding_lr": 0.008},
                     "seed": asked.seed},
        "sampling": {"grid": {"kind": "shares", "shape": "linear"}, "average": 0.05},
        **changes,
    }  # fmt: skip
    return check(tree)


def ours(made: Any, data: Any, total: Callable[[], int]) -> tuple[Built, TrainingState, Callable[[], int]]:
    """A step of the real trainer; the learning rate is laid out for the number of steps that `total` foresees."""
    built = build(made)
    state = TrainingState.new(built.method, made.training, edges=built.edges)
    batches = training_batches(made, reader(made, data))
    size = made.training.batch * made.layout.length

    def step() -> int:
        for _ in fit(
            state,
            batches,
            built.method,
            made.training,
            until=state.step + 1,
            total=max(total(), state.step + 1),
            world=World(),
        ):
            pass
        return size

    return built, state, step


def bits(nats: Tensor, rows: list[Tensor], built: Built) -> float:
    characters = sum(len(codec_of(built).decode(row)) for row in rows)
    return float(nats.sum()) / 0.6931471805599453 / characters


def weights(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def peer_network(made: Any, width: int) -> text_peer.MDLM:
    symbols, depth, heads = made.process.symbols, made.network.depth, made.network.width // made.network.head_width
    return text_peer.MDLM(symbols, width=width, depth=depth, heads=heads)


def of_equal_weights(made: Any, wanted: int) -> int:
    """The width at which the peer has as many weights, nearly."""
    heads = made.network.width // made.network.head_width
    return min(
        range(2 * heads, 4 * made.network.width, 2 * heads), key=lambda w: abs(weights(peer_network(made, w)) - wanted)
    )


def peer_side(made: Any, train: Any, network: text_peer.MDLM, seed: int) -> tuple[text_peer.Trainer, Side]:
    peer, batches = text_peer.Trainer(network, seed=seed), training_batches(made, reader(made, train))

    def step() -> int:
        x = batches(peer.steps, torch.arange(made.training.batch)).x
        peer.step(x)
        return x.numel()

    return peer, Side(step)


def in_turns(
    sides: dict[str, Side], steps: dict[str, Callable[[], int]], foreseen: dict[str, int], minutes: float
) -> None:
    """Train until each has had its minutes; `foreseen` follows how many steps that will be."""
    slice_ = max(1.0, 60 * minutes / 40)
    while min(side.seconds for side in sides.values()) < 60 * minutes:
        for name, side in sides.items():
            side.turn(slice_)
            if name in foreseen:
                foreseen[name] = max(steps[name]() + 1, int(steps[name]() * 60 * minutes / side.seconds))
        print(" ".join(f"{n} {s.tokens / s.seconds:.0f} tokens/s" for n, s in sides.items()), flush=True)


def speeds(made: Any, train: Any, width: int, asked: Any) -> float:
    """Symbols a second of ours over the peer's of a width, steps in turns, on networks made for it."""
    _, _, step = ours(made, train, lambda: 10**6)
    _, peer = peer_side(made, train, peer_network(made, width), asked.seed)

    def rate(one: Callable[[], int]) -> Callable[[], float]:
        def run() -> float:
            begin = time.perf_counter()
            return one() / (time.perf_counter() - begin)

        return run

    times = table.interleave({"ours": rate(step), "peer": rate(peer.step)}, pairs=2 * asked.pairs, warm_up=2)
    return statistics.median(a / b for a, b in zip(times["ours"], times["peer"], strict=True))


def main() -> None:
    parser = table.options(__doc__ or "", pairs=5)
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, for each of the three")
    parser.add_argument("--rows", type=int, default=400, help="held-out rows for bits a character")
    asked = table.parse(parser)
    torch.set_num_threads(1)
    root = os.environ.get("LANGEVIN_DATA")
    if not root:
        raise SystemExit("set LANGEVIN_DATA to the folder that holds books/")
    minutes, rows = (0.1, 16) if asked.quick else (asked.minutes, asked.rows)
    made = recipe(Path(root) / "books", asked)
    train, held_out = open_data(made)
    made = complete(made, train)
    causal = replace(
        made, process=LeftToRight(symbols=made.process.symbols), network=replace(made.network, attention="causal")
    )
    foreseen = {"ours": 10**6, "autoregressive": 10**6}
    built, state, step = ours(made, train, lambda: foreseen["ours"])
    judge, judge_state, judge_step = ours(causal, train, lambda: foreseen["autoregressive"])
    torch.manual_seed(asked.seed)
    width = of_equal_weights(made, weights(built.network))
    peer, side = peer_side(made, train, peer_network(made, width), asked.seed)
    sides = {"ours": Side(step), "mdlm": side, "autoregressive": Side(judge_step)}
    sizes = {"ours": weights(built.network), "mdlm": weights(peer.network)}
    rates = {name: speeds(made, train, w, asked) for name, w in (("weights", width), ("width", made.network.width))}
    steps = {"ours": lambda: state.step, "autoregressive": lambda: judge_state.step}
    in_turns(sides, steps, foreseen, minutes)
    for one, its in ((built, state), (judge, judge_state)):
        averaged(one, its)
    found = measured(built, judge, peer, reader(made, held_out), rows)
    print(f"\nweights {sizes}, tokens { ({n: s.tokens for n, s in sides.items()}) }, ratios of tokens/s {rates}")
    for name, value in found.items():
        print(f"{name:16} {value:.4f} bits a character")
    written = samplers(built, judge, asked)
    equal = at_equal_quality(written)
    print(f"symbols a second at the quality of ancestral with the most calls: {equal}")
    cache = blocks(made, asked)
    table.conclude({
        "tokens_ratio": round(rates["weights"], 3), "tokens_ratio_at_equal_width": round(rates["width"], 3),
        "bits_per_char": round(found["ours"], 4), "peer_bits_per_char": round(found["mdlm"], 4),
        "autoregressive_bits_per_char": round(found["autoregressive"], 4), "minutes": minutes, "weights": sizes,
        "samplers": written, "at_equal_quality": equal, "cache_ratio": cache,
    })  # fmt: skip


@torch.no_grad()
def averaged(built: Built, state: TrainingState) -> None:
    parameters = dict(built.method.players["denoiser"].named_parameters())
    for name, value in state.averages["denoiser"].tensors(0.05).items():
        parameters[name].copy_(value)
    built.network.eval()


def measured(built: Built, judge: Built, peer: text_peer.Trainer, read: Any, rows: int) -> dict[str, float]:
    """Bits a character of the same held-out rows."""
    items = torch.arange(rows) * len(read.part) // rows
    network, process = peer.averaged(), Masked(symbols=built.recipe.process.symbols)

    def theirs(x_t: Tensor, t: Tensor, condition: Any = None) -> Categorical:
        return Categorical(network(x_t, t.clamp_min(text_peer.EPS)))

    totals: dict[str, list[Tensor]] = {"ours": [], "mdlm": [], "autoregressive": []}
    texts: list[Tensor] = []
    for part in items.split(32):
        batch: Batch = read(part)
        totals["ours"].append(count_bound(built.denoiser, process, batch, names=part, draws=4))
        totals["mdlm"].append(count_bound(theirs, process, batch, names=part, draws=4))
        totals["autoregressive"].append(whole(judge.denoiser, batch))
        texts += list(batch.x)
    return {name: bits(torch.cat(parts), texts, built) for name, parts in totals.items()}


def samplers(built: Built, judge: Built, asked: Any) -> dict[str, dict[str, float]]:
    """Each sampler at several numbers of calls: symbols a second, the judge's bits, entropy, distinct pairs of words."""
    words, length = vocabulary(built), built.recipe.layout.length
    count, grid = (4, (8, 64)) if asked.quick else (32, (8, 16, 32, 64, 128))
    found: dict[str, dict[str, float]] = {}
    for name in SAMPLERS:
        for steps in grid:
            sampling = replace(built.recipe.sampling, sampler=name, steps=steps)
            blank = torch.full((count, length), words.mask)
            fill(built, replace(sampling, steps=2), blank[:2], seeds=torch.arange(2))  # warm
            begin = time.perf_counter()
            x, calls = fill(built, sampling, blank, seeds=torch.arange(count))
            seconds = time.perf_counter() - begin
            texts = [codec_of(built).decode(row) for row in x]
            every = [(row, torch.ones_like(row, dtype=torch.bool)) for row in x]
            nats = whole(judge.denoiser, batch_of(every, padding=words.padding, blocks=False, device=x.device))
            split = [text.split() for text in texts]
            found[f"{name} {steps}"] = line = {
                "calls": calls, "tokens_per_second": round(count * length / seconds),
                "judge_bits": round(bits(nats, list(x), built), 3),
                "entropy": round(unigram_entropy(split), 3), "distinct_2": round(distinct(split, 2), 3),
            }  # fmt: skip
            print(f"{name} {steps}: {line}", flush=True)
    return found


def at_equal_quality(found: dict[str, dict[str, float]]) -> dict[str, float | None]:
    """Symbols a second of each sampler's fastest row as good as the bar; None where no row is."""
    bar = [line for name, line in found.items() if name.startswith("ancestral ")][-1]

    def good(line: dict[str, float]) -> bool:
        varied = all(line[k] >= (1 - NEAR) * bar[k] for k in ("entropy", "distinct_2"))
        return varied and line["judge_bits"] <= (1 + NEAR) * bar["judge_bits"]

    rates = {
        name: [line["tokens_per_second"] for key, line in found.items() if key.split()[0] == name and good(line)]
        for name in SAMPLERS
    }
    return {name: max(good_ones, default=None) for name, good_ones in rates.items()}


def blocks(made: Any, asked: Any) -> float:
    """Seconds of writing by blocks without kept keys and values over those with them; the network is untrained."""
    size = 16
    layout = replace(made.layout, length=256)
    cached = build(replace(made, layout=layout, network=replace(made.network, attention="block", block=size)))
    full = build(replace(made, layout=layout))
    words = vocabulary(cached)
    sampling = replace(made.sampling, sampler="ancestral", steps=size)
    x = torch.full((2 if asked.quick else 8, layout.length), words.mask)

    def seconds(one: Built) -> Callable[[], float]:
        def run() -> float:
            begin = time.perf_counter()
            fill(one, sampling, x, seeds=torch.arange(len(x)), block=size)
            return time.perf_counter() - begin

        return run

    times = table.interleave({"anew": seconds(full), "kept": seconds(cached)}, pairs=asked.pairs)
    ratio = statistics.median(a / b for a, b in zip(times["anew"], times["kept"], strict=True))
    print(f"blocks of {size}: kept keys and values are {ratio:.2f} times as fast")
    return round(ratio, 3)


if __name__ == "__main__":
    main()
