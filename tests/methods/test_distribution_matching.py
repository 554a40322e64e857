"""Distribution matching: no gradient where two laws agree, the gradient of the divergence elsewhere, turns, training."""

import math

import pytest
import torch
from torch import nn

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.objective import LogNormal
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import MultistepConsistency, UniformTimeGrid, sample, start
from langevin.methods import DistributionMatching
from langevin.networks import MLP
from tests import exact, tiny
from tests.laws.parts import FEW_SCHEDULES

S_D, MEAN, STD = 0.5, 0.3, 0.6
SCHEDULES = pytest.mark.parametrize("schedule", FEW_SCHEDULES.values(), ids=FEW_SCHEDULES)


def drawn(count, step=0):
    return step_randomness(seed=0, step=step, samples=torch.arange(count), count=count)


class Affine(nn.Module):
    """A generator of N(mean, std^2) from x_t of the prior: mean + std x_t / (its deviation)."""

    def __init__(self, process, mean, std):
        super().__init__()
        self.process = process
        self.mean, self.std = (nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in (mean, std))

    def forward(self, x_t, t, condition=None):
        alpha, sigma = self.process.scales(t, x_t)
        return Point(self.mean + self.std * x_t / (sigma.square() + alpha.square() * S_D**2).sqrt())


class Fixed(nn.Module):
    """A denoiser without weights, which counts its calls."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser, self.calls, self.weight = denoiser, 0, nn.Parameter(torch.zeros(()))

    def forward(self, x_t, t, condition=None):
        self.calls += 1
        return Point(self.denoiser(x_t, t).mean + self.weight)


def made(schedule, *, mean, std, times=LogNormal(mean=-0.5), data=None, steps=1, **further):  # noqa: B008
    """Of a Gaussian generator with the exact denoiser of its samples, and the exact denoiser of the data as the teacher."""
    process = Gaussian(schedule=schedule, sigma_data=S_D)
    network = Affine(process, mean, std)
    fake = Fixed(exact.Scalar(schedule=schedule, mean=mean, variance=std**2))
    teacher = data or exact.Scalar(schedule=schedule, mean=MEAN, variance=STD**2)
    grid = UniformTimeGrid(high=40.0)(torch.tensor([steps]), schedule)[0, :-1]
    return DistributionMatching(
        process=process, denoiser=network, network=network, fake=fake, fake_network=fake, teacher=lambda: teacher,
        steps=grid, times=times, **further,
    )  # fmt: skip


def batch(count):
    return Batch(x=torch.zeros(count, 1, dtype=torch.float64))


@SCHEDULES
def test_no_sample_has_a_gradient_where_the_generator_draws_the_teachers_law(schedule):
    method, count = made(schedule, mean=MEAN, std=STD), 4000
    report = method.loss("generator", batch(count), drawn(count))
    assert float(report.plain.max()) < 1e-20
    found = torch.autograd.grad(report.loss.sum(), [method.denoiser.mean, method.denoiser.std])
    assert max(abs(float(g)) for g in found) < 1e-8
    losses = method.loss("fake", batch(count), drawn(count)).loss
    each = torch.stack(
        [torch.autograd.grad(p.sum(), method.fake.weight, retain_graph=True)[0] for p in losses.split(80)]
    )
    assert abs(float(each.mean() / (each.std() / len(each) ** 0.5))) < 4  # it is exact, and stays so in the mean


@SCHEDULES
@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.6), (0.3, 0.2), (-0.4, 1.1)])
def test_the_gradient_is_that_of_the_divergence(schedule, mean, std):
    """At one noise level, of KL(N(a m, a^2 s^2 + sigma^2) | N(a M, a^2 S^2 + sigma^2)) by m and by s, in closed form."""
    count, level = 100_000, 0.7
    method = made(schedule, mean=mean, std=std, times=LogNormal(mean=torch.tensor(level).log().item(), std=1e-9))
    report = method.loss("generator", batch(count), drawn(count))
    found = torch.autograd.grad(report.loss.mean(), [method.denoiser.mean, method.denoiser.std])
    m, s = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (mean, std))
    ours, theirs = s**2 + level**2, STD**2 + level**2  # of y_t / alpha
    divergence = 0.5 * ((theirs / ours).log() + (ours + (m - MEAN) ** 2) / theirs - 1)
    expected = torch.autograd.grad(divergence, [m, s])
    weight = level**2 / (level * S_D / (level**2 + S_D**2) ** 0.5)
    for one, other in zip(found, expected, strict=True):
        assert float(one) == pytest.approx(weight * float(other), abs=0.01)
    assert max(abs(weight * float(g)) for g in expected) > 0.1


def test_the_generator_takes_turns_and_the_teacher_is_no_player():
    method = made(FEW_SCHEDULES["rectified"], mean=0.0, std=1.0)
    assert {name: (player.every, player.ema) for name, player in method.players.items()} == {
        "generator": (5, True), "fake": (1, False)
    }  # fmt: skip
    assert next(iter(method.players)) == "fake", "whose loss tells whether training diverges"
    method.loss("fake", batch(4), drawn(4))
    assert method.fake.calls == 1
    with pytest.raises(KeyError):
        method.loss("teacher", batch(4), drawn(4))


@SCHEDULES
def test_later_steps_are_trained_on_what_sampling_gives_them(schedule):
    """Where the generator is the end of the Gaussian flow, all of its steps draw the data, as in `MultistepConsistency`."""
    method, count = made(schedule, mean=MEAN, std=STD, steps=4), 20_000
    seen = {}

    def end(x_t, t, condition=None):
        alpha, sigma = method.process.scales(t, x_t)
        for time in t.unique():
            here = t == time
            seen[float(time)] = (x_t[here] / (alpha[here].square() * STD**2 + sigma[here].square()).sqrt()).std()
        return Point(MEAN + STD * (x_t - alpha * MEAN) / (alpha.square() * STD**2 + sigma.square()).sqrt())

    method.denoiser = method._generator = end
    y = method.samples(batch(count), None, drawn(count))
    assert sorted(seen, reverse=True) == method.steps.tolist()
    assert float(y.std()) == pytest.approx(STD, rel=0.03)
    assert all(float(spread) == pytest.approx(1, rel=0.06) for spread in seen.values())


class Form(nn.Module):
    """A discriminator of numbers: a x_t^2 + b x_t, at any time."""

    def __init__(self, a=0.0, b=0.0):
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in (a, b))

    def forward(self, x_t, t, condition=None):
        return Point(self.a * x_t.square() + self.b * x_t)


def data(count, seed=0):
    """Of the law that the teacher should have."""
    noise = torch.randn(count, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Batch(x=MEAN + STD * noise)


@SCHEDULES
def test_the_discriminators_losses_are_the_formulas_and_without_their_weight_nothing_changes(schedule):
    judge = Form(0.4, -0.3)
    method = made(schedule, mean=0.1, std=0.9, adversarial=0.7, discriminator=judge, discriminator_network=judge)
    plain, x, draw = made(schedule, mean=0.1, std=0.9), data(6), drawn(6)
    t = method.times(draw.u, schedule)
    alpha, sigma = (f(t)[:, None] for f in (schedule.alpha, schedule.sigma))
    noise = draw.noise.fork(3).normal(x.x)
    y = method.samples(x, None, draw)
    real, fake = (alpha * z + sigma * noise for z in (x.x, y))

    def score(z):
        return (0.4 * z.square() - 0.3 * z)[:, 0]

    slopes = sum((0.8 * z - 0.3).square()[:, 0] for z in (real, fake))
    critic = method.loss("discriminator", x, draw)
    torch.testing.assert_close(critic.terms["penalty"], slopes)
    torch.testing.assert_close(critic.loss, (1 + (score(fake) - score(real)).exp()).log() + 0.5 * slopes)
    (slope,) = torch.autograd.grad(critic.loss.sum(), judge.b)
    assert float(slope.abs()) > 0
    against = (1 + (score(real) - score(fake)).exp()).log()
    report, without = method.loss("generator", x, draw), plain.loss("generator", x, draw)
    assert torch.equal(report.plain, without.plain)
    assert torch.equal(method.loss("fake", x, draw).loss, plain.loss("fake", x, draw).loss)
    torch.testing.assert_close(report.terms["adversarial"], against)
    torch.testing.assert_close(report.loss, without.loss + 0.7 * against)
    weights = [method.denoiser.mean, method.denoiser.std]
    found = torch.autograd.grad(report.loss.sum(), weights)
    matched = torch.autograd.grad(without.loss.sum(), [plain.denoiser.mean, plain.denoiser.std])
    y = plain.samples(x, None, draw)
    fake = alpha * y + sigma * noise
    pushed = torch.autograd.grad(
        0.7 * (1 + (score(real) - score(fake)).exp()).log().sum(), [plain.denoiser.mean, plain.denoiser.std]
    )
    for one, two, three in zip(found, matched, pushed, strict=True):
        torch.testing.assert_close(one, two + three)
    assert set(plain.players) == {"generator", "fake"}
    assert not method.players["discriminator"].pretrained


class Follows(nn.Module):
    """The exact denoiser of what a generator draws now."""

    def __init__(self, generator, schedule):
        super().__init__()
        self.generator, self.schedule, self.weight = [generator], schedule, nn.Parameter(torch.zeros(()))

    def forward(self, x_t, t, condition=None):
        mean, std = (float(value.detach()) for value in (self.generator[0].mean, self.generator[0].std))
        return exact.Scalar(schedule=self.schedule, mean=mean, variance=std**2)(x_t, t)


def test_where_the_teacher_is_too_narrow_the_discriminator_moves_the_generator_towards_the_data():
    """Without it the generator gets the teacher's deviation, 0.25; the data's is 0.6."""
    schedule, found = FEW_SCHEDULES["rectified"], {}
    wrong = exact.Scalar(schedule=schedule, mean=MEAN, variance=0.25**2)
    for weight in (0.0, 30.0):
        judge = Form() if weight else None
        method = made(
            schedule, mean=MEAN, std=0.4, data=wrong, adversarial=weight, discriminator=judge,
            discriminator_network=judge, times=LogNormal(mean=-1.0, std=0.8),
        )  # fmt: skip
        method.fake = Follows(method.denoiser, schedule)
        players = {n: p for n, p in method.players.items() if n != "fake"}
        optimizers = [
            torch.optim.Adam(player.module.parameters(), lr=0.04, betas=(0.0, 0.99)) for player in players.values()
        ]
        last = []
        for step in range(150):
            for (name, player), optimizer in zip(players.items(), optimizers, strict=True):
                optimizer.zero_grad()
                loss = method.loss(name, data(128, seed=step), drawn(128, step)).loss.mean()
                loss.backward(inputs=list(player.module.parameters()))
            for optimizer in optimizers:
                optimizer.step()
            last.append(abs(float(method.denoiser.std.detach())))
        found[weight] = sum(last[-50:]) / 50
    assert found[0.0] == pytest.approx(0.25, abs=0.02)
    assert 0.3 < found[30.0] < 0.65


ROOT, CENTRE = torch.tensor([[0.3, 0.0], [0.2, 0.15]]), torch.tensor([0.4, -0.2])
SIDE = torch.tensor([0.5, -0.3])
CLOUDS = exact.Clouds(
    schedule=Gaussian().schedule, weights=torch.tensor([0.5, 0.5]).double(),
    means=torch.stack([CENTRE - SIDE, CENTRE + SIDE]).double(), covs=(ROOT @ ROOT.T).double().repeat(2, 1, 1),
)  # fmt: skip


def teacher(x_t, t, condition=None):
    return Point(CLOUDS(x_t.double(), t).mean.float())


def test_training_draws_the_mean_and_the_covariance_of_a_mixture():
    torch.manual_seed(0)
    process = Gaussian(sigma_data=0.5)
    networks = [MLP.Config(width=48, depth=1, channels=2).build() for _ in range(2)]
    denoiser, fake = (GaussianDenoiser(network=network, process=process) for network in networks)
    steps = UniformTimeGrid(high=20.0)(torch.tensor([1]), process.schedule)[0, :-1]
    method = DistributionMatching(
        process=process, denoiser=denoiser, network=networks[0], fake=fake, fake_network=networks[1],
        teacher=lambda: teacher, steps=steps, times=LogNormal(mean=-0.5, std=1.2), every=3,
    )  # fmt: skip
    optimizers = {
        name: torch.optim.Adam(player.module.parameters(), lr=4e-3, betas=(0.5, 0.99))
        for name, player in method.players.items()
    }
    end = [parameter.detach().clone() for parameter in networks[0].parameters()]
    for step in range(600):
        for name, player in method.players.items():
            if step % player.every:
                continue
            optimizers[name].zero_grad()
            loss = method.loss(name, Batch(x=torch.zeros(128, 2)), drawn(128, step)).loss.mean()
            loss.backward(inputs=list(player.module.parameters()))
            optimizers[name].step()
        for average, parameter in zip(end, networks[0].parameters(), strict=True):
            average.lerp_(parameter.detach(), 0.02)
    with torch.no_grad():
        for average, parameter in zip(end, networks[0].parameters(), strict=True):
            parameter.copy_(average)
    times = torch.cat([steps, torch.zeros(1)]).expand(4000, -1)
    begun = start(MultistepConsistency(), process, torch.zeros(4000, 2), times, torch.arange(4000))
    *_, last = sample(MultistepConsistency(), process, denoiser, begun)
    target = CLOUDS.draw(20_000, torch.Generator().manual_seed(0)).float()
    torch.testing.assert_close(last.x.mean(0), target.mean(0), atol=0.08, rtol=0)
    torch.testing.assert_close(last.x.T.cov(), target.T.cov(), atol=0.08, rtol=0)


@pytest.mark.parametrize("adversarial", [0.0, 0.01])
def test_a_run_is_trained_stopped_and_resumed_to_the_same_bits(adversarial):
    training = tiny.config()
    players = {"generator", "fake"} | ({"discriminator"} if adversarial else set())

    def fresh():
        parts = [tiny.method("dit", seed=seed, dropout=0.1).denoiser for seed in range(4)]
        parts[2].network.eval().requires_grad_(False)
        further = {"adversarial": adversarial, "discriminator": parts[3], "discriminator_network": parts[3].network}
        return DistributionMatching(
            **(further if adversarial else {}),
            process=parts[0].process, denoiser=parts[0], network=parts[0].network, fake=parts[1],
            fake_network=parts[1].network, teacher=lambda: parts[2], steps=torch.tensor([0.98, 0.5]).double(),
            times=LogNormal(), every=2, condition_dropout=0.2, non_hidden=parts[0].network.non_hidden,
        )  # fmt: skip

    whole = tiny.state_of(first := fresh(), training)
    tiny.advance(whole, first, training, until=6)
    half = tiny.state_of(second := fresh(), training)
    tiny.advance(half, second, training, until=3)
    again = tiny.state_of(third := fresh(), training)
    groups = {g: {n: t.clone() for n, t in tensors.items()} for g, tensors in half.groups().items()}
    assert {name.split(".")[0] for name in groups["model"]} == players
    again.load(groups, half.counters())
    tiny.advance(again, third, training, until=6)
    tiny.assert_same(tiny.everything(whole), tiny.everything(again))


@pytest.mark.parametrize(
    "options",
    [{"steps": 0}, {"every": 0}, {"condition_dropout": 1.0}, {"adversarial": -1.0}, {"adversarial": math.inf}],
)
def test_absurd_options_are_refused(options):
    with pytest.raises(ValueError, match=r"method\.(steps|every|condition_dropout|adversarial)"):
        DistributionMatching.Config(**options)


def test_a_weight_and_a_discriminator_belong_together():
    with pytest.raises(ValueError, match="a weight above 0 and a discriminator, or neither"):
        made(FEW_SCHEDULES["rectified"], mean=0.0, std=1.0, adversarial=0.1)
