"""Points: laws are what they say, files are read strictly, the codec comes back."""

import math

import numpy as np
import pytest
import torch

from langevin.modalities.toy.codec import Coordinates
from langevin.modalities.toy.data import PointFile, Toy, draw, load_parts, log_density
from langevin.modalities.toy.metrics import distance

LAWS = ("two_bumps", "mixture", "ring", "spirals", "blob")


@pytest.mark.parametrize("law", LAWS)
def test_a_point_is_a_function_of_its_number(law):
    assert torch.equal(draw(law, 50)[:20], draw(law, 20))
    assert not torch.equal(draw(law, 20, seed=1), draw(law, 20))
    assert bool(draw(law, 1000).isfinite().all())


@pytest.mark.parametrize("law", ["two_bumps", "mixture", "blob"])
def test_a_known_density_is_normalised_and_has_the_moments_of_its_draws(law):
    d = draw(law, 16).shape[1]
    side = torch.linspace(-5, 5, 401, dtype=torch.float64)
    x = torch.cartesian_prod(*[side] * d).reshape(-1, d)
    p = log_density(law, x).exp() * (side[1] - side[0]) ** d
    assert float(p.sum()) == pytest.approx(1, abs=1e-3)
    got = draw(law, 40_000).double()
    assert torch.allclose((p[:, None] * x).sum(0), got.mean(0), atol=6 * 1.2 / math.sqrt(40_000))
    assert torch.allclose((p[:, None] * x * x).sum(0), (got * got).mean(0), atol=0.1)


def test_a_ring_and_spirals_have_no_formula():
    assert log_density("ring", torch.zeros(2, 2)) is None
    assert float((draw("ring", 1000).norm(dim=1) - 1.5).abs().mean()) == pytest.approx(0.08, abs=0.01)


def test_parts_share_nothing_and_make_the_whole():
    train, held_out = load_parts(Toy(law="ring", count=1000), held_out=0.1)
    assert (len(train), len(held_out), train.shape) == (900, 100, (2,))
    assert torch.equal(torch.cat([train.values, held_out.values]), draw("ring", 1000))
    assert train.fingerprint != held_out.fingerprint


@pytest.mark.parametrize("suffix", ["npy", "npz", "csv"])
def test_points_are_read_from_files(tmp_path, suffix):
    values, path = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32), tmp_path / f"a.{suffix}"
    {
        "npy": np.save,
        "npz": lambda p, v: np.savez(p, points=v, other=1),
        "csv": lambda p, v: np.savetxt(p, v, delimiter=","),
    }[suffix](path, values)
    train, held_out = load_parts(PointFile(path=str(path)), held_out=0.2)
    both = torch.cat([train.values, held_out.values])
    assert len(both) == 200
    assert 15 < len(held_out) < 65
    assert torch.allclose(both.sort(0).values, torch.from_numpy(values).sort(0).values, atol=1e-6)


@pytest.mark.parametrize(("values", "words"), [
    (np.zeros((200, 3)) + np.nan, "row 0 holds a number that is not finite"),
    (np.zeros((3, 3)), "16 or more rows"),
    (np.zeros((20, 3, 3)), "16 or more rows"),
    (np.zeros((200, 65)), "1 to 64 numbers"),
    (np.array(["a"] * 30), "16 or more rows"),
    (np.array([{}] * 30), "not readable as points"),
])  # fmt: skip
def test_a_file_that_holds_no_points_is_refused(tmp_path, values, words):
    np.save(tmp_path / "a.npy", values, allow_pickle=True)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        load_parts(PointFile(path=str(tmp_path / "a.npy")), held_out=0.2)
    assert words in str(caught.value)


def test_a_file_that_is_missing_damaged_or_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no file of points"):
        load_parts(PointFile(path=str(tmp_path / "a.csv")), held_out=0.2)
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(ValueError, match="not readable as points"):
        load_parts(PointFile(path=str(tmp_path / "a.npz")), held_out=0.2)
    with pytest.raises(ValueError, match=r"should be a \.npy"):
        PointFile(path="a.txt")
    with pytest.raises(ValueError, match="16 to 10 million"):
        Toy(count=3)


def test_the_codec_comes_back_and_refuses_what_is_no_number():
    codec, x = Coordinates(scale=0.5, offset=1.0), draw("ring", 100)
    assert torch.allclose(codec.decode(codec.encode(x)), x, atol=1e-6)
    with pytest.raises(ValueError, match="not all finite"):
        codec.decode(torch.tensor([[math.nan]]))
    with pytest.raises(ValueError, match="must be positive"):
        Coordinates(scale=0.0)


def test_the_distance_of_the_same_law_is_its_floor():
    far = distance([draw("ring", 500, seed=3)], draw("ring", 4000, seed=1), draw("ring", 500, seed=2))
    assert far.count == 500
    assert far.generated[0] < 3 * far.floor
    assert distance([draw("ring", 500) + 1], draw("ring", 4000), draw("ring", 500)).generated[0] > 10 * far.floor
