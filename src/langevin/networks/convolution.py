"""Convolutions by the number of dimensions of space."""

import torch.nn.functional as F
from torch import Tensor, nn


class Conv3d(nn.Conv3d):
    """torch's, but for two frames, to which a frame of zeros is added: in bfloat16 on a CPU the gradient of a kernel that
    covers three frames is otherwise read from memory that was never written (torch 2.13), and is wrong or not a number."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        if x.shape[2] == 2 and (self.kernel_size[0], self.stride[0], self.padding[0]) == (3, 1, 1):
            return super().forward(F.pad(x, (0, 0, 0, 0, 0, 1)))[:, :, :2]
        return super().forward(x)


CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: Conv3d}
