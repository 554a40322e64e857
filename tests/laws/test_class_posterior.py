"""Laws of classes by denoising errors: with an exact denoiser their posterior is Bayes', of continuous data and of tokens;
equal classes stay equal to the bit; classes that have lost are dropped, and nothing else changes."""

import itertools
import math

import pytest
import torch

from langevin.diffusion.class_posterior import Evidence, NoiseLevels, nats
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import Categorical, Point
from langevin.diffusion.process import Gaussian, Masked
from langevin.diffusion.schedule import Cosine, Rectified, VarianceExploding

# two components for each of three classes: mean (2,), standard deviation
MIXTURES = [
    [((-1.0, 0.0), 0.5), ((1.0, 0.5), 0.3)],
    [((0.0, 1.0), 0.6), ((0.5, -1.0), 0.4)],
    [((0.2, 0.1), 1.0), ((0.0, 0.0), 0.8)],
]
POINTS = torch.tensor([[-0.9, 0.1], [0.4, 0.6], [0.1, -0.2], [0.5, -0.9]], dtype=torch.float64)


def log_density(x, components, extra=0.0):
    """ln of each component of an equal mixture of isotropic normals at x (b, 2), widened by variance `extra`, (b, k)."""
    variances = [std**2 + extra for _, std in components]
    squares = [(x - torch.tensor(mean, dtype=x.dtype)).square().sum(1) for mean, _ in components]
    return torch.stack(
        [-s / (2 * v) - torch.log(2 * math.pi * torch.as_tensor(v)) - math.log(2) for s, v in zip(squares, variances)],
        1,
    )


def exact(x_t, t, schedule, components):
    """E[x | x_t] for one class: in units of y = x_t / alpha = x + rho eps."""
    alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
    y, rho2 = x_t / alpha, (sigma / alpha).square()
    weights = log_density(y, components, rho2[:, 0]).softmax(1)
    means = [
        (std**2 * y + rho2 * torch.tensor(mean, dtype=y.dtype)) / (std**2 + rho2) for mean, std in components
    ]  # fmt: skip
    return sum(w[:, None] * m for w, m in zip(weights.T, means))


def drawn(process, x, draws, predicted, levels=NoiseLevels(low=-14, high=14)):  # noqa: B008
    """The evidence by draws of the bound for each x and class, in one lattice of times for each x."""
    u = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws
    t, weight = (one.repeat(len(x)) for one in levels.times(process, u))
    every = x.repeat_interleave(draws, 0)
    noise = SampleNoise(seeds=torch.arange(len(every)), steps=torch.zeros(len(every), dtype=torch.int64))
    x_t = process.corrupt(every, t, noise)
    found = [nats(process, q, every, x_t, t) * weight for q in predicted(x_t, t)]
    return Evidence(values=torch.stack([one.view(len(x), draws) for one in found], 1))


def of_mixtures(schedule, draws, **levels):
    return drawn(
        Gaussian(schedule=schedule, sigma_data=1.0), POINTS, draws,
        lambda x_t, t: [Point(exact(x_t, t, schedule, one)) for one in MIXTURES], **levels,
    )  # fmt: skip


@pytest.mark.parametrize("schedule", [Rectified(), Cosine()], ids=lambda s: s.kind)
def test_the_exact_denoiser_of_mixtures_gives_the_posterior_of_bayes(schedule):
    evidence = of_mixtures(schedule, 40_000)
    truth = torch.stack([log_density(POINTS, one).logsumexp(1) for one in MIXTURES], 1).log_softmax(1)
    found = evidence.log_posterior()
    best = evidence.differences()[0].argmin(1, keepdim=True)
    apart = (found - found.gather(1, best)) - (truth - truth.gather(1, best))
    error = evidence.differences()[1]
    assert float(error.max()) < 0.15
    assert bool((apart.abs() <= 4 * error + 0.01).all()), apart
    prior = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    assert torch.allclose(evidence.log_posterior(prior), (found + prior.log()).log_softmax(1), atol=1e-12)


def test_half_of_the_levels_is_not_all_of_the_posterior():
    """The law above would see it if the range of levels, or a factor of two, were wrong."""
    all_levels, clean = (of_mixtures(Rectified(), 4000, levels=NoiseLevels(low=low, high=14)) for low in (-14, 4))
    assert float((all_levels.log_posterior() - clean.log_posterior()).abs().max()) > 0.5


def test_masked_tokens_give_the_enumerated_posterior():
    positions, vocabulary, classes = 3, 2, 3
    texts = torch.tensor(list(itertools.product(range(vocabulary), repeat=positions)))
    joint = torch.rand(classes, len(texts), generator=torch.Generator().manual_seed(1), dtype=torch.float64) ** 2 + 0.02
    joint /= joint.sum(1, keepdim=True)
    process = Masked(vocab_size=vocabulary)

    def predicted(x_t, t):
        fits = ((x_t[:, None] == texts) | (x_t[:, None] == process.mask)).all(2).double()  # (b, texts)
        for one in joint:
            chance = fits * one / (fits * one).sum(1, keepdim=True)
            tokens = torch.stack([chance @ (texts == token).double() for token in range(vocabulary)], 2)
            yield Categorical(tokens.clamp_min(1e-300).log())

    evidence = drawn(process, texts, 40_000, predicted)
    truth = joint.T.log().log_softmax(1)
    best = evidence.differences()[0].argmin(1, keepdim=True)
    posterior = evidence.log_posterior()
    apart = (posterior - posterior.gather(1, best)) - (truth - truth.gather(1, best))
    assert bool((apart.abs() <= 4 * evidence.differences()[1] + 0.01).all())
    assert float(evidence.differences()[1].max()) < 0.2


def test_classes_that_predict_the_same_stay_equal_to_the_bit():
    values = torch.rand(5, 1, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).expand(5, 4, 7)
    evidence = Evidence(values=values)
    assert torch.equal(evidence.log_posterior(), evidence.log_posterior()[:, :1].expand(5, 4))
    assert bool(evidence.alive().all())
    assert torch.allclose(evidence.disagreement(), torch.zeros(5, dtype=torch.float64), atol=1e-12)


def test_a_class_is_dropped_where_it_has_lost_and_is_compared_on_the_noises_that_it_saw():
    noise = torch.randn(1, 1, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 50  # shared
    values = noise + torch.tensor([0.0, 1.0, 30.0], dtype=torch.float64)[None, :, None]
    evidence = Evidence(values=values[:, :, :8])
    assert evidence.alive().tolist() == [[True, True, False]]
    later = values[:, :, 8:].clone()
    later[:, 2] = math.nan
    both = evidence.and_then(later)
    assert both.evaluations.tolist() == [2 * 40 + 8]
    assert torch.allclose(both.differences()[0], torch.tensor([[0.0, 1.0, 30.0]], dtype=torch.float64), atol=1e-9)
    assert both.alive().tolist() == [[True, True, False]]


def test_disagreement_is_the_information_of_the_level_on_the_class():
    sure = torch.tensor([[0.0, 0.0], [1e4, 1e4]], dtype=torch.float64)  # (classes, draws): both say the first
    torn = torch.tensor([[0.0, 1e4], [1e4, 0.0]], dtype=torch.float64)
    blind = torch.zeros(2, 2, dtype=torch.float64)
    found = Evidence(values=torch.stack([sure, torn, blind])).disagreement()
    assert torch.allclose(found, torch.tensor([0.0, math.log(2), 0.0], dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, -2), (-99, 0), (0, math.nan)])
def test_levels_that_are_none_are_refused(low, high):
    with pytest.raises(ValueError, match="rise from low to high"):
        NoiseLevels(low=low, high=high)


def test_levels_beyond_the_schedule_are_refused():
    process = Gaussian(schedule=VarianceExploding(), sigma_data=1.0)
    with pytest.raises(ValueError, match="below the schedule's lowest"):
        NoiseLevels(low=-80, high=-79).times(process, torch.tensor([0.5]))
