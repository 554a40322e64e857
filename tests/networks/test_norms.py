"""Norms of a U-Net are the same in every precision and layout of memory."""

import pytest
import torch
from torch import nn

from langevin.networks.unet import group_norm


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("masked", [False, True])
def test_a_norm_in_bf16_is_that_in_float64_to_rounding(layout, masked):
    generator = torch.Generator().manual_seed(0)
    x = (3 * torch.randn(2, 64, 8, 8, generator=generator) + 1).bfloat16().contiguous(memory_format=layout)
    norm = nn.GroupNorm(32, 64, eps=1e-6)
    nn.init.normal_(norm.weight, generator=generator)
    mask = torch.ones(2, 1, 8, 8, dtype=torch.bool) if masked else None
    found = group_norm(norm, x, mask)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), norm.double()(x.double()), rtol=2e-2, atol=2e-2)
