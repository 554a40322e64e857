"""Runs that were never trained, with weights of which none is 0."""

import torch

from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampling import Sampling
from langevin.methods import Diffusion
from langevin.modalities.image.modality import Image
from langevin.networks import MLP, DiT, Transformer, UNet
from langevin.networks.embedding import ConditioningConfig
from langevin.recipe.build import build
from langevin.recipe.tree import MaskedConfig, Recipe
from langevin.run.generate import RunModel

CLASSES = ("cross", "dot", "ring")
CONDITIONED = ConditioningConfig(classes=3)
SIDE = {"channels": 1, "conditioning": CONDITIONED}
NETWORKS = {
    "mlp": (MLP.Config(width=16, depth=1, channels=2), (2,)),
    "mlp with classes": (MLP.Config(width=16, depth=1, channels=2, conditioning=CONDITIONED), (2,)),
    "dit": (DiT.Config(width=16, depth=1, head_dim=8, patch=4, **SIDE), (1, 8, 8)),
    "unet": (UNet.Config(width=8, channel_mult=(1, 2), blocks=1, head_dim=8, **SIDE), (1, 8, 8)),
    "transformer": (Transformer.Config(width=16, depth=1, head_dim=8, vocab_size=11), (6,)),
}


def model(network, *, process=None, prediction="edm", **sampling):
    """A loaded run with a network, or with that of a name, and the shape of its samples."""
    config, shape = NETWORKS[network] if isinstance(network, str) else network
    tokens = isinstance(config, Transformer.Config)
    process = process or (MaskedConfig(vocab_size=11) if tokens else Gaussian(sigma_data=0.6))
    classes = CLASSES if config.conditioning.classes else ()
    method = Diffusion.Config() if tokens else Diffusion.Config(prediction=prediction)
    recipe = Recipe(
        data=Image(path="nowhere", classes=classes, size=8), network=config, process=process, method=method,
        sampling=Sampling(**{"steps": 3, "ema": 0.0, **sampling}),
    )  # fmt: skip
    built = build(recipe)
    return RunModel(built=stirred(built), sampling=recipe.sampling), shape


def stirred(built):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in built.model.network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    built.model.network.eval()
    return built
