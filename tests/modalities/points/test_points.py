"""Points: distributions are what they say, files are read strictly, the codec comes back."""

import math
import os
import re
import zipfile

import numpy as np
import pytest
import torch

from langevin.modalities.image.codec import Pixels
from langevin.modalities.modality import Samples
from langevin.modalities.points.codec import Coordinates
from langevin.modalities.points.data import draw, log_density
from langevin.modalities.points.metrics import distance
from langevin.modalities.points.modality import Points

NAMES = ("two_bumps", "mixture", "ring", "spirals", "blob")


@pytest.mark.parametrize("name", NAMES)
def test_a_point_is_a_function_of_its_number(name):
    assert torch.equal(draw(name, 50)[:20], draw(name, 20))
    assert not torch.equal(draw(name, 20, seed=1), draw(name, 20))
    assert bool(draw(name, 1000).isfinite().all())


@pytest.mark.parametrize("name", ["two_bumps", "mixture", "blob"])
def test_a_known_density_is_normalised_and_has_the_moments_of_its_draws(name):
    d = draw(name, 16).shape[1]
    side = torch.linspace(-5, 5, 401, dtype=torch.float64)
    x = torch.cartesian_prod(*[side] * d).reshape(-1, d)
    p = log_density(name, x).exp() * (side[1] - side[0]) ** d
    assert float(p.sum()) == pytest.approx(1, abs=1e-3)
    got = draw(name, 40_000).double()
    assert torch.allclose((p[:, None] * x).sum(0), got.mean(0), atol=6 * 1.2 / math.sqrt(40_000))
    assert torch.allclose((p[:, None] * x * x).sum(0), (got * got).mean(0), atol=0.1)


def test_a_ring_and_spirals_have_no_formula():
    assert log_density("ring", torch.zeros(2, 2)) is None
    assert float((draw("ring", 1000).norm(dim=1) - 1.5).abs().mean()) == pytest.approx(0.08, abs=0.01)


def test_parts_share_nothing_and_make_the_whole():
    train, val = Points(distribution="ring", count=1000, val_fraction=0.1).open()
    assert (len(train), len(val), train.shape) == (900, 100, (2,))
    assert torch.equal(torch.cat([train.values, val.values]), draw("ring", 1000))
    assert train.fingerprint != val.fingerprint


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_neither_part_of_drawn_points_is_empty(fraction):
    assert all(len(part) for part in Points(distribution="ring", count=16, val_fraction=fraction).open())


@pytest.mark.parametrize("suffix", ["npy", "npz", "csv"])
def test_points_are_read_from_files(tmp_path, suffix):
    values, path = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32), tmp_path / f"a.{suffix}"
    {
        "npy": np.save,
        "npz": lambda p, v: np.savez(p, points=v, other=1),
        "csv": lambda p, v: np.savetxt(p, v, delimiter=","),
    }[suffix](path, values)
    train, val = Points(path=str(path), val_fraction=0.2).open()
    both = torch.cat([train.values, val.values])
    assert len(both) == 200
    assert 15 < len(val) < 65
    assert torch.allclose(both.sort(0).values, torch.from_numpy(values).sort(0).values, atol=1e-6)


@pytest.mark.parametrize(("values", "words"), [
    (np.zeros((200, 3)) + np.nan, "row 0 holds a number that is not finite"),
    (np.full((200, 3), 1e300), "row 0 holds a number that is not finite in float32"),
    (np.zeros((3, 3)), "16 or more rows"),
    (np.zeros((20, 3, 3)), "16 or more rows"),
    (np.zeros((200, 65)), "1 to 64 numbers"),
    (np.array(["a"] * 30), "16 or more rows"),
    (np.array([{}] * 30), "not readable as points"),
])  # fmt: skip
def test_a_file_that_holds_no_points_is_refused(tmp_path, values, words):
    np.save(tmp_path / "a.npy", values, allow_pickle=True)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Points(path=str(tmp_path / "a.npy")).open()
    assert words in str(caught.value)


def test_a_file_that_is_missing_damaged_or_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no file of points"):
        Points(path=str(tmp_path / "a.csv")).open()
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(ValueError, match="not readable as points"):
        Points(path=str(tmp_path / "a.npz")).open()
    (tmp_path / "empty.npy").write_bytes(b"")
    np.savez(tmp_path / "none.npz")
    for name in ("empty.npy", "none.npz"):
        with pytest.raises(ValueError, match=f"{name} is not readable as points"):
            Points(path=str(tmp_path / name)).open()
    with pytest.raises(ValueError, match=r"read from a \.npy, \.npz or \.csv file, got 'a.txt'"):
        Points(path="a.txt").open()
    np.save(tmp_path / "b.npy", np.zeros((20, 2)))
    with pytest.raises(ValueError, match="all 20 points are the same"):
        Points(path=str(tmp_path / "b.npy")).open()


@pytest.mark.parametrize(("given", "words"), [
    ({"count": 3}, "16 to 10 million"), ({"val_fraction": 0.0}, "between 0 and 1"), ({"val_fraction": 1.0}, "between 0"),
    ({"distribution": None}, "a file \\(data.path\\) or a known distribution"),
])  # fmt: skip
def test_a_configuration_that_cannot_be_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        Points(**{"distribution": "ring", **given})


def test_the_codec_comes_back_and_refuses_what_is_no_number():
    codec, x = Coordinates(scale=0.5, offset=1.0), draw("ring", 100)
    assert torch.allclose(codec.decode(codec.encode(x)), x, atol=1e-6)
    with pytest.raises(ValueError, match="not all finite"):
        codec.decode(torch.tensor([[math.nan]]))
    with pytest.raises(ValueError, match="must be positive"):
        Coordinates(scale=0.0)


def test_the_distance_of_the_same_distribution_is_its_floor():
    far = distance([draw("ring", 500, seed=3)], draw("ring", 4000, seed=1), draw("ring", 500, seed=2))
    assert far.count == 500
    assert far.generated[0] < 3 * far.floor
    assert distance([draw("ring", 500) + 1], draw("ring", 4000), draw("ring", 500)).generated[0] > 10 * far.floor


@pytest.mark.parametrize(("name", "reads"), [("a.csv", True), ("a.npy", True), ("words.csv", False), ("a.txt", False)])
def test_a_file_of_numbers_is_detected(tmp_path, name, reads):
    if name == "a.npy":
        np.save(tmp_path / name, np.zeros((20, 2)))
    else:
        (tmp_path / name).write_text("a,b\nc,d\n" if name == "words.csv" else "1,2\n3,4\n")
    found = Points.detect(tmp_path / name)
    assert (found is not None) == reads
    if found is not None:
        assert found.modality == Points(path=str(tmp_path / name))
        assert 0 < found.score <= 1
    assert Points.detect(tmp_path) is None


def test_samples_are_written_as_a_picture_or_as_numbers(tmp_path):
    points = Points(distribution="ring", count=100)
    samples = Samples(modality=points, values=draw("ring", 20), arrays={"seed": torch.arange(20)})
    found = np.load(samples.save(tmp_path / "new" / "a.npz"))
    assert np.array_equal(found["points"], samples.values.numpy())
    assert found["seed"].tolist() == list(range(20))
    assert samples.save(tmp_path / "a.png").read_bytes() == samples.preview().content
    with pytest.raises(ValueError, match=r"samples of points are written as .png, .npz; got .*a.csv"):
        samples.save(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="points have no text form"):
        samples.text()


def header(path, rows: int, *, count: int = 100) -> None:
    """A .npy file that says it has so many rows of two, and has `count`."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, 2)})
        file.write(bytes(8 * count))


def test_files_that_say_they_hold_more_than_they_do_are_refused(tmp_path):
    header(tmp_path / "a.npy", 10**12)
    with pytest.raises(ValueError, match=r"a\.npy is not readable as points: it is cut short"):
        Points(path=str(tmp_path / "a.npy")).open()
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.npy", "points.npy")
    with pytest.raises(ValueError, match=r"b\.npz is not readable as points: it is cut short"):
        Points(path=str(tmp_path / "b.npz")).open()
    with (
        zipfile.ZipFile(tmp_path / "c.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("points.npy", "w") as file,
    ):
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (2**26, 2)})
        for _ in range(512):
            file.write(bytes(2**20))
    assert (tmp_path / "c.npz").stat().st_size < 2**20
    with pytest.raises(ValueError, match=r"c\.npz is not readable as points: points.npy in it unpacks to 536,871,040"):
        Points(path=str(tmp_path / "c.npz")).open()


def test_points_that_differ_too_little_or_too_much_are_called_that(tmp_path):
    np.save(tmp_path / "few.npy", np.arange(50)[:, None] // 49)
    with pytest.raises(ValueError, match="50 points, too few that differ for a validation part"):
        Points(path=str(tmp_path / "few.npy"), val_fraction=1e-9).open()
    np.save(
        tmp_path / "far.npy",
        np.random.default_rng(0).choice([-3e38, 3e38], (200, 2)) * np.linspace(0.5, 1, 200)[:, None],
    )
    points = Points(path=str(tmp_path / "far.npy"))
    with pytest.raises(ValueError, match="spread too far for float32"):
        points.needs(points.open()[0])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
@pytest.mark.parametrize("suffix", ["npy", "npz", "csv"])
def test_pipes_and_devices_are_no_points(tmp_path, suffix):
    os.mkfifo(tmp_path / f"pipe.{suffix}")
    (tmp_path / f"zero.{suffix}").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        path = tmp_path / f"{name}.{suffix}"
        assert Points.detect(path) is None
        with pytest.raises(ValueError, match="it is not a regular file"):
            Points(path=str(path)).open()


@pytest.mark.parametrize(
    "given", [{"scale": math.inf}, {"scale": math.nan}, {"offset": math.inf}, {"offset": math.nan}]
)
@pytest.mark.parametrize("codec", [Coordinates, Pixels])
def test_a_codec_that_is_not_finite_is_refused(codec, given):
    with pytest.raises(ValueError, match="positive and finite"):
        codec(**given)


def test_a_mean_far_from_0_for_the_spread_is_remarked_on_and_the_advice_mends_it(tmp_path):
    values = np.random.default_rng(0).normal(size=(200, 2))
    np.save(tmp_path / "centred.npy", values + 2)
    np.save(tmp_path / "far.npy", values + 10)
    assert Points(path=str(tmp_path / "centred.npy")).open()[0].notes.lines() == []
    [told] = Points(path=str(tmp_path / "far.npy")).open()[0].notes.lines()
    offset = float(re.search(r"data\.codec\.offset=(\S+)", told)[1])
    assert offset == pytest.approx(-10, abs=0.3)
    assert Points(path=str(tmp_path / "far.npy"), codec=Coordinates(offset=offset)).open()[0].notes.lines() == []
