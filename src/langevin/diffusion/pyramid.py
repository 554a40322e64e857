"""The Laplacian pyramid: data on a grid as a coarse band and bands of detail ("The Laplacian Pyramid as a Compact Image
Code", 1983, IEEE Transactions on Communications 31).

    coarse = down(x),   detail = x - up(coarse),   x = up(coarse) + detail,   and again of the coarse band

Here `down` takes the means of blocks of 2 positions along each dimension of space, and `up` repeats them. Then down(up(y))
is y, so up(down(x)) is an orthogonal projection, the bands are orthogonal, and white noise is independent between them: a
band of x_t = alpha x + sigma z is that of x under noise of its own. So a denoiser of data whose bands are independent is
one denoiser for each band.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.posterior import Point, Prediction


@dataclass(frozen=True, kw_only=True)
class LaplacianPyramid:
    """Bands of x (b, channels, *space), the coarse one first.

    Args:
        levels: how often the grid is halved; the coarse band has 1 / 2^levels of the positions along each dimension.

    Raises:
        ValueError: no level, or (when called) space that is not divided by 2^levels.
    """

    levels: int

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise ValueError(f"a pyramid has 1 level or more, got {self.levels}")

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """(coarse, details from coarse to fine), of which the last has the size of x."""
        require_blocks(x, 2**self.levels)
        details = list[Tensor]()
        for _ in range(self.levels):
            coarse = block_means(x, 2)
            details.append(x - repeated(coarse, 2))
            x = coarse
        return (x, *reversed(details))

    def join(self, bands: Sequence[Tensor]) -> Tensor:
        """The inverse of `split`."""
        if len(bands) != self.levels + 1:
            raise ValueError(f"a pyramid of {self.levels} levels has {self.levels + 1} bands, got {len(bands)}")
        x, *details = bands
        for detail in details:
            x = repeated(x, 2) + detail
        return x


@dataclass(frozen=True, kw_only=True)
class Banded:
    """`denoiser` in the bands of a pyramid, of which some may be given: a denoiser around a denoiser, for `Draw.wrap`.

    A given band of the mean is replaced, at every step. So this band of x_t follows the process from what is given, and is
    exactly it at t = 0, whatever the network says. For the coarse band this is ILVR without its resampling ("ILVR:
    Conditioning Method for Denoising Diffusion Probabilistic Models", 2021, arXiv:2108.02938). The other bands see what is
    given only through x_t, so they are no samples given it, but with data whose bands are independent.

    Args:
        given: by index, the coarse band being 0: what `pyramid.split` returns of an image, (b, ...) or (1, ...).

    Raises:
        ValueError: a band that the pyramid has not, or (when called) a prediction that is not a mean, or space that is not
            divided.
    """

    denoiser: Denoiser[Prediction]
    pyramid: LaplacianPyramid
    given: Mapping[int, Tensor] = field(default_factory=dict[int, Tensor])

    def __post_init__(self) -> None:
        if unknown := [i for i in self.given if not 0 <= i <= self.pyramid.levels]:
            raise ValueError(f"the bands of the pyramid are 0 to {self.pyramid.levels}, and {unknown[0]} is given")

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Point:
        return Point(self.pyramid.join([q.mean for q in self.bands(x_t, t, condition)]))

    def bands(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> tuple[Point, ...]:
        """The posterior of each band: a band is linear in x, so its mean is the band of the mean."""
        q = self.denoiser(x_t, t, condition)
        if not isinstance(q, Point):
            raise ValueError("bands are of continuous data, whose prediction is a mean")
        means = self.pyramid.split(q.mean)
        return tuple(Point(self.given[i].to(m).expand_as(m) if i in self.given else m) for i, m in enumerate(means))


def block_means(x: Tensor, side: int) -> Tensor:
    """The means of x (b, channels, *space) over blocks of `side` positions along each dimension of space.

    Raises:
        ValueError: space that is not divided."""
    require_blocks(x, side)
    for dim in range(2, x.ndim):
        x = x.reshape(*x.shape[:dim], -1, side, *x.shape[dim + 1 :]).mean(dim + 1)
    return x


def repeated(y: Tensor, side: int) -> Tensor:
    """y (b, channels, *space) with each position repeated `side` times along each dimension of space."""
    for dim in range(2, y.ndim):
        y = y.repeat_interleave(side, dim)
    return y


def require_blocks(x: Tensor, side: int) -> None:
    """Check that space is divided into blocks. Raises `ValueError` if it is not."""
    if x.ndim < 3 or any(size % side for size in x.shape[2:]):
        space = " x ".join(map(str, x.shape[2:])) or "no"
        raise ValueError(
            f"{space} positions are not divided into blocks of {side} along each dimension: crop or pad to a multiple of "
            f"{side}, or take fewer levels"
        )
