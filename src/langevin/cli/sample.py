"""`langevin sample`: draw from a run."""

import math
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from langevin.cli import density
from langevin.cli.show import LiveLine, counting, duration
from langevin.cli.texts import sample_text
from langevin.cli.verbs import Sample
from langevin.diffusion.noise import RowNoise
from langevin.modalities.image.reader import tell
from langevin.modalities.text.codec import split_words
from langevin.recipe.build import open_data
from langevin.recipe.entry import Code
from langevin.recipe.modality import TEXT, Pictured, modality_of, pictured
from langevin.recipe.tree import Recipe
from langevin.run.directory import open_run
from langevin.run.generate import Drawn, generate, with_options
from langevin.training import machine
from langevin.training.checkpoint import write_atomic


def run(asked: Sample) -> Path | None:
    """Write the samples, and say where.

    Raises:
        ValueError: options that make no sense, or a condition that the run does not know."""
    check(asked)
    if density.asked_for_density(asked):
        return density.run(asked)
    line, begin = LiveLine(), time.perf_counter()
    made = open_run(asked.run)
    if modality_of(made.recipe) is TEXT:
        return sample_text(asked, made)
    built, step, complaints = made.load(
        average=asked.average, device=machine.device(), code=Code.of((), allow=asked.allow_code)
    )
    built = replace(built, recipe=made.recipe)
    labels, captions, names, remarks = told_by(asked, made.recipe)
    for text in (*complaints, *remarks):
        line.say(text)
    wanted = {
        "steps": asked.steps,
        "sampler": asked.sampler,
        "guidance": asked.guidance,
        "eta": asked.eta,
        "order": asked.order,
    }
    sampling = with_options(made.recipe.sampling, **wanted)
    condition = tell(labels, captions, made.recipe.words, machine.device())
    shape = tuple(made.facts["shape"])
    out = asked.out or made.samples / f"sample-step{step}-seed{asked.seed}.png"
    film = asked.gif or out.suffix == ".gif"
    with counting("sampling") as progress:
        drawn = generate(
            built, sampling, shape=shape, seeds=asked.seed + torch.arange(asked.count), condition=condition,
            batch=asked.batch, frames=film, progress=progress,
        )  # fmt: skip
    write(pictured(made.recipe), made.recipe, drawn, out, names, film=film, labels=labels, seed=asked.seed)
    kind = f"{sampling.sampler}, {sampling.steps} steps, guidance {sampling.guidance:g}"
    line.say(f"{asked.count} samples ({kind}) in {duration(time.perf_counter() - begin)}: {out}")
    return out


def check(asked: Sample) -> None:
    """Refuse what makes no sense before any work."""
    if asked.count < 1 or asked.batch < 1:
        raise ValueError(f"--count and --batch must be at least 1, got {asked.count} and {asked.batch}")
    if asked.steps is not None and not 1 <= asked.steps <= 10_000:
        raise ValueError(f"--steps must be between 1 and 10000 (10 to 50 are usual), got {asked.steps}")
    if asked.guidance is not None and not math.isfinite(asked.guidance):
        raise ValueError(f"--guidance must be a finite number (1 is none, 1.5 to 3 usual), got {asked.guidance}")
    if not -(2**62) < asked.seed < 2**62:
        raise ValueError(f"--seed must fit into 62 bits, got {asked.seed}")
    if asked.out is not None and asked.out.suffix not in ("", ".png", ".npz", ".gif", ".txt", ".jsonl"):
        raise ValueError(
            f"--out is a .png, .npz or .gif file or a folder, of text a .txt or .jsonl file; got {asked.out}"
        )


def told_by(asked: Sample, recipe: Recipe) -> tuple[Tensor | None, list[str] | None, list[str] | None, list[str]]:
    """(labels, captions, names to show, remarks) for the rows."""
    n, given, remarks = asked.count, list(asked.condition), list[str]()
    if recipe.classes and recipe.words is not None:
        return told_both(given, n, recipe)
    if recipe.classes:
        unknown = [g for g in given if g not in recipe.classes]
        if unknown:
            raise ValueError(f"no class is called '{unknown[0]}'; the run's classes are {', '.join(recipe.classes)}")
        indices = [recipe.classes.index(g) for g in given] or list(range(len(recipe.classes)))
        labels = torch.tensor([indices[i % len(indices)] for i in range(n)])
        return labels, None, [recipe.classes[i] for i in labels.tolist()], remarks
    if recipe.words is not None:
        if not given:
            train, _ = open_data(recipe)
            known = train.captions or ("",)
            picks = RowNoise(seeds=torch.tensor([asked.seed]), steps=torch.tensor([0])).uniform(torch.empty(1, n))[0]
            given = [known[int(u * len(known))] for u in picks]
        for caption in dict.fromkeys(given):
            remarks += [f"caption '{caption}': {complaint}" for complaint in recipe.words.complaints(caption)]
        captions = [given[i % len(given)] for i in range(n)]
        return None, captions, captions, remarks
    if given:
        raise ValueError(f"this run was trained without classes or captions, so it cannot be told {given[0]!r}")
    return None, None, None, remarks


def told_both(
    given: list[str], n: int, recipe: Recipe
) -> tuple[Tensor | None, list[str] | None, list[str] | None, list[str]]:
    """`told_by` for a run that was always told a class and a caption: what is not given is taken from the data.

    A class brings captions of its own images, a caption the class of the image whose caption shares most words."""
    train, _ = open_data(recipe)
    assert recipe.words is not None
    assert train.labels is not None
    assert train.captions is not None
    labels, known = train.labels.tolist(), train.captions
    words = [set(split_words(caption)) for caption in known]
    rows: list[tuple[int, str]] = []
    for i in range(n):
        if not given:
            item = i * len(known) // n
            rows.append((labels[item], known[item]))
        elif (name := given[i % len(given)]) in recipe.classes:
            label = recipe.classes.index(name)
            own = [j for j, other in enumerate(labels) if other == label] or [0]
            rows.append((label, known[own[i // len(given) % len(own)]]))
        else:
            asked = set(split_words(name))
            rows.append((labels[max(range(len(known)), key=lambda j: len(words[j] & asked))], name))
    captions = [caption for _, caption in rows]
    remarks = [
        f"caption '{c}': {complaint}"
        for c in dict.fromkeys(captions)
        if c in given
        for complaint in recipe.words.complaints(c)
    ]
    shown = [f"{recipe.classes[label]}: {caption}" for label, caption in rows]
    return torch.tensor([label for label, _ in rows]), captions, shown, remarks


def write(
    modality: Pictured,
    recipe: Recipe,
    drawn: Drawn,
    out: Path,
    names: list[str] | None,
    *,
    film: bool,
    labels: Tensor | None,
    seed: int,
) -> None:
    """Into a picture, an array, an animation or a folder, by the name of `out`."""
    if out.suffix:
        out.parent.mkdir(parents=True, exist_ok=True)
    columns = 10 if out.suffix == ".png" and names and len(set(names)) == 10 else None
    if out.suffix == ".png":
        write_atomic(out, modality.picture(drawn.images, recipe, names=names, columns=columns))
    elif out.suffix != ".gif":
        modality.save(drawn.images, out, names=names, labels=labels, seed=seed)
    if film:
        modality.film(drawn.frames, out if out.suffix == ".gif" else out.with_suffix(".gif"), columns=columns)
