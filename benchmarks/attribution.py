"""Whether attribution tells what training without examples does: scikit-learn's digits, many small trainings.

A small run is trained, and samples are drawn from it. Then the same network is trained, from the same initial weights, on
random halves of the data, and the denoising loss of every sample is measured under each of these. The linear datamodelling
score is the rank correlation over halves of that loss with the sum of the influences of the examples in the half ("TRAK:
Attributing Model Behavior at Scale", 2023, arXiv 2303.14186). And the examples of most influence on each sample are left
out, beside as many at random of its class, and the nearest.

    python benchmarks/attribution.py --halves 16 --samples 20 --k 15 --out out/attribution
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from langevin.cli import main as langevin
from langevin.diffusion.batch import Batch
from langevin.evaluation.statistics import mean_interval
from langevin.files import write_atomic
from langevin.modalities.modality import RequestContext
from langevin.modalities.options import options_of
from langevin.recipe.build import build
from langevin.run.attribute import Gradients, Settings, distances, influences, kept_gradients
from langevin.run.directory import load_model, open_run
from langevin.run.generate import RunModel
from langevin.run.refine import recorded, slowed, trained
from langevin.training import machine
from langevin.training.order import DataOrder

SMALL = ("network={kind: dit, width: 32, depth: 2, patch: 2, head_dim: 16, dropout: 0}", "training.threads=1")
WAYS = ("loss", "square", "gauss_newton")
DAMPINGS = (0.01, 0.1, 1.0, 10.0)
LOSSES = 16  # names of noises, each at all levels, of which the loss of a sample is a mean


def main(arguments=None):
    args = parsed(arguments)
    path = args.out / "run"
    if not (path / "recipe.yaml").is_file():
        assert langevin(["train", "image/digits", *SMALL, f"training.steps={args.steps}", "--out", str(path)]) == 0
    run = open_run(path)
    train, _ = run.open_data()
    every = torch.arange(len(train))
    whole, _ = load_model(run, ema=0.0)
    x, condition = drawn(whole, args.samples)
    print(f"{len(train)} examples, {args.samples} samples, {args.steps} steps a training", flush=True)
    own, found = losses(whole, x, condition), {}
    scores = scored(run, whole, train, every, x, condition, args)
    halves, under = [], []
    for i in range(args.halves):
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(100 + i))
        halves.append(torch.zeros(len(train), dtype=torch.bool).index_fill_(0, order[: len(train) // 2], True))
        under.append(losses(retrained(run, train, halves[-1].nonzero()[:, 0], seed=0), x, condition))
        print(
            f"half {i + 1} of {args.halves}: the samples' loss is {under[-1].mean():.4f}, and was {own.mean():.4f}",
            flush=True,
        )
        for name, score in scores.items() if i > 2 else ():
            predicted = centred(-torch.stack([score[:, half].sum(1) for half in halves]))  # (halves, samples)
            rank = [spearman(predicted[:, j], centred(torch.stack(under))[:, j]) for j in range(args.samples)]
            found[name] = mean_interval(rank)
            print(f"{name}: {found[name].estimate:.3f} ({found[name].low:.3f} to {found[name].high:.3f})", flush=True)
    content = {"datamodelling": {name: vars(one) for name, one in found.items()}}
    content["without"] = without(run, train, x, condition, own, scores, args)
    write_atomic(args.out / "attribution.json", json.dumps(content, indent=1).encode())


def parsed(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/attribution"))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--halves", type=int, default=16)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--k", type=int, default=15, help="examples of each sample that are left out")
    parser.add_argument("--seeds", type=int, default=1, help="trainings without them")
    parser.add_argument("--damping", type=float, default=0.1, choices=DAMPINGS)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    return parser.parse_args(arguments)


def retrained(run, train, items, *, seed):
    """The run's network, trained from its initial weights on some of the data."""
    device = machine.device()
    built = build(run.recipe, device=device)
    config = replace(slowed(run.recipe.training, 1.0), seed=seed)
    order, read = DataOrder(count=len(items), batch=config.batch, seed=seed), built.batches(train)
    trained(
        lambda step, rows, draw: read(items[order.items(step, rows)], draw.noise),
        built.model.method,
        config,
        device=device,
    )
    built.model.network.eval()
    return RunModel(built=built, sampling=replace(run.recipe.sampling, ema=0.0))


def drawn(model, count):
    """Encoded samples of all classes in turn, with their conditions."""
    kept = []
    context = RequestContext(model=model, data=lambda: (None, None), count=count, seed=0)
    model.run(recorded(model.modality.plan(options_of(model.modality.kind).Sample(), context), kept))
    request, x = kept[0]
    return x, request.condition.unguided()


def losses(model, x, condition):
    """The denoising loss of each sample, (n,), on the same noises for all models."""
    found = []
    for i in range(LOSSES):
        names = 10_000 * (i + 1) + torch.arange(len(x))
        found.append(model.parts.losses(Batch(x=x, condition=condition), names).mean(0))
    return torch.stack(found).mean(0).double()


def scored(run, model, train, items, x, condition, args):
    """By name: influence of the examples on the samples, (samples, n); the more, the more the loss is to rise without."""
    batches, scores = model.batches(train), {}
    for way in args.ways:
        gradients = Gradients(model=model, settings=Settings(by=way, draws=args.draws))
        kept = kept_gradients(run, gradients, batches, items, lambda done, total: None)
        asked = [
            gradients.of(Batch(x=x[j : j + 1], condition=condition.select(slice(j, j + 1))), len(items) + j)
            for j in range(len(x))
        ]
        for damping in DAMPINGS:
            settings = replace(gradients.settings, damping=damping)
            own = Gradients(model=model, settings=settings)
            scores[f"{way} {damping:g}"] = influences(own, kept, torch.stack(asked))
        print(f"{way}: gradients taken", flush=True)
    scores["pixels"] = torch.stack([-distances(batches, items, x[j : j + 1]) for j in range(len(x))])
    return scores


def without(run, train, x, condition, own, scores, args):
    """The rise of each sample's loss without k examples for each of the samples, all at once, by how these are chosen: as
    many of the same class at random, by influence, the nearest. In the difference to `random` what is common cancels."""
    labels, classes = train.labels, condition.global_.tensor
    chance = torch.rand(len(x), len(train), generator=torch.Generator().manual_seed(0))
    ranked = {"random": chance - 2.0 * (labels[None] != classes[:, None])}
    ranked |= {name: score for name, score in scores.items() if name == "pixels" or name.endswith(f" {args.damping:g}")}
    rises = {}
    for name, score in ranked.items():
        out = score.argsort(1, descending=True)[:, : args.k].unique()
        left = torch.ones(len(train), dtype=torch.bool).index_fill_(0, out, False).nonzero()[:, 0]
        every = [losses(retrained(run, train, left, seed=seed), x, condition) - own for seed in range(args.seeds)]
        rises[name] = torch.stack(every).mean(0)
        for what, values in ((name, rises[name]), (f"{name} beside random", rises[name] - rises["random"])):
            one = mean_interval(values.tolist())
            print(f"without {len(out)}, {what}: {one.estimate:+.4f} ({one.low:+.4f} to {one.high:+.4f})", flush=True)
    return {name: values.tolist() for name, values in rises.items()}


def centred(values):
    """(halves, samples) without what is common to all samples: some trainings end better than others."""
    return values - values.mean(1, keepdim=True)


def spearman(a, b):
    """The rank correlation of two (n,)."""
    ranks = torch.stack([a.argsort().argsort(), b.argsort().argsort()]).double()
    return float(torch.corrcoef(ranks)[0, 1])


if __name__ == "__main__":
    main()
