"""Snapshots of a run's EMAs, and post-hoc EMAs of any length from them (`training.ema`)."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from langevin.training import checkpoint
from langevin.training.ema import EMAProfile, gamma_of_length, posthoc_weights
from langevin.training.loop import TrainingState


def snapshot(directory: Path, state: TrainingState) -> None:
    """Save the current EMAs as ema/step-N.safetensors, in float16 (float32 where that overflows)."""
    folder = directory / "ema"
    folder.mkdir(exist_ok=True)
    tensors = {
        f"{length:g}/{player}.{name}": _small(value).contiguous()
        for player, ema in state.ema.items()
        for length in ema.values
        for name, value in ema.tensors(length).items()
    }
    checkpoint.write_atomic(folder / f"step-{state.step:08d}.safetensors", save(tensors))


def _small(value: Tensor) -> Tensor:
    half = value.to(torch.float16)
    return half if bool(torch.isfinite(half).all()) else value


def ema_of_length(directory: Path, length: float) -> dict[str, Tensor]:
    """The EMA of any length at the last snapshot, reconstructed from all of them: 'player.parameter' -> float32 tensor.

    Raises:
        ValueError: the run has no snapshots, or one is damaged.
    """
    files = sorted((directory / "ema").glob("step-*.safetensors"))
    if not files:
        raise ValueError(f"{directory} has no EMA snapshots yet: use one of the EMA lengths in its checkpoint")
    loaded = [(int(f.stem.removeprefix("step-")), _read_snapshot(f)) for f in files]
    lengths = sorted({float(name.split("/", 1)[0]) for name in loaded[0][1]})
    saved = [
        (EMAProfile(step=step, gamma=gamma_of_length(w)), f"{w:g}/", tensors)
        for step, tensors in loaded
        for w in lengths
    ]
    wanted = EMAProfile(step=loaded[-1][0], gamma=gamma_of_length(length))
    weights = posthoc_weights([profile for profile, _, _ in saved], wanted)
    names = [n.removeprefix(saved[0][1]) for n in loaded[0][1] if n.startswith(saved[0][1])]
    return {
        n: sum((float(w) * t[start + n].double() for w, (_, start, t) in zip(weights, saved, strict=True))).float()  # type: ignore[union-attr]
        for n in names
    }


def snapshots(directory: Path, length: float) -> list[tuple[int, dict[str, Tensor]]]:
    """(step, EMA of the saved length nearest to `length`) for each snapshot, oldest first."""
    result: list[tuple[int, dict[str, Tensor]]] = []
    for file in sorted((directory / "ema").glob("step-*.safetensors")):
        tensors = _read_snapshot(file)
        nearest = min({name.split("/", 1)[0] for name in tensors}, key=lambda w: abs(float(w) - length)) + "/"
        ema = {n.removeprefix(nearest): t.float() for n, t in tensors.items() if n.startswith(nearest)}
        result.append((int(file.stem.removeprefix("step-")), ema))
    return result


def _read_snapshot(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged ({error}): use one of the EMA lengths in the run's checkpoint") from error
