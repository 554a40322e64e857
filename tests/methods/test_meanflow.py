"""MeanFlow: the exact flow map solves its identity and draws the data; derivatives, the start at the teacher, training."""

from dataclasses import replace

import pytest
import torch

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.flow_map import mean_velocity, straight_time, with_span
from langevin.diffusion.objective import LogNormal, WeightedMSE
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import DPM2M, FlowMap, UniformTimeGrid, sample, start
from langevin.diffusion.sampler.state import condition_of_step
from langevin.methods import Diffusion, MeanFlow
from langevin.networks import MLP, DiT, UNet
from langevin.networks.embedding import ConditioningConfig
from langevin.networks.fused import twice_differentiable
from tests import tiny
from tests.laws.parts import FEW_SCHEDULES
from tests.methods import mixture

SCHEDULES = pytest.mark.parametrize("schedule", FEW_SCHEDULES.values(), ids=FEW_SCHEDULES)


def exact(schedule, **options):
    """MeanFlow of the exact flow map of the mixture."""
    process, network = Gaussian(schedule=schedule, sigma_data=mixture.S_D), mixture.ExactNetwork()
    denoiser = GaussianDenoiser(network=network, process=process)
    times = LogNormal(mean=-0.5, std=1.2)
    return MeanFlow(process=process, denoiser=denoiser, network=network, times=times, **options)


def drawn(count, step=0):
    return step_randomness(seed=0, step=step, samples=torch.arange(count), count=count)


@SCHEDULES
def test_the_exact_flow_map_solves_the_identity(schedule):
    """D - D_0 = g (D - D_0 - tau dD/dtau), which is u - v + (tau_t - tau_r) du/dtau = 0 in another form."""
    method, x, draw = exact(schedule), mixture.data(40), drawn(40)
    t, span = method.pairs(x, draw)
    span = torch.where(span > 0, span, straight_time(method.process, t))  # down to r = 0
    x_t = method.process.corrupt(x, t, draw.noise)
    with torch.no_grad():
        mean = replace(mixture.MIXTURE, schedule=schedule)(x_t, t).mean
        ahead = method.denoiser(x_t, t, with_span(None, span.float())).mean
        change = method.change(x_t, t, None, span)
        near = method.change(x_t, t, None, span, 2.0**-7)
        torch.testing.assert_close(ahead - mean, change, atol=2e-4, rtol=0)
        assert float((near - change).abs().max()) < 0.05 * float(
            change.abs().max()
        )  # a difference is near the derivative
        errors = [float((method.change(x_t, t, None, span, part) - change).abs().max()) for part in (0.2, 0.1, 0.05)]
    assert errors[0] > errors[1] > errors[2]
    assert float((ahead - mean).abs().max()) > 0.1


def test_a_difference_over_a_part_of_the_step_joins_its_first_piece_by_the_velocity_to_the_rest():
    """u = a v + (1 - a) u(z_s, s, r), which is D - D_0 = change for the average velocity of a broken line."""
    method, part = exact(FEW_SCHEDULES["rectified"]), 0.25
    t, span = torch.tensor([0.4, 0.7, 0.95]).double(), torch.tensor([0.2, 0.5, 0.6]).double()
    x_t = method.process.corrupt(mixture.data(3), t, drawn(3).noise)
    tau, scale = straight_time(method.process, t), (1 - t) * mixture.S_D + t
    z = x_t / scale[:, None]
    v = mixture.velocity(z, tau)
    z_s = z - part * span[:, None] * v
    rest = mixture.earlier(z_s, tau - part * span, (1 - part) * span)
    broken = mixture.S_D * (z - tau[:, None] * (z - rest) / span[:, None])  # D of the mean velocity (z - z_r) / span
    with torch.no_grad():
        ahead = method.denoiser(x_t, t, with_span(None, span.float())).mean
        mean = method.denoiser(x_t, t, None).mean
        found = method.change(x_t, t, None, span, part)
    # u + (1 - a) / a (u - u_s) - v = (u - u_broken) / a
    torch.testing.assert_close(mean + found - ahead, (broken - ahead) / part, atol=1e-4, rtol=0)


def test_the_parts_get_smaller_and_the_last_stage_has_the_derivative():
    method = exact(FEW_SCHEDULES["rectified"], stages=4)
    assert [method.part(progress) for progress in (0.0, 0.24, 0.26, 0.6, 0.8, 1.0)] == [0.5, 0.5, 0.25, 0.125, 0.0, 0.0]
    assert exact(FEW_SCHEDULES["rectified"], stages=1).part(0.0) == 0.0


def test_the_gradient_vanishes_in_the_mean_at_the_exact_flow_map():
    method, count = exact(FEW_SCHEDULES["rectified"], power=0.0), 6000
    bump = method.denoiser.network.bump

    def gradients(x):
        losses = method.loss("denoiser", Batch(x=x), drawn(count)).loss
        each = torch.stack([torch.autograd.grad(p.sum(), bump, retain_graph=True)[0] for p in losses.split(120)])
        return each.mean(0) / (each.std(0) / len(each) ** 0.5)

    assert gradients(mixture.data(count)).abs().max() < 4
    assert gradients(mixture.data(count) + 0.3).abs().max() > 8  # other data


@SCHEDULES
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_exact_flow_map_draws_the_data_in_any_number_of_steps(schedule, steps):
    method, rows, tool = exact(schedule), 2000, FlowMap()
    times = UniformTimeGrid(high=30.0)(torch.tensor([steps]), schedule).expand(rows, -1)
    begun = start(tool, method.process, mixture.data(rows), times, torch.arange(rows), clean=mixture.data(rows, seed=1))
    *_, last = sample(tool, method.process, method.denoiser, begun)
    assert int(last.call_index[0]) == steps
    gap = mixture.MIXTURE.cdf(last.x[:, 0].sort().values, torch.zeros(1)) - (torch.arange(rows) + 0.5) / rows
    assert float(gap.abs().max()) < 1.95 / rows**0.5  # of Kolmogorov and Smirnov, at 0.001


@SCHEDULES
def test_many_steps_end_where_one_does(schedule):
    method, rows, tool = exact(schedule), 50, FlowMap()
    counts = torch.tensor([1, 4]).repeat_interleave(rows)
    times = UniformTimeGrid(high=30.0)(counts, schedule)
    clean = mixture.data(rows).repeat(2, 1)
    begun = start(tool, method.process, clean, times, torch.arange(rows).repeat(2), clean=clean)
    *_, last = sample(tool, method.process, method.denoiser, begun)
    torch.testing.assert_close(*last.x.split(rows), atol=1e-4, rtol=0)


def test_a_call_of_several_samplers_tells_each_sample_the_length_of_its_own_step():
    process = Gaussian(sigma_data=mixture.S_D)
    times = UniformTimeGrid(high=30.0)(torch.tensor([2]), process.schedule)
    begun = [start(tool, process, torch.zeros(1, 1), times, torch.tensor([3])) for tool in (FlowMap(), DPM2M())]
    tau = straight_time(process, times[0])
    condition = condition_of_step(None, begun)
    torch.testing.assert_close(condition.span, torch.stack([tau[0] - tau[1], torch.zeros(()).double()]).float())
    later = FlowMap().update(begun[0], Point(torch.ones(1, 1)), process)
    torch.testing.assert_close(condition_of_step(None, [later]).span, (tau[1:2] - tau[2:3]).float())
    assert condition_of_step(None, begun[1:]) is None


def test_times_per_position_are_refused():
    process = Gaussian()
    times = torch.linspace(1, 0, 3).double()[None, :, None].expand(2, 3, 4)
    with pytest.raises(ValueError, match="from one time per sample to another"):
        start(FlowMap(), process, torch.zeros(2, 4, 3), times, torch.arange(2))


PORTS = ConditioningConfig(classes=3, span=True)
NETWORKS = {
    "mlp": (MLP.Config(width=16, depth=2, channels=6, conditioning=PORTS), (6,)),
    "dit": (DiT.Config(width=32, depth=2, head_dim=16, patch=2, channels=2, conditioning=PORTS), (2, 8, 6)),
    "dit with convolutions": (
        DiT.Config(width=16, depth=1, head_dim=8, patch=2, channels=2, dimensions=1, kernel=3, conditioning=PORTS),
        (2, 8),
    ),
    "unet": (
        UNet.Config(width=8, channel_mult=(1, 2), blocks=1, attention=(1,), head_dim=8, channels=2, conditioning=PORTS),
        (2, 8, 6),
    ),
}
EVERY = pytest.mark.parametrize(("config", "shape"), NETWORKS.values(), ids=NETWORKS)


def stirred(config):
    torch.manual_seed(1)
    network = config.build().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.to(memory_format=torch.channels_last) if config.kind == "unet" else network


@EVERY
@pytest.mark.parametrize("masked", [False, True])
def test_the_derivative_of_a_network_is_that_of_differences(config, shape, masked):
    if masked and config.kind == "mlp":
        pytest.skip("an MLP reads no data mask")
    network = stirred(config).double()
    generator = torch.Generator().manual_seed(0)
    x, way = (torch.randn(3, *shape, generator=generator).double() for _ in range(2))
    c_time, span = torch.tensor([-1.0, 0.2, 1.1]).double(), torch.tensor([0.1, 0.4, 0.9]).double()
    condition = Condition(global_=Port(tensor=torch.arange(3)))
    if masked:
        inside = (torch.arange(shape[1]) < shape[1] - 2).reshape(-1, *(1,) * (len(shape) - 2))
        condition = replace(condition, data_mask=inside.expand(3, *shape[1:]))

    def call(x, c_time, span):
        return network(x, c_time, with_span(condition, span))

    with torch.no_grad(), twice_differentiable():
        rates = (way, torch.tensor([0.5, -1.0, 2.0]).double(), torch.ones(3).double())
        y, slope = torch.func.jvp(call, (x, c_time, span), rates)
        above, below = (
            call(*(part + h * rate for part, rate in zip((x, c_time, span), rates, strict=True))) for h in (1e-6, -1e-6)
        )
    torch.testing.assert_close(slope, (above - below) / 2e-6, atol=1e-6, rtol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(y, call(x, c_time, span))


@EVERY
def test_a_derivative_in_bf16_is_near(config, shape):
    network = stirred(config)
    process = Gaussian()
    methods = {
        precision: MeanFlow(
            process=process, denoiser=GaussianDenoiser(network=network, process=process, precision=precision),
            network=network, times=LogNormal(),
        )
        for precision in (torch.float32, torch.bfloat16)
    }  # fmt: skip
    x_t, t = torch.randn(8, *shape, generator=torch.Generator().manual_seed(0)), torch.linspace(0.2, 0.9, 8).double()
    condition = Condition(global_=Port(tensor=torch.arange(8) % 3))
    with torch.no_grad():
        exactly, roughly = (method.change(x_t, t, condition, 0.5 * t) for method in methods.values())
    assert float((roughly - exactly).norm()) < 0.1 * float(exactly.norm())


@EVERY
def test_at_its_start_a_student_is_its_teacher_for_steps_of_any_length(config, shape):
    teacher = stirred(replace(config, conditioning=replace(PORTS, span=False)))
    torch.manual_seed(2)
    student = config.build().eval()
    fresh = {n: w for n, w in student.state_dict().items() if n.startswith(student.side_inputs)}
    assert fresh
    student.load_state_dict(fresh | teacher.state_dict())
    x, c_time = torch.randn(3, *shape), torch.tensor([-1.0, 0.2, 1.1])
    condition = Condition(global_=Port(tensor=torch.arange(3)))
    with torch.no_grad():
        expected = teacher(x, c_time, condition)
        assert torch.equal(student(x, c_time, condition), expected)
        assert torch.equal(student(x, c_time, with_span(condition, torch.tensor([0.0, 0.4, 0.9]))), expected)
        for parameter in student.parameters():
            parameter.add_(0.1)
        moved = student(x, c_time, with_span(condition, torch.tensor([0.0, 0.4, 0.9]))) - student(x, c_time, condition)
    assert [bool(part.abs().max() > 1e-3) for part in moved] == [False, True, True]


ROOT, CENTRE = torch.tensor([[0.5, 0.0], [0.3, 0.25]]), torch.tensor([0.4, -0.2])
SIDES = torch.tensor([[-0.5, 0.3], [0.5, -0.3]])  # of two components


def plane(count, step):
    """A mixture of two normals in the plane."""
    generator = torch.Generator().manual_seed(step)
    side = SIDES[torch.randint(0, 2, (count,), generator=generator)]
    return CENTRE + side + 0.6 * torch.randn(count, 2, generator=generator) @ ROOT.T


def trained(method, *, steps, lr):
    optimizer = torch.optim.Adam(method.players["denoiser"].module.parameters(), lr=lr)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, 2 * (1 - step / steps))
        optimizer.zero_grad()
        draw = step_randomness(seed=0, step=step, samples=torch.arange(128), count=128, progress=step / steps)
        method.loss("denoiser", Batch(x=plane(128, step)), draw).loss.mean().backward()
        optimizer.step()


def samples(denoiser, *, steps, count=4000):
    """Of so many steps from sigma / alpha = 20."""
    process, tool = denoiser.process, FlowMap()
    times = UniformTimeGrid(high=20.0)(torch.tensor([steps]), process.schedule).expand(count, -1)
    begun = start(tool, process, torch.zeros(count, 2), times, torch.arange(count), clean=plane(count, 10**6))
    *_, last = sample(tool, process, denoiser, begun)
    return last.x


def test_training_turns_a_denoiser_into_one_that_draws_in_one_step():
    torch.manual_seed(0)
    process = Gaussian(sigma_data=0.6)
    network = MLP.Config(width=32, depth=1, channels=2, conditioning=ConditioningConfig(span=True)).build()
    denoiser = GaussianDenoiser(network=network, process=process)
    times = LogNormal(mean=-0.3, std=1.6)
    trained(
        Diffusion(process=process, denoiser=denoiser, network=network, objective=WeightedMSE(process=process), times=times,
                  schedule=process.schedule), steps=400, lr=5e-3,
    )  # fmt: skip
    target = plane(20_000, 10**7)
    before = samples(denoiser, steps=1)
    assert float(before.std(0).max() / target.std(0).min()) < 0.5  # the mean of all data
    trained(MeanFlow(process=process, denoiser=denoiser, network=network, times=times, stages=4), steps=450, lr=4e-3)
    for steps in (1, 2):
        x = samples(denoiser, steps=steps)
        torch.testing.assert_close(x.mean(0), target.mean(0), atol=0.1, rtol=0)
        torch.testing.assert_close(x.T.cov(), target.T.cov(), atol=0.15, rtol=0)


def test_a_run_is_trained_stopped_and_resumed_to_the_same_bits():
    training = tiny.config()

    def fresh():
        conditioning = replace(tiny.NETWORKS["dit"].conditioning, span=True)
        made = tiny.method(replace(tiny.NETWORKS["dit"], conditioning=conditioning), dropout=0.1)
        return MeanFlow(
            process=made.process, denoiser=made.denoiser, network=made.denoiser.network, times=LogNormal(),
            non_hidden=made.denoiser.network.non_hidden, condition_dropout=0.2,
        )  # fmt: skip

    whole = tiny.state_of(first := fresh(), training)
    tiny.advance(whole, first, training, until=6)
    half = tiny.state_of(second := fresh(), training)
    tiny.advance(half, second, training, until=3)
    again = tiny.state_of(third := fresh(), training)
    groups = {g: {n: t.clone() for n, t in tensors.items()} for g, tensors in half.groups().items()}
    again.load(groups, half.counters())
    tiny.advance(again, third, training, until=6)
    tiny.assert_same(tiny.everything(whole), tiny.everything(again))


def test_the_velocity_of_an_example_is_noise_minus_data():
    process, x = Gaussian(sigma_data=0.6), mixture.data(5)
    t, noise = torch.linspace(0.1, 0.9, 5).double(), drawn(5).noise
    found = mean_velocity(process, x, process.corrupt(x, t, noise), t)
    torch.testing.assert_close(found, noise.normal(x) - x / 0.6)


@pytest.mark.parametrize(
    "options", [{"equal": 0.0}, {"equal": 1.0}, {"power": -0.1}, {"stages": 0}, {"condition_dropout": 1.0}]
)
def test_absurd_options_are_refused(options):
    with pytest.raises(ValueError, match=r"method\.(equal|power|stages|condition_dropout)"):
        MeanFlow.Config(**options)
