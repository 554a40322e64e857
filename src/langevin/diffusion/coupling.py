"""Which example a noise belongs to: the coupling of noise and data in x_t = alpha_t x + sigma_t z.

Any joint law of (x, z) whose marginals are the data and N(0, I) has a flow from noise to data. Its velocity is
alpha'_t D + sigma'_t (x_t - alpha_t D) / sigma_t with D = E[x | x_t], as for independent x and z. So a denoiser is trained
on other pairs by the same loss, and samples are drawn along the flow. But D does not give the score of x_t, as it does for
independent x and z. What needs a score is not for it: noise on the way, measurements.

Optimal transport pairs each noise with an example so that the mean of |z - x|^2 is least, and every one of the n examples
is chosen with probability 1 / n. Its flow is straighter. With finitely many examples it is semidiscrete, and the dual

    max_g  mean_j g_j + E_z min_j [1/2 |z - x_j|^2 - g_j]

has a number g_j per example and the gradient 1 / n - P(z belongs to j). z belongs to the example that attains the minimum,

    j(z) = argmax_j [<z, x_j> - 1/2 |x_j|^2 + g_j].

"Flow Matching with Semidiscrete Couplings" (2025, arXiv 2509.25519). Where the network is given a class, each class has a
coupling of its own, so that within a class, too, noise is N(0, I). A pair is a function of the noise of its sample alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.float64 import float64_device, to_float64
from langevin.diffusion.noise import SampleNoise, mix

MOST = 60_000  # examples
SCORES = 2**24  # of pairs of a noise and an example, that are held at a time
NOISES = 2**20  # numbers of noise that are drawn at a time
FEWEST_NOISES, MOST_NOISES = 256, 1024  # of a step of the fit
FEWEST_BATCHES = 16  # for each of `draws`, where there are fewer examples than so many batches hold
FIRST, LAST = 0.1, 0.03  # sizes of the first and the last step, as parts of spread and gap; less where n is large
TAIL = 0.3  # part of the steps over which g is averaged
_SEED = 0x0707


@dataclass(frozen=True, kw_only=True)
class OptimalTransport:
    """Semidiscrete optimal transport.

    Args:
        draws: noises per example from which the dual vector is fitted before training; as many as for 4,096 examples where
            there are fewer.
    """

    kind: Literal["optimal_transport"] = "optimal_transport"
    draws: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.draws <= 10**6:
            raise ValueError(f"method.coupling.draws is 1 to 1,000,000 noises per example, got {self.draws}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Coupling:
    """Noise -> example.

    Args:
        dual: (n,) float64, g_j.
        groups: (n,) int64, the class of each example; 0 for all without classes.
        members: of each class, its m examples, int64.
        points: of each class (m, d) float32, its examples less the mean of all.
        offsets: of each class (m,) float32, g_j - 1/2 |x_j|^2.
    """

    dual: Tensor
    groups: Tensor
    members: tuple[Tensor, ...]
    points: tuple[Tensor, ...]
    offsets: tuple[Tensor, ...]

    @classmethod
    def of(cls, x: Tensor, groups: Tensor, dual: Tensor) -> "Coupling":
        """The coupling of n examples x (n, d), their classes (n,) int64, and the dual vector (n,) float64.

        Raises:
            ValueError: the dual vector is of another number of examples, or not finite."""
        if dual.shape != (len(x),) or not bool(torch.isfinite(dual).all()):
            raise ValueError(f"a coupling of {len(x)} examples has a finite number for each, got {tuple(dual.shape)}")
        order, sizes = groups.argsort(stable=True), [int(size) for size in torch.bincount(groups)]
        members, points = torch.split(order, sizes), torch.split(centred(x[order.to(x.device)]), sizes)
        offsets = [
            (g.to(float64_device(y.device)) - half_square(y)).float().to(y.device)
            for g, y in zip(torch.split(dual[order], sizes), points, strict=True)
        ]
        return cls(dual=dual, groups=groups, members=members, points=points, offsets=tuple(offsets))

    def items(self, items: Tensor, z: Tensor) -> Tensor:
        """The examples (b,) int64 that noises z (b, ...) belong to, among those of the classes of `items` (b,) int64."""
        found, own, flat = torch.empty_like(items), self.groups[items], z.flatten(1)
        for group in range(len(self.members)):
            at = own == group
            if not bool(at.any()):
                continue
            best = nearest(flat[at.to(z.device)], self.points[group], self.offsets[group])
            found[at] = self.members[group][best.to(found.device)]
        return found


def centred(x: Tensor) -> Tensor:
    """x (n, d) less its mean. A translation of the examples changes no coupling, and small numbers are rounded less."""
    return x - x.mean(0)


def half_square(x: Tensor) -> Tensor:
    """1/2 |x_j|^2, (n,) float64 on `float64_device(x.device)`."""
    return 0.5 * to_float64(x.square().sum(1))


def nearest(z: Tensor, x: Tensor, offsets: Tensor) -> Tensor:
    """argmax_j [<z, x_j> + offset_j], (m,) int64, of noises z (m, d)."""
    parts = torch.split(z, max(1, SCORES // len(x)))
    return torch.cat([torch.addmm(offsets, part, x.T).argmax(1) for part in parts])


def ascent(z: Tensor, x: Tensor, offsets: Tensor) -> Tensor:
    """The gradient 1 / n - freq_j of the dual (n,) float64, estimated from noises z (m, d)."""
    n = len(x)
    return 1 / n - to_float64(torch.bincount(nearest(z, x, offsets), minlength=n)) / len(z)


def fit_dual(
    x: Tensor, *, draws: int, seed: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> Tensor:
    """The dual vector g (n,) float64 of n centred examples x (n, d) float32, by stochastic gradient ascent.

    A step adds size n (1 / n - freq_j), and g is averaged over the last steps. The sizes fall evenly in their logarithm.
    The first are a part of |x| / sqrt(2 ln n), the spread of the largest of n scores. The last are a part of the gap
    between the best score and the next, which is measured on the way, and is far smaller in few dimensions.

    Args:
        draws: noises per example.
        seed: of the noises. The result is a function of it and x.
    """
    n, d = x.shape
    if n == 1:
        return torch.zeros(1, dtype=torch.float64)
    batch = min(MOST_NOISES, max(FEWEST_NOISES, n // 16))
    steps = draws * max(FEWEST_BATCHES, n // batch)
    half = half_square(x)
    spread = math.sqrt(float(half.mean()) / math.log(n)) or 1.0
    fewer = min(1.0, 10 * batch / n)  # a step moves the examples that it finds n / batch times as far as it should
    g, total, gap, begun = half.clone(), torch.zeros_like(half), spread, int((1 - TAIL) * steps)
    streams = mix(torch.tensor([seed], device=x.device).expand(batch), _SEED)
    streams = mix(streams, torch.arange(batch, device=x.device))
    together, noises = max(1, NOISES // (batch * d)), ()  # for few numbers a call costs more than they do
    for step in range(steps):
        if step % together == 0:
            ahead = torch.arange(step, step + together, device=x.device)
            names = SampleNoise(seeds=streams.repeat(together), steps=ahead.repeat_interleave(batch))
            noises = torch.split(names.normal(x.new_empty(together * batch, d)), batch)
        z = noises[step % together]
        offsets = (g - half).float().to(x.device)
        if step % 10 == 0:
            two = torch.addmm(offsets, z[:FEWEST_NOISES], x.T).topk(2, 1).values
            gap += 0.2 * (max(float((two[:, 0] - two[:, 1]).mean()), 1e-9 * spread) - gap)
        part = min(1.0, step / begun)
        size = fewer * (FIRST * spread) ** (1 - part) * (LAST * gap) ** part
        g += size * n * ascent(z, x, offsets)
        if step >= begun:
            total += g
        progress(step + 1, steps)
    return (total / (steps - begun)).cpu()


def frequencies(coupling: Coupling, *, draws: int, seed: int) -> Tensor:
    """How often each of n examples is chosen by `draws` n noises, as a multiple of once in n; (n,) float64."""
    n, like = len(coupling.groups), coupling.points[0]
    counts = torch.zeros(n, dtype=torch.float64)
    for turn, items in enumerate(torch.split(torch.arange(n).repeat(draws), 4096)):
        seeds = mix(torch.tensor([seed]).expand(len(items)), torch.arange(len(items)))
        z = SampleNoise(seeds=seeds, steps=torch.full_like(seeds, turn)).normal(
            like.new_empty(len(items), like.shape[1])
        )
        counts += torch.bincount(coupling.items(items, z), minlength=n)
    return counts / draws
