"""Two routes to attention are one."""

import pytest
import torch
import torch.nn.functional as F

from langevin.networks import attention


@pytest.mark.parametrize("keys", [40, attention.UNFUSED_MAX_KEYS + 8])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_bf16_is_the_float32_one_to_rounding_forward_and_backward(keys, masked):
    generator = torch.Generator().manual_seed(0)
    q, k, v, upstream = (torch.randn(2, 3, n, 16, generator=generator) for n in (24, keys, keys, 24))
    seen = torch.rand(2, 1, 1, keys, generator=generator) > 0.4 if masked else None
    exact = [t.double().requires_grad_() for t in (q, k, v)]
    F.scaled_dot_product_attention(*exact, attn_mask=seen).backward(upstream.double())
    rough = [t.bfloat16().requires_grad_() for t in (q, k, v)]
    answer = attention.attend(*rough, seen)
    answer.backward(upstream.bfloat16())
    assert answer.dtype == torch.bfloat16
    for mine, true in zip(rough, exact, strict=True):
        assert float((mine.grad.double() - true.grad).norm() / true.grad.norm()) < 0.02
    with torch.no_grad():
        true = F.scaled_dot_product_attention(*(t.detach() for t in exact), attn_mask=seen)
    assert float((answer.detach().double() - true).norm() / true.norm()) < 0.02
