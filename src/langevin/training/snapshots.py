"""Snapshots of a run's EMAs, and post-hoc EMAs of any length from them (`training.ema`)."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from langevin.files import own_folder, write_atomic
from langevin.training.distributed import ALONE, World
from langevin.training.ema import EMAProfile, gamma_of_length, posthoc_error, posthoc_weights
from langevin.training.loop import TrainingState

_NAME = re.compile(r"[0-9]*\.?[0-9]+(?:e-[0-9]+)?/.+", re.DOTALL)  # 0.05/player.parameter


def snapshot(directory: Path, state: TrainingState, world: World = ALONE) -> None:
    """Save the current EMAs as ema/step-N.safetensors, in float16 (float32 where that overflows). The first rank writes,
    and all that share parts of the weights must call."""
    names = {f"ema-{length:g}" for ema in state.ema.values() for length in ema.values}
    whole = state.whole_groups(only=names, keep=world.first)
    if not world.first:
        return
    folder = own_folder(directory, "ema")
    tensors = {
        f"{group.removeprefix('ema-')}/{name}": _small(value).contiguous()
        for group, average in whole.items()
        for name, value in average.items()
    }
    write_atomic(folder / f"step-{state.step:08d}.safetensors", save(tensors))


def _small(value: Tensor) -> Tensor:
    half = value.to(torch.float16)
    return half if bool(torch.isfinite(half).all()) else value


def ema_of_length(directory: Path, length: float) -> dict[str, Tensor]:
    """The EMA of any length at the last snapshot, reconstructed from all of them: 'player.parameter' -> float32 tensor.

    Raises:
        ValueError: the run has no snapshots, or one is damaged.
    """
    files = _files(directory)
    if files and (stored := _stored(directory, files[-1][0], length)).is_file():
        return {name.split("/", 1)[1]: tensor for name, tensor in _read_snapshot(stored).items()}
    loaded = [(step, _read_snapshot(file)) for step, file in files]
    if not loaded:
        raise ValueError(f"{directory} has no EMA snapshots yet: use one of the EMA lengths in its checkpoint")
    if any(_shapes(tensors) != _shapes(loaded[0][1]) for _, tensors in loaded):
        raise ValueError(
            f"the EMA snapshots in {directory}/ema are not of one network: use an EMA length in its checkpoint"
        )
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


def store(directory: Path, length: float) -> None:
    """Save the EMA of a length, so that `ema_of_length` need not reconstruct it again: it is as large as the weights, and
    the snapshots are many times that.

    Raises:
        ValueError: see `ema_of_length`."""
    tensors = {f"{length:g}/{name}": tensor for name, tensor in ema_of_length(directory, length).items()}
    write_atomic(_stored(directory, _files(directory)[-1][0], length), save(tensors))


def reconstructible(
    directory: Path, lengths: Sequence[float], *, kept: Sequence[float], error: float = 0.1
) -> list[float]:
    """Those of the lengths whose profile the snapshots of the kept EMAs give to within a relative error."""
    steps = [step for step, _ in _files(directory)]
    saved = [EMAProfile(step=step, gamma=gamma_of_length(length)) for step in steps for length in kept]
    if not saved:
        return []
    wanted = {length: EMAProfile(step=steps[-1], gamma=gamma_of_length(length)) for length in lengths}
    return [length for length, profile in wanted.items() if posthoc_error(saved, profile) <= error]


def _stored(directory: Path, step: int, length: float) -> Path:
    return directory / "ema" / f"step-{step:08d}-length-{length:g}.safetensors"


def snapshots(directory: Path, length: float) -> list[tuple[int, dict[str, Tensor]]]:
    """(step, EMA of the saved length nearest to `length`) for each snapshot, oldest first."""
    result: list[tuple[int, dict[str, Tensor]]] = []
    for step, file in _files(directory):
        tensors = _read_snapshot(file)
        nearest = min({name.split("/", 1)[0] for name in tensors}, key=lambda w: abs(float(w) - length)) + "/"
        ema = {n.removeprefix(nearest): t.float() for n, t in tensors.items() if n.startswith(nearest)}
        result.append((step, ema))
    return result


def _files(directory: Path) -> list[tuple[int, Path]]:
    """The snapshots of a run by step, oldest first."""
    found = (
        (re.fullmatch(r"step-([0-9]{1,18})\.safetensors", path.name), path) for path in (directory / "ema").glob("*")
    )
    return sorted((int(match[1]), path) for match, path in found if match and path.is_file())


def _shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _read_snapshot(file: Path) -> dict[str, Tensor]:
    """The tensors of a snapshot, by `length/player.parameter`."""
    try:
        tensors = load_file(file)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{file} is damaged ({error}): use one of the EMA lengths in the run's checkpoint") from error
    if not tensors or not all(_NAME.fullmatch(name) and t.is_floating_point() for name, t in tensors.items()):
        raise ValueError(f"{file} is not a snapshot of EMAs: use one of the EMA lengths in the run's checkpoint")
    return tensors
