"""Alignment search is exhaustive search, and finds the times of what was put together."""

import itertools

import numpy as np
import pytest
import torch

from langevin.modalities.speech import search
from langevin.modalities.speech.codec import LogMel
from langevin.modalities.speech.durations import Durations, fit_durations, mean_durations
from langevin.modalities.speech.timeline import (
    aligned_features,
    left_packed_features,
    rounded_durations,
    uniform_durations,
    width,
)
from tests.voices import RATE, VOWELS, vowel


def paths(frames, states, optional):
    """Every allowed sequence of states."""
    for steps in itertools.product((0, 1, 2), repeat=frames - 1):
        at = [0, *itertools.accumulate(steps)]
        if at[-1] == states - 1 and all(b - a < 2 or optional[a + 1] for a, b in itertools.pairwise(at)):
            yield at


@pytest.mark.parametrize("seed", range(8))
def test_the_search_is_exhaustive(seed):
    random = torch.Generator().manual_seed(seed)
    sizes = [(5, 3), (6, 4), (7, 5), (3, 3)]
    table = torch.full((4, 7, 5), -torch.inf)
    optional = torch.zeros(4, 5, dtype=torch.bool)
    for row, (n, m) in enumerate(sizes):
        table[row, :n, :m] = torch.randn(n, m, generator=random)
        if m > 3:
            optional[row, 1 + seed % (m - 3)] = True
    found = search.search(table, optional, torch.tensor([n for n, _ in sizes]), torch.tensor([m for _, m in sizes]))
    for row, (n, m) in enumerate(sizes):
        best = max(
            paths(n, m, optional[row].tolist()), key=lambda at: sum(float(table[row, i, s]) for i, s in enumerate(at))
        )
        assert found[row, :n].tolist() == best


def test_too_few_frames_are_refused_and_aligned_evenly():
    with pytest.raises(ValueError, match="fewer frames than states"):
        search.search(torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.bool), torch.tensor([2]), torch.tensor([3]))
    models = search.StateModels(mean=torch.zeros(2, 3), variance=torch.ones(2, 3))
    states = search.states_of(torch.tensor([0, 1]), states=1, pauses=frozenset())
    (path,) = search.align(models, [torch.zeros(1, 3)], [states])
    assert path.tolist() == [0]


def test_likelihoods_are_those_of_torch():
    random = torch.Generator().manual_seed(0)
    size = 2 * search.CEPSTRA
    mean, variance = torch.randn(4, size, generator=random), torch.rand(4, size, generator=random) + 0.1
    x = torch.randn(7, size, generator=random)
    expected = torch.distributions.Normal(mean, variance.sqrt()).log_prob(x[:, None]).sum(2)
    models = search.StateModels(mean=mean, variance=variance)
    assert torch.allclose(models.log_likelihood(x), expected, atol=1e-3)
    again = search.StateModels.of_text(models.text(), 4)
    assert torch.allclose(again.log_likelihood(x), expected, rtol=1e-2)


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!", "/////////////////////w=="])
def test_damaged_models_are_refused(text):
    with pytest.raises(ValueError, match=r"data\.alignment\.models"):
        search.StateModels.of_text(text, 3)


def test_times_of_vowels_that_were_joined_are_found():
    """From equal lengths on, without being told any time, to within two frames on average."""
    random, hop = np.random.default_rng(0), 80
    codec = LogMel(bins=40, n_fft=256, hop=hop)
    names, texts, ends, features = list(VOWELS), [], [], []
    for number in range(40):
        order = random.permutation(3)
        seconds = random.uniform(0.08, 0.4, 3)
        parts = [vowel(names[v], 120, s, seed=number) for v, s in zip(order, seconds, strict=True)]
        signal = torch.from_numpy(np.concatenate(parts)).float()
        texts.append(torch.from_numpy(order + 1))
        ends.append(np.cumsum([len(part) for part in parts])[:2] / hop)
        features.append(search.cepstra(codec.log_mel(signal[None], RATE)[0]))
    states = [search.states_of(text, states=2, pauses=frozenset()) for text in texts]
    models = search.fit(features, states, kinds=8, iterations=12)
    far = []
    for path, s, end in zip(search.align(models, features, states), states, ends, strict=True):
        durations = search.unit_durations(path, s, 3)
        assert int(durations.sum()) == len(path)
        far += np.abs(durations.cumsum(0)[:2].numpy() - end).tolist()
    even = [
        abs(len(f) * k / 3 - e) for f, end in zip(features, ends, strict=True) for k, e in zip((1, 2), end, strict=True)
    ]
    assert np.mean(far) < 2
    assert np.mean(even) > 3 * np.mean(far)


def test_pauses_have_one_state_and_may_be_left_out():
    states = search.states_of(torch.tensor([1, 5, 1, 2, 6, 1]), states=3, pauses=frozenset({1, 2}))
    assert states.kinds.tolist() == [3, 15, 16, 17, 3, 6, 18, 19, 20, 3]
    assert states.units.tolist() == [0, 1, 1, 1, 2, 3, 4, 4, 4, 5]
    assert states.optional.tolist() == [False, False, False, False, True, False, False, False, False, False]
    assert states.required == 9


# ------------------------------------------------------------------------------------------------------------ timelines


@pytest.mark.parametrize(("units", "frames"), [(3, 10), (5, 5), (4, 3), (1, 7)])
def test_uniform_durations_follow_the_formula(units, frames):
    durations = uniform_durations(units, frames)
    of_frame = torch.repeat_interleave(torch.arange(units), durations)
    ends = [(j + 1) * frames // units for j in range(units)]
    assert of_frame.tolist() == [next(j for j in range(units) if ends[j] > i) for i in range(frames)]


def test_rounded_durations_keep_the_sum_and_the_proportions():
    durations = rounded_durations(torch.tensor([1.0, 2.0, 1.0]), 41)
    assert int(durations.sum()) == 41
    assert durations.tolist() == [10, 21, 10]


def test_a_frame_tells_its_unit_and_its_neighbours():
    features = aligned_features(torch.tensor([2, 1, 3]), torch.tensor([1, 0, 2]), 4)
    assert features.shape == (3, width(4))
    shown = [[int(part.argmax()) for part in row[:12].view(3, 4)] for row in features]
    assert shown == [[2, 0, 1], [3, 1, 0], [3, 1, 0]]
    assert features[:, -1].tolist() == [0.0, -0.5, 0.5]


def test_fillers_come_after_the_units():
    features = left_packed_features(torch.tensor([2, 3]), 4, 5)
    assert features[:, :5].argmax(1).tolist() == [2, 3, 0, 0]
    assert left_packed_features(torch.tensor([2, 3, 4]), 2, 5)[:, :5].argmax(1).tolist() == [2, 3]


def test_durations_that_follow_the_model_are_found():
    random = np.random.default_rng(0)
    true, tempo = np.array([0.05, 0.1, 0.2, 0.07]), np.array([0.2, -0.2])
    units = [torch.from_numpy(random.integers(0, 4, random.integers(1, 9))) for _ in range(600)]
    speakers = torch.from_numpy(random.integers(0, 2, 600))
    noise = 0.1 * random.normal(size=600)
    seconds = [true[u].sum() * np.exp(tempo[s] + e) for u, s, e in zip(units, speakers.numpy(), noise, strict=True)]
    found = fit_durations(units, speakers, torch.tensor(seconds), inventory=4, num_speakers=2)
    log_d = np.log(found.per_unit) + np.mean(found.tempo)  # a constant may be in either
    assert np.allclose(log_d, np.log(true), atol=0.08)
    assert found.tempo[0] - found.tempo[1] == pytest.approx(0.4, abs=0.03)
    spread = found.residual[-1] - found.residual[0]
    assert spread == pytest.approx(2 * 2.054 * 0.1, rel=0.15)  # the normal quantiles of 0.02 and 0.98
    drawn = [found.seconds(units[0], 0, u) for u in (0.01, 0.5, 0.99)]
    assert drawn[0] < drawn[1] < drawn[2]


def test_without_texts_the_model_is_the_distribution_of_lengths():
    seconds = torch.linspace(0.5, 2, 101)
    nothing = [torch.tensor([0])] * 101
    found = fit_durations(nothing, torch.zeros(101, dtype=torch.int64), seconds, inventory=1, num_speakers=0)
    assert isinstance(found, Durations)
    for u in (0.0, 0.5, 1.0):
        expected = float(seconds.quantile(0.02 + 0.96 * u))
        assert found.seconds(torch.tensor([0]), 0, u) == pytest.approx(expected, rel=0.02)


def test_mean_durations_are_means():
    units, frames = [torch.tensor([1, 2]), torch.tensor([1])], [torch.tensor([4, 9]), torch.tensor([6])]
    found = mean_durations(units, frames, 4)
    overall = 19 / 3
    assert found.tolist() == pytest.approx([overall, (10 + overall) / 3, (9 + overall) / 2, overall])
