"""Nothing is float64 on a device that has none, and what is computed there is what the CPU computes."""

from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from torch import nn

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.condition import Condition, Further, GuidanceWeight, Port
from langevin.diffusion.denoiser import CausalDenoiser, GaussianDenoiser, JointDenoiser, ScoreDenoiser, TokenDenoiser
from langevin.diffusion.float64 import float64_device
from langevin.diffusion.free_energy import measure_curve
from langevin.diffusion.guidance import (
    DDNM,
    DPS,
    MMPS,
    AnyGuidance,
    Autoguidance,
    Box,
    ClassifierFreeGuidance,
    Composition,
    HistoryGuidance,
    PartsGuidance,
    PiGDM,
    ProjectedGuidance,
    PromptGuidance,
    RescaledGuidance,
    StabilisationGuidance,
    VocabularyMask,
    ZeroStarGuidance,
    guide,
    weighted,
)
from langevin.diffusion.importance import AdaptiveImportance, Importance
from langevin.diffusion.likelihood import (
    Decoded,
    Levels,
    TruncatedNormal,
    UniformDequantisation,
    bound,
    chain_likelihood,
    finite_bound,
    flow_likelihood,
    information,
)
from langevin.diffusion.likelihood.tokens import count_bound, in_order, share_losses, time_bound, whole
from langevin.diffusion.measurement import Mask, Measurement
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.objective import ELBO, LogNormal, UniformTime, WeightedMSE
from langevin.diffusion.process import GIDD, SDE, Gaussian, Masked, Product, UniformDiffusion
from langevin.diffusion.process.sde import (
    DoubleWell,
    GaussianTerminal,
    LimitCycle,
    OrnsteinUhlenbeck,
    StationaryTerminal,
)
from langevin.diffusion.sampler import (
    Ancestral,
    AnySampler,
    BogackiShampine,
    GibbsSampler,
    LogSNR,
    PsiSampler,
    UniformTimeGrid,
    UnmaskGrid,
    sample,
    start,
)
from langevin.diffusion.sampler.fitted import fit_solver
from langevin.diffusion.sampler.state import stack
from langevin.diffusion.sampling import Sampling
from langevin.diffusion.training_input import MaskByCount, MaskByCountPerBlock, NoiseAtTime, Uncorrupted
from langevin.methods.diffusion import Diffusion
from langevin.methods.levels import level_losses, score_losses
from langevin.methods.models import GaussianModel, TokenModel
from langevin.methods.score_matching import ScoreMatching
from langevin.modalities.modality import Draw, Predict, Samples
from langevin.modalities.text.nats import block_bound
from langevin.networks import MLP
from langevin.networks.columns import ColumnMLP
from langevin.networks.encoder import resample
from langevin.recipe.build import alone
from langevin.run.generate import RunModel
from tests import pretend
from tests.laws.parts import MASKED_SAMPLERS, OWN_LAWS, PRODUCT_SAMPLERS, SAMPLERS, SCHEDULES, SDE_SAMPLERS


def close(a, b):
    torch.testing.assert_close(pretend.back(a), pretend.back(b), rtol=2e-5, atol=2e-6)


def both(work):
    """What `work(device)` gives on the CPU and on a device without float64."""
    with pretend.without_float64() as device:
        there = work(device)
    return work(torch.device("cpu")), there


def mlp(channels):
    """A small network whose output is not zero."""
    return shaken(MLP.Config(channels=channels, width=16, depth=1).build())


def shaken(network):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network


def randomness(rows, device):
    return step_randomness(seed=3, step=7, samples=torch.arange(rows, device=device), count=rows)


def test_the_pretended_device_refuses_float64_and_strangers():
    with pretend.without_float64() as device:
        x = torch.ones(3, device=device)
        assert x.device == device
        close(x + 1, torch.full((3,), 2.0))
        with pytest.raises(TypeError, match="makes float64"):
            x.double()
        with pytest.raises(TypeError, match="makes float64"):
            torch.zeros(2, dtype=torch.float64, device=device)
        index = torch.arange(2)
        assert x[index].device == device
        for mixed in (lambda: x + torch.ones(3), lambda: torch.ones(3)[index.to(device)]):
            with pytest.raises(RuntimeError, match="two devices"):
                mixed()


def test_noise_is_the_same_integers_and_normals():
    def work(device):
        noise = SampleNoise(seeds=torch.arange(4, device=device) - 2, steps=torch.full((4,), 9, device=device))
        like = torch.zeros(4, 3, 5, device=device)
        return noise.bits(15), noise.fork(3).normal(like), noise.uniform(like)

    (bits, normal, uniform), (bits_there, normal_there, uniform_there) = both(work)
    assert torch.equal(bits, pretend.back(bits_there))
    assert torch.equal(normal, pretend.back(normal_there))
    assert normal_there.device == pretend.DEVICE
    assert torch.equal(uniform, uniform_there)  # float64, and so on the CPU


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("uncertainty", [False, True])
def test_a_training_step_of_gaussian_diffusion(schedule, uncertainty):
    process = Gaussian(schedule=schedule)

    def work(device):
        network = mlp(4).to(device)
        method = Diffusion(
            process=process, denoiser=GaussianDenoiser(network=network, process=process), network=network,
            objective=WeightedMSE(process=process), times=LogNormal(), schedule=schedule, uncertainty=uncertainty,
        )  # fmt: skip
        method.players["denoiser"].module.to(device)
        x = SampleNoise(seeds=torch.arange(6), steps=torch.zeros(6).long()).normal(torch.zeros(6, 4)).to(device)
        report = method.loss("denoiser", Batch(x=x), randomness(6, device))
        report.loss.mean().backward()
        levels = level_losses(method.denoiser, process, Batch(x=x), log_snr=torch.tensor([-3.0, 0.0, 3.0]).double())
        return report.loss.detach(), levels, *[p.grad for p in network.parameters() if p.grad is not None]

    for here, there in zip(*both(work), strict=True):
        assert there.device == pretend.DEVICE
        close(here, there)


# ------------------------------------------------------------------------------------------------- tokens


PROCESSES = {
    "masked": Masked(vocab_size=5), "cosine": Masked(vocab_size=5, schedule="cosine"),
    "uniform": UniformDiffusion(vocab_size=5),
    "gidd": GIDD(vocab_size=5, uniform_fraction=0.3),
}  # fmt: skip


class Reader(nn.Module):
    """Logits of every position, or of the masked ones, from its token and c_time."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.table = nn.Parameter(torch.randn(7, 5, generator=generator))
        self.slope = nn.Parameter(torch.randn(5, generator=generator))

    def forward(self, x_t, c_time, condition=None, at=None):
        mixed = self.table[x_t] + 0.3 * self.table[x_t].mean(1, keepdim=True)
        logits = mixed + c_time[:, None, None] * self.slope
        return logits if at is None else logits[at]


def tokens(device):
    x = torch.randint(0, 5, (6, 9), generator=torch.Generator().manual_seed(2))
    x[0, 6:] = 6  # padding
    return x.to(device)


STEPS = [
    *[(name, "time", False) for name in PROCESSES],
    *[("masked", given, partly) for given in ("time", "count", "blocks", "nothing") for partly in (False, True)][1:],
]


@pytest.mark.parametrize(("name", "given", "partly"), STEPS)
def test_a_training_step_of_tokens(name, given, partly):
    process = PROCESSES[name]

    def work(device):
        network = Reader().to(device)
        times = UniformTime(low=1e-3, high=0.99)
        inputs = {
            "time": NoiseAtTime(process=process, times=times), "count": MaskByCount(process=process),
            "blocks": MaskByCountPerBlock(process=process, block=4), "nothing": Uncorrupted(),
        }  # fmt: skip
        denoiser = TokenDenoiser(network=network, process=process, at_masks_only=partly)
        method = Diffusion(
            process=process, denoiser=denoiser, network=network, objective=ELBO(process=process), times=times,
            training_input=inputs[given],
        )  # fmt: skip
        x = tokens(device)
        report = method.loss("denoiser", Batch(x=x, mask=x < 5, known=x == 1), randomness(6, device))
        report.loss.mean().backward()
        return report.loss.detach(), network.table.grad, network.slope.grad

    for here, there in zip(*both(work), strict=True):
        assert there.device == pretend.DEVICE
        close(here, there)


BLOCKS = SimpleNamespace(block_size=4)


@pytest.mark.parametrize("name", PROCESSES)
def test_nats_of_tokens(name):
    process = PROCESSES[name]

    def work(device):
        denoiser = TokenDenoiser(network=Reader().to(device), process=process, at_masks_only=name == "masked")
        batch, names = Batch(x=tokens(device)), torch.arange(6, device=device)
        found = [time_bound(denoiser, process, batch, names=names, draws=2)]
        if isinstance(process, Masked):
            found += [
                count_bound(denoiser, process, batch, names=names, draws=2), in_order(denoiser, process, batch),
                share_losses(denoiser, process, batch, shares=torch.tensor([0.3, 1.0]).double(), names=names),
                finite_bound(denoiser, process, batch.x[1:], torch.tensor([1.0, 0.6, 0.3, 0.0])).nats,
                bound(denoiser, process, batch.x[1:], times=3).nats,
                whole(CausalDenoiser(network=denoiser.network), Batch(x=batch.x, mask=batch.x < 5)),
                block_bound(
                    SimpleNamespace(process=process, denoiser=denoiser, network=SimpleNamespace(config=BLOCKS)), batch,
                    names.cpu(), 2,
                ),
            ]  # fmt: skip
        return found

    for here, there in zip(*both(work), strict=True):
        close(here, there)


# ------------------------------------------------------------------------------------------------- equations and bounds


@pytest.mark.parametrize("affine", [False, True])
def test_a_training_step_of_score_matching(affine):
    field = OrnsteinUhlenbeck(turn=0.5) if affine else LimitCycle()
    process = SDE(drift=field, duration=1.5, steps=8).with_closed_form(torch.zeros(1, 2))
    data = SampleNoise(seeds=torch.arange(6), steps=torch.zeros(6).long()).normal(torch.zeros(6, 2))
    process, _ = process.with_statistics(data, SampleNoise(seeds=torch.arange(6), steps=torch.ones(6).long()))
    assert (process.kernel is not None) == affine

    def work(device):
        network = mlp(2).to(device)
        denoiser = ScoreDenoiser(network=network, process=process)
        method = ScoreMatching(process=process, denoiser=denoiser, network=network, times=UniformTime(low=0.05))
        x = data.to(device)
        report = method.loss("denoiser", Batch(x=x), randomness(6, device))
        report.loss.mean().backward()
        levels = score_losses(denoiser, process, Batch(x=x), times=torch.tensor([0.2, 1.0]).double())
        return report.loss.detach(), levels, *[p.grad for p in network.parameters() if p.grad is not None]

    for here, there in zip(*both(work), strict=True):
        assert there.device == pretend.DEVICE
        close(here, there)


def test_bounds_and_likelihoods():
    process = Gaussian(sigma_data=0.7)
    levels = Levels(scale=0.5, offset=-1.0, count=5)
    times = torch.linspace(0.9, 0.1, 4).double()

    def work(device):
        denoiser = GaussianDenoiser(network=mlp(3).to(device), process=process)
        x = levels.values(times)[torch.tensor([[0, 3, 2], [4, 4, 1]])].float().to(device)
        density = Importance(log_snr=(-6.0, 5.0))
        return [
            bound(denoiser, process, x, density=density, levels=levels, times=3).nats,
            finite_bound(denoiser, process, x, times, levels=levels).nats,
            chain_likelihood(denoiser, process, x, times, levels=levels, paths=3, batch=4).log_weights,
            information(denoiser, process, x, levels=4, draws=2).log_density,
            *[
                flow_likelihood(
                    denoiser, process, x, levels=levels, dequantise=kind, steps=4, dtype=torch.float32, probes=probes
                ).nats
                for kind in (UniformDequantisation(), TruncatedNormal(), Decoded())
                for probes in (0, 2)
            ],
            measure_curve(denoiser, process, Batch(x=x), log_snr=torch.tensor([-3.0, 0.0, 3.0]).double())[1],
        ]

    for here, there in zip(*both(work), strict=True):
        torch.testing.assert_close(here, there, rtol=2e-4, atol=2e-4)


def test_importance_that_is_learned():
    def work(device):
        found = AdaptiveImportance(bins=4)
        found.update(torch.linspace(-9.0, 9.0, 8, device=device), torch.linspace(1.0, 2.0, 8, device=device))
        return torch.tensor(found.density().weight)

    here, there = both(work)
    assert torch.equal(here, there)


def test_a_sequence_at_the_positions_of_data():
    def work(device):
        x = torch.linspace(-1, 1, 24).reshape(2, 4, 3).to(device)
        shown = torch.arange(4, device=device) < torch.tensor([[3], [4]]).to(device)
        return resample(x, shown, 7, torch.tensor([7, 5]).to(device))

    here, there = both(work)
    assert there.device == pretend.DEVICE
    close(here, there)


# ------------------------------------------------------------------------------------------------- sampling


def run(sampler, process, denoiser, like, times, condition=None):
    """Samples of three rows: two side by side, and one that begins later and is stacked with them."""
    seeds = torch.arange(len(like))
    states = [
        start(sampler, process, like[part], times[part], seeds[part].to(like.device))
        for part in (slice(2), slice(2, 3))
    ]
    q = denoiser(states[0].x, states[0].t, None if condition is None else condition.select(slice(2)))
    state = sampler.update(states[0], q, process)
    *_, last = sample(sampler, process, denoiser, stack([state, states[1]]), condition)
    return last.x


def numbers(process):
    return LogSNR(low=0.02, high=20.0)(torch.tensor([4, 3, 4]), process.schedule)


def test_every_sampler_is_here():
    tables = (SAMPLERS, MASKED_SAMPLERS, SDE_SAMPLERS, PRODUCT_SAMPLERS)
    here = {tool.kind for tools in tables for tool in tools.values()}
    assert here | set(OWN_LAWS) == {member.kind for member in get_args(AnySampler)}


@pytest.mark.parametrize("name", [*SAMPLERS, *OWN_LAWS])
def test_sampling_numbers(name):
    process = Gaussian(schedule=SCHEDULES["variance_preserving"])
    times = numbers(process)

    def work(device):
        denoiser = GaussianDenoiser(network=mlp(4).to(device), process=process)
        like = torch.zeros(3, 4, device=device)
        if name == "learned":
            times_of_all = times[:1].expand(3, -1)
            solver = fit_solver(
                denoiser,
                process,
                like=like,
                times=times[0].to(float64_device(device)),
                seeds=torch.arange(3, 6),
                fine=3,
            )
            return run(solver, process, denoiser, like, times_of_all)
        tool = SAMPLERS[name] if name in SAMPLERS else BogackiShampine(tolerance=0.1)
        return run(tool, process, denoiser, like, times)

    here, there = both(work)
    assert there.device == pretend.DEVICE
    close(here, there)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("name", SDE_SAMPLERS)
def test_sampling_an_equation(name, affine):
    field = OrnsteinUhlenbeck(turn=0.5) if affine else DoubleWell()
    terminal = GaussianTerminal() if affine else StationaryTerminal(energy=lambda x: field.energy(x, 1.0), moves=4)
    process = SDE(drift=field, duration=1.5, steps=8, terminal=terminal).with_closed_form(torch.zeros(1, 2))
    times = UniformTimeGrid()(torch.tensor([4, 3, 4]), process.schedule)

    def work(device):
        plain = ScoreDenoiser(network=mlp(2).to(device), process=process)
        weaker = ScoreDenoiser(network=lambda x, c_time, condition: 0.1 * x, process=process)
        guidance = (Autoguidance(weight=1.5, interval=(0.1, 0.9), ema=0.1),)
        denoiser = guide(plain, guidance, process=process, models=lambda other: weaker)
        condition = weighted(None, guidance, 3, device)
        return run(SDE_SAMPLERS[name], process, denoiser, torch.zeros(3, 2, device=device), times, condition)

    here, there = both(work)
    assert there.device == pretend.DEVICE
    close(here, there)


PLAIN = Masked(vocab_size=5)
TOKENS = {
    **{name: (tool, PLAIN) for name, tool in MASKED_SAMPLERS.items()},
    **{
        f"{tool.kind}_{name}": (tool, PROCESSES[name])
        for tool in (Ancestral(), PsiSampler(kappa=0.5))
        for name in ("uniform", "gidd")
    },
}


@pytest.mark.parametrize("partly", [False, True])
@pytest.mark.parametrize("name", TOKENS)
def test_sampling_tokens(name, partly):
    tool, process = TOKENS[name]
    times = UnmaskGrid(shape="linear")(torch.tensor([4, 3, 4]))

    def work(device):
        denoiser = TokenDenoiser(
            network=Reader().to(device), process=process, at_masks_only=partly and process == PLAIN
        )
        if isinstance(tool, GibbsSampler):  # goes over a whole text
            text = tokens(device)[3:]
            state = start(tool, process, text, times, torch.arange(3, device=device), x=text)
            *_, last = sample(tool, process, denoiser, state)
            return last.x
        return run(tool, process, denoiser, torch.zeros(3, 9, dtype=torch.int64, device=device), times)

    here, there = both(work)
    assert there.device == pretend.DEVICE
    assert torch.equal(here, pretend.back(there))


@pytest.mark.parametrize("name", PRODUCT_SAMPLERS)
def test_sampling_a_product(name):
    process = Product(parts={"number": Gaussian(sigma_data=1.0), "word": Masked(vocab_size=5)})
    columns = ColumnMLP.Config(numbers={"number": 2}, tokens={"word": (5, 3)}, width=16, depth=1)
    times = UniformTimeGrid()(torch.tensor([4, 3, 4]), process.parts["number"].schedule)

    def work(device):
        denoiser = JointDenoiser(network=shaken(columns.build()).to(device), process=process)
        like = {"number": torch.zeros(3, 2, device=device), "word": torch.zeros(3, 2, dtype=torch.int64, device=device)}
        *_, last = sample(
            PRODUCT_SAMPLERS[name], process, denoiser,
            start(PRODUCT_SAMPLERS[name], process, like, times, torch.arange(3, device=device)),
        )  # fmt: skip
        return last.x

    here, there = both(work)
    assert there["word"].device == pretend.DEVICE
    close(here["number"], there["number"])
    assert torch.equal(here["word"], pretend.back(there["word"]))


# ------------------------------------------------------------------------------------------------- guidance


INTERVAL = (0.1, 5.0)
NUMBERS = (ClassifierFreeGuidance(weight=3.0, interval=INTERVAL), Autoguidance(weight=1.5, interval=INTERVAL, ema=0.1))
WORDS = (PromptGuidance(weight=2.0), ClassifierFreeGuidance(weight=1.7), Autoguidance(weight=1.5, ema=0.1))


BY_MEASUREMENT = (MMPS(), MMPS(solver="gmres"), PiGDM(), DDNM(), DPS())
BY_CONDITION = (
    ProjectedGuidance(weight=3.0), RescaledGuidance(weight=3.0), ZeroStarGuidance(weight=3.0), Composition(),
)  # fmt: skip


def test_every_guidance_is_here():
    # by frames, see test_levels; by parts, see below
    elsewhere = {HistoryGuidance, StabilisationGuidance, PartsGuidance}
    here = (*NUMBERS, *WORDS, *BY_MEASUREMENT, *BY_CONDITION, Box(low=-1.0, high=1.0))
    assert {type(method) for method in here} | elsewhere == set(get_args(AnyGuidance))


def test_guidance_by_parts():
    process = Product(parts={"number": Gaussian(sigma_data=1.0), "word": Masked(vocab_size=5)})
    columns = ColumnMLP.Config(numbers={"number": 2}, tokens={"word": (5, 3)}, width=16, depth=1)
    x = {"number": torch.linspace(-1, 1, 6).view(3, 2), "word": torch.tensor([[4, 2], [0, 1], [3, 0]])}

    def work(device):
        plain = JointDenoiser(network=shaken(columns.build()).to(device), process=process)
        method = PartsGuidance(weight=2.5)
        denoiser = guide(plain, (method,), process=process, models=alone)
        time = torch.full((3, 2), 0.6, dtype=torch.float64, device=float64_device(device))
        told = weighted(None, (method,), 3, device)
        here = {name: part.to(device) for name, part in x.items()}
        return denoiser(here, {"number": time, "word": torch.zeros_like(time)}, told).parts["number"].mean

    here, there = both(work)
    assert there.device == pretend.DEVICE
    close(here, there)


@pytest.mark.parametrize("method", BY_MEASUREMENT, ids=lambda method: f"{method.kind}{getattr(method, 'solver', '')}")
def test_sampling_by_a_measurement(method):
    process = Gaussian(schedule=SCHEDULES["cosine"])
    times, methods = numbers(process), (method, Box(low=-3.0, high=3.0))

    def work(device):
        plain = GaussianDenoiser(network=mlp(4).to(device), process=process)
        denoiser = guide(plain, methods, process=process, models=lambda other: plain)
        seen = torch.tensor([[True, False, True, True]], device=device).expand(3, -1)
        y = torch.where(seen, torch.tensor([[0.5, 0.0, -0.5, 0.2]], device=device).expand(3, -1), 0.0)
        noise = torch.tensor([0.1, 0.2, 0.3], device=device)
        measurement = Measurement(operator=Mask(seen=seen), y=y, noise=noise, shape=(4,))
        condition = weighted(Condition(measurement=measurement), methods, 3, device)
        return run(SAMPLERS["ancestral"], process, denoiser, torch.zeros(3, 4, device=device), times, condition)

    here, there = both(work)
    assert there.device == pretend.DEVICE
    close(here, there)


@pytest.mark.parametrize("method", BY_CONDITION, ids=lambda method: method.kind)
def test_sampling_by_conditions(method):
    process = Gaussian(schedule=SCHEDULES["cosine"])
    times = numbers(process)

    def work(device):
        told = conditioned(mlp(4).to(device))
        plain = GaussianDenoiser(network=told, process=process)
        denoiser = guide(plain, (method,), process=process, models=lambda other: plain)
        port = Port(tensor=torch.tensor([0.5, -1.0, 2.0], device=device))
        further = Further(ports=Condition(global_=port), weight=torch.tensor([1.5, -1.0, 2.0], dtype=torch.float64))
        condition = Condition(global_=port, further=(further,) if isinstance(method, Composition) else ())
        condition = weighted(condition.to(device), (method,), 3, device)
        return run(SAMPLERS["ancestral"], process, denoiser, torch.zeros(3, 4, device=device), times, condition)

    here, there = both(work)
    assert there.device == pretend.DEVICE
    close(here, there)


def apart(condition, device):
    """The condition with a weight of its own for each sample, as a request brings it."""
    guidance = {
        kind: GuidanceWeight(
            weight=usual.weight * torch.tensor([1.0, 0.5, 1.2]).to(usual.weight), interval=usual.interval
        )
        for kind, usual in condition.guidance.items()
    }
    moved = Condition(**condition.ports, prompt=condition.prompt, guidance=guidance).to(device)
    assert {part.weight.device for part in moved.guidance.values()} == {float64_device(device)}
    return moved


def conditioned(network):
    """A network that adds its global condition, a number for each sample, to the output of another."""

    def told(x, c_time, condition):
        port = condition.global_
        return network(x, c_time, None) + torch.where(port.kept(), port.tensor, 0.0)[:, None]

    return told


def test_guided_sampling_of_numbers():
    """Weights of each sample, with intervals, in the same calls as the rest."""
    process = Gaussian(schedule=SCHEDULES["cosine"])
    times = numbers(process)

    def work(device):
        told = conditioned(mlp(4).to(device))
        plain = GaussianDenoiser(network=told, process=process)
        weaker = GaussianDenoiser(network=lambda x, c_time, condition: 0.1 * x, process=process)
        denoiser = guide(plain, NUMBERS, process=process, models=lambda other: weaker)
        told_ = Condition(global_=Port(tensor=torch.tensor([0.5, -1.0, 2.0], device=device)))
        condition = apart(weighted(told_, NUMBERS, 3, device), device)
        return run(SAMPLERS["heun"], process, denoiser, torch.zeros(3, 4, device=device), times, condition)

    here, there = both(work)
    assert there.device == pretend.DEVICE
    close(here, there)


@pytest.mark.parametrize("partly", [False, True])
def test_guided_sampling_of_tokens(partly):
    times = UnmaskGrid(shape="linear")(torch.tensor([4, 4, 4]))

    def work(device):
        reader = Reader().to(device)

        def told(x_t, c_time, condition=None, at=None):
            logits = (
                reader(x_t, c_time) + condition.global_.kept()[:, None, None] * condition.global_.tensor[:, None, None]
            )
            return logits if at is None else logits[at]

        plain = TokenDenoiser(network=told, process=PLAIN, at_masks_only=partly)
        weaker = TokenDenoiser(network=reader, process=PLAIN, at_masks_only=partly)
        denoiser = guide(plain, WORDS, process=PLAIN, models=lambda other: weaker)
        text, given = tokens(device)[2:5], torch.arange(9, device=device) < 4
        port = Port(tensor=torch.tensor([0.5, -1.0, 2.0], device=device))
        condition = Condition(global_=port, prompt=given.expand(3, -1))
        condition = apart(weighted(condition, WORDS, 3, device), device)
        x = torch.where(given, text, PLAIN.mask)
        tool = MASKED_SAMPLERS["unmask_step"]
        state = start(tool, PLAIN, text, times, torch.arange(3), x=x)
        *_, last = sample(tool, PLAIN, denoiser, state, condition)
        within = VocabularyMask(denoiser=weaker, limit=4)
        return last.x, within(x, state.t, None).draw(state.noise)

    for here, there in zip(*both(work), strict=True):
        assert there.device == pretend.DEVICE
        assert torch.equal(here, pretend.back(there))


# ------------------------------------------------------------------------------------------------- requests


def answered(model, denoiser, device, sampling, requests):
    """What a run on the device answers to requests, one after the other."""
    parts = model(
        network=nn.Identity(), process=denoiser.process, denoiser=denoiser, method=None, levels=None, losses=None
    )
    built = SimpleNamespace(
        model=parts, device=device, learned=None, models=None, key=None, recipe=SimpleNamespace(data=None, method=None)
    )
    found = []

    def plan():
        for request in requests:
            found.append((yield request))
        return Samples(modality=SimpleNamespace(decode=lambda frame: frame), values=found)

    made = RunModel(built=built, sampling=sampling).run(plan(), batch=2, frames=True)
    return [*found, *made.frames]


def test_requests_for_numbers():
    process = Gaussian()
    sampling = Sampling(steps=3, guidance=(ClassifierFreeGuidance(weight=2.0, interval=INTERVAL),))
    condition = Condition(global_=Port(tensor=torch.tensor([0.5, -1.0, 2.0])))
    x, known = torch.linspace(-1, 1, 12).view(3, 4), (torch.arange(4) < 2).expand(3, -1)
    requests = [
        Predict(x_t=x, t=torch.tensor([0.2, 0.5, 0.8]).double(), condition=condition),
        Draw(shape=(4,), seeds=torch.arange(3), sampling=sampling, condition=condition),
        Draw(
            shape=(4,),
            seeds=torch.arange(3),
            sampling=sampling,
            clean=x,
            known=known,
            condition=condition,
        ),
    ]

    def work(device):
        def network(x_t, c_time, condition):
            port = condition.global_
            return x_t.sin() + c_time.mean() + torch.where(port.kept(), port.tensor, 0.0)[:, None]

        return answered(GaussianModel, GaussianDenoiser(network=network, process=process), device, sampling, requests)

    for here, there in zip(*both(work), strict=True):
        assert there.device.type == "cpu"
        close(here, there)


@pytest.mark.parametrize("name", ["masked", "uniform"])
def test_requests_for_tokens(name):
    process = PROCESSES[name]
    sampling = Sampling(steps=3, sampler=Ancestral(), grid=UnmaskGrid(), guidance=())
    text = tokens("cpu")[3:]
    hidden = torch.arange(9) > 4
    if name == "masked":
        given = {"x": torch.where(hidden, process.mask, text)}
    else:
        given = {"clean": text, "known": ~hidden.expand(3, -1)}
    requests = [
        Predict(x_t=text, t=torch.tensor([0.2, 0.5, 0.8]).double(), where=hidden.expand(3, -1)),
        Draw(shape=(9,), seeds=torch.arange(3), sampling=sampling, **given),
    ]

    def work(device):
        denoiser = TokenDenoiser(network=Reader().to(device), process=process)
        return answered(TokenModel, denoiser, device, sampling, requests)

    here, there = both(work)
    assert torch.equal(here[1], there[1])
    assert torch.equal(here[1][:, :5], text[:, :5])
    close(here[0], there[0])
