"""Convolutions over few frames: values and gradients are those of torch in float32, also in bfloat16."""

import pytest
import torch
from torch import nn

from langevin.networks.convolution import Conv3d


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("kernel", [3, (3, 1, 1), (1, 3, 3)])
def test_gradients_in_bfloat16_are_those_in_float32(frames, kernel):
    torch.manual_seed(0)
    padding = kernel // 2 if isinstance(kernel, int) else tuple(side // 2 for side in kernel)
    convolution, plain = Conv3d(8, 16, kernel, padding=padding), nn.Conv3d(8, 16, kernel, padding=padding)
    plain.load_state_dict(convolution.state_dict())
    for _ in range(12):
        x, up = torch.randn(4, 8, frames, 8, 8), torch.randn(4, 16, frames, 8, 8)
        outputs = list[torch.Tensor]()
        for module, half in ((convolution, True), (plain, False)):
            module.zero_grad()
            stale = torch.full((200_000,), torch.nan)  # what memory may hold that is read before it is written
            del stale
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                y = module(x)
            y.backward(up.to(y))
            outputs.append(y.float())
        torch.testing.assert_close(*outputs, rtol=0.03, atol=0.03)
        for mine, torchs in zip(convolution.parameters(), plain.parameters(), strict=True):
            assert float((mine.grad - torchs.grad).abs().max()) < 0.03 * float(torchs.grad.abs().max())
