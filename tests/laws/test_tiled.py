"""A denoiser of one size for larger images: tiles cover them, and how many are evaluated together changes nothing."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch

from langevin.diffusion import tiled
from langevin.diffusion.posterior import Point
from langevin.diffusion.tiled import Tiled, starts, tiles_of


@dataclass
class Squares:
    """A denoiser that counts its calls, and the inputs of the largest."""

    calls: int = 0
    largest: int = 0

    def __call__(self, x_t, t, condition=None):
        self.calls, self.largest = self.calls + 1, max(self.largest, len(x_t))
        return Point(x_t.square() * t.view(-1, 1, 1, 1))


def x():
    return torch.randn(3, 2, 9, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


T = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)


def test_a_denoiser_of_each_pixel_alone_is_the_same_in_tiles():
    assert torch.allclose(Tiled(denoiser=Squares(), side=4)(x(), T).mean, Squares()(x(), T).mean)


def test_tiles_overlap_by_half_and_reach_both_ends():
    for length in range(4, 40):
        found = starts(length, 4)
        assert (found[0], found[-1]) == (0, length - 4)
        assert all(0 < b - a <= 2 for a, b in pairwise(found))
    assert tiles_of((2, 9, 14), 4) == len(starts(9, 4)) * len(starts(14, 4))
    assert tiles_of((2, 9, 14), None) == 1


@pytest.mark.parametrize("together", [1, 7, 1000])
def test_calls_are_of_a_few_tiles_and_their_products_the_same(together, monkeypatch):
    whole = x().requires_grad_()
    expected = Tiled(denoiser=Squares(), side=4)(whole, T).mean
    v = torch.ones_like(expected)
    monkeypatch.setattr(tiled, "TOGETHER", together)
    count = 3 * tiles_of((2, 9, 14), 4)
    part, squares = x().requires_grad_(), Squares()
    found = Tiled(denoiser=squares, side=4)(part, T).mean
    assert torch.equal(found, expected)
    assert squares.largest == min(together, count)
    assert squares.calls == -(-count // together)
    (mine,) = torch.autograd.grad(expected, whole, v)
    for _ in range(2):  # as conjugate gradients do
        (other,) = torch.autograd.grad(found, part, v, retain_graph=True)
        assert torch.allclose(other, mine)
