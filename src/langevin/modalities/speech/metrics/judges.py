"""Judges of what is said: a share of texts that are recognised, or a rate of errors, of any signals.

A judge is chosen by the data. Few texts that repeat are told apart by a classifier. Other texts are spelled by a CTC
recogniser, in words where these are few, else in the units of the run. `pocketsphinx`, a recogniser of US English with a
model of its own, is an independent second opinion. All state their score on held-out recordings.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor

from langevin.diffusion.noise import SampleNoise
from langevin.evaluation.report import Better
from langevin.extras import require
from langevin.modalities.modality import Measuring
from langevin.modalities.speech.codec import peak_normalised
from langevin.modalities.speech.data import Clips
from langevin.modalities.speech.examples import SplicedExamples
from langevin.modalities.speech.metrics.listener import (
    Listener,
    ListenerConfig,
    train_classifiers,
    train_recogniser,
)
from langevin.modalities.speech.metrics.real import utterances
from langevin.modalities.speech.text.edits import edit_distance

if TYPE_CHECKING:
    from langevin.modalities.speech.modality import Speech

FEW = 100  # texts, or words, up to which they are classes
OFTEN = 5  # times that each of them occurs
TRAINED_ON = 4_000  # recordings at most
LONGEST = 400  # frames that the classifier hears
FRAMES = 7_500_000  # that the classifier is trained on, about, within 3 to 25 epochs
RecogniserName = Literal["auto", "pocketsphinx"]


class Judge(Protocol):
    """Listens to signals; a function of these and their texts alone."""

    @property
    def metric(self) -> str:
        """Name of its score."""
        ...

    @property
    def better(self) -> Better:
        """In which direction it improves."""
        ...

    @property
    def meaning(self) -> str:
        """The score in words."""
        ...

    def score(self, signals: Sequence[Tensor], texts: Sequence[str]) -> float:
        """The score of signals against what should be said in them."""
        ...

    def mistakes(self, signals: Sequence[Tensor], texts: Sequence[str]) -> list[tuple[str, str]]:
        """(what should be said, what is heard) where these differ."""
        ...


def error_rate(wanted: Sequence[Sequence[object]], heard: Sequence[Sequence[object]]) -> float:
    """(substitutions + deletions + insertions) / tokens that should be there, over all pairs."""
    edits = sum(edit_distance(a, b) for a, b in zip(wanted, heard, strict=True))
    return edits / max(1, sum(map(len, wanted)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Classes:
    """Tells a few texts apart.

    Args:
        texts: those that it knows.
    """

    listener: Listener
    texts: tuple[str, ...]
    metric: str = "recognised"
    better: Better = "higher"

    @property
    def meaning(self) -> str:
        return f"share of samples in which a classifier hears the text, of {len(self.texts)}; real is its accuracy"

    def score(self, signals: Sequence[Tensor], texts: Sequence[str]) -> float:
        return 1 - len(self.mistakes(signals, texts)) / len(texts)

    def mistakes(self, signals: Sequence[Tensor], texts: Sequence[str]) -> list[tuple[str, str]]:
        heard = [self.texts[i] for i in self.listener.classes(signals, "text").tolist()]
        return [(a, b) for a, b in zip(texts, heard, strict=True) if a != b]


@dataclass(frozen=True, kw_only=True, eq=False)
class Speller:
    """Spells texts in words or units.

    Args:
        speech: whose units it spells; None spells `words`.
    """

    listener: Listener
    words: tuple[str, ...] = ()
    speech: "Speech | None" = None
    better: Better = "lower"

    @property
    def metric(self) -> str:
        return "word error rate" if self.words else "unit error rate"

    @property
    def meaning(self) -> str:
        of = f"{len(self.words)} words" if self.words else "the units of the text, without pauses"
        return f"(substitutions + deletions + insertions) / length by a CTC recogniser of {of}"

    def labels(self, text: str) -> list[int]:
        """The labels of a text."""
        if self.speech is None:
            return [self.words.index(word) if word in self.words else -1 for word in text.split()]
        pauses = set(self.speech.units.pauses)
        return [int(unit) for unit in self.speech.units.units(text) if unit not in pauses]

    def score(self, signals: Sequence[Tensor], texts: Sequence[str]) -> float:
        return error_rate([self.labels(text) for text in texts], self.listener.spelled(signals))

    def mistakes(self, signals: Sequence[Tensor], texts: Sequence[str]) -> list[tuple[str, str]]:
        pairs = zip(texts, self.listener.spelled(signals), strict=True)
        return [(text, self._shown(heard)) for text, heard in pairs if heard != self.labels(text)]

    def _shown(self, labels: list[int]) -> str:
        if self.speech is None:
            return " ".join(self.words[label] for label in labels)
        return self.speech.units.spell(labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sphinx:
    """The program `pocketsphinx` with its own model of US English at 16 kHz: pretrained, and independent of the data.

    Args:
        known: what was heard, by the SHA-256 of the samples.
    """

    rate: int
    metric: str = "character error rate"
    better: Better = "lower"
    meaning: str = "of the text that pocketsphinx hears, letters and spaces; its model is of other people's recordings"
    known: dict[bytes, str] = field(default_factory=dict[bytes, str])

    def heard(self, signal: Tensor) -> str:
        """The text of a signal."""
        samples = (peak_normalised(signal) * 32767).numpy()
        if self.rate != 16_000:
            samples = require("soxr", "resampling sound").resample(samples, self.rate, 16_000)
        content = samples.round().astype("<i2").tobytes()
        name = hashlib.sha256(content).digest()
        if name not in self.known:
            pocketsphinx = require("pocketsphinx", "--recogniser pocketsphinx")
            decoder = pocketsphinx.Decoder(
                samprate=16000, loglevel="FATAL"
            )  # a new one: it adapts to what it has heard
            decoder.start_utt()
            decoder.process_raw(content, full_utt=True)
            decoder.end_utt()
            found = decoder.hyp()
            self.known[name] = "" if found is None else found.hypstr
        return self.known[name]

    def score(self, signals: Sequence[Tensor], texts: Sequence[str]) -> float:
        return error_rate([letters(text) for text in texts], [letters(self.heard(signal)) for signal in signals])

    def mistakes(self, signals: Sequence[Tensor], texts: Sequence[str]) -> list[tuple[str, str]]:
        pairs = [(text, self.heard(signal)) for signal, text in zip(signals, texts, strict=True)]
        return [(text, heard) for text, heard in pairs if letters(text) != letters(heard)]


def letters(text: str) -> str:
    """Small letters and single spaces of a text."""
    return " ".join("".join(c if c.isalpha() else " " for c in text.lower().replace("'", "")).split())


# ------------------------------------------------------------------------------------------------------------- training


def judge_of(speech: "Speech", m: Measuring, recogniser: str) -> Judge | None:
    """The judge of a run's texts, trained once and kept in `m.folder`; None for a run without texts.

    Raises:
        ValueError: an unknown recogniser."""
    if recogniser not in ("auto", "pocketsphinx"):
        raise ValueError(f"--recogniser is auto or pocketsphinx, got {recogniser}")
    if not speech.texts:
        return None
    if recogniser == "pocketsphinx":
        require("pocketsphinx", "--recogniser pocketsphinx")
        return Sphinx(rate=speech.known_rate)
    train: Clips = m.train
    texts = few(train.texts)
    if texts and speech.splice is None:
        return Classes(listener=listener_of(speech, m), texts=texts)
    words = few(tuple(word for text in train.texts for word in text.split()))
    return Speller(listener=speller_of(speech, m, words), words=words, speech=None if words else speech)


def few(texts: Sequence[str]) -> tuple[str, ...]:
    """The different texts, sorted, if they are few and each occurs often; else ()."""
    counts = Counter(texts)
    return tuple(sorted(counts)) if len(counts) <= FEW and min(counts.values()) >= OFTEN else ()


def listener_of(speech: "Speech", m: Measuring) -> Listener:
    """The classifier of texts and speakers of a run's utterances, whose features are also a feature space."""
    train, val, splice = m.train, m.val, speech.splice
    texts = few(train.texts) if train.has_text and splice is None else ()
    known = utterances(speech, train, TRAINED_ON)
    lengths = torch.tensor([len(signal) for signal in known.signals]).double()
    frames = min(LONGEST, max(16, int(float(lengths.quantile(0.99)) / (train.rate // 100)) + 8))
    config = ListenerConfig(rate=train.rate, frames=frames, texts=len(texts), speakers=len(train.speakers))

    def make() -> Listener:
        epochs = max(3, min(25, FRAMES // (len(known.items) * frames)))
        listener = train_classifiers(
            known.signals, targets_of(train, known.items, texts), config, epochs=epochs,
            progress=m.progress("training the judge, step"),
        )  # fmt: skip
        held = utterances(speech, val, TRAINED_ON)
        some = [k for k, text in enumerate(held.texts) if not texts or text in texts]
        signals = [held.signals[k] for k in some]
        for head, classes in targets_of(val, [held.items[k] for k in some], texts).items():
            listener.accuracy[head] = float((listener.classes(signals, head) == classes).double().mean())
        return listener

    how = "" if splice is None else f"-{splice.least}-{splice.most}-{splice.gap:g}"
    return _kept(m, f"listener-{train.fingerprint[:12]}{how}", make)


def targets_of(clips: Clips, items: Sequence[int], texts: tuple[str, ...]) -> dict[str, Tensor]:
    """The classes (n,) of some recordings, by head."""
    found = dict[str, Tensor]()
    if texts:
        index = {text: i for i, text in enumerate(texts)}
        found["text"] = torch.tensor([index[clips.texts[i]] for i in items])
    if clips.speakers:
        found["speaker"] = clips.labels[list(items)]
    return found


def speller_of(speech: "Speech", m: Measuring, words: tuple[str, ...]) -> Listener:
    """The CTC recogniser of words or units."""
    train: Clips = m.train
    labels = len(words) or len(speech.units.inventory)
    config = ListenerConfig(rate=train.rate, labels=labels, width=128 if words else 192)

    def make() -> Listener:
        listener = Listener(config)
        speller = Speller(listener=listener, words=words, speech=None if words else speech)
        examples = speech.examples(train) if speech.splice is not None else None

        def example(i: int) -> tuple[Tensor, list[int]]:
            item = i % len(train)
            if isinstance(examples, SplicedExamples):
                noise = SampleNoise(seeds=torch.tensor([item]), steps=torch.tensor([-100 - i // len(train)]))
                joined = examples.spliced(item, noise)
                return joined.signal, speller.labels(" ".join(train.texts[j] for j in joined.items))
            return train.signal(item), speller.labels(train.texts[item])

        steps, batch = (min(1200, len(train) // 2), 32) if words else (min(1500, 2 * len(train)), 16)
        return train_recogniser(
            example, len(train), config, steps=max(10, steps), batch=batch,
            progress=m.progress("training the recogniser, step"),
        )  # fmt: skip

    kind = "spliced" if speech.splice else "speller"
    return _kept(m, f"{kind}-{train.fingerprint[:12]}", make)


def _kept(m: Measuring, name: str, make: Callable[[], Listener]) -> Listener:
    """A judge from the folder, or a new one that is kept there."""
    folder: Path = m.folder / name
    if (folder / "listener.json").is_file():
        try:
            return Listener.load(folder)
        except (ValueError, OSError, KeyError, TypeError, RuntimeError) as error:
            m.say(f"{folder} cannot be read, so the judge is trained again: {error}")
    m.say("training the judge of the samples on real training recordings")
    listener = make()
    listener.save(folder)
    return listener
