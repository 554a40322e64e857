"""A game of two players with a known saddle point: the smallest adversarial method.

    min over theta, max over phi of  phi . (E[x] - theta) - |phi|^2 / 2,   saddle: theta = E[x], phi = 0

The generator moves noise by theta; the critic is the linear function phi of a sample; the last term keeps phi finite.
"""

import torch
from torch import nn

from langevin.diffusion.batch import Batch
from langevin.methods import AdamW, Player, Report

MEAN = (1.5, -0.5)


class Game:
    """Players `generator` and `critic`; the generator's turn is every `every`-th step.

    `spoil` names a (player, step) whose loss is no number; `seen` are the (player, step, batch id, theta) of every loss."""

    def __init__(self, *, every: int = 2, critic_ema: bool = True, spoil=None) -> None:
        self.theta, self.phi = nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False)
        for module in (self.theta, self.phi):
            nn.init.constant_(module.weight, 0.3)
        self.players = {
            "generator": Player(module=self.theta, every=every),
            "critic": Player(module=self.phi, optimizer=AdamW(lr=0.05, betas=(0.0, 0.9)), ema=critic_ema),
        }
        self.spoil, self.seen = spoil, []

    def loss(self, player, batch, draw):
        step = int(draw.noise.steps[0])
        self.seen.append((player, step, id(batch), self.theta.weight.detach().flatten().tolist()))
        noise = draw.noise.fork(1).normal(batch.x)
        fake = self.theta(torch.ones(len(batch.x), 1)) + noise
        gap = self.phi(batch.x - fake)[:, 0]
        penalty = 0.5 * self.phi.weight.square().sum().expand(len(gap))
        loss = gap if player == "generator" else penalty - gap
        if (player, step) == self.spoil:
            loss = loss * torch.nan
        return Report(loss=loss, plain=loss.detach(), terms={"penalty": penalty.detach()} if player == "critic" else {})

    def generator(self):
        return lambda noise: noise + self.theta.weight[:, 0]


def batches(count):
    """(step, rows, randomness) -> samples of N(MEAN, 1)."""

    def batch(step, rows, draw):
        generator = torch.Generator().manual_seed(step)
        return Batch(x=(torch.tensor(MEAN) + torch.randn(count, 2, generator=generator))[rows])

    return batch
