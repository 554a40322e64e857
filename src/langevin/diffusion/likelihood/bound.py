"""The variational bound as named terms, for every process.

    -ln p(x) <= prior + int diffusion + reconstruction          ("Variational Diffusion Models", 2021)

The integral of numbers is known in closed form for the best linear guess of x, and sampled for what D does better on
the same noise: the mean is that of the bound, and nearly all variance is gone. It runs over the times of a density,
each row on a low-discrepancy lattice of its own shift, again and again on independent ones: `draws` of the answer. For
a Gaussian process from the noisiest level l_1 to the cleanest l_0, log-SNR,

    prior           KL(q(x_{t_1} | x) || N(0, alpha^2 s_d^2 + sigma^2))
    diffusion       int_{l_1}^{l_0} SNR / 2 |x - D|^2 dl
    reconstruction  levels v_k:  -ln softmax_k(-(y - v_k)^2 / 2 rho_0^2) at the true k, y = x + rho_0 eps: lossless
                    densities:   E[-ln N(x; y, rho_0^2)] = d / 2 ln(2 pi e rho_0^2)

and on a grid of finitely many times, D asked at the noisier end t of each step to s (an upper Riemann sum),

    diffusion       sum 1/2 (SNR_s - SNR_t) |x - D|^2           masked: sum (t - s) / t  cross-entropy of hidden places
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.importance import Importance
from langevin.diffusion.likelihood.answers import Bound
from langevin.diffusion.likelihood.gaussian import chance, linear_error, linear_nats, prior_nats, reconstruction_nats
from langevin.diffusion.likelihood.levels import Levels
from langevin.diffusion.noise import RowNoise, mix
from langevin.diffusion.objective import UniformTime
from langevin.diffusion.process import Gaussian, Masked, Process, Product
from langevin.diffusion.shape import some


def bound(
    denoiser: Denoiser,
    process: Process,
    x: Any,
    *,
    condition: Condition | None = None,
    levels: Levels | None = None,
    density: Importance | UniformTime | None = None,
    times: int = 16,
    draws: int = 2,
    seed: int = 0,
    names: Tensor | None = None,
) -> Bound:
    """The bound of rows x, in continuous time.

    Args:
        levels: of Gaussian data; None bounds a density.
        density: of the times; its ends are those of the integral. Default: uniform log-SNR from -12 to 13 for a Gaussian
            process, uniform t for any other.
        times: of each lattice, each one call.
        draws: independent lattices, for the standard error over times.
        seed, names: (b,) int64 names of the rows (default their places): a row's numbers are a function of both.

    Raises:
        ValueError: data off its levels, times without ends, or none.
    """
    _require_counts(times, draws)
    given = density or (Importance() if isinstance(process, Gaussian) else UniformTime(low=0.0))
    clean, noisy, weigh = _ends(process, given)
    streams = _streams(x, seed, names)
    known = _known(process, x, clean, noisy)
    rows: list[Tensor] = []
    ends: list[Tensor] = []
    with torch.no_grad():
        for draw in range(draws):
            shift = _at(streams, draw).fork(-1).uniform(some(x).flatten(1)[:, :1])[:, 0]
            total = known
            for i in range(times):
                u = ((shift + i / times) % 1).clamp(2.0**-54, 1 - 2.0**-53)
                t = given(u, process.schedule) if isinstance(given, Importance) else given(u)  # type: ignore[union-attr]
                noise = _at(streams, draws + draw * times + i)
                x_t = process.corrupt(x, t, noise)
                q: Any = denoiser(x_t, t, condition)
                terms = process.bound(q, x, x_t, t)
                total = total + (_sum(terms.diffusion) - _linear(process, x, x_t, t)) / (weigh(t) * times)
            rows.append(total)
            ends.append(_reconstruct(denoiser, process, x, clean, condition, levels, _at(streams, draw).fork(-2)))
        prior = _prior(process, x, noisy)[:, None].expand(-1, draws)
    return Bound(prior=prior, diffusion=torch.stack(rows, 1), reconstruction=torch.stack(ends, 1), places=_places(x))


def finite_bound(
    denoiser: Denoiser,
    process: Gaussian | Masked,
    x: Tensor,
    times: Tensor,
    *,
    condition: Condition | None = None,
    levels: Levels | None = None,
    draws: int = 2,
    seed: int = 0,
    names: Tensor | None = None,
) -> Bound:
    """The bound of rows x for ancestral steps along `times` (n + 1,), falling; a Gaussian process must end above 0.

    Raises:
        ValueError: times that do not fall within [0, 1], or a Gaussian process that ends at 0."""
    times = times.double().to(x.device)
    falls = times.ndim == 1 and len(times) > 1 and bool((times.diff() < 0).all()) and times[-1] >= 0 and times[0] <= 1
    if not falls or (isinstance(process, Gaussian) and times[-1] == 0):
        raise ValueError(
            "a finite bound needs two or more falling times within [0, 1], the last above 0 for a Gaussian process "
            f"(where SNR is infinite); got {times[:3].tolist()} ... {times[-1:].tolist()}"  # pyright: ignore[reportUnknownMemberType]
        )
    _require_counts(len(times) - 1, draws)
    streams = _streams(x, seed, names)
    rows: list[Tensor] = []
    ends: list[Tensor] = []
    with torch.no_grad():
        for draw in range(draws):
            total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
            for i in range(len(times) - 1):
                t, s = times[i].expand(len(x)), times[i + 1]
                x_t = process.corrupt(x, t, _at(streams, draws + draw * len(times) + i))
                error = denoiser(x_t, t, condition).error(x).double()
                if isinstance(process, Gaussian):
                    snr_s, snr_t = (process.schedule.log_snr(r).exp() for r in (s, times[i]))
                    total = total + 0.5 * (snr_s - snr_t) * (error - chance(process, x, x_t, t)).flatten(1).sum(1)
                else:
                    hidden = torch.where(x_t == process.mask, error, 0.0)
                    total = total + (times[i] - s) / times[i] * hidden.flatten(1).sum(1)
            rows.append(total)
            ends.append(_reconstruct(denoiser, process, x, times[-1], condition, levels, _at(streams, draw).fork(-2)))
        prior = _prior(process, x, times[0])[:, None].expand(-1, draws)
    return Bound(prior=prior, diffusion=torch.stack(rows, 1), reconstruction=torch.stack(ends, 1), places=_places(x))


def _linear(process: Process, x: Any, x_t: Any, t: Tensor) -> Tensor:
    """The diffusion term of the best linear guess of numbers, (b,): sampled with the same noise, and so subtracted."""
    if isinstance(process, Product):
        return torch.stack([_linear(part, x[name], x_t[name], t) for name, part in process.parts.items()]).sum(0)
    if not isinstance(process, Gaussian):
        return torch.zeros(len(x), dtype=torch.float64, device=x.device)
    schedule, time = process.schedule, t.double()
    slope = -0.5 * schedule.rate(time) * schedule.log_snr(time).exp()  # -SNR' / 2
    return slope * linear_error(process, x, x_t, t).flatten(1).sum(1)


def _known(process: Process, x: Any, clean: Tensor, noisy: Tensor) -> Tensor:
    """The integral of `_linear`, (b,): known, and so added."""
    if isinstance(process, Product):
        return torch.stack([_known(part, x[name], clean, noisy) for name, part in process.parts.items()]).sum(0)
    if not isinstance(process, Gaussian):
        return torch.zeros(len(x), dtype=torch.float64, device=x.device)
    return linear_nats(process, x, clean.to(x.device), noisy.to(x.device)).flatten(1).sum(1)


def _require_counts(times: int, draws: int) -> None:
    if times < 1 or draws < 1:
        raise ValueError(f"a bound needs at least one time and one draw, got {times} times and {draws} draws")


def _ends(process: Process, density: Importance | UniformTime) -> tuple[Tensor, Tensor, Any]:
    """The cleanest and noisiest time, and the density over t."""
    if isinstance(density, Importance):
        if not isinstance(process, Gaussian):
            raise ValueError(
                f"{type(process).__name__} has no log-SNR to draw times by: use UniformTime, which runs over t itself"
            )
        schedule, chosen = process.schedule, density
        clean, noisy = (schedule.time(torch.tensor(level, dtype=torch.float64)) for level in density.ends(schedule))

        def over_t(t: Tensor) -> Tensor:
            return chosen.log_snr_density(t, schedule) * schedule.rate(t).abs()

        return clean, noisy, over_t
    width = density.high - density.low
    if density.low == 0 and not isinstance(process, Masked):
        raise ValueError("UniformTime needs low > 0 here: the SNR is infinite at t = 0, where numbers are clean")
    ends = torch.tensor([density.low, density.high], dtype=torch.float64)
    return ends[0], ends[1], lambda t: 1 / width  # type: ignore[reportUnknownLambdaType]


def _prior(process: Process, x: Any, t: Tensor) -> Tensor:
    """(b,); a masked process that stops before t = 1 would have to code what it still shows."""
    if isinstance(process, Product):
        return torch.stack([_prior(part, x[name], t) for name, part in process.parts.items()]).sum(0)
    if isinstance(process, Gaussian):
        return prior_nats(process, x, t.to(x.device).expand(len(x))).flatten(1).sum(1)
    if t < 1:
        raise ValueError("the bound of a masked process starts at t = 1, where nothing is shown")
    return torch.zeros(len(x), dtype=torch.float64, device=x.device)


def _reconstruct(
    denoiser: Denoiser,
    process: Process,
    x: Any,
    t: Tensor,
    condition: Condition | None,
    levels: Levels | None,
    noise: RowNoise,
) -> Tensor:
    """(b,): what is left to tell of x at the cleanest time."""
    if isinstance(process, Gaussian):
        rho = torch.exp(-0.5 * process.schedule.log_snr(t)).to(x.device).expand(len(x))
        return reconstruction_nats(x, levels, rho, noise)
    b, device = len(some(x)), some(x).device
    if t == 0:
        return torch.zeros(b, dtype=torch.float64, device=device)
    x_t = process.corrupt(x, t.to(device).expand(b), noise)
    q = denoiser(x_t, t.to(device).expand(b), condition)
    return _left(process, q, x, x_t, t, levels, noise)


def _left(process: Process, q: Any, x: Any, x_t: Any, t: Tensor, levels: Levels | None, noise: RowNoise) -> Tensor:
    if isinstance(process, Product):
        parts = [
            _left(p, q.parts[n], x[n], x_t[n], t, levels, noise.fork(i))
            for i, (n, p) in enumerate(process.parts.items())
        ]
        return torch.stack(parts).sum(0)
    if isinstance(process, Gaussian):
        rho = torch.exp(-0.5 * process.schedule.log_snr(t)).to(x.device).expand(len(x))
        return reconstruction_nats(x, levels, rho, noise)
    hidden = torch.where(x_t == process.mask, q.error(x).double(), 0.0)  # type: ignore[union-attr]
    return hidden.flatten(1).sum(1)


def _streams(x: Any, seed: int, names: Tensor | None) -> RowNoise:
    first = some(x)
    rows = torch.arange(len(first), device=first.device) if names is None else names.to(first.device)
    return RowNoise(seeds=mix(torch.full_like(rows, seed), rows), steps=torch.zeros_like(rows))


def _at(streams: RowNoise, step: int) -> RowNoise:
    return RowNoise(seeds=streams.seeds, steps=torch.full_like(streams.steps, step))


def _sum(values: Any) -> Tensor:
    """The sum over all places and parts, (b,)."""
    if isinstance(values, Mapping):
        return torch.stack([_sum(part) for part in values.values()]).sum(0)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return values.flatten(1).sum(1)


def _places(x: Any) -> int:
    if isinstance(x, Mapping):
        return sum(_places(part) for part in x.values())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return math.prod(x.shape[1:])
