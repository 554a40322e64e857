"""`langevin attribute`: the training examples that a sample owes most to, as a table, a picture and JSON."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from langevin.cli.compare import show_groups
from langevin.cli.explain import command_of
from langevin.cli.out import require_writable, unused
from langevin.cli.sample import check_drawing, check_seed, chosen, loaded, short
from langevin.cli.show import LiveLine
from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition
from langevin.files import own_folder, write_atomic
from langevin.modalities.captions import CaptionVocabulary
from langevin.modalities.modality import Batches, Draw, RequestContext, Samples, spread
from langevin.run.attribute import FOLDER, Gradients, Settings, distances, influences, kept_gradients
from langevin.run.directory import Run, open_run
from langevin.run.display import duration
from langevin.run.generate import RunModel
from langevin.run.provenance import words_of
from langevin.run.refine import recorded


def run(args: Any) -> Path:
    """Rank the training examples by their influence on the sample; returns the folder of what was written.

    Raises:
        ValueError: options out of range, a run or a file that cannot be attributed, or an unknown condition."""
    check(args)
    line, begin = LiveLine(), time.perf_counter()
    run = open_run(args.run)
    what = f"seed{args.seed}" if args.sample is None else args.sample.stem
    name = "-".join([what, *(short(word) for word in words_of(args.options) if word[:2] != "--")])
    out = unused(own_folder(run.path, FOLDER, create=False) / name) if args.out is None else args.out
    require_writable(out, folder=True)
    model, _ = loaded(replace(args, light=("none",)), run, line)
    settings = Settings(by=args.by, draws=args.draws, size=args.projection, seed=0, damping=args.damping)
    gradients = Gradients(model=model, settings=settings)
    train, val = run.open_data(progress=line.progress("reading data"))
    batches = model.batches(train)
    example = sample_of(args, run, model, (train, val), line)
    items = spread(len(batches), args.most)
    kept = kept_gradients(run, gradients, batches, items, line.progress("gradients of training examples"))
    own = gradients.of(example, len(batches))
    found = Attributed(
        items=items, influence=influences(gradients, kept, own[None])[0], distance=distances(batches, items, example.x)
    )
    line.close()
    content = figures(args, found, model, train, batches)
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "attribution.json", (json.dumps(content, indent=1) + "\n").encode())
    shown = pictured(found, args.count, model, batches, example, content).preview()
    write_atomic(out / f"attribution{shown.suffix}", shown.content)
    show(content)
    line.say(f"attributed in {duration(time.perf_counter() - begin)}: {out}")
    return out


def check(args: Any) -> None:
    """Check the options. Raises `ValueError` for one out of range."""
    check_drawing(args)
    check_seed(args.seed)
    if args.light is not None or args.adapter:
        option = "--light" if args.light is not None else "--adapter"
        raise ValueError(f"gradients are those of a run's own weights, as they were trained: leave {option} out")
    if not 1 <= args.count <= 1000 or not 2 <= args.most <= 10**6 or not 0 < args.damping < 10**6:
        raise ValueError(
            "--count is 1 to 1,000, --most 2 to 1,000,000 and --damping positive and below 1,000,000, got "
            f"{args.count}, {args.most} and {args.damping}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Attributed:
    """n training examples, their influence on the sample, and their distance from it (None if they have none)."""

    items: Tensor
    influence: Tensor
    distance: Tensor | None

    def ranked(self, count: int) -> dict[str, Tensor]:
        """The first so many places, by what they are ranked by, best first."""
        count = min(count, len(self.items))
        order = self.influence.argsort(descending=True)
        found = {"most": order[:count], "least": order.flip(0)[:count]}
        if self.distance is not None:
            found["nearest"] = self.distance.argsort()[:count]
        return found


def sample_of(args: Any, run: Run, model: RunModel, data: tuple[Any, Any], line: LiveLine) -> Batch:
    """The sample as an example of a batch of one: read from the file, or drawn anew, with its condition.

    Raises:
        ValueError: a run whose files cannot be read, or one that draws by more than one draw."""
    context = RequestContext(
        model=model, data=lambda: data, count=1, seed=args.seed, say=line.say, batch=args.batch,
        guided=args.guidance not in (None, 1), chosen=chosen(args),
    )  # fmt: skip
    requests = list[tuple[Any, Any]]()
    plan = recorded(model.modality.plan(args.options, context), requests)
    if args.sample is None:
        model.run(plan, batch=args.batch, progress=line.progress("sampling"))
        request, x = requests[0]
    else:
        if not hasattr(model.modality, "read"):
            raise ValueError(
                f"files of {model.modality.kind} are not read as samples: leave {args.sample} out, and draw one by "
                "--seed"
            )
        x, request = model.modality.read(args.sample, say=line.say), next(plan)  # for its condition
    if not isinstance(request, Draw) or len(requests) > 1 or request.known is not None:
        raise ValueError(
            f"attribution is of samples that are drawn at once, and those of {model.modality.kind} are not"
        )
    condition = None if request.condition is None else request.condition.unguided().to(model.device)
    moved = x.to(model.device) if isinstance(x, Tensor) else {name: part.to(model.device) for name, part in x.items()}
    return Batch(x=moved, condition=condition)


def figures(args: Any, found: Attributed, model: RunModel, train: Any, batches: Batches) -> dict[str, Any]:
    """What was found, of JSON types."""
    rows = dict[str, list[dict[str, Any]]]()
    names: Sequence[str] = getattr(train, "names", ())
    for heading, order in found.ranked(args.count).items():
        items = found.items[order]
        said = what_is_shown(model.modality, batches(items).condition, len(items))
        rows[heading] = [
            {
                "item": int(item), "name": names[int(item)] if len(names) == len(batches) else "", "what": what,
                "influence": float(found.influence[at]),
                "distance": None if found.distance is None else float(found.distance[at]),
            }
            for item, at, what in zip(items, order, said, strict=True)
        ]  # fmt: skip
    return {
        "command": command_of(args, "attribute"), "by": args.by, "draws": args.draws, "projection": args.projection,
        "damping": args.damping, "examples": len(found.items), **rows,
    }  # fmt: skip


def what_is_shown(modality: Any, condition: Condition | None, count: int) -> list[str]:
    """The class or the caption of each example in words; nothing without one."""
    vocabulary, classes = getattr(modality, "captions", None), getattr(modality, "class_names", ())
    if condition is not None and condition.cross is not None and isinstance(vocabulary, CaptionVocabulary):
        return vocabulary.decode(condition.cross.tensor.cpu())
    if condition is not None and condition.global_ is not None and classes:
        port = condition.global_
        labels = port.tensor.where(port.kept(), -1).tolist()
        return [classes[label] if label >= 0 else "" for label in labels]
    return [""] * count


def pictured(
    found: Attributed, count: int, model: RunModel, batches: Batches, example: Batch, content: dict[str, Any]
) -> Samples:
    """The sample and the ranked examples, a row each, as samples of the modality."""
    modality, values, names = model.modality, list[Any](), list[str]()
    ranked = found.ranked(count)
    places = min(count, len(found.items))
    for heading, order in ranked.items():
        own = batches(found.items[order])
        values += [*modality.decode(_on_cpu(example.x)), *modality.decode(_on_cpu(own.x))]
        names += [
            "the sample",
            *(f"{heading} {i + 1}: {row['what'] or row['item']}" for i, row in enumerate(content[heading])),
        ]
    stacked = (
        torch.stack(values) if all(isinstance(v, Tensor) and v.shape == values[0].shape for v in values) else values
    )
    return Samples(modality=modality, values=stacked, names=tuple(names), columns=places + 1)


def _on_cpu(x: Any) -> Any:
    return x.cpu() if isinstance(x, Tensor) else {name: part.cpu() for name, part in x.items()}


def show(content: dict[str, Any]) -> None:
    """Print the examples by what they are ranked by."""
    titles = {"most": "most influence", "least": "least influence", "nearest": "nearest"}
    groups = {
        titles[heading]: [
            (f"{i + 1}", str(row["item"]), row["name"], row["what"], f"{row['influence']:+.3g}",
             "" if row["distance"] is None else f"{row['distance']:.3g}", "")
            for i, row in enumerate(content[heading])
        ]
        for heading in titles if heading in content
    }  # fmt: skip
    show_groups(("", "item", "name", "what", "influence", "distance", ""), groups)
