"""Laws of chains: they keep the density they are told, say when they have not settled, and never mix."""

import math

import pytest
import torch

from langevin.diffusion.chain import MALA, ULA, Density, anneal, diagnose, effective_size, r_hat, run_chains
from langevin.diffusion.noise import SampleNoise
from tests.laws.bounds import kolmogorov


def seeds(n, first=0):
    return torch.arange(n) + first


def start(n, d, width=2.0, first=0):
    noise = SampleNoise(seeds=seeds(n, first), steps=torch.full((n,), -1))
    return width * noise.normal(torch.empty(n, d, dtype=torch.float64))


COV = torch.tensor([[1.0, 0.6], [0.6, 0.8]], dtype=torch.float64)


def gaussian(x):
    return -0.5 * (x @ torch.linalg.inv(COV) * x).sum(1)


def ridge(x):
    return -0.5 * (x[:, 0] - x[:, 1]).square() - math.log(2 * math.pi)


def normal_cdf(std):
    return lambda x: 0.5 * torch.erfc(-x / (std * math.sqrt(2)))


def run(density, n=64, d=2, *, move=None, warmup=300, moves=600, first=0, **kw):
    return run_chains(
        density,
        start(n, d, first=first),
        move=move or MALA(),
        seeds=seeds(n, first),
        warmup=warmup,
        moves=moves,
        **kw,
    )


def test_adjusted_chains_have_exactly_the_law():
    found = run(Density(log_p=gaussian))
    x = found.draws.flatten(0, 1)
    verdict = diagnose(found.draws)
    assert verdict.converged
    assert "have converged" in verdict.lines()[0]
    assert torch.allclose(x.T.cov(), COV, atol=0.04)
    assert 0.45 < float(found.accepted.mean()) < 0.75
    assert kolmogorov(x[:, 0], normal_cdf(1.0)) < 1.6 / math.sqrt(verdict.effective_size)


def test_unadjusted_chains_are_off_by_their_step():
    """On N(0, 1) the step h leaves the variance 1 / (1 - h / 2)."""
    for h in (0.4, 0.1):
        found = run(Density(log_p=lambda x: -0.5 * x.square().sum(1)), 200, 1, move=ULA(size=h), moves=1500)
        assert float(found.draws.var()) == pytest.approx(1 / (1 - h / 2), rel=0.03)
        assert bool((found.step == h).all())


def test_chains_are_functions_of_their_seed_alone():
    """By element-wise operations: the bits of a matrix product may depend on the number of rows."""
    many, one = (run(Density(log_p=ridge), n, first=f, warmup=20, moves=20) for n, f in ((5, 0), (1, 3)))
    assert torch.equal(many.draws[3:4], one.draws)


def test_annealing_from_outside_the_support_gives_the_constant():
    """A Gaussian in a box that many chains start outside of: their weight is 0, and the mean weight is the box's mass."""
    like = torch.zeros(3000, 2, dtype=torch.float64)
    found = anneal(
        Density(log_p=lambda x: -0.5 * x.square().sum(1), box=(-1.0, 1.5)), like, start=2.0, seeds=seeds(3000)
    )
    mass = 2 * math.pi * float(torch.special.ndtr(torch.tensor([1.5, -1.0]).double()).diff()) ** 2
    kept = found.log_weights > -math.inf
    assert 0.1 < float(kept.double().mean()) < 0.9
    assert bool(((found.draws >= -1) & (found.draws <= 1.5))[kept].all())
    assert found.log_constant == pytest.approx(math.log(mass), abs=0.05)


def test_annealing_finds_both_wells_and_the_constant():
    """Between wells at -4 and 4 a single chain would never pass; the path from a wide Gaussian reaches both."""

    def log_p(x):
        z = torch.cat([(x + 4) / 0.5, (x - 4) / 0.5], 1)
        return (-0.5 * z * z + torch.tensor([0.3, 0.7], dtype=x.dtype).log()).logsumexp(1) + math.log(3)

    found = anneal(
        Density(log_p=log_p), torch.zeros(2000, 1, dtype=torch.float64), start=4.0, seeds=seeds(2000), temperatures=80
    )
    w = found.log_weights.softmax(0)
    assert float((w * (found.draws[:, 0] > 0)).sum()) == pytest.approx(0.7, abs=0.05)
    assert found.log_constant == pytest.approx(math.log(3 * 0.5 * math.sqrt(2 * math.pi)), abs=0.1)
    assert 200 < found.effective_size <= 2000


def test_effective_size_and_r_hat_are_those_of_an_autoregression():
    """x' = a x + sqrt(1 - a^2) z has (1 + a) / (1 - a) draws to an independent one."""
    a, z = 0.8, torch.randn(16, 4000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = [z[:, 0]]
    for i in range(1, z.shape[1]):
        x.append(a * x[-1] + math.sqrt(1 - a * a) * z[:, i])
    chains = torch.stack(x, 1)
    assert effective_size(chains) == pytest.approx(16 * 4000 * (1 - a) / (1 + a), rel=0.1)
    assert effective_size(z) == pytest.approx(16 * 4000, rel=0.1)
    assert r_hat(chains) < 1.005
    apart = chains + torch.arange(16)[:, None] % 2
    assert r_hat(apart) > 1.1
    wider = chains * (1 + torch.arange(16)[:, None] % 2)
    assert r_hat(wider) > 1.05  # the same place and another spread


def test_the_ridge_is_seen_to_have_no_end_and_its_difference_is_normal():
    found = run(Density(log_p=ridge), warmup=300, moves=1500)
    verdict = diagnose(found.draws)
    assert not verdict.converged
    assert verdict.walks
    assert abs(verdict.direction[0] - verdict.direction[1]) < 0.05  # along (1, 1)
    assert verdict.growth > 1.4
    text = " ".join(verdict.lines())
    assert all(
        words in text
        for words in ("NOT converged", "cannot be normalised", "--box", "--gaussian-envelope", "+0.71, +0.71")
    )
    difference = found.draws[:, ::5, 0] - found.draws[:, ::5, 1]
    assert r_hat(difference) < 1.01
    assert kolmogorov(difference.flatten(), normal_cdf(1.0)) < 1.6 / math.sqrt(effective_size(difference))


@pytest.mark.parametrize("limits", [{"box": (-3.0, 3.0)}, {"gaussian_envelope": 2.0}])
def test_a_box_or_a_confining_term_lets_the_ridge_settle(limits):
    density = Density(log_p=ridge, **limits)
    found = run_chains(density, start(64, 2, 0.7), move=MALA(), seeds=seeds(64), warmup=500, moves=2000, keep_every=2)
    verdict = diagnose(found.draws)
    assert verdict.converged, verdict
    x = found.draws.flatten(0, 1)
    if "box" in limits:
        assert float(x.abs().max()) <= 3
    else:  # precision [[1, -1], [-1, 1]] + I / 4
        want = torch.linalg.inv(torch.tensor([[1.25, -1.0], [-1.0, 1.25]], dtype=torch.float64))
        assert torch.allclose(x.T.cov(), want, atol=0.12)


@pytest.mark.parametrize(("log_p", "words"), [
    (lambda x: x.square(), "it takes x (b, ...) and returns one number per state"),
    (lambda x: 3.0, "returned float"),
    (lambda x: x.sum(1) * math.nan, "log-density is nan at state ["),
    (lambda x: x.square().sum(1) * math.inf, "log-density is inf at state ["),
    (lambda x: x.sum(1) - math.inf, "the density is 0 where a chain starts, at ["),
    (lambda x: (0 * x).square().sum(1).sqrt(), "gradient of the log-density is not finite at state ["),
])  # fmt: skip
def test_a_density_that_is_none_is_refused_with_its_state(log_p, words):
    with pytest.raises(ValueError, match=r"density|state") as caught:
        run(Density(log_p=log_p), 4, warmup=2, moves=4)
    assert words in str(caught.value)


def test_a_step_that_is_far_too_long_is_seen_in_what_is_taken():
    found = run(Density(log_p=lambda x: -x.pow(4).sum(1)), 8, move=ULA(size=5.0), warmup=0, moves=50)
    assert float(found.accepted.mean()) < 0.5  # where e^(-x^4) is 0 the chain stays
    with pytest.raises(ValueError, match=r"diverged from|not finite at state"):
        run(Density(log_p=lambda x: x.pow(4).sum(1).clamp_max(1e300)), 8, move=ULA(size=5.0), warmup=0, moves=50)


@pytest.mark.parametrize("bad", [{"box": (1.0, 0.0)}, {"gaussian_envelope": 0.0}, {"gaussian_envelope": math.inf}])
def test_limits_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValueError, match=r"box|envelope"):
        Density(log_p=ridge, **bad)
