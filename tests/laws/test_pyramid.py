"""Laws of the pyramid: it inverts, its bands are orthogonal, a denoiser has the closed form in each band, and a locked band
is what was given, whatever the network says and with every sampler."""

import pytest
import torch

from langevin.diffusion.constraints import CoarseBand, Constrained
from langevin.diffusion.posterior import Categorical, Point
from langevin.diffusion.process import Gaussian
from langevin.diffusion.pyramid import Banded, LaplacianPyramid, block_means, repeated
from langevin.diffusion.sampler import KarrasGrid, sample, start
from langevin.diffusion.schedule import Rectified
from tests import exact
from tests.laws.parts import SAMPLERS, SCHEDULES

SPACES = {"sequence": (16,), "image": (8, 12), "video": (4, 8, 8)}
SPACE = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@SPACE
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_a_pyramid_inverts(space, dtype, tolerance):
    x, pyramid = normal(3, 2, *space, dtype=dtype), LaplacianPyramid(levels=2)
    bands = pyramid.split(x)
    assert [band.shape[2:] for band in bands] == [tuple(n // k for n in space) for k in (4, 2, 1)]
    torch.testing.assert_close(pyramid.join(bands), x, rtol=0, atol=tolerance)
    for mine, again in zip(bands, pyramid.split(pyramid.join(bands)), strict=True):
        torch.testing.assert_close(again, mine, rtol=0, atol=tolerance)


@SPACE
def test_bands_are_orthogonal_projections_so_white_noise_is_independent_between_them(space):
    """x -> band i as a matrix P_i: P_i P_j = 0, P_i P_i' = P_i, and all sum to 1."""
    pyramid, n = LaplacianPyramid(levels=2), int(torch.tensor(space).prod())
    eye = torch.eye(n, dtype=torch.float64).reshape(n, 1, *space)
    bands = pyramid.split(eye)
    zero = [torch.zeros_like(band) for band in bands]
    maps = [pyramid.join([*zero[:i], bands[i], *zero[i + 1 :]]).reshape(n, n) for i in range(3)]
    torch.testing.assert_close(sum(maps), torch.eye(n, dtype=torch.float64))
    for i in range(3):
        for j in range(3):
            wanted = maps[i] if i == j else torch.zeros(n, n, dtype=torch.float64)
            torch.testing.assert_close(maps[i] @ maps[j].T, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_denoiser_of_gaussian_data_has_the_closed_form_in_each_band(schedule):
    """Data whose bands have variances of their own; their covariance on the grid is inverted as one matrix."""
    pyramid, shape, variances = LaplacianPyramid(levels=2), (1, 4, 8), (3.0, 0.5, 0.02)
    eye = torch.eye(32, dtype=torch.float64).reshape(32, *shape)
    zero = [torch.zeros_like(band) for band in pyramid.split(eye)]
    maps = [
        pyramid.join([*zero[:i], band, *zero[i + 1 :]]).reshape(32, 32) for i, band in enumerate(pyramid.split(eye))
    ]
    mean = normal(32, seed=3)
    data = exact.Gaussian(schedule=schedule, mean=mean, cov=sum(v * m for v, m in zip(variances, maps, strict=True)))

    def denoiser(x_t, t, condition=None):
        return Point(data(x_t.flatten(1), t).mean.view_as(x_t))

    t = torch.tensor([0.05, 0.3, 0.6, 0.95], dtype=torch.float64)
    x_t = normal(4, *shape, seed=4)
    found = Banded(denoiser=denoiser, pyramid=pyramid).bands(x_t, t)
    a, s = (f(t).reshape(-1, 1, 1, 1) for f in (schedule.alpha, schedule.sigma))
    means = pyramid.split(mean.reshape(1, *shape))
    for q, noisy, m, v in zip(found, pyramid.split(x_t), means, variances, strict=True):
        gain = a * v / (a * a * v + s * s)
        torch.testing.assert_close(q.mean, m + gain * (noisy - a * m), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(Banded(denoiser=denoiser, pyramid=pyramid)(x_t, t).mean, denoiser(x_t, t).mean)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_locked_band_is_what_was_given_whatever_the_network_says(name):
    """To 1e-5 in float32; the network says something else each time. The detail that is locked is that of another image."""
    process, pyramid = Gaussian(schedule=Rectified(), sigma_data=0.7), LaplacianPyramid(levels=2)
    coarse, detail, _ = pyramid.split(normal(1, 1, 8, 8, dtype=torch.float32))

    def hostile(x_t, t, condition=None):
        return Point(3 * torch.sin(1e3 * x_t + 1e5 * t.reshape(-1, 1, 1, 1).to(x_t.dtype)))

    for given in ({0: coarse}, {1: detail}, {0: coarse, 1: detail}):
        times = KarrasGrid()(torch.tensor([1, 4, 9]), process.schedule)
        denoiser = Banded(denoiser=hostile, pyramid=pyramid, given=given)
        state = start(SAMPLERS[name], process, torch.zeros(3, 1, 8, 8), times, torch.arange(3))
        for told in sample(SAMPLERS[name], process, denoiser, state):
            state = told
        bands = pyramid.split(state.x)
        for i, band in given.items():
            torch.testing.assert_close(bands[i], band.expand_as(bands[i]), rtol=0, atol=1e-5)
        assert (bands[2][1] - bands[2][2]).abs().max() > 0.1


def test_a_locked_coarse_band_is_a_constraint_on_the_means_of_blocks():
    pyramid, x_t, t = LaplacianPyramid(levels=2), normal(4, 1, 8, 8), torch.full((4,), 0.4, dtype=torch.float64)
    coarse, data = pyramid.split(normal(1, 1, 8, 8, seed=1))[0], exact.Scalar()
    one = Banded(denoiser=data, pyramid=pyramid, given={0: coarse})(x_t, t).mean
    other = Constrained(denoiser=data, constraints=(CoarseBand(side=4, means=coarse),))(x_t, t).mean
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("space", [(10, 8), (8, 6), (7,), ()])
def test_space_that_is_not_divided_is_refused_with_what_to_do(space):
    with pytest.raises(
        ValueError, match="are not divided into blocks of 4 along each dimension: crop or pad to a mult"
    ):
        LaplacianPyramid(levels=2).split(torch.zeros(1, 1, *space))


def test_wrong_bands_are_refused():
    with pytest.raises(ValueError, match="1 level or more, got 0"):
        LaplacianPyramid(levels=0)
    with pytest.raises(ValueError, match="of 2 levels has 3 bands, got 1"):
        LaplacianPyramid(levels=2).join([torch.zeros(1, 1, 4)])
    with pytest.raises(ValueError, match="bands of the pyramid are 0 to 2, and 3 is given"):
        Banded(denoiser=exact.Scalar(), pyramid=LaplacianPyramid(levels=2), given={3: torch.zeros(1)})
    tokens = Banded(denoiser=lambda *_: Categorical(torch.zeros(1, 4, 2)), pyramid=LaplacianPyramid(levels=1))
    with pytest.raises(ValueError, match="bands are of continuous data"):
        tokens(torch.zeros(1, 1, 4), torch.zeros(1))


def test_the_mean_of_blocks_undoes_repetition():
    y = normal(2, 3, 4, 5)
    torch.testing.assert_close(block_means(repeated(y, 3), 3), y)
