"""Judges hear what is said and by whom, distances are those of other libraries, and what is shuffled scores as chance."""

import random
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rapidfuzz.distance import Levenshtein
from scipy.stats import ks_2samp

from langevin.modalities.speech.examples import Splice
from langevin.modalities.speech.metrics import listener, measure
from langevin.modalities.speech.metrics.judges import Classes, Speller, Sphinx, error_rate, judge_of, targets_of
from langevin.modalities.speech.metrics.real import utterances
from langevin.modalities.speech.modality import Speech
from langevin.modalities.speech.text.edits import edit_distance
from tests.voices import RATE, VOWELS, spoken, vowel

WORDS = tuple(sorted(VOWELS))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return Speech(path=str(spoken(tmp_path_factory.mktemp("voices"), each=8)), val_fraction=0.3).open()


@pytest.fixture(scope="module")
def classifier(clips):
    train = clips[0]
    targets = targets_of(train, range(len(train)), WORDS)
    config = listener.ListenerConfig(rate=RATE, frames=48, texts=len(WORDS), speakers=len(train.speakers), width=32)
    return listener.train_classifiers(list(train.each()), targets, config, epochs=60)


def test_edit_distances_are_those_of_rapidfuzz():
    draw = random.Random(0)
    pairs = [["".join(draw.choices("abc", k=draw.randrange(8))) for _ in range(2)] for _ in range(300)]
    assert [edit_distance(a, b) for a, b in pairs] == [Levenshtein.distance(a, b) for a, b in pairs]


def test_an_error_rate_is_over_all_that_should_be_said():
    assert error_rate([[1, 2, 3], [4]], [[1, 3], [4, 4]]) == 2 / 4
    assert error_rate([["a", "b"]], [["a", "b"]]) == 0
    assert error_rate([["a"]], [["b", "c", "d"]]) == 3


def test_a_classifier_hears_words_and_speakers_it_was_not_trained_on(clips, classifier):
    _, val = clips
    signals, judge = list(val.each()), Classes(listener=classifier, texts=WORDS)
    assert judge.score(signals, val.texts) > 0.9
    assert judge.score([0.1 * signal for signal in signals], val.texts) > 0.9  # loudness says nothing
    assert float((classifier.classes(signals, "speaker") == val.labels).double().mean()) > 0.9
    wrong = [WORDS[(WORDS.index(text) + 1) % len(WORDS)] for text in val.texts]
    assert judge.score(signals, wrong) < 0.1
    assert {(said, heard) for said, heard in judge.mistakes(signals, wrong)} <= {
        (a, b) for a in WORDS for b in WORDS if a != b
    }


def test_a_judge_comes_back_from_its_files_and_damaged_ones_are_refused(clips, classifier, tmp_path):
    signals = list(clips[1].each())
    classifier.save(tmp_path)
    assert torch.equal(listener.Listener.load(tmp_path).features(signals), classifier.features(signals))
    (tmp_path / "listener.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="does not match"):
        listener.Listener.load(tmp_path)


def test_a_recogniser_spells_words_that_it_was_trained_on_in_new_orders():
    draw = np.random.default_rng(0)

    def said(seed: int) -> tuple[torch.Tensor, list[int]]:
        own = np.random.default_rng(seed)
        labels = own.integers(0, 3, own.integers(1, 4)).tolist()
        quiet = np.zeros(800)
        parts = [p for x in labels for p in (vowel(WORDS[x], own.uniform(100, 220), 0.2, seed=seed), quiet)]
        return torch.from_numpy(np.concatenate(parts)).float(), labels

    config = listener.ListenerConfig(rate=RATE, labels=len(WORDS), width=32)
    recogniser = listener.train_recogniser(said, 10**6, config, steps=150, batch=16)
    pairs = [said(int(seed)) for seed in draw.integers(2 * 10**6, 3 * 10**6, 32)]
    judge = Speller(listener=recogniser, words=WORDS)
    texts = [" ".join(WORDS[x] for x in labels) for _, labels in pairs]
    assert judge.score([signal for signal, _ in pairs], texts) < 0.1
    assert judge.score([signal for signal, _ in pairs], texts[1:] + texts[:1]) > 0.4
    lone, _ = listener.heard([pairs[0][0]], RATE)
    both, lengths = listener.heard([pairs[0][0], torch.zeros(9 * RATE)], RATE)
    spelled = [recogniser.log_spelling(x)[0, : lengths[0] // 2] for x in (lone, both)]
    torch.testing.assert_close(*spelled, rtol=1e-4, atol=1e-4)  # whatever it is heard with


def test_lengths_are_compared_as_by_scipy():
    draw = torch.Generator().manual_seed(0)
    for n, m in ((5, 9), (40, 40), (1, 30)):
        a, b = (torch.randint(1, 20, (size,), generator=draw) for size in (n, m))
        ours = measure._longer([torch.zeros(int(k)) for k in a], [torch.zeros(int(k)) for k in b])
        assert ours == pytest.approx(ks_2samp(a.numpy(), b.numpy()).statistic)


def test_a_mel_distance_is_of_what_is_heard():
    sound = torch.from_numpy(vowel("ah", 120, 0.4)).float()
    other = torch.from_numpy(vowel("ee", 120, 0.4)).float()
    assert measure.mel_distance([sound], [0.3 * sound], RATE) < 1e-3
    assert measure.mel_distance([sound], [other], RATE) > 0.5


def test_splices_are_judged_as_splices(tmp_path):
    """Their features see them whole, and their texts are those of the recordings in them."""
    speech = Speech(path=str(spoken(tmp_path)), splice=Splice(least=3, most=3, gap=0.1), seconds=0.9, val_fraction=0.3)
    train, _ = speech.open()
    real = utterances(speech.fitted(train), train, 5)
    assert all(len(text.split()) == 3 for text in real.texts)
    assert real.texts[0].split()[0] == train.texts[real.items[0]]
    assert min(map(len, real.signals)) > 2 * int(train.lengths.float().mean())
    alone = utterances(replace(speech, splice=None), train, 5)
    assert alone.texts == [train.texts[i] for i in alone.items]
    assert torch.equal(alone.speakers, train.labels[alone.items])


def test_a_recogniser_that_is_not_installed_is_named_with_its_extra(clips, monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    speech, m = SimpleNamespace(texts=True, known_rate=RATE), SimpleNamespace(train=clips[0])
    with pytest.raises(ValueError, match=r"pip install 'langevin\[recogniser\]'"):
        judge_of(speech, m, "pocketsphinx")
    with pytest.raises(ValueError, match="--recogniser is auto or pocketsphinx, got whisper"):
        judge_of(speech, m, "whisper")


def test_pocketsphinx_hears_each_signal_by_itself():
    pytest.importorskip("pocketsphinx", reason="pip install 'langevin[recogniser]'")
    signals = [torch.from_numpy(vowel(word, 150, 0.8, rate=16_000)).float() for word in WORDS]
    one, other = Sphinx(rate=16_000), Sphinx(rate=16_000)
    assert [one.heard(s) for s in signals] == [other.heard(s) for s in signals[::-1]][::-1]
