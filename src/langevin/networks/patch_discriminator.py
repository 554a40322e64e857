"""A discriminator of patches: the encoder's half of an autoencoder, which ends in one number at each place of the latent.

"Image-to-Image Translation with Conditional Adversarial Networks" (2016, arXiv 1611.07004): a patch is judged by its
surroundings alone, so there are as many judgements of an example as places.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from langevin.networks.autoencoder import Autoencoder, Convolution, Norm, halving
from langevin.networks.convolution import CONVOLUTIONS
from langevin.networks.patches import patchify


class PatchDiscriminator(nn.Module):
    """x (b, channels, *space) to scores (b, *places), with the sizes of an autoencoder."""

    def __init__(self, config: Autoencoder.Config) -> None:
        super().__init__()
        assert config.channels, "the autoencoder that it judges has been built"
        self.config = config
        inputs = config.channels * math.prod(config.patches)
        self.conv_in = Convolution(
            inputs, config.width * config.channel_mult[0], config.dimensions, causal=config.causal
        )
        self.down = nn.Sequential(*halving(config))
        width = config.width * config.channel_mult[-1]
        self.norm_out, self.conv_out = Norm(width), CONVOLUTIONS[config.dimensions](width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.down(self.conv_in(patchify(x, self.config.patches)))
        return self.conv_out(F.silu(self.norm_out(h)))[:, 0].to(x)
