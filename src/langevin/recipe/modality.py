"""What a kind of data brings: how it is opened, completes a recipe, is read and shown. The one place that tells them apart.

A new modality is one class here with this face, and a line in `modality_of`; trainer, sampling loop, run directory and
verbs speak to the face."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.noise import RowNoise
from langevin.diffusion.process import Gaussian
from langevin.modalities.image import data as image_data
from langevin.modalities.image.codec import Pixels
from langevin.modalities.image.preview import grid, png, save_animation, save_files
from langevin.modalities.image.reader import Reader
from langevin.modalities.text.codec import Words
from langevin.modalities.text.sources import TextSource
from langevin.modalities.toy import data as toy_data
from langevin.modalities.toy import preview
from langevin.modalities.toy.codec import Coordinates
from langevin.modalities.toy.reader import PointReader
from langevin.networks import MLP, DiT, Transformer, UNet
from langevin.networks.embedding import Ports
from langevin.recipe.entry import Code
from langevin.recipe.equation import measured
from langevin.recipe.texts import TextModality
from langevin.recipe.tree import Equation, Recipe

Progress = Callable[[int, int], None]


class Part(Protocol):
    """A training or held-out part of some data; rows of one `shape`, read by number."""

    classes: tuple[str, ...]
    labels: Tensor | None
    captions: tuple[str, ...] | None
    notes: Any

    def __len__(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def fingerprint(self) -> str: ...
    def read(self, index: Tensor) -> Tensor: ...


class Read(Protocol):
    """Batches of a part by item number; `remarks`: what whoever trains with them should know."""

    @property
    def part(self) -> Any: ...
    @property
    def remarks(self) -> tuple[str, ...]: ...
    def __call__(self, items: Tensor, noise: RowNoise | None = None) -> Batch: ...


class Modality(Protocol):
    """The face of a kind of data."""

    @property
    def name(self) -> str: ...
    def open(self, recipe: Recipe, progress: Progress | None) -> tuple[Any, Any]: ...
    def complete(self, recipe: Recipe, data: Any, code: Code) -> Recipe: ...
    def reader(self, recipe: Recipe, data: Any, device: torch.device) -> Read: ...


class Pictured(Modality, Protocol):
    """A kind of data whose samples are one tensor, shown as a picture."""

    def picture(self, samples: Tensor, recipe: Recipe, *, names: list[str] | None, columns: int | None) -> bytes: ...
    def save(
        self, samples: Tensor, out: Path, *, names: list[str] | None, labels: Tensor | None, seed: int
    ) -> None: ...
    def film(self, frames: list[Tensor], out: Path, *, columns: int | None) -> None: ...


@dataclass(frozen=True, kw_only=True)
class ImageModality:
    """Pictures, uint8 (n, c, h, w)."""

    name: str = "image"

    def open(self, recipe: Recipe, progress: Progress | None) -> tuple[image_data.Images, image_data.Images]:
        assert not isinstance(recipe.data, toy_data.Source | TextSource)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the same sentences are in the data's notes
            return image_data.load_parts(recipe.data, held_out=recipe.held_out, seed=0, progress=progress)

    def complete(self, recipe: Recipe, data: image_data.Images, code: Code) -> Recipe:
        """Channels, ports, vocabulary, the spread of pixels.

        Raises:
            ValueError: the network does not fit the data's size."""
        words = recipe.words
        if words is None and data.captions is not None:
            words = Words.fit(data.captions)
        ports = Ports(
            classes=len(data.classes),
            vocabulary=words.size if words else 0,
            length=words.length if words else 0,
            text_layers=recipe.network.ports.text_layers,
            text=recipe.network.ports.text,
        )
        if not isinstance(recipe.codec, Pixels) or not isinstance(recipe.process, Gaussian):
            raise ValueError(
                "images are coded as pixels under a gaussian process: leave out codec.kind and process.kind"
            )
        some = data.read(torch.arange(len(data))[:: max(1, len(data) // 2048)])
        spread = float(recipe.codec.encode(some).std())
        if not spread > 1e-3:
            raise ValueError(f"all {len(data)} images look the same (spread of pixels {spread:.1e}): nothing to learn")
        channels, height, width = data.shape
        if isinstance(recipe.network, MLP.Config | Transformer.Config):
            raise ValueError(f"network.kind {recipe.network.kind} reads no images; choose dit or unet")
        network: DiT.Config | UNet.Config = replace(recipe.network, channels=channels, ports=ports)
        if height != width:
            raise ValueError(f"images should be square, these are {height} x {width}: set data.size")
        if network.dimensions != 2:
            raise ValueError(f"network.dimensions is {network.dimensions}, and images have 2")
        levels = len(network.multipliers) if network.kind == "unet" else 1
        side = network.patch * 2 ** (levels - 1)
        if height % side:
            what = f"patches of {network.patch} and {levels} levels" if levels > 1 else f"patches of {network.patch}"
            raise ValueError(f"images of side {height} do not fit {what}: choose data.size as a multiple of {side}")
        if network.kind == "dit" and network.sketch:
            network = replace(network, places=(height // network.patch) ** 2)
        process = replace(recipe.process, sigma_data=round(spread, 4))
        return replace(recipe, network=network, process=process, words=words, classes=data.classes)

    def reader(self, recipe: Recipe, data: image_data.Images, device: torch.device) -> Reader:
        assert isinstance(recipe.codec, Pixels)
        return Reader(
            images=data, codec=recipe.codec, words=recipe.words, labelled=bool(recipe.classes), flip=recipe.learning.flip,
            device=device,
        )  # fmt: skip

    def picture(self, samples: Tensor, recipe: Recipe, *, names: list[str] | None, columns: int | None) -> bytes:
        """A labelled grid."""
        return png(grid(samples, captions=names, columns=columns))

    def save(self, samples: Tensor, out: Path, *, names: list[str] | None, labels: Tensor | None, seed: int) -> None:
        """An array (.npz), or a folder with a file each."""
        if out.suffix == ".npz":
            arrays = {"images": samples.permute(0, 2, 3, 1).numpy(), "seed": np.int64(seed)}
            _save(out, arrays, names=names, labels=labels)
            return
        shown = names or [""] * len(samples)
        files = [f"{i:05d}" + (f"-{_safe(name)}" if name else "") for i, name in enumerate(shown)]
        save_files(samples, out, files)

    def film(self, frames: list[Tensor], out: Path, *, columns: int | None) -> None:
        save_animation(frames, out, columns=columns)


@dataclass(frozen=True, kw_only=True)
class ToyModality:
    """Points, float32 (n, d)."""

    name: str = "toy"

    def open(self, recipe: Recipe, progress: Progress | None) -> tuple[toy_data.Points, toy_data.Points]:
        assert isinstance(recipe.data, toy_data.Source)
        return toy_data.load_parts(recipe.data, held_out=recipe.held_out)

    def complete(self, recipe: Recipe, data: toy_data.Points, code: Code) -> Recipe:
        """Channels, and what the process needs to know of the data.

        Raises:
            ValueError: a network or codec that does not read points, or what the drift does wrong."""
        if not isinstance(recipe.codec, Coordinates) or recipe.network.kind != "mlp":
            raise ValueError(
                "points are coded as coordinates and read by a perceptron: codec.kind=coordinates network.kind=mlp"
            )
        x = recipe.codec.encode(data.values)
        spread = float(x.std())
        if not spread > 1e-9:
            raise ValueError(f"all {len(data)} points are the same: nothing to learn")
        network = replace(recipe.network, channels=data.shape[0])
        if isinstance(recipe.process, Equation):
            process = recipe.process if recipe.process.spreads else measured(recipe.process, x, code=code)[0]
        else:
            process = replace(recipe.process, sigma_data=round(spread, 4))
        return replace(recipe, network=network, process=process)

    def reader(self, recipe: Recipe, data: toy_data.Points, device: torch.device) -> PointReader:
        assert isinstance(recipe.codec, Coordinates)
        return PointReader(points=data, codec=recipe.codec, device=device)

    def picture(self, samples: Tensor, recipe: Recipe, *, names: list[str] | None, columns: int | None) -> bytes:
        """The samples' density beside the law they should have, or the data."""
        return preview.clouds(
            {"samples": samples, **self.truth(recipe, samples)[1]}, curve=self.truth(recipe, samples)[0]
        )

    def truth(self, recipe: Recipe, samples: Tensor) -> tuple[preview.Curve | None, dict[str, Tensor]]:
        """The known density on a line as a curve, else training points to show beside the samples."""
        data = recipe.data
        if isinstance(data, toy_data.Toy) and samples.shape[1] == 1:
            reach = 1.3 * float(samples.abs().max()) + 1
            x = torch.linspace(-reach, reach, 2000, dtype=torch.float64)
            log_p = toy_data.log_density(data.law, x[:, None])
            if log_p is not None:
                return preview.Curve(x=x, p=log_p.exp(), label="law of the data"), {}
        return None, {"data": self.open(recipe, None)[1].values}

    def save(self, samples: Tensor, out: Path, *, names: list[str] | None, labels: Tensor | None, seed: int) -> None:
        """An array (.npz) with `points`."""
        if out.suffix != ".npz":
            raise ValueError(f"points are written as .npz, or shown as .png; got --out {out}")
        _save(out, {"points": samples.numpy(), "seed": np.int64(seed)}, names=None, labels=None)

    def film(self, frames: list[Tensor], out: Path, *, columns: int | None) -> None:
        raise ValueError("points have no animation: give a .png or .npz, and leave --gif out")


def _save(out: Path, arrays: dict[str, Any], *, names: list[str] | None, labels: Tensor | None) -> None:
    if labels is not None:
        arrays["labels"] = labels.numpy()
    if names:
        arrays["names"] = np.array(names)
    with out.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:60]


IMAGE, TOY, TEXT = ImageModality(), ToyModality(), TextModality()


def modality_of(recipe: Recipe) -> Modality:
    """By the kind of the recipe's data."""
    match recipe.data:
        case toy_data.Toy() | toy_data.PointFile():
            return TOY
        case TextSource():
            return TEXT
        case _:
            return IMAGE


def pictured(recipe: Recipe) -> Pictured:
    """The same, of kinds whose samples are pictures.

    Raises:
        ValueError: samples of this kind are none."""
    found = modality_of(recipe)
    if found is TEXT:
        raise ValueError("this run writes text: it has no pictures")
    return TOY if found is TOY else IMAGE
