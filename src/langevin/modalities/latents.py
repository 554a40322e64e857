"""Autoencoders of other runs, by which a codec turns data into latents and back."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import pydantic
import torch
from torch import Tensor

from langevin import strict_yaml
from langevin.networks.autoencoder import Autoencoder
from langevin.training import checkpoint
from langevin.training.ema import standard_length

TOGETHER = 2**22  # numbers of x that are encoded or decoded at a time, about


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
            f"data.codec.path={path} is no run that can be read ({type(error).__name__}: {error})"
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
    root, tree = Path(path) / "checkpoints", recipe_of(path)
    if checkpoint.identity(root) != sha256:
        raise ValueError(
            f"the weights of {path}, which make and read this run's latents, are not those it was trained with: restore "
            "them"
        )
    ema, kept = tree["sampling"]["ema"], tree["training"]["ema_lengths"]
    ema = standard_length(kept) if ema == "auto" else ema
    length = f"ema-{ema:g}"
    saved, _ = checkpoint.load_latest(root, only=("model", length))
    assert saved is not None, "it has an identity"
    if ema and kept and length not in saved.groups:
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
    volume = z[0].numel() * network.config.width
    for stride in network.config.strides:
        volume *= stride
    return torch.cat([network.decode(part) for part in z.split(max(1, TOGETHER // max(1, volume)))])
