"""The watermark: noise of the same law, found with the key alone, and by chance as rarely as its p-value says."""

import math

import pytest
import torch

from langevin.diffusion.noise import SampleNoise
from langevin.safety.watermark import OTHER, SLIP, keyed, log10_evidence, log10_p, name_of, normal_scores, read_key

KEY, WRONG = b"k" * 32, b"q" * 32


def noise(seeds, count=64):
    return SampleNoise(seeds=seeds, steps=torch.full_like(seeds, -1)).normal(torch.zeros(len(seeds), count))


def test_keyed_seeds_are_of_the_seed_and_the_key_alone():
    seeds = torch.arange(-5, 200)
    names = keyed(seeds, KEY)
    assert names.unique().numel() == len(seeds)
    assert torch.equal(keyed(seeds.flip(0), KEY), names.flip(0))
    assert not (keyed(seeds, WRONG) == names).any()
    assert name_of(KEY) != name_of(WRONG)


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
    "evidence",
    [
        torch.randn(64, generator=torch.Generator().manual_seed(0)),
        torch.zeros(64).index_fill(0, torch.tensor([3]), 1.0),
        torch.arange(64.0),
    ],
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


def made(count, positions, *, rho=0.7, seed=0):
    """Evidence, and the noise that it was made with, both (count, positions)."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, positions, generator=generator, dtype=torch.float64)
    return rho * z + math.sqrt(1 - rho**2) * torch.randn(count, positions, generator=generator, dtype=torch.float64), z


def test_the_evidence_for_other_noise_is_one_in_expectation_and_seldom_large():
    """Markov's bound holds with room to spare, for evidence of any size."""
    for positions, tokens in ((12, 12), (6, 9), (40, 20)):
        e = torch.linspace(-2, 2, tokens)
        z = made(100_000, positions)[1]
        found = 10.0 ** log10_evidence(e, z, torch.full_like(z, 0.6))
        assert float(found.mean()) < 1 + 5 * float(found.std()) / math.sqrt(len(z))
        for level in (10.0, 100.0):
            assert float((found >= level).double().mean()) <= 1 / level


def enumerated(e, z, rho):
    """E as a sum over alignments, one by one, from the definition of the two joint densities."""
    plain = torch.distributions.Normal(0.0, 1.0)

    def ratio(token, j):
        if j >= len(z):
            return 1.0
        both = torch.distributions.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, rho[j]], [rho[j], 1.0]]))
        pair = torch.tensor([token, z[j]])
        return (1 - OTHER) * math.exp(both.log_prob(pair) - plain.log_prob(pair).sum()) + OTHER

    def left(i, j):
        """Of the tokens from the i-th on, if positions before the j-th are used."""
        if i == len(e):
            return 1.0
        total = 0.0
        for skip, share in ((0, 1 - 2 * SLIP), (1, SLIP), (2, SLIP)):
            at = min(j + skip, len(z))
            alone, paired = left(i + 1, at), ratio(e[i], at) * left(i + 1, min(at + 1, len(z)))
            total += share * (SLIP * alone + (1 - SLIP) * paired)
        return total

    begins = [(0.5 if j == 0 else 0.0) + 0.5 / len(z) for j in range(len(z))]
    return sum(share * left(0, j) for j, share in enumerate(begins))


@pytest.mark.parametrize(("tokens", "positions"), [(1, 1), (2, 3), (4, 2), (5, 4)])
def test_the_evidence_is_the_sum_over_all_alignments(tokens, positions):
    e, z = torch.linspace(-1.5, 1.2, tokens), torch.linspace(1.1, -0.9, positions)
    rho = torch.linspace(0.8, 0.3, positions)
    found = 10.0 ** float(log10_evidence(e, z[None], rho[None]))
    assert found == pytest.approx(enumerated(e.tolist(), z.tolist(), rho.tolist()), rel=1e-5)


@pytest.mark.parametrize("change", ["nothing", "lost", "added", "cut"])
def test_noise_is_found_through_lost_and_added_tokens(change):
    e, z = made(1, 100)
    e = e[0]
    if change == "lost":
        e = torch.cat([e[:40], e[43:]])
    elif change == "added":
        e = torch.cat([e[:40], torch.zeros(3).double(), e[40:]])
    elif change == "cut":
        e = e[40:]
    noise = torch.cat([z, made(50, 100, seed=1)[1]])
    found = log10_evidence(e, noise, torch.full_like(noise, 0.7))
    assert int(found.argmax()) == 0
    assert float(found[0]) > 3
