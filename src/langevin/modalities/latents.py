"""Autoencoders of other runs, by which a codec turns data into latents and back; and latents that are kept."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydantic
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from langevin import strict_yaml
from langevin.files import own_folder, read_regular, write_atomic
from langevin.modalities.modality import Budget
from langevin.networks.autoencoder import Autoencoder
from langevin.training import checkpoint
from langevin.training.ema import standard_length
from langevin.training.references import require_weights

TOGETHER = 2**22  # numbers of x that are encoded or decoded at a time, about
MOST = 2**31  # bytes of latents that are kept
FOLDER = "latents"  # of kept ones, in the run of the autoencoder
PLACES = 8  # of latents, on each side, at least
WIDTHS = (16, 32, 48, 64, 96)  # of autoencoders
LEVELS = (8, 5, 5, 5)  # of quantised latents: 1,000 codes


def recipe_of(path: str) -> dict[str, Any]:
    """The recipe of an autoencoder's run.

    Raises:
        ValueError: it is no run of an autoencoder."""
    file = Path(path) / "recipe.yaml"
    try:
        tree: Any = strict_yaml.parse(file.read_text(encoding="utf-8"))
        kind = tree["network"]["kind"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"data.codec.path={path} is no run that can be read ({type(error).__name__}: {error}): name the run of an "
            "autoencoder, as `langevin train DATA --latent` makes one"
        ) from error
    if kind != "autoencoder":
        raise ValueError(f"data.codec.path={path} is a run of network.kind {kind}, and a codec needs an autoencoder")
    return tree


def config_of(tree: dict[str, Any]) -> Autoencoder.Config:
    """The configuration of the autoencoder in a recipe. Raises `ValueError`."""
    return pydantic.TypeAdapter(Autoencoder.Config).validate_python(tree["network"])


@lru_cache(maxsize=4)
def autoencoder(path: str, sha256: str) -> Autoencoder:
    """The autoencoder of a run, by the EMA of its weights that its recipe names, else that of the standard length: what is
    chosen by samples says nothing of copies.

    Raises:
        ValueError: its weights are not there, or not those of the hash."""
    require_weights("autoencoder", path, sha256)
    root, tree = Path(path) / "checkpoints", recipe_of(path)
    ema, kept = tree["sampling"]["ema"], tree["training"]["ema_lengths"]
    ema = standard_length(kept) if ema == "auto" else ema
    length = f"ema-{ema:g}"
    saved, _ = checkpoint.load_latest(root, only=("model", length))
    assert saved is not None, "it has an identity"
    if ema and kept and length not in saved.groups and saved.state.get("drawn_ema") != ema:
        raise ValueError(
            f"{path} is sampled with an EMA of length {length[4:]}, which its checkpoint does not hold: train it with "
            f"training.ema_lengths=[{length[4:]}]"
        )
    tensors = {**saved.groups["model"], **saved.groups.get(length, {})}
    network = config_of(tree).build()
    prefix = "autoencoder.network."
    network.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    return network.eval().requires_grad_(False)


@torch.no_grad()
def encoded(network: Autoencoder, x: Tensor) -> Tensor:
    """The means of the latents of x (b, channels, *space)."""
    each = max(1, TOGETHER // max(1, x[0].numel() * network.config.width))
    return torch.cat([network.encode(part)[0] for part in x.split(each)])


@torch.no_grad()
def decoded(network: Autoencoder, z: Tensor) -> Tensor:
    """x of latents (b, channels, *space)."""
    volume = z[0].numel() * math.prod(network.config.strides) * network.config.width
    return torch.cat([network.decode(part) for part in z.split(max(1, TOGETHER // max(1, volume)))])


@torch.no_grad()
def tokens(network: Autoencoder, x: Tensor) -> Tensor:
    """The codes (b, *places) int64 of x (b, channels, *space)."""
    each = max(1, TOGETHER // max(1, x[0].numel() * network.config.width))
    return torch.cat([network.tokens(part) for part in x.split(each)])


@torch.no_grad()
def decoded_tokens(network: Autoencoder, codes: Tensor) -> Tensor:
    """x of codes (b, *places) int64."""
    volume = codes[0].numel() * math.prod(network.config.strides) * network.config.width
    return torch.cat([network.decode_tokens(part) for part in codes.split(max(1, TOGETHER // max(1, volume)))])


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """The latents of a part of the data, each made when it is first needed. Once all are there they are written beside the
    weights that made them, under the hash of these and of the data, and read from there by the next process.

    Args:
        file: where they are written.
        values: (n, ...) float32.
        made: (n,) bool, which of them are there.
    """

    file: Path
    values: Tensor
    made: Tensor = field(repr=False)

    @classmethod
    def of(cls, path: str, *identity: str, count: int, shape: tuple[int, ...]) -> "Kept | None":
        """Those of `count` items of latents of this shape by the run at `path`, whose weights, data and what else decides
        them are its `identity`; None if they are too many to keep."""
        if 4 * count * torch.Size(shape).numel() > MOST:
            return None
        name = hashlib.sha256("\n".join((*identity, str(count), str(shape))).encode()).hexdigest()
        file = Path(path) / FOLDER / f"{name}.safetensors"
        values = read(file, (count, *shape))
        made = torch.full((count,), values is not None)
        return cls(file=file, values=torch.empty(count, *shape) if values is None else values, made=made)

    def at(self, items: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
        """The latents of `items` (b,) int64; `make` those of the items that are not there yet."""
        missing = items[~self.made[items]].unique()
        if len(missing):
            self.values[missing] = make(missing).float()
            self.made[missing] = True
            if bool(self.made.all()):
                self.write()
        return self.values[items]

    def write(self) -> None:
        """Write the file; where that is not possible, they stay in memory."""
        try:
            own_folder(self.file.parent.parent, FOLDER)
            write_atomic(self.file, save({"values": self.values, "sha256": digest(self.values)}))
        except (OSError, ValueError):
            return


def read(file: Path, shape: tuple[int, ...]) -> Tensor | None:
    """Latents that were kept; None if there are none, or not what was written."""
    try:
        found = load(read_regular(file, most=2 * MOST))
        values, written = found["values"], found["sha256"]
    except (OSError, ValueError, KeyError, SafetensorError):
        return None
    whole = values.shape == shape and values.dtype == torch.float32 and torch.equal(digest(values), written)
    return values if whole else None


def digest(values: Tensor) -> Tensor:
    """The SHA-256 of the bytes of a tensor, (32,) uint8."""
    return torch.tensor(list(hashlib.sha256(values.contiguous().numpy().data).digest()), dtype=torch.uint8)


def suggested(
    channels: int, side: int, budget: Budget, *, wanted: int, frames: int = 1, codes: bool = False
) -> dict[str, Any]:
    """The network of an autoencoder of images or frames that is trained on `wanted` examples within the budget.

    Its latents are the coarsest with `PLACES` places a side, or with half the side. A place has an eighth of the numbers
    that it stands for, or 16; or one of about a thousand `codes`.

    Raises:
        ValueError: a side that does not halve."""
    if side % 2:
        raise ValueError(f"an autoencoder halves images, and these have sides of {side}: set data.size={side + 1}")
    stride = max(s for s in (2, 4, 8) if side % s == 0 and side // s >= min(PLACES, side // 2))
    patch = min(2 if side <= 64 and frames == 1 else 4, stride)
    levels = (stride // patch).bit_length()

    def work(width: int) -> int:  # multiply-adds: about ten convolutions a level, of which coarser ones are as dear
        return 10 * levels * 9 * width * width * (side // patch) ** 2 * frames

    fitting = [width for width in WIDTHS if work(width) * wanted <= budget.multiply_adds]
    quantizer: dict[str, Any] = {"quantizer": {"kind": "fsq", "levels": list(LEVELS)}} if codes else {}
    return {
        "patch": patch, "width": fitting[-1] if fitting else WIDTHS[0], "channel_mult": [1, *[2] * (levels - 1)],
        "latent_channels": len(LEVELS) if codes else min(16, max(2, channels * stride * stride // 8)), **quantizer,
    }  # fmt: skip


def reason(network: dict[str, Any], channels: int, side: int) -> str:
    """What a suggested network makes of images, in words."""
    stride, latent = network["patch"] * 2 ** (len(network["channel_mult"]) - 1), network["latent_channels"]
    places = side // stride
    if "quantizer" in network:
        return (
            f"autoencoder: {side}x{side}x{channels} to {places}x{places} of {math.prod(LEVELS):,} codes, width "
            f"{network['width']}"
        )
    fewer = side * side * channels / (places * places * latent)
    return (
        f"autoencoder: {side}x{side}x{channels} to {places}x{places}x{latent}, {fewer:.3g} times fewer numbers, width "
        f"{network['width']}"
    )
