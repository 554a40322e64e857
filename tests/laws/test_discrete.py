"""Laws of the discrete processes: transitions that compose, steps that keep the law, bounds that are the likelihood.

Everything is summed over all states of a small alphabet: no draws, no tolerance beyond rounding.
"""

import math

import pytest
import torch

from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import Categorical
from langevin.diffusion.process import GIDD, Masked, UniformDiffusion
from langevin.diffusion.process.interpolating import leave_one_out, posterior
from tests.laws.bounds import chi_square, chi_square_bound
from tests.laws.test_bound import gauss_legendre

V = 3
PROCESSES = {
    "masked": Masked(vocab_size=V),
    "masked_cosine": Masked(vocab_size=V, schedule="cosine"),
    "masked_quadratic": Masked(vocab_size=V, schedule="quadratic"),
    "uniform": UniformDiffusion(vocab_size=V),
    "hybrid": GIDD(vocab_size=V, uniform_fraction=0.3),
    "hybrid_flat": GIDD(vocab_size=V, uniform_fraction=0.1, exponent=0.5),
    "hybrid_none": GIDD(vocab_size=V, uniform_fraction=0.0),
}
EVERY = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
P = torch.tensor([0.5, 0.35, 0.15], dtype=torch.float64)


def at(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


def forward(process, t: float) -> torch.Tensor:
    """q_t(z | x), (V, V + 1)."""
    a = process.arrivals(at(t))
    arrive = torch.cat([a.uniform.expand(V), a.mask])
    return arrive + a.alpha * torch.eye(V, V + 1, dtype=torch.float64)


def kernel(process, t: float, s: float) -> torch.Tensor:
    """K(z_t | z_s), (V + 1, V + 1), from z_s in rows."""
    a_t, a_s = process.arrivals(at(t)), process.arrivals(at(s))
    ratio = a_t.alpha / a_s.alpha
    arrive = torch.cat([(a_t.uniform - ratio * a_s.uniform).expand(V), a_t.mask - ratio * a_s.mask])
    return arrive + ratio * torch.eye(V + 1, dtype=torch.float64)


def step(process, q: torch.Tensor, t: float, s: float, z: int) -> torch.Tensor:
    """(V + 1,): the law of x_s by the posterior of x given z, summed over x with weights q."""
    joint = forward(process, s) * kernel(process, t, s)[:, z]
    total = joint.sum(1, keepdim=True)
    back = torch.where(total > 0, joint / total, 0.0)
    return q @ back


def exact_posterior(process, t: float, z: int, p: torch.Tensor = P) -> torch.Tensor:
    joint = p * forward(process, t)[:, z]
    return joint / joint.sum()


def states(process, t: float) -> list[int]:
    return [z for z in range(V + 1) if float(P @ forward(process, t)[:, z]) > 0]


@EVERY
def test_the_forward_law_is_a_law_and_composes(process):
    for t, s in ((0.7, 0.2), (0.31, 0.3), (1.0 - 1e-9, 0.5)):
        assert torch.allclose(forward(process, t).sum(1), torch.ones(V, dtype=torch.float64))
        assert bool((kernel(process, t, s) > -1e-15).all())
        assert torch.allclose(forward(process, s) @ kernel(process, t, s), forward(process, t), atol=1e-14)


@EVERY
def test_rates_are_those_of_the_forward_law(process):
    """d/dt q_t(z | x) = rho(z) (1 - q(z | x)) ... written per state: the generator reproduces a finite difference."""
    t, h = 0.4, 1e-6
    a = process.arrivals(at(t))
    rho = torch.cat([a.rate_uniform.expand(V), a.rate_mask])
    generator = rho.expand(V + 1, V + 1) - torch.eye(V + 1, dtype=torch.float64) * rho.sum()
    change = (forward(process, t + h) - forward(process, t - h)) / (2 * h)
    assert torch.allclose(forward(process, t) @ generator, change, atol=1e-8)


@EVERY
def test_corruption_draws_the_forward_law(process):
    rows, t = 4000, 0.6
    for x in range(V):
        data = torch.full((rows, 5), x)
        noise = SampleNoise(seeds=torch.arange(rows), steps=torch.full((rows,), 7))
        z = process.corrupt(data, torch.full((rows,), t), noise)
        counts = torch.bincount(z.flatten(), minlength=V + 1).double()
        law = forward(process, t)[x]
        assert bool((counts[law == 0] == 0).all())
        assert chi_square(counts[law > 0], law[law > 0]) < chi_square_bound(int((law > 0).sum()) - 1)


@EVERY
def test_a_step_back_is_the_sum_over_posteriors(process):
    """Drawn by the process, against the enumerated law: for the true posterior and for another one."""
    rows, t, s = 20_000, 0.7, 0.35
    for other in (False, True):
        for z in states(process, t):
            q = exact_posterior(process, t, z, P.flip(0) if other else P)
            law = step(process, q, t, s, z)
            noise = SampleNoise(seeds=torch.arange(rows), steps=torch.full((rows,), 3 + z))
            x_t = torch.full((rows, 1), z)
            times = (torch.full((rows,), v, dtype=torch.float64) for v in (t, s))
            drawn = process.transition(Categorical(q.log().expand(rows, 1, V)), x_t, *times, noise)
            counts = torch.bincount(drawn.flatten(), minlength=V + 1).double()
            seen = law > 1e-12
            assert bool((counts[~seen] == 0).all())
            if int(seen.sum()) > 1:
                assert chi_square(counts[seen], law[seen]) < chi_square_bound(int(seen.sum()) - 1)


@EVERY
def test_with_the_exact_posterior_steps_back_keep_the_law_of_the_data(process):
    t, s = 0.8, 0.3
    law = sum(float(P @ forward(process, t)[:, z]) * step(process, exact_posterior(process, t, z), t, s, z)
              for z in states(process, t))  # fmt: skip
    assert torch.allclose(law, P @ forward(process, s), atol=1e-14)


@EVERY
def test_leaving_a_place_out_and_taking_it_in_are_inverse(process):
    """For one place the law given all others is the prior of the data itself."""
    t = 0.45
    for z in states(process, t):
        q = exact_posterior(process, t, z).log().view(1, 1, V)
        x_t = torch.tensor([[z]])
        time = at(t)
        if not (isinstance(process, Masked) or process == PROCESSES["hybrid_none"]) or z == V:
            loo = leave_one_out(process, Categorical(q), x_t, time)
            assert torch.allclose(loo.logits.softmax(-1)[0, 0], P, atol=1e-13)
        back = posterior(process, P.log().view(1, 1, V), x_t, time)
        assert torch.allclose(back.logits.softmax(-1), q.softmax(-1), atol=1e-13)


def every_state(process) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Times that reach into both ends, all states at each, and the weights of a quadrature over logit t."""
    nodes, weights = gauss_legendre(220, -60.0, 33.0)
    t = torch.sigmoid(nodes)
    weights = weights * t * torch.sigmoid(-nodes)
    return t.repeat_interleave(V + 1), torch.arange(V + 1).repeat(len(t)), weights.repeat_interleave(V + 1)


def chances(process, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """q_t(z | x) for all x, (rows, V)."""
    a = process.arrivals(t)
    arrive = torch.where(z == V, a.mask, a.uniform)[:, None]
    return arrive + a.alpha[:, None] * (z[:, None] == torch.arange(V))


def bound_of_symbol(process, answer, x: int) -> float:
    """The bound of one place: a quadrature over times of the sum over what is seen; `answer` (t, z) -> logits."""
    t, z, weight = every_state(process)
    chance = chances(process, t, z)[:, x]
    some = chance > 0
    q = Categorical(answer(t, z)[some][:, None])
    terms = process.bound(q, torch.full((int(some.sum()), 1), x), z[some][:, None], t[some])
    return float((weight[some] * chance[some] * terms.diffusion[:, 0]).sum())


def exact_answer(process):
    return lambda t, z: (P * chances(process, t, z)).log()


def with_loo(process, loo: torch.Tensor):
    return lambda t, z: posterior(process, loo.expand(len(t), 1, V), z[:, None], t).logits[:, 0]


@EVERY
def test_the_bound_of_one_place_is_its_log_likelihood(process):
    for x in range(V):
        assert bound_of_symbol(process, exact_answer(process), x) == pytest.approx(-math.log(P[x]), abs=1e-4)


@EVERY
def test_any_other_answer_has_a_larger_bound(process):
    """One place: the bound of a leave-one-out law p' is -ln p' itself."""
    for size in (0.3, -0.6):
        bent = P.log() + size * torch.tensor([1.0, -1.0, 0.3], dtype=torch.float64)
        for x in range(V):
            got = bound_of_symbol(process, with_loo(process, bent), x)
            assert got == pytest.approx(-float(bent.log_softmax(-1)[x]), abs=2e-4)


def test_the_posterior_in_place_of_leave_one_out_is_a_worse_bound():
    """What many codes do: plug p(x | x_t) where p(x_i | the others) belongs."""
    for name in ("uniform", "hybrid"):
        process = PROCESSES[name]

        def plugged(t, z, process=process):
            loo = exact_answer(process)(t, z)[:, None]  # taken for a leave-one-out law
            return posterior(process, loo, z[:, None], t).logits[:, 0]

        average = sum(float(P[x]) * bound_of_symbol(process, plugged, x) for x in range(V))
        assert average > float(-(P * P.log()).sum()) + 0.1


def test_without_wrong_symbols_the_hybrid_is_masked():
    hybrid, masked = PROCESSES["hybrid_none"], PROCESSES["masked"]
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, V, (50, 6), generator=generator)
    t = torch.rand(50, generator=generator, dtype=torch.float64)
    z = torch.where(torch.rand(50, 6, generator=generator, dtype=torch.float64) < t[:, None], V, x)
    loo = torch.randn(50, 6, V, generator=generator, dtype=torch.float64)
    ours, theirs = posterior(hybrid, loo, z, t), posterior(masked, loo, z, t)
    assert torch.equal(ours.logits, theirs.logits)
    a, b = hybrid.bound(ours, x, z, t), masked.bound(theirs, x, z, t)
    assert torch.allclose(a.diffusion, b.diffusion, rtol=1e-12)
    assert torch.allclose(forward(hybrid, 0.3), forward(masked, 0.3))
    for s in (0.0, 0.2, 0.9):
        assert torch.allclose(kernel(hybrid, 0.95, s), kernel(masked, 0.95, s), atol=1e-15)


def test_the_explicit_bound_of_uniform_diffusion_is_the_general_one():
    """The published form, written with theta = V alpha loo + 1 - alpha ("Simple Guidance Mechanisms for Discrete
    Diffusion Models", 2024)."""
    process = PROCESSES["uniform"]
    generator = torch.Generator().manual_seed(1)
    loo = torch.randn(40, 1, V, generator=generator, dtype=torch.float64).log_softmax(-1)
    x, z = (torch.randint(0, V, (40, 1), generator=generator) for _ in range(2))
    t = torch.rand(40, generator=generator, dtype=torch.float64) * 0.9 + 0.05
    alpha = 1 - t[:, None]
    theta = V * alpha[..., None] * loo.exp() + 1 - alpha[..., None]
    ratio = theta / theta.gather(-1, z[..., None])  # R_j
    kappa = (1 - alpha) / (V * alpha + 1 - alpha)
    others = ratio.sum(-1) - 1
    logs = ratio.log().sum(-1)  # R_z = 1 adds nothing
    at_x = ratio.gather(-1, x[..., None])[..., 0]
    same = others - (V - 1) * kappa + (V - 1) * kappa * kappa.log() - kappa * logs
    differ = others - (1 / kappa + V - 2) - (kappa.log() + at_x.log()) / kappa - (logs - at_x.log())
    explicit = torch.where(x == z, same, differ) / (V * alpha)  # -alpha' = 1
    q = posterior(process, loo, z, t)
    assert torch.allclose(process.bound(q, x, z, t).diffusion, explicit, rtol=1e-9, atol=1e-12)


@EVERY
def test_padding_and_known_places_never_change(process):
    generator = torch.Generator().manual_seed(2)
    x = torch.randint(0, V, (300, 6), generator=generator)
    x[:, 4:] = process.mask + 1
    known = torch.arange(6).expand(300, -1) < 2
    noise = SampleNoise(seeds=torch.arange(300), steps=torch.zeros(300, dtype=torch.int64))
    t = torch.full((300,), 0.9, dtype=torch.float64)
    z = process.corrupt(x, t, noise, known)
    assert torch.equal(z[:, [0, 1, 4, 5]], x[:, [0, 1, 4, 5]])
    assert bool((z[:, 2:4] != x[:, 2:4]).any())
    assert torch.equal(process.prior(x, noise)[:, 4:], x[:, 4:])
    q = Categorical(torch.randn(300, 6, V, generator=generator))
    per_place = torch.where(known, 0.0, t[:, None])
    s = process.transition(q, z, per_place, per_place / 3, noise)
    assert torch.equal(s[:, [0, 1, 4, 5]], x[:, [0, 1, 4, 5]])
    terms = process.bound(q, x, z, t)
    assert bool((terms.diffusion[:, 4:] == 0).all())
    assert bool(terms.diffusion.isfinite().all())


@pytest.mark.parametrize("make", [lambda: UniformDiffusion(vocab_size=1), lambda: GIDD(vocab_size=3, uniform_fraction=1.0),
                                  lambda: GIDD(vocab_size=3, exponent=2.5), lambda: Masked(vocab_size=0)])  # fmt: skip
def test_absurd_processes_are_refused(make):
    with pytest.raises(ValueError, match=r"vocab_size|uniform_fraction"):
        make()
