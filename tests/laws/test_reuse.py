"""Deep layers that are used again: always computed they change nothing; samples, guidance and tiles stay apart."""

from dataclasses import replace

import pytest
import torch

from langevin.diffusion import tiled
from langevin.diffusion.condition import Condition, Port, join
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.features import Features
from langevin.diffusion.guidance import ClassifierFreeGuidance, weighted
from langevin.diffusion.light import FeatureCache
from langevin.diffusion.process import Gaussian
from langevin.diffusion.reuse import Reusing
from langevin.diffusion.tiled import Tiled
from langevin.networks import MLP, ColumnTransformer, DiT, JointDiT, UNet
from langevin.networks.embedding import ConditioningConfig
from langevin.networks.joint_dit import PartSizes

CLASSES = ConditioningConfig(classes=3)
GRIDS = {
    "dit": DiT.Config(width=16, depth=4, head_dim=8, patch=2, channels=1, conditioning=CLASSES),
    "unet": UNet.Config(
        width=8, channel_mult=(1, 1, 2), blocks=1, attention=(1,), head_dim=8, channels=1, conditioning=CLASSES
    ),
}  # fmt: skip
BOTH = pytest.mark.parametrize("kind", GRIDS)


def stirred(config, *, but=()):
    """A network whose zeros are not zero any more, but for those of modules of these names."""
    torch.manual_seed(1)
    network = config.build().eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not any(part in but for part in name.split(".")):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def asked(rows, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 1, 8, 8, generator=generator)
    return x, torch.linspace(-1, 1, rows), Condition(global_=Port(tensor=torch.arange(rows) % 3))


def kept(condition, count):
    return replace(condition, features=Features.of(count))


def near(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@BOTH
def test_always_computed_is_the_network_to_the_bit(kind):
    network = stirred(GRIDS[kind])
    reusing, condition = Reusing(network=network, cache=FeatureCache(interval=1)), kept(asked(3)[2], 3)
    with torch.no_grad():
        for step in range(3):
            x, c_time, plain = asked(3, seed=step)
            assert torch.equal(reusing(x, c_time - step, condition), network(x, c_time - step, plain))
            assert torch.equal(reusing(x, c_time, plain), network(x, c_time, plain))  # nothing is kept without slots


def test_parts_and_columns_always_computed_are_the_network_to_the_bit():
    parts = {"image": PartSizes(channels=1, space=(4, 4)), "label": PartSizes(tokens=5, space=(2,))}
    joint = stirred(JointDiT.Config(width=16, depth=3, head_dim=8, parts=parts))
    columns = stirred(ColumnTransformer.Config(width=16, depth=3, head_dim=8, numbers={"n": 2}, tokens={"c": (3, 2)}))
    inputs = {
        joint: {"image": torch.randn(3, 1, 4, 4), "label": torch.randint(6, (3, 2))},
        columns: {"n": torch.randn(3, 2), "c": torch.tensor([[0, 4], [2, 3], [1, 5]])},
    }
    for network, x in inputs.items():
        once, always = (Reusing(network=network, cache=FeatureCache(interval=k)) for k in (2, 1))
        first, second = (kept(Condition(), 3) for _ in range(2))
        times = {name: torch.linspace(-0.5, 0.5, 3) for name in x}
        with torch.no_grad():
            plain = network(x, times, None)
            for condition, reusing in ((first, always), (first, always), (second, once)):
                found = reusing(x, times, condition)
                assert all(torch.equal(found[name], plain[name]) for name in x)
            again = once(x, times, second)  # of the same input, so what the blocks add is right
            assert all(torch.allclose(again[name], plain[name], atol=1e-5) for name in x)


def test_blocks_that_add_nothing_are_used_again_exactly():
    network = stirred(GRIDS["dit"], but=("blocks",))  # they start as the identity
    reusing, condition = Reusing(network=network, cache=FeatureCache(interval=100)), kept(asked(3)[2], 3)
    with torch.no_grad():
        for step in range(3):
            x, c_time, plain = asked(3, seed=step)
            assert torch.equal(reusing(x, c_time - step, condition), network(x, c_time - step, plain))


def test_levels_that_do_not_depend_on_time_are_used_again_exactly():
    network = stirred(GRIDS["unet"])
    with torch.no_grad():
        for name, module in network.named_modules():
            if name.endswith("modulation") and name.split(".")[:2] != ["up", "2"]:  # all but the last level up
                module.weight.zero_()
    reusing, condition = Reusing(network=network, cache=FeatureCache(interval=100)), kept(asked(3)[2], 3)
    x, c_time, plain = asked(3)
    with torch.no_grad():
        outputs = [reusing(x, c_time - step, condition) for step in range(3)]
        assert all(torch.equal(y, network(x, c_time - step, plain)) for step, y in enumerate(outputs))
    assert not torch.equal(outputs[0], outputs[1])


@BOTH
def test_a_sample_is_the_same_whoever_joins_it_and_whenever(kind):
    reusing = Reusing(network=stirred(GRIDS[kind]), cache=FeatureCache(interval=3))
    xs, times = [asked(3, seed=k)[0] for k in range(6)], [torch.linspace(-1, 1, 3) - 0.2 * k for k in range(6)]
    plain = asked(3)[2]

    def select(condition, i):
        return condition.select(slice(i, i + 1))

    with torch.no_grad():
        alone = []
        for i in range(3):
            condition = kept(select(plain, i), 1)
            alone.append([reusing(x[i : i + 1], t[i : i + 1], condition) for x, t in zip(xs, times, strict=True)])
        own = [kept(select(plain, i), 1) for i in range(3)]
        done = [0, 0, 0]
        for members in ([0], [0, 1], [1, 0], [2, 0, 1], [2], [1, 2, 0], [2, 1], [0], [2, 1]):
            x = torch.cat([xs[done[i]][i : i + 1] for i in members])
            t = torch.stack([times[done[i]][i] for i in members])
            for i, y in zip(members, reusing(x, t, join(*(own[i] for i in members))), strict=True):
                near(y[None], alone[i][done[i]])
                done[i] += 1


def test_both_halves_of_guidance_have_their_own():
    network, process = stirred(GRIDS["dit"]), Gaussian()
    cache, method = FeatureCache(interval=3), ClassifierFreeGuidance(weight=2.0, interval=(0.2, 2.0))
    denoiser = GaussianDenoiser(network=Reusing(network=network, cache=cache), process=process)
    guided, plain = method.wrap(denoiser, process=process, models=lambda other: denoiser), asked(3)[2]
    whole = kept(weighted(plain, (method,), 3), 3)
    halves = kept(plain, 3), kept(plain.dropped(), 3)
    with torch.no_grad():
        for step, t in enumerate((0.95, 0.7, 0.6, 0.5, 0.45, 0.4, 0.1)):  # the second half begins later
            x, time = asked(3, seed=step)[0], torch.full((3,), t, dtype=torch.float64)
            ratio = float(process.schedule.log_snr(time[:1]).mul(-0.5).exp())
            q = denoiser(x, time, halves[0]).mean
            if 0.2 < ratio <= 2:
                reference = denoiser(x, time, halves[1]).mean
                q = reference + 2 * (q - reference)
            near(guided(x, time, whole).mean, q)


def test_several_inputs_of_a_sample_have_their_own():
    network = stirred(GRIDS["dit"])
    reusing, tiles = Reusing(network=network, cache=FeatureCache(interval=2)), torch.tensor([0, 1, 0, 1])
    one = kept(asked(2)[2], 2).select(tiles)
    four = kept(asked(2)[2].select(tiles), 4)
    with torch.no_grad():
        for step in range(4):
            x, c_time, _ = asked(4, seed=step)
            near(reusing(x, c_time, one), reusing(x, c_time, four))


@pytest.mark.parametrize("together", [1, 3])
def test_tiles_have_their_own_however_many_are_in_a_call(together, monkeypatch):
    denoiser = GaussianDenoiser(
        network=Reusing(network=stirred(GRIDS["dit"]), cache=FeatureCache(interval=2)), process=Gaussian()
    )
    generator, found = torch.Generator().manual_seed(0), []
    inputs = [torch.randn(2, 1, 12, 16, generator=generator) for _ in range(4)]
    for most in (1000, together):
        monkeypatch.setattr(tiled, "TOGETHER", most)
        condition = kept(asked(2)[2], 2)
        with torch.no_grad():
            times = [torch.full((2,), 0.9 - 0.1 * step, dtype=torch.float64) for step in range(4)]
            draw = Tiled(denoiser=denoiser, side=8)
            found.append([draw(x, t, condition).mean for x, t in zip(inputs, times, strict=True)])
    for one, other in zip(*found, strict=True):
        near(one, other)


def counted(network):
    calls = []
    network.blocks[1].register_forward_hook(lambda module, args, output: calls.append(len(output)))
    return calls


def test_deep_blocks_are_computed_every_so_often_and_when_the_level_moved():
    network = stirred(GRIDS["dit"])
    calls = counted(network)
    x, c_time, plain = asked(2)
    with torch.no_grad():
        reusing, condition = Reusing(network=network, cache=FeatureCache(interval=3)), kept(plain, 2)
        for _ in range(7):
            reusing(x, c_time, condition)
        assert calls == [2, 2, 2]
        calls.clear()
        reusing, condition = Reusing(network=network, cache=FeatureCache(interval=100, moved=1.0)), kept(plain, 2)
        for k in range(9):  # log-SNR is -8 c_time, and moves by 0.4 and by nothing
            reusing(x, c_time - torch.tensor([0.05, 0.0]) * k, condition)
        assert calls == [2, 1, 1]
        calls.clear()
        frames = torch.zeros(2, 1, 8)
        for shape in (frames, frames, frames + torch.eye(8)[0]):  # of one frame alone
            reusing(x, shape, condition)
        assert calls == [2, 2]


def test_an_input_whose_gradient_is_asked_for_is_computed_in_full():
    network = stirred(GRIDS["dit"])
    reusing, condition = Reusing(network=network, cache=FeatureCache(interval=100)), kept(asked(2)[2], 2)
    x, c_time, plain = asked(2)
    with torch.no_grad():
        reusing(x + 1, c_time, condition)
    x = x.requires_grad_()
    found, expected = reusing(x, c_time, condition), network(x, c_time, plain)
    assert torch.equal(found, expected)
    assert torch.equal(*(torch.autograd.grad(y.sum(), x)[0] for y in (found, expected)))


def test_what_is_kept_of_a_sample_is_its_own_alone():
    reusing, condition = Reusing(network=stirred(GRIDS["dit"]), cache=FeatureCache()), kept(asked(3)[2], 3)
    with torch.no_grad():
        reusing(*asked(3)[:2], condition)
    for entry in condition.features.entries():
        for part in (entry.deep, entry.level):
            assert part.untyped_storage().nbytes() == part.numel() * part.element_size()


def test_what_cannot_be_used_again_is_refused():
    with pytest.raises(ValueError, match="MLP has none"):
        Reusing(network=MLP.Config(width=8, depth=2, channels=3).build(), cache=FeatureCache())
    for kind, most in (("dit", 1), ("unet", 2)):
        network = GRIDS[kind].build()
        Reusing(network=network, cache=FeatureCache(shallow=most))
        with pytest.raises(ValueError, match=f"shallow at most {most}"):
            Reusing(network=network, cache=FeatureCache(shallow=most + 1))
    for wrong in ({"interval": 0}, {"shallow": 0}, {"moved": 0.0}, {"moved": float("nan")}):
        with pytest.raises(ValueError, match="cache"):
            FeatureCache(**wrong)
