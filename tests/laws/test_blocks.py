"""Counts in blocks: each as often as any other, exactly that many masked, given places and padding left alone."""

import torch

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.process import Masked
from langevin.diffusion.training_input import MaskByCountPerBlock

SYMBOLS, BLOCK, ROWS = 5, 4, 32


def test_every_block_has_every_count_equally_often_over_the_lattice():
    x = torch.randint(0, SYMBOLS, (ROWS, 3 * BLOCK), generator=torch.Generator().manual_seed(0))
    known = torch.zeros_like(x, dtype=torch.bool)
    known[:, 0] = True
    x[:, -2:] = SYMBOLS + 1  # padding
    noise = SampleNoise(seeds=torch.arange(ROWS), steps=torch.zeros(ROWS, dtype=torch.int64))
    u = (torch.arange(ROWS).double() + 0.37) / ROWS
    t, x_t = MaskByCountPerBlock(process=Masked(vocab_size=SYMBOLS), block=BLOCK)(
        Batch(x=x, known=known), StepRandomness(noise=noise, u=u)
    )
    hidden = x_t == SYMBOLS
    free = ~known & (x < SYMBOLS)
    assert not bool((hidden & ~free).any())
    assert torch.equal(x_t[~hidden], x[~hidden])
    for k, most in enumerate((3, 4, 2)):
        here = slice(k * BLOCK, (k + 1) * BLOCK)
        count = hidden[:, here].sum(1)
        assert torch.equal(count.double() / most, t[:, here][:, 0])
        often = torch.bincount(count, minlength=most + 1)
        assert int(often[0]) == 0
        assert int((often[1:] - ROWS / most).abs().max()) <= 1
