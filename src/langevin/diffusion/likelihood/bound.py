"""The variational bound as named terms, for every process.

    -ln p(x) <= prior + int diffusion + reconstruction

For continuous data the integral has a closed form for the best linear estimate of x. It serves as a control variate:
only the difference between D and this estimate is sampled, on the same noise, which removes nearly all of the variance
and leaves the mean. Times follow a density, on a low-discrepancy lattice that is shifted at random per sample; each of
`draws` uses an independent lattice. For a Gaussian process between the log-SNR l_1 of the noisiest time and l_0 of the
cleanest,

    prior           KL(q(x_{t_1} | x) || N(0, alpha^2 s_d^2 + sigma^2))
    diffusion       int_{l_1}^{l_0} SNR / 2 |x - D|^2 dl
    reconstruction  levels v_k:  -ln softmax_k(-(y - v_k)^2 / 2 rho_0^2) at the true k, y = x + rho_0 eps: lossless
                    densities:   E[-ln N(x; y, rho_0^2)] = d / 2 ln(2 pi e rho_0^2)

On a grid of finitely many times D is evaluated at the noisier end t of each step to s (an upper Riemann sum):

    diffusion       sum 1/2 (SNR_s - SNR_t) |x - D|^2           masked: sum (t - s) / t  cross-entropy of masked positions
"""

import math
from collections.abc import Mapping
from typing import Any, assert_never

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.float64 import float64_device, to_float64
from langevin.diffusion.importance import Importance
from langevin.diffusion.likelihood.gaussian import chance, linear_error, linear_nats, prior_nats, reconstruction_nats
from langevin.diffusion.likelihood.levels import Levels
from langevin.diffusion.likelihood.results import ELBOTerms
from langevin.diffusion.noise import SampleNoise, mix
from langevin.diffusion.objective import UniformTime
from langevin.diffusion.posterior import Joint
from langevin.diffusion.process import Bounded, Gaussian, Masked, Process, Product
from langevin.diffusion.shape import first_leaf


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
) -> ELBOTerms:
    """-ln p(x) <= prior + int diffusion + reconstruction of samples x, in continuous time; see the module.

    "Variational Diffusion Models" (2021, arXiv:2107.00630).

    Args:
        levels: the recorded levels of continuous data, whose probability is bounded; None bounds a density.
        density: of the times; its support is the range of the integral. Default: uniform log-SNR from -12 to 13 for a
            Gaussian process, uniform t for any other.
        times: number of times per lattice; each costs one function evaluation.
        draws: number of independent lattices, for the standard error over times.
        seed, names: names (b,) int64 of the samples (default 0 .. b - 1); a sample's terms depend on the two alone.

    Raises:
        ValueError: x is not on its levels, the process has no bound or no such density, or a count is below 1.
    """
    if not isinstance(process, Bounded):
        raise ValueError(
            f"{type(process).__name__} has no variational bound: for the ln p of an SDE use process.sde.log_density"
        )
    _require_counts(times, draws)
    given = density or (Importance() if isinstance(process, Gaussian) else UniformTime(low=0.0))
    clean, noisy, weigh = _ends(process, given)
    streams = _streams(x, seed, names)
    known = _known(process, x, clean, noisy)
    diffusion: list[Tensor] = []
    reconstruction: list[Tensor] = []
    with torch.no_grad():
        for draw in range(draws):
            shift = _at(streams, draw).fork(-1).uniform(first_leaf(x).flatten(1)[:, :1])[:, 0]
            total = known
            for i in range(times):
                u = ((shift + i / times) % 1).clamp(2.0**-54, 1 - 2.0**-53)
                t = given(u, process.schedule) if isinstance(given, Importance) else given(u)  # type: ignore[union-attr]
                noise = _at(streams, draws + draw * times + i)
                x_t = process.corrupt(x, t, noise)
                q: Any = denoiser(x_t, t, condition)
                terms = process.bound(q, x, x_t, t)
                total = total + (_sum(terms.diffusion) - _linear(process, x, x_t, t)) / (weigh(t) * times)
            diffusion.append(total)
            end_noise = _at(streams, draw).fork(-2)
            reconstruction.append(_reconstruct(denoiser, process, x, clean, condition, levels, end_noise))
        prior = _prior(process, x, noisy)[:, None].expand(-1, draws)
    return ELBOTerms(
        prior=prior,
        diffusion=torch.stack(diffusion, 1),
        reconstruction=torch.stack(reconstruction, 1),
        dimensions=_num_dimensions(x),
    )


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
) -> ELBOTerms:
    """The bound of samples x for ancestral steps along falling `times` (n + 1,); a Gaussian process must end above 0.

    The diffusion term is sum 1/2 (SNR_s - SNR_t) |x - D|^2 for a Gaussian process, and sum (t - s) / t of the
    cross-entropy at masked positions for a masked one (arXiv:2107.00630).

    Raises:
        ValueError: the times do not fall within [0, 1], or a Gaussian process ends at 0."""
    times = to_float64(times).to(float64_device(x.device))
    falls = times.ndim == 1 and len(times) > 1 and bool((times.diff() < 0).all()) and times[-1] >= 0 and times[0] <= 1
    if not falls or (isinstance(process, Gaussian) and times[-1] == 0):
        raise ValueError(
            "a finite bound needs two or more falling times within [0, 1], the last above 0 for a Gaussian process "
            f"(where SNR is infinite); got {times[:3].tolist()} ... {times[-1:].tolist()}"  # pyright: ignore[reportUnknownMemberType]
        )
    _require_counts(len(times) - 1, draws)
    streams = _streams(x, seed, names)
    diffusion: list[Tensor] = []
    reconstruction: list[Tensor] = []
    with torch.no_grad():
        for draw in range(draws):
            total = _zeros(x)
            for i in range(len(times) - 1):
                t, s = times[i].expand(len(x)), times[i + 1]
                x_t = process.corrupt(x, t, _at(streams, draws + draw * len(times) + i))
                error = denoiser(x_t, t, condition).error(x)
                match process:
                    case Gaussian():
                        snr_s, snr_t = (process.schedule.log_snr(r).exp() for r in (s, times[i]))
                        reduced = to_float64(error) - chance(process, x, x_t, t)
                        total = total + 0.5 * (snr_s - snr_t) * reduced.flatten(1).sum(1)
                    case Masked():
                        total = total + (times[i] - s) / times[i] * _of_masked(error, x_t, process.mask)
                    case _:
                        assert_never(process)
            diffusion.append(total)
            end_noise = _at(streams, draw).fork(-2)
            reconstruction.append(_reconstruct(denoiser, process, x, times[-1], condition, levels, end_noise))
        prior = _prior(process, x, times[0])[:, None].expand(-1, draws)
    return ELBOTerms(
        prior=prior,
        diffusion=torch.stack(diffusion, 1),
        reconstruction=torch.stack(reconstruction, 1),
        dimensions=_num_dimensions(x),
    )


def _leaves(process: Process, *values: Any) -> list[tuple[Any, ...]]:
    """The processes of a (nested) product, each with its part of every value, and an independent stream of noise."""
    if not isinstance(process, Product):
        return [(process, *values)]
    leaves: list[tuple[Any, ...]] = []
    for i, (name, part) in enumerate(process.parts.items()):
        own = (
            v.fork(i) if isinstance(v, SampleNoise) else v.parts[name] if isinstance(v, Joint) else v[name]
            for v in values
        )
        leaves += _leaves(part, *own)
    return leaves


def _zeros(x: Any) -> Tensor:
    """(b,) float64 zeros for data x."""
    first = first_leaf(x)
    return torch.zeros(len(first), dtype=torch.float64, device=float64_device(first.device))


def _linear(process: Process, x: Any, x_t: Any, t: Tensor) -> Tensor:
    """The diffusion term of the best linear estimate, (b,), sampled on the noise of x_t: the control variate."""
    total, time = _zeros(x), to_float64(t)
    for leaf, clean, noisy in _leaves(process, x, x_t):
        if isinstance(leaf, Gaussian):
            slope = -0.5 * leaf.schedule.rate(time) * leaf.schedule.log_snr(time).exp()  # -SNR' / 2
            total = total + slope * linear_error(leaf, clean, noisy, t).flatten(1).sum(1)
    return total


def _known(process: Process, x: Any, clean: Tensor, noisy: Tensor) -> Tensor:
    """The integral of `_linear` in closed form, (b,): the mean of the control variate."""
    total = _zeros(x)
    for leaf, part in _leaves(process, x):
        if isinstance(leaf, Gaussian):
            total = total + linear_nats(leaf, part, clean.to(total.device), noisy.to(total.device)).flatten(1).sum(1)
    return total


def _require_counts(times: int, draws: int) -> None:
    if times < 1 or draws < 1:
        raise ValueError(f"a bound needs at least one time and one draw, got {times} times and {draws} draws")


def _ends(process: Process, density: Importance | UniformTime) -> tuple[Tensor, Tensor, Any]:
    """The cleanest and the noisiest time, and t -> the density of t."""
    if isinstance(density, Importance):
        if not isinstance(process, Gaussian):
            raise ValueError(
                f"{type(process).__name__} has no log-SNR, so `Importance` cannot draw its times: use UniformTime"
            )
        schedule, chosen = process.schedule, density
        clean, noisy = (schedule.time(torch.tensor(level, dtype=torch.float64)) for level in density.ends(schedule))

        def over_t(t: Tensor) -> Tensor:
            return chosen.log_snr_density(t, schedule) * schedule.rate(t).abs()

        return clean, noisy, over_t
    width = density.high - density.low
    if density.low == 0 and not isinstance(process, Masked):
        raise ValueError("UniformTime needs low > 0 here: the SNR is infinite at t = 0, where continuous data is clean")
    ends = torch.tensor([density.low, density.high], dtype=torch.float64)
    return ends[0], ends[1], lambda t: 1 / width  # type: ignore[reportUnknownLambdaType]


def _prior(process: Process, x: Any, t: Tensor) -> Tensor:
    """The prior term, (b,); a masked process must start at t = 1, because visible tokens would have to be coded."""
    total = _zeros(x)
    for leaf, part in _leaves(process, x):
        if isinstance(leaf, Gaussian):
            total = total + prior_nats(leaf, part, t.to(total.device).expand(len(total))).flatten(1).sum(1)
        elif t < 1:
            raise ValueError(f"the bound of a masked process starts at t = 1, where all is masked; got {float(t):.4g}")
    return total


def _reconstruct(
    denoiser: Denoiser,
    process: Process,
    x: Any,
    t: Tensor,
    condition: Condition | None,
    levels: Levels | None,
    noise: SampleNoise,
) -> Tensor:
    """The reconstruction term at the cleanest time t, (b,)."""
    total = _zeros(x)
    time = t.to(total.device).expand(len(total))
    if isinstance(process, Gaussian):  # its decoder needs no denoiser
        return reconstruction_nats(x, levels, torch.exp(-0.5 * process.schedule.log_snr(time)), noise)
    if t == 0:
        return total
    x_t = process.corrupt(x, time, noise)
    for leaf, q, clean, corrupted, own in _leaves(process, denoiser(x_t, time, condition), x, x_t, noise):
        if isinstance(leaf, Gaussian):
            rho = torch.exp(-0.5 * leaf.schedule.log_snr(time))
            total = total + reconstruction_nats(clean, levels, rho, own)
        else:
            total = total + _of_masked(q.error(clean), corrupted, leaf.mask)
    return total


def _of_masked(error: Tensor, x_t: Tensor, mask: int) -> Tensor:
    """The sum of a sample's errors at masked positions, (b,) float64."""
    return to_float64(torch.where(x_t == mask, error, 0.0)).flatten(1).sum(1)


def _streams(x: Any, seed: int, names: Tensor | None) -> SampleNoise:
    first = first_leaf(x)
    host = float64_device(first.device)
    names = torch.arange(len(first), device=host) if names is None else names.to(host)
    return SampleNoise(seeds=mix(torch.full_like(names, seed), names), steps=torch.zeros_like(names))


def _at(streams: SampleNoise, step: int) -> SampleNoise:
    return SampleNoise(seeds=streams.seeds, steps=torch.full_like(streams.steps, step))


def _sum(values: Any) -> Tensor:
    """The sum over all dimensions and parts, (b,)."""
    if isinstance(values, Mapping):
        return torch.stack([_sum(part) for part in values.values()]).sum(0)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return values.flatten(1).sum(1)


def _num_dimensions(x: Any) -> int:
    if isinstance(x, Mapping):
        return sum(_num_dimensions(part) for part in x.values())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return math.prod(x.shape[1:])
