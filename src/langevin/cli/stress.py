"""`langevin stress`: what is the worst that requests within bounds get from a run, and what helps."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from langevin.cli.compare import show_groups
from langevin.cli.out import unused
from langevin.cli.show import LiveLine
from langevin.cli.verbs import Stress
from langevin.files import own_folder, write_atomic
from langevin.modalities.modality import Measuring, Samples
from langevin.modalities.rating import parse, rating_of
from langevin.run.directory import Run, load_model, open_run, put
from langevin.run.generate import RunModel
from langevin.run.hardening import Weighted
from langevin.run.plan import require_no_run
from langevin.run.refine import Weights, held_out_losses, slowed, trained
from langevin.run.stress import EDITS, Bounds, Game, Moves, Tried, limited, own_weight, search, shares
from langevin.run.tuned import require_one_shape, require_refinable, written
from langevin.training import machine
from langevin.training.order import DataOrder
from langevin.user_function import CodePermission

SLOWER = 0.25  # of the run's learning rates
SHOWN = 16  # of the worst samples, in the picture
LEVELS = 5  # weights of guidance within the bounds, besides the run's own


def run(args: Stress) -> Path:
    """Play, and with `--harden` train and play again.

    Raises:
        ValueError: options out of range, a run that the game is not for, or training that does not help."""
    check(args)
    line, original = LiveLine(), open_run(args.run)
    out = args.out or unused(original.path.with_name(f"{original.path.name}-hardened"))
    if args.harden:
        require_refinable(original)
        require_no_run(out)
    code = CodePermission.of((args.measure,), allow=args.allow_code)
    model, _ = load_model(original, device=machine.device(), code=code, say=line.say)
    measure = parse(args.measure, model.modality, "--measure")
    bounds = bounds_of(args, model)
    train, val = original.open_data(progress=line.progress("reading data"))
    measuring = Measuring(
        model=model, train=train, val=val, folder=own_folder(original.path, "evaluation", create=False),
        facts=original.facts, load=lambda path: load_model(open_run(path), device=machine.device(), code=code)[0],
        count=args.budget, seeds=1, say=line.say, progress=line.progress, run=original.path,
    )  # fmt: skip
    rating = rating_of(measure, measuring, code)
    game = Game.of(model, train, rating, bounds, conditions=args.conditions, seed=args.seed)
    random, found = played(game, args, line, "")
    limits = limited(bounds, random, own_weight(model))
    report = {"run": str(original.path), "measure": args.measure, "bounds": asdict(bounds), "limits": asdict(limits)}
    report |= {"before": figures(game, random, found, args)}
    line.close()
    show(game, random, found, limits, args, line)
    folder = own_folder(original.path, "samples")
    save_worst(game, found, folder / f"stress-{args.measure.replace(':', '-')}-seed{args.seed}", line)
    write_atomic(original.path / "stress.json", json.dumps(report, indent=1).encode())
    if args.harden:
        hardened(args, original, model, game, limits, (train, val), out, report, line)
    line.say(f"figures: {original.path / 'stress.json'}")
    return out if args.harden else original.path


def check(args: Stress) -> None:
    """Check the options. Raises `ValueError` for one out of range."""
    if not 1 <= args.rounds <= 100 or not args.rounds * 8 <= args.budget <= 100_000:
        raise ValueError(
            f"--rounds is 1 to 100 and --budget 8 requests a round to 100,000, got {args.rounds} and {args.budget}"
        )
    if not 1 <= args.conditions <= 100_000 or not 0 < args.minutes < math.inf:
        raise ValueError(
            f"--conditions is 1 to 100,000 and --minutes positive, got {args.conditions} and {args.minutes}"
        )
    for name, pair in (("guidance", args.guidance), ("scales", args.scales)):
        if pair is not None and not (math.isfinite(pair[1]) and pair[0] <= pair[1]):
            raise ValueError(f"--{name} is the lower bound and the upper one, got {pair[0]:g} {pair[1]:g}")


def bounds_of(args: Stress, model: RunModel) -> Bounds:
    """What the adversary may choose: levels between the bounds, and the run's own.

    Raises:
        ValueError: guidance of a run that has no condition."""
    guidance, scales, own = tuple[float, ...](), (1.0,), own_weight(model)
    if args.guidance is not None and not model.conditional:
        raise ValueError("--guidance strengthens a condition, and this run was trained without: leave it out")
    if model.conditional:
        low, high = args.guidance or (min(1.0, own), 2 * max(own, 1.0))
        guidance = tuple(sorted({own, *torch.linspace(low, high, LEVELS, dtype=torch.float64).tolist()}))
    if args.scales is not None:
        levels = torch.linspace(args.scales[0], args.scales[1], LEVELS, dtype=torch.float64).tolist()
        scales = (1.0, *(s for s in levels if abs(s - 1) > 1e-9))
    return Bounds(guidance=guidance, scales=scales, edits=args.edits)


def played(game: Game, args: Stress, line: LiveLine, what: str) -> tuple[Tried, Tried]:
    """Random requests, and the adversary's, of one budget."""
    each = args.budget // args.rounds
    random = search(
        game, rounds=1, population=args.budget, seed=args.seed + 1, progress=line.progress(f"{what}random requests")
    )
    found = search(
        game, rounds=args.rounds, population=each, seed=args.seed + 2, progress=line.progress(f"{what}adversary")
    )
    return random, found


def usual(game: Game, args: Stress) -> Tensor:
    """Ratings of requests as users make them: conditions of the data, and the run's own settings."""
    generator = torch.Generator().manual_seed(args.seed + 3)
    moves = Moves.random(args.budget, game.bounds, game.conditions, generator)
    own = game.bounds.guidance.index(own_weight(game.model)) if game.bounds.guidance else 0
    zero = torch.zeros_like(moves.scale)
    return game.ratings(replace(moves, guidance=zero + own, scale=zero, edits=torch.zeros_like(moves.edits)))


def figures(game: Game, random: Tried, found: Tried, args: Stress) -> dict[str, Any]:
    """Figures of JSON types."""
    ratings = usual(game, args)
    rounds = [found.ratings[found.rounds == r] for r in range(args.rounds)]
    return {
        "usual": float(ratings.mean()), "usual_error": float(ratings.std() / math.sqrt(len(ratings))),
        "random": float(random.ratings.mean()), "value_random": random.value, "value": found.value,
        "rounds": [float(r.mean()) for r in rounds],
        "by": {name: [asdict(s) for s in part] for name, part in parts(game, random).items()},
    }  # fmt: skip


def parts(game: Game, random: Tried) -> dict[str, Any]:
    """The mean rating of random requests for each choice of each part."""
    moves, found = random.moves, dict[str, Any]()
    if len(game.bounds.guidance) > 1:
        found["guidance"] = shares(moves.guidance, [f"{w:g}" for w in game.bounds.guidance], random.ratings)
    if len(game.bounds.scales) > 1:
        found["scale of the noise"] = shares(moves.scale, [f"{s:g}" for s in game.bounds.scales], random.ratings)
    if game.bounds.edits:
        found["first word"] = shares(moves.edits[:, 0, 0], EDITS, random.ratings)
    condition = game.template.condition
    names = getattr(game.model.modality, "class_names", ())
    if condition is not None and condition.global_ is not None and names:
        found["class"] = shares(condition.global_.tensor[moves.condition], list(map(str, names)), random.ratings)
    return found


def show(game: Game, random: Tried, found: Tried, limits: Bounds, args: Stress, line: LiveLine) -> None:
    """Print the game."""
    rows = {
        name: [(s.name, f"{s.mean:.3f}", f"{s.error:.3f}", str(s.count)) for s in sorted(each, key=lambda s: s.mean)]
        for name, each in parts(game, random).items()
    }
    show_groups((args.measure, "mean", "standard error", "requests"), rows)
    by_round = ", ".join(f"{found.ratings[found.rounds == r].mean():.3f}" for r in range(args.rounds))
    line.say(f"mean {args.measure} of the adversary's rounds: {by_round}")
    line.say(f"the worst twentieth of {args.budget} requests: {found.value:.3f}, of random ones {random.value:.3f}")
    if limits != game.bounds:
        line.say(f"it holds up within: {said(limits)}")


def said(bounds: Bounds) -> str:
    """The limits in words."""
    lines = list[str]()
    if bounds.guidance:
        lines.append(f"guidance {bounds.guidance[0]:g} to {bounds.guidance[-1]:g}")
    if len(bounds.scales) > 1:
        lines.append(f"noise of {min(bounds.scales):g} to {max(bounds.scales):g} times its scale")
    return ", ".join(lines) or "its own settings"


def save_worst(game: Game, found: Tried, stem: Path, line: LiveLine) -> None:
    """Write a preview of the worst samples that were found."""
    at = found.worst(SHOWN)
    values = game.draw(found.moves.select(at))
    names = tuple(
        f"{name} {r:.2f}".strip()
        for name, r in zip(classes_of(game, found, at), found.ratings[at].tolist(), strict=True)
    )
    made = game.model.modality.preview(Samples(modality=game.model.modality, values=values, names=names))
    file = stem.with_name(stem.name + made.suffix)
    write_atomic(file, made.content)
    line.say(f"the worst samples, the worst first: {file}")


def classes_of(game: Game, found: Tried, at: Tensor) -> list[str]:
    """The classes that some requests ask for, by name; empty texts without classes."""
    condition, classes = game.template.condition, getattr(game.model.modality, "class_names", ())
    if condition is None or condition.global_ is None or not classes:
        return [""] * len(at)
    return [str(classes[i]) for i in condition.global_.tensor[found.moves.condition[at]].tolist()]


def hardened(
    args: Stress, original: Run, model: RunModel, game: Game, limits: Bounds, data: tuple[Any, Any], out: Path,
    report: dict[str, Any], line: LiveLine,
) -> None:  # fmt: skip
    """Play within the limits, train on what was found, play again, and write the run if it holds up better.

    Raises:
        ValueError: it does not, with the figures."""
    train, val = data
    within = replace(game, bounds=limits)
    random, found = played(within, args, line, "within limits: ")
    before = figures(within, random, found, args)
    before_losses, batches = held_out_losses(model, val), model.batches(train)
    require_one_shape(original, batches)
    config = slowed(model.built.recipe.training, SLOWER)
    config = replace(config, minutes=args.minutes, steps=args.train_steps, seed=args.seed)
    order = DataOrder(count=len(batches), batch=config.batch, seed=config.seed)
    weighted = Weighted.of(within, found, batches, order, line.progress("reading conditions"))
    line.say(f"training on what was found for {args.minutes:g} minutes")
    weights: Weights = trained(
        weighted, model.parts.method, config, device=model.device, progress=line.progress("training, step")
    )
    put(model.built, dict(weights))
    after = figures(within, *played(within, args, line, "after training: "), args)
    losses = held_out_losses(model, val)
    worse = losses - before_losses
    noise = 2 * float(worse.std()) / math.sqrt(len(worse))
    line.close()
    report |= {"within": before, "hardened": after}
    report |= {"held_out_loss": [float(before_losses.mean()), float(losses.mean())]}
    write_atomic(original.path / "stress.json", json.dumps(report, indent=1).encode())
    show_groups(("", "usual", "random", "worst by chance", "worst found", "held-out loss"), {"": [
        (name, *(f"{f[k]:.3f}" for k in ("usual", "random", "value_random", "value")), f"{float(loss.mean()):.4f}")
        for name, f, loss in (("within limits", before, before_losses), ("and trained", after, losses))
    ]})  # fmt: skip
    if after["value"] <= before["value"] or float(worse.mean()) > noise:
        raise ValueError(
            f"training on what was found does not help: the value goes from {before['value']:.3f} to "
            f"{after['value']:.3f}, and the held-out loss changes by {float(worse.mean()):.4g} (noise {noise:.2g}). The "
            f"run stays as it is; limits alone are {said(limits)}"
        )
    sampling = model.built.recipe.sampling
    if limits.guidance:
        sampling = replace(sampling, guidance_range=(limits.guidance[0], limits.guidance[-1]))
    made = written(
        original, model, weights, out, f"{original.path.name}, hardened against {args.measure}", sampling=sampling
    )
    line.say(f"hardened: {made.path}")
