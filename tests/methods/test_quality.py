"""The quality of tokens: its loss is least at the enumerated truth, and ReMDM masks the worst tokens again."""

import itertools
from dataclasses import replace
from math import factorial

import pytest
import torch

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.denoiser import TokenDenoiser
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import Categorical, MaskedCategorical, concatenate
from langevin.diffusion.process import Masked
from langevin.diffusion.sampler import ReMDM, start
from langevin.methods.quality import QualityLoss
from langevin.networks import Transformer
from tests import exact
from tests.laws.chains import all_states

LAW = exact.entangled()
PROCESS = Masked(vocab_size=3)
STATES = all_states(LAW)
ROWS = 60_000


def posterior_of(z, quality=None):
    hidden = z == PROCESS.mask
    return MaskedCategorical(LAW.marginals(z)[hidden].log(), hidden, z, quality)


def truth() -> torch.Tensor:
    """(states, places): p(x_i = y_i | y) for tokens that were drawn, of a uniform share of the masks of a uniform count."""
    right, total = torch.zeros(len(STATES.words), 3, dtype=torch.float64), torch.zeros(len(STATES.words), 3).double()
    for word, chance in zip(LAW.words, LAW.p.tolist(), strict=True):
        for hidden in itertools.chain.from_iterable(itertools.combinations(range(3), n) for n in (1, 2, 3)):
            of_hidden = 1 / 3 / len(list(itertools.combinations(range(3), len(hidden))))
            z = word.clone()
            z[list(hidden)] = PROCESS.mask
            q = LAW.marginals(z[None])[0]
            for k in range(1, len(hidden) + 1):
                of_size = (
                    factorial(k) * factorial(len(hidden) - k) / factorial(len(hidden) + 1)
                )  # the integral over shares
                for drawn in itertools.combinations(hidden, k):
                    for tokens in itertools.product(range(3), repeat=k):
                        y = z.clone()
                        y[list(drawn)] = torch.tensor(tokens)
                        of_tokens = float(torch.stack([q[i, v] for i, v in zip(drawn, tokens, strict=True)]).prod())
                        weight = chance * of_hidden * of_size * of_tokens / k  # the loss is a mean over what was drawn
                        row = STATES.index(y)
                        for i in drawn:
                            total[row, i] += weight
                            right[row, i] += weight * float(y[i] == word[i])
    return torch.where(total > 0, right / total.clamp_min(1e-300), 0.5)


def losses(table: torch.Tensor) -> torch.Tensor:
    """(ROWS,): the loss of a head that says the log-odds of `table` (states, places), on drawn words and masks."""
    x = LAW.words[torch.multinomial(LAW.p, ROWS, replacement=True, generator=torch.Generator().manual_seed(1))]
    noise = SampleNoise(seeds=torch.arange(ROWS), steps=torch.zeros(ROWS, dtype=torch.int64))
    count = 1 + (3 * noise.fork(8).uniform(torch.empty(ROWS, 1))).long()
    order = noise.fork(9).uniform(x.double()).argsort(1).argsort(1)
    z = torch.where(order < count, PROCESS.mask, x)
    loss = QualityLoss(
        denoiser=lambda y, t, condition: posterior_of(y, table[STATES.index(y)]), process=PROCESS, weight=1.0
    )
    return loss(posterior_of(z), Batch(x=x), z, (count[:, 0] / 3).double(), None, noise)


def test_the_loss_is_least_at_the_enumerated_probability_of_a_right_token():
    best = truth().clamp(1e-6, 1 - 1e-6).logit().requires_grad_()
    found = losses(best)
    (slope,) = torch.autograd.grad(found.mean(), best)
    assert float(slope.abs().max()) < 5 * ROWS**-0.5 * 0.5
    for shift in (-0.7, 0.7):
        more = losses(best.detach() + shift) - found.detach()
        assert float(more.mean()) > 5 * float(more.std()) * ROWS**-0.5


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Transformer.Config(width=16, depth=2, head_dim=8, vocab_size=5, quality_head=True).build()


def test_the_head_changes_nothing_of_the_prediction(network):
    plain = replace(network.config, quality_head=False).build()
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("quality")})
    x = torch.randint(0, 6, (3, 7), generator=torch.Generator().manual_seed(0))
    c_time, hidden = torch.zeros(3), x == 5
    logits, quality = network.with_quality(x, c_time, at=hidden)
    torch.testing.assert_close(logits, plain(x, c_time, at=hidden))
    assert quality.shape == x.shape
    with pytest.raises(ValueError, match=r"train one with process.quality"):
        plain.with_quality(x, c_time)


def test_a_prediction_keeps_its_quality(network):
    denoiser = TokenDenoiser(network=network, process=Masked(vocab_size=5), at_masks_only=True)
    x = torch.randint(0, 6, (4, 7), generator=torch.Generator().manual_seed(0))
    q = denoiser(x, torch.full((4,), 0.5), None)
    changed = q.extrapolate_from(q, torch.full((4,), 2.0)).map_logits(lambda logits: 2 * logits)
    assert torch.equal(changed.quality, q.quality)
    halves = concatenate([q.select(slice(0, 1)), q.select(torch.tensor([1, 2, 3]))])
    assert torch.equal(halves.quality, q.quality)
    assert torch.equal(halves.logits, q.logits)


def test_the_worst_tokens_are_masked_again_as_many_as_by_chance_in_the_mean():
    t, s, rows, places = 0.5, 0.3, 4000, 10
    x = torch.randint(0, 3, (rows, places), generator=torch.Generator().manual_seed(0))
    x[:, :4] = PROCESS.mask
    quality = torch.randn(rows, places, generator=torch.Generator().manual_seed(1))
    q = MaskedCategorical(torch.zeros(4 * rows, 3), x == PROCESS.mask, x, quality)
    times = torch.tensor([t, s], dtype=torch.float64).expand(rows, -1)
    sampler = ReMDM(eta=0.5, remask="quality")
    state = start(sampler, PROCESS, x, times, torch.arange(rows), x=x)
    free = torch.ones_like(x, dtype=torch.bool)
    free[:, -1] = False  # given
    state = replace(state, memory={"free": free})
    masked = sampler.update(state, q, PROCESS).x[:, 4:] == PROCESS.mask
    expected = 0.5 * (s / (1 - t)) * 5
    assert float(masked.sum(1).double().mean()) == pytest.approx(expected, abs=5 * 0.5 * rows**-0.5)
    assert set(masked.sum(1).tolist()) == {int(expected), int(expected) + 1}
    assert not bool(masked[:, -1].any())
    seen = quality[:, 4:-1]
    worst_kept = torch.where(masked[:, :-1], torch.inf, seen).amin(1)
    assert bool((torch.where(masked[:, :-1], seen, -torch.inf).amax(1) < worst_kept).all())
    with pytest.raises(ValueError, match=r"train with process.quality=1"):
        sampler.update(state, Categorical(torch.zeros(rows, places, 3)), PROCESS)


def test_a_step_of_training_reports_the_loss_of_the_head(network):
    from langevin.diffusion.objective import CrossEntropy, UniformTime
    from langevin.diffusion.training_input import MaskByCount
    from langevin.methods import Diffusion

    process = Masked(vocab_size=5)
    denoiser = TokenDenoiser(network=network, process=process, at_masks_only=True)
    method = Diffusion(
        process=process, denoiser=denoiser, network=network, objective=CrossEntropy(), times=UniformTime(),
        training_input=MaskByCount(process=process),
        quality=QualityLoss(denoiser=denoiser, process=process, weight=0.5),
    )  # fmt: skip
    batch = Batch(x=torch.randint(0, 5, (4, 7), generator=torch.Generator().manual_seed(0)))
    report = method.loss("denoiser", batch, step_randomness(seed=0, step=0, samples=torch.arange(4), count=4))
    torch.testing.assert_close(report.loss.detach(), report.plain + report.terms["quality"])
    report.loss.mean().backward()
    assert float(network.quality.weight.grad.abs().sum()) > 0
