"""Laws of counter-based noise: what is drawn depends on (seed, step, place) alone, and looks like chance."""

import math

import pytest
import torch

from langevin.diffusion.noise import SampleNoise
from tests.laws.bounds import CHANCE, chi_square, chi_square_bound, kolmogorov, kolmogorov_bound, normal_bound

WORD = (1 << 64) - 1
GOLDEN, MIX_1, MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # SplitMix64's
FORK = 0xD1B54A32D192ED03


def splitmix(z: int, key: int = 0) -> int:
    """SplitMix64's finalizer on plain integers, `key` mixed in half-way."""
    z = (z ^ (z >> 30)) * MIX_1 & WORD ^ key
    z = (z ^ (z >> 27)) * MIX_2 & WORD
    return z ^ (z >> 31)


def mix(a: int, b: int) -> int:
    return splitmix(splitmix((a * GOLDEN + 1) & WORD) + b * FORK & WORD)


def bits(seed: int, step: int, n: int) -> int:
    """The n-th number, from 1, of the stream (seed, step)."""
    name = mix(seed, step)
    return splitmix(name + n * GOLDEN & WORD, key=name * FORK + 1 & WORD)


def noise(seeds, steps=0) -> SampleNoise:
    seeds = torch.as_tensor(seeds)
    return SampleNoise(seeds=seeds, steps=torch.as_tensor(steps).expand_as(seeds))


def normal_cdf(x):
    return 0.5 * torch.erfc(-x / math.sqrt(2))


# ------------------------------------------------------------------------------------------------------- identity


def test_bits_equal_a_big_integer_implementation():
    seeds = [0, 1, -1, 42, 2**40 + 3, 2**63 - 1, -(2**63)]
    steps = [0, 7, -1, 3, 999, 2**50, -(2**63)]
    got = SampleNoise(seeds=torch.tensor(seeds), steps=torch.tensor(steps)).bits(5)
    for row, (seed, step) in enumerate(zip(seeds, steps, strict=True)):
        assert [z & WORD for z in got[row].tolist()] == [bits(seed & WORD, step & WORD, n) for n in range(1, 6)]


@pytest.mark.parametrize("label", [0, 1, 2, 3, 17, 2**40, -1, -5])
def test_forks_equal_a_big_integer_implementation(label):
    got = noise([5, -8]).fork(label).bits(2)
    for row, seed in enumerate((5, -8)):
        name = mix(seed & WORD, label & WORD)
        assert [z & WORD for z in got[row].tolist()] == [bits(name, 0, n) for n in (1, 2)]


def test_uniforms_and_normals_equal_their_formulas():
    got, like = noise([11]), torch.zeros(1, 6, dtype=torch.float64)
    words = [bits(11, 0, n) for n in range(1, 7)]
    assert got.uniform(like)[0].tolist() == [((z >> 12) + 0.5) * 2.0**-52 for z in words]
    radii = [math.sqrt(-2 * math.log(((z >> 32) + 0.5) * 2.0**-32)) for z in words[:3]]
    angles = [2 * math.pi * (z & 0xFFFFFFFF) * 2.0**-32 for z in words[:3]]
    pairs = [r * f(a) for r, a in zip(radii, angles, strict=True) for f in (math.cos, math.sin)]
    assert got.normal(like)[0].tolist() == pytest.approx(pairs, abs=1e-14)


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_draw_does_not_depend_on_batch_position_or_row_length(kind, dtype):
    def draw(rows: SampleNoise, *shape: int):
        return getattr(rows, kind)(torch.zeros(len(rows.seeds), *shape, dtype=dtype))

    seeds, steps = torch.arange(100, 137), torch.arange(37) % 5
    whole = SampleNoise(seeds=seeds, steps=steps)
    every = draw(whole, 101)
    assert torch.equal(draw(whole, 101), every)
    order = torch.randperm(37, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draw(SampleNoise(seeds=seeds[order], steps=steps[order]), 101), every[order])
    for i in (0, 17, 36):
        alone = SampleNoise(seeds=seeds[i : i + 1], steps=steps[i : i + 1])
        for length in (1, 2, 7, 100):
            assert torch.equal(draw(alone, length)[0], every[i, :length])
    assert torch.equal(draw(whole, 20, 5).flatten(1), every[:, :100])
    assert torch.equal(draw(whole)[:, None], every[:, :1])


def test_no_rows_draw_nothing():
    none = noise(torch.zeros(0, dtype=torch.int64))
    assert none.normal(torch.zeros(0, 3)).shape == none.uniform(torch.zeros(0, 3)).shape == (0, 3)


def test_float32_and_float64_normals_agree_to_rounding():
    like = torch.zeros(20, 50_000)
    single, double = noise(torch.arange(20)).normal(like), noise(torch.arange(20)).normal(like.double())
    assert single.dtype == torch.float32
    assert double.dtype == torch.float64
    assert (single.double() - double).abs().max() < 4e-6  # the angle's rounding, 2^-22, times the radius


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("word", [0, -1, 1 << 31, -(1 << 63), (1 << 63) - 1, 0xFFFFFFFF])
def test_extreme_bits_give_finite_numbers_inside_the_open_interval(word, dtype):
    class Extreme(SampleNoise):
        def bits(self, count, device=None):
            return torch.full((len(self.seeds), count), word, dtype=torch.int64)

    rows = Extreme(seeds=torch.zeros(1, dtype=torch.int64), steps=torch.zeros(1, dtype=torch.int64))
    like = torch.zeros(1, 3, dtype=dtype)
    u = rows.uniform(like)
    assert bool((u > 0).all() and (u < 1).all())
    assert bool((-(-u.log()).log()).isfinite().all())  # as a Gumbel draw
    assert bool(rows.normal(like).isfinite().all())


# ------------------------------------------------------------------------------------------------------- chance

STREAMS = {
    "one long row": lambda: noise([0]).normal(torch.zeros(1, 200_000, dtype=torch.float64)),
    "sequential seeds": lambda: noise(torch.arange(4096)).normal(torch.zeros(4096, 48, dtype=torch.float64)),
    "sequential steps": lambda: noise([7] * 4096, torch.arange(4096)).normal(torch.zeros(4096, 48).double()),
    "first numbers of sequential seeds": lambda: noise(torch.arange(200_000)).normal(torch.zeros(200_000, 1).double()),
    "a fork of sequential seeds": lambda: noise(torch.arange(4096)).fork(1).normal(torch.zeros(4096, 48).double()),
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_normals_are_normal(stream):
    z = stream().flatten()
    n = len(z)
    assert kolmogorov(z, normal_cdf) < kolmogorov_bound(n)
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):  # E z^p, of variance E z^2p - (E z^p)^2
        variance = math.prod(range(1, 2 * power, 2)) - moment**2
        assert abs(float((z**power).mean()) - moment) < normal_bound(n, math.sqrt(variance))


def test_uniforms_are_uniform():
    u = noise(torch.arange(1000)).uniform(torch.zeros(1000, 200))
    assert u.dtype == torch.float64
    assert kolmogorov(u.flatten(), lambda x: x) < kolmogorov_bound(u.numel())
    counts = torch.histc(u[:, :-1] * 16 // 1 * 16 + u[:, 1:] * 16 // 1, bins=256, min=0, max=256)  # neighbours in a row
    assert chi_square(counts, torch.full((256,), 1 / 256)) < chi_square_bound(255)


def test_streams_are_uncorrelated():
    seeds, like = torch.arange(4096), torch.zeros(4096, 64, dtype=torch.float64)
    z = noise(seeds).normal(like)
    bound = normal_bound(like.numel())
    others = {
        "the next seed": z.roll(1, 0),
        "the seed 64 on": z.roll(64, 0),
        "the next place": z.roll(1, 1),
        "the next step": noise(seeds, 1).normal(like),
        "the step before": noise(seeds, -1).normal(like),
        "seed and step exchanged": noise(torch.zeros(4096, dtype=torch.int64), seeds).normal(like),
        **{f"fork {i}": noise(seeds).fork(i).normal(like) for i in (0, 1, 2, 3, -1)},
    }
    for name, other in others.items():
        assert abs(float((z * other).mean())) < bound, name
        assert abs(float((z.square() * other.square()).mean()) - 1) < normal_bound(like.numel(), math.sqrt(8)), name
    forks = [noise(seeds).fork(i).normal(like) for i in (0, 1, 2)]
    assert max(abs(float((forks[i] * forks[j]).mean())) for i, j in ((0, 1), (0, 2), (1, 2))) < bound


def test_rows_of_sequential_seeds_are_pairwise_uncorrelated():
    z = noise(torch.arange(4096)).normal(torch.zeros(4096, 1024))
    z = z / z.norm(dim=1, keepdim=True)
    worst = float((z[:512] @ z.T).triu(1).abs().max())
    assert worst < math.sqrt(2 * math.log(2 * 512 * 4096 / CHANCE) / 1024)  # normal tail of a cosine, over all pairs


def test_bits_are_balanced_and_independent():
    words = noise(torch.arange(2048)).bits(32).flatten()
    ones = torch.stack([(words >> i) & 1 for i in range(64)]).double()  # (64, n)
    n = ones.shape[1]
    assert (ones.mean(1) - 0.5).abs().max() < 0.5 * math.sqrt(2 * math.log(2 * 64 / CHANCE) / n)
    signs = 2 * ones - 1
    pairs = (signs @ signs.T / n).fill_diagonal_(0)
    assert pairs.abs().max() < math.sqrt(2 * math.log(64 * 63 / CHANCE) / n)


@pytest.mark.parametrize("what", ["seed", "step", "label"])
@pytest.mark.parametrize("bit", [0, 1, 7, 31, 32, 62])
def test_one_changed_bit_changes_half_of_all_bits(what, bit):
    seeds, steps, label = torch.arange(2000) * 977 + 5, torch.arange(2000) * 31, 4
    before = SampleNoise(seeds=seeds, steps=steps).fork(label).bits(1)[:, 0]
    flip = {name: (1 << bit) * (name == what) for name in ("seed", "step", "label")}
    changed = SampleNoise(seeds=seeds ^ flip["seed"], steps=steps ^ flip["step"]).fork(label ^ flip["label"])
    after = changed.bits(1)[:, 0]
    flipped = torch.stack([((before ^ after) >> i) & 1 for i in range(64)]).double().mean(1)
    assert (flipped - 0.5).abs().max() < 0.5 * math.sqrt(2 * math.log(2 * 64 / CHANCE) / len(seeds))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ten_million_normals_are_finite(dtype):
    total, square, most = 0.0, 0.0, 0.0
    chunks = 20 if dtype == torch.float32 else 4
    for chunk in range(chunks):
        z = noise(torch.arange(500) + 500 * chunk, 3).normal(torch.zeros(500, 1000, dtype=dtype))
        most = max(most, float(z.abs().max()))  # nan and inf would show
        total, square = total + float(z.double().sum()), square + float(z.double().square().sum())
    n = chunks * 500_000
    assert 4.5 < most < 6.8
    assert abs(total / n) < normal_bound(n)
    assert abs(square / n - 1) < normal_bound(n, math.sqrt(2))
