"""Averages after the fact: copies of a run's averages along its way, and the average of any width from them."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from langevin.training import checkpoint
from langevin.training.averages import Profile, combination, gamma_of_width
from langevin.training.loop import TrainingState


def snapshot(directory: Path, state: TrainingState) -> None:
    """Keep the averages as they are now, in float16 (float32 where that overflows), for widths chosen afterwards."""
    folder = directory / "averages"
    folder.mkdir(exist_ok=True)
    tensors = {
        f"{width:g}/{player}.{name}": _small(value).contiguous()
        for player, averages in state.averages.items()
        for width in averages.values
        for name, value in averages.tensors(width).items()
    }
    checkpoint.write_atomic(folder / f"step-{state.step:08d}.safetensors", save(tensors))


def _small(value: Tensor) -> Tensor:
    half = value.to(torch.float16)
    return half if bool(torch.isfinite(half).all()) else value


def average_of_width(directory: Path, width: float) -> dict[str, Tensor]:
    """The average of any width at the end of the run, from its snapshots; names start with the player's.

    Raises:
        ValueError: the run has no snapshots, or one is damaged.
    """
    files = sorted((directory / "averages").glob("step-*.safetensors"))
    if not files:
        raise ValueError(f"{directory} has no snapshots of its averages yet: use one of the widths in its checkpoint")
    loaded = [(int(f.stem.removeprefix("step-")), _read_snapshot(f)) for f in files]
    widths = sorted({float(name.split("/", 1)[0]) for name in loaded[0][1]})
    saved = [
        (Profile(step=step, gamma=gamma_of_width(w)), f"{w:g}/", tensors) for step, tensors in loaded for w in widths
    ]
    wanted = Profile(step=loaded[-1][0], gamma=gamma_of_width(width))
    weights = combination([profile for profile, _, _ in saved], wanted)
    names = [n.removeprefix(saved[0][1]) for n in loaded[0][1] if n.startswith(saved[0][1])]
    return {
        n: sum((float(w) * t[start + n].double() for w, (_, start, t) in zip(weights, saved, strict=True))).float()  # type: ignore[union-attr]
        for n in names
    }


def snapshots(directory: Path, width: float) -> list[tuple[int, dict[str, Tensor]]]:
    """(step, average of about that width as it was then) for each snapshot, oldest first."""
    found: list[tuple[int, dict[str, Tensor]]] = []
    for file in sorted((directory / "averages").glob("step-*.safetensors")):
        tensors = _read_snapshot(file)
        nearest = min({name.split("/", 1)[0] for name in tensors}, key=lambda w: abs(float(w) - width)) + "/"
        chosen = {n.removeprefix(nearest): t.float() for n, t in tensors.items() if n.startswith(nearest)}
        found.append((int(file.stem.removeprefix("step-")), chosen))
    return found


def _read_snapshot(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged ({error}): use one of the widths in the run's checkpoint") from error
