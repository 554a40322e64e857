"""Networks: (x, c_time, condition) -> a tensor of the shape of x, or logits for tokens. They know nothing of diffusion.

`x` is (b, channels, *space), or (b, positions) int64 for tokens. `c_time` (b,) is a number that grows with the noise level.
For data in parts both are mappings.
`condition` holds the ports of `diffusion.condition`. Weights are float32; under autocast the matrix products run in bf16.

Each network has a frozen `Config` with `build()`. Its attribute `non_hidden` names the modules whose weights are not hidden
matrices: embeddings, modulations, first and last layers. Muon leaves them to AdamW. Its attribute `head` names the parts
after its last block.
"""

from langevin.networks.autoencoder import Autoencoder
from langevin.networks.columns import ColumnMLP, ColumnTransformer
from langevin.networks.dit import DiT
from langevin.networks.dit2d import DiT2D
from langevin.networks.inverse_stft import InverseSTFT
from langevin.networks.joint_dit import JointDiT
from langevin.networks.mlp import MLP
from langevin.networks.transformer import Transformer
from langevin.networks.unet import UNet
from langevin.networks.unet2d import UNet2D

__all__ = [
    "MLP", "Autoencoder", "ColumnMLP", "ColumnTransformer", "DiT", "DiT2D", "InverseSTFT", "JointDiT", "Transformer",
    "UNet", "UNet2D",
]  # fmt: skip
