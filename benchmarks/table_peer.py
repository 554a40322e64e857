"""A plain re-statement of "TabDDPM: Modelling Tabular Data with Diffusion Models" (2022, arXiv 2209.15421).

Gaussian diffusion of quantile-normalised numbers beside multinomial diffusion of each category, one MLP over all of them, a
thousand steps of the cosine schedule; the mean of the squared errors of the noise plus the mean of the divergences of the
categories.

It was not tuned beyond the sizes of the comparison.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS = 1000


class Net(nn.Module):
    """(x (b, width_in), t (b,)) -> (b, width_in)."""

    def __init__(self, size: int, width: int, depth: int) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Linear(size, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.last = nn.Linear(width, size)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        frequency = torch.exp(-math.log(10_000) * torch.arange(64) / 64)
        angle = t[:, None].float() * frequency
        h = self.first(x) + self.time(torch.cat([angle.cos(), angle.sin()], 1))
        for layer in self.layers:
            h = F.relu(layer(h))
        return self.last(h)


class TabDDPM:
    """Diffusion of `numbers` standard-normal columns and of columns with `choices` categories each.

    Args:
        width, depth: of the MLP.
        lr: of AdamW, annealed linearly over `total` steps.
    """

    def __init__(
        self, numbers: int, choices: tuple[int, ...], *, width: int, depth: int, lr: float, total: int, seed: int
    ) -> None:
        self.numbers, self.choices = numbers, choices
        torch.manual_seed(seed)
        self.net = Net(numbers + sum(choices), width, depth)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=lr, weight_decay=1e-4)
        self.lr, self.total, self.step = lr, total, 0
        angle = (torch.arange(STEPS + 1, dtype=torch.float64) / STEPS + 0.008) / 1.008 * math.pi / 2
        bar = (angle.cos() / angle[0].cos()).square()
        self.beta = (1 - bar[1:] / bar[:-1]).clamp(max=0.999).float()
        self.alpha, self.bar = 1 - self.beta, (1 - self.beta).cumprod(0)

    def train(self, x: Tensor, codes: Tensor) -> float:
        """One step on a batch of numbers (b, n) and codes (b, m)."""
        self.step += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * max(0.0, 1 - self.step / self.total)
        t = torch.randint(0, STEPS, (len(x),))
        noise, bar = torch.randn_like(x), self.bar[t][:, None]
        x_t = bar.sqrt() * x + (1 - bar).sqrt() * noise
        kept = [
            torch.where(torch.rand(len(x)) < self.bar[t], code, torch.randint(0, k, (len(x),)))
            for code, k in zip(codes.T, self.choices, strict=True)
        ]
        output = self.net(self._input(x_t, kept), t)
        loss = F.mse_loss(output[:, : self.numbers], noise) if self.numbers else output.sum() * 0
        parts = output[:, self.numbers :].split(self.choices, 1) if self.choices else ()
        for logits, code, seen, k in zip(parts, codes.T, kept, self.choices, strict=True):
            truth = self._posterior(F.one_hot(code, k).float(), seen, t, k)
            guess = self._posterior(logits.softmax(1), seen, t, k)
            kl = (truth * (truth.clamp_min(1e-30).log() - guess.clamp_min(1e-30).log())).sum(1)
            nll = -guess.gather(1, code[:, None])[:, 0].clamp_min(1e-30).log()
            loss = loss + torch.where(t == 0, nll, kl).mean() / len(self.choices)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def _input(self, x: Tensor, codes: list[Tensor]) -> Tensor:
        return torch.cat([x, *(F.one_hot(code, k).float() for code, k in zip(codes, self.choices, strict=True))], 1)

    def _posterior(self, clean: Tensor, seen: Tensor, t: Tensor, k: int) -> Tensor:
        """q(x_{t-1} | x_t, x_0) with x_0 distributed as `clean` (b, k)."""
        before = torch.where(t > 0, self.bar[(t - 1).clamp_min(0)], 1.0)[:, None]
        likelihood = self.alpha[t][:, None] * F.one_hot(seen, k) + self.beta[t][:, None] / k
        product = likelihood * (before * clean + (1 - before) / k)
        return product / product.sum(1, keepdim=True)

    @torch.no_grad()
    def sample(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Numbers (count, n) and codes (count, m)."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(count, self.numbers, generator=generator)
        codes = [torch.randint(0, k, (count,), generator=generator) for k in self.choices]
        for step in reversed(range(STEPS)):
            t = torch.full((count,), step)
            output = self.net(self._input(x, codes), t)
            if self.numbers:
                eps, a, bar = output[:, : self.numbers], self.alpha[step], self.bar[step]
                x = (x - self.beta[step] / (1 - bar).sqrt() * eps) / a.sqrt()
                if step:
                    spread = (self.beta[step] * (1 - self.bar[step - 1]) / (1 - bar)).sqrt()
                    x = x + spread * torch.randn(x.shape, generator=generator)
            parts = output[:, self.numbers :].split(self.choices, 1) if self.choices else ()
            codes = [
                torch.multinomial(self._posterior(logits.softmax(1), code, t, k), 1, generator=generator)[:, 0]
                for logits, code, k in zip(parts, codes, self.choices, strict=True)
            ]
        return x, torch.stack(codes, 1) if codes else torch.zeros(count, 0, dtype=torch.int64)
