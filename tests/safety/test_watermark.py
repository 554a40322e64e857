"""The watermark: noise of the same law, found with the key alone, and by chance as rarely as its p-value says."""

import math

import pytest
import torch

from langevin.diffusion.noise import SampleNoise
from langevin.safety.watermark import keyed, log10_p, name_of, normal_scores, read_key

KEY, OTHER = b"k" * 32, b"q" * 32


def noise(seeds, count=64):
    return SampleNoise(seeds=seeds, steps=torch.full_like(seeds, -1)).normal(torch.zeros(len(seeds), count))


def test_keyed_seeds_are_of_the_seed_and_the_key_alone():
    seeds = torch.arange(-5, 200)
    names = keyed(seeds, KEY)
    assert names.unique().numel() == len(seeds)
    assert torch.equal(keyed(seeds.flip(0), KEY), names.flip(0))
    assert not (keyed(seeds, OTHER) == names).any()
    assert name_of(KEY) != name_of(OTHER)


def test_keyed_noise_is_standard_normal_and_independent():
    """Moments, and correlations between samples and with the noise without a key."""
    z = noise(keyed(torch.arange(20_000), KEY)).double()
    n = z.numel()
    for power, expected in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)):
        spread = math.sqrt({1: 1, 2: 2, 3: 15, 4: 96}[power] / n)
        assert abs(float((z**power).mean()) - expected) < 5 * spread
    plain = noise(torch.arange(20_000)).double()
    assert abs(float((z * plain).mean())) < 5 / math.sqrt(n)
    assert abs(float((z[1:] * z[:-1]).mean())) < 5 / math.sqrt(n)


@pytest.mark.parametrize(
    "evidence", [torch.randn(64), torch.zeros(64).index_fill(0, torch.tensor([3]), 1.0), torch.arange(64.0)]
)
def test_p_values_of_files_without_the_noise_are_uniform(evidence):
    """Whatever the file: here seeds are drawn, and the file is fixed."""
    p = 10.0 ** log10_p(evidence, noise(keyed(torch.arange(20_000), KEY)))
    ordered, expected = p.sort().values, (torch.arange(20_000) + 0.5) / 20_000
    assert float((ordered - expected).abs().max()) < 1.63 / math.sqrt(20_000)  # Kolmogorov and Smirnov, 1 %


def test_noise_is_found_in_what_keeps_a_part_of_it():
    z = noise(keyed(torch.tensor([7]), KEY), 3000)
    mixed = (0.3 * z + math.sqrt(1 - 0.09) * torch.randn(1, 3000))[0]
    found = log10_p(mixed, noise(keyed(torch.arange(20), KEY), 3000))
    assert int(found.argmin()) == 7
    assert float(found[7]) < -20
    assert float(found[torch.arange(20) != 7].min()) > -4


def test_normal_scores_share_ties_and_have_no_infinity():
    scores = normal_scores(torch.tensor([5, 1, 1, 9]))
    assert scores[1] == scores[2] < scores[0] < scores[3] < torch.inf
    assert float(normal_scores(torch.full((10,), 3)).abs().max()) == 0


@pytest.mark.parametrize(("content", "said"), [(b"short\n", "shorter than 32"), (b"\xff" * 40, "cannot be read")])
def test_a_bad_key_is_refused(tmp_path, content, said):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_key(tmp_path / "key")
    with pytest.raises(ValueError, match="cannot be read"):
        read_key(tmp_path / "none")
