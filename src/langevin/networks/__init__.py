"""Networks: (x, c_time, condition) -> a tensor of the shape of x. They know nothing of diffusion.

`x` is (b, channels, *space), `c_time` (b,) some number that grows with the noise, `condition` the ports of
`diffusion.condition`. Weights are float32; under autocast the matrix products run in bf16.
Each network has a frozen `Config` with `build()`; `edges` names the modules that are no hidden matrices (embeddings,
modulations, first and last layers), which optimizers treat apart.
"""

from langevin.networks.dit import DiT
from langevin.networks.mlp import MLP
from langevin.networks.transformer import Transformer
from langevin.networks.unet import UNet

__all__ = ["MLP", "DiT", "Transformer", "UNet"]
