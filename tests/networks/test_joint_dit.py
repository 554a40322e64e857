"""A transformer over parts: shapes, levels of each part, and that parts read each other."""

from dataclasses import replace

import pytest
import torch

from langevin.modalities.modality import Needs
from langevin.networks import JointDiT, UNet
from langevin.networks.embedding import ConditioningConfig
from langevin.networks.joint_dit import UNITS, PartSizes, _positions

PARTS = {
    "clip": Needs(processes=("gaussian",), channels=1, space=(4, 8, 8), std=1.0, seconds=0.5),
    "sound": Needs(processes=("gaussian",), channels=3, space=(6,), std=1.0, seconds=0.5),
    "words": Needs(processes=("masked",), tokens=5, space=(3,)),
}
PATCHES = {"clip": (1, 4, 4), "sound": 2}
UNET = UNet.Config(width=8, channel_mult=(1, 2), blocks=1, head_dim=8)
UNETS = {"clip": replace(UNET, patch=2), "sound": UNET}
READ = {"by patches": {"patches": PATCHES}, "by a U-Net": {"patches": {"sound": 2}, "unets": {"clip": UNETS["clip"]}},
        "by U-Nets": {"unets": UNETS}}  # fmt: skip


def fresh(**options):
    config = JointDiT.Config(**{"width": 24, "depth": 2, "head_dim": 12, **options})
    torch.manual_seed(1)
    return config.fitted(Needs(processes=("product",), parts=PARTS)).build().eval()


def moved(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def built(**options):
    return moved(fresh(**{"patches": PATCHES, **options}))


@pytest.fixture(params=READ.values(), ids=READ.keys())
def reads(request):
    return request.param


def given(b=2):
    generator = torch.Generator().manual_seed(0)
    x = {
        "clip": torch.randn(b, 1, 4, 8, 8, generator=generator), "sound": torch.randn(b, 3, 6, generator=generator),
        "words": torch.randint(6, (b, 3), generator=generator),
    }  # fmt: skip
    return x, {name: torch.linspace(-1, 1, b) for name in x}


def test_outputs_have_the_shapes_of_the_parts_and_start_at_zero(reads):
    x, c_time = given()
    network = fresh(**reads)
    assert all(bool((part == 0).all()) for part in network(x, c_time).values())
    moved(network)
    y = network(x, c_time)
    assert {name: tuple(part.shape) for name, part in y.items()} == {
        "clip": (2, 1, 4, 8, 8), "sound": (2, 3, 6), "words": (2, 3, 5),
    }  # fmt: skip


def test_samples_are_apart_and_every_part_is_read_by_all(reads):
    network = moved(fresh(**reads))
    x, c_time = given()
    before = network(x, c_time)
    for name in x:
        other = {**x, name: x[name].clone()}
        other[name][0] = (x[name][0] + 1) % 6 if name == "words" else x[name][0] + 1
        after = network(other, c_time)
        for part in x:
            assert (after[part][0] - before[part][0]).abs().max() > 1e-4, (name, part)
            torch.testing.assert_close(after[part][1], before[part][1], rtol=1e-4, atol=1e-5)


def test_the_words_of_a_part_modulate_the_others_and_the_mask_is_no_word(reads):
    network = moved(fresh(**reads))
    x, c_time = given()
    words = network.bags_of_words["words"].weight
    for block in network.blocks:
        torch.nn.init.zeros_(block.attention.out.weight)  # no other way from part to part
        torch.nn.init.zeros_(block.attention.out.bias)
    before = network(x, c_time)["clip"]
    torch.testing.assert_close(network._words("words", torch.tensor([[1, 4, 5]]))[0], words[1] + words[4])
    assert not network._words("words", torch.full((1, 3), 5)).any()
    after = network({**x, "words": x["words"].flip(1)}, c_time)["clip"]
    torch.testing.assert_close(after, before)  # in any order
    after = network({**x, "words": torch.full_like(x["words"], 5)}, c_time)["clip"]
    assert (after - before).abs().max() > 1e-4


def test_each_part_has_a_level_of_its_own_also_by_frame(reads):
    network = moved(fresh(**reads))
    x, c_time = given()
    before = network(x, c_time)
    for name in x:
        after = network(x, {**c_time, name: c_time[name] + 1})
        assert (after[name] - before[name]).abs().max() > 1e-4
    by_frame = {**c_time, "clip": c_time["clip"][:, None, None].expand(-1, 1, 4).clone()}
    for part, value in network(x, by_frame).items():
        torch.testing.assert_close(value, before[part], rtol=1e-4, atol=1e-5)
    by_frame["clip"][:, 0, 2] += 1
    assert (network(x, by_frame)["clip"] - before["clip"]).abs().max() > 1e-4


def test_what_happens_at_one_moment_has_one_position_in_time():
    clip = _positions(PartSizes(channels=1, space=(4, 8, 8), seconds=0.5, patch=(1, 4, 4)))
    sound = _positions(PartSizes(channels=3, space=(6,), seconds=0.5, patch=1))
    assert clip[:, 0].unique().tolist() == pytest.approx([0.0, 1.5, 3.0, 4.5])  # 0.5 seconds in quarters, of UNITS
    assert sound[:, 0].tolist() == pytest.approx([i * 0.5 / 6 * UNITS for i in range(6)])
    words = _positions(PartSizes(tokens=5, space=(3,)))
    assert words[:, 0].tolist() == [-3, -2, -1]  # before the beginning
    assert clip[:, 1:].unique(dim=0).shape[0] == 4


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: built(mlp_ratio=0.001), "positive"), (lambda: JointDiT.Config(width=20, head_dim=12), "head_dim"),
        (lambda: JointDiT.Config().build(), "needs network.parts"),
        (lambda: JointDiT.Config(patches={"clp": 2}).fitted(Needs(processes=(), parts=PARTS)), "names clp"),
        (lambda: JointDiT.Config(patches={"clip": 3}).fitted(Needs(processes=(), parts=PARTS)), "does not cut"),
        (lambda: fresh(unets={"words": UNET}), "unets names words, and the parts .* are clip, sound"),
        (lambda: fresh(patches=PATCHES, unets={"clip": UNET}), "the part clip is read by"),
        (lambda: fresh(unets={"clip": replace(UNET, channel_mult=(1, 2, 2, 2))}), r"unets\.clip: .* multiples of 8"),
        (lambda: fresh(unets={"clip": replace(UNET, conditioning=ConditioningConfig(classes=3))}), r"clip: .*classes"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_part_of_another_shape_is_refused():
    x, c_time = given()
    with pytest.raises(ValueError, match="the part sound is"):
        built()({**x, "sound": x["sound"][:, :2]}, c_time)
