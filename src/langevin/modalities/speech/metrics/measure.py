"""Measurements of a run on speech: what is heard, by whom, how natural, how much is copied, and how fast it is made."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langevin.evaluation.frechet import Moments, frechet_distance
from langevin.evaluation.suite import Measures, measure
from langevin.modalities.modality import Measuring, RequestContext, Samples, spread
from langevin.modalities.speech import plans, requests
from langevin.modalities.speech.codec import long_enough, peak_normalised
from langevin.modalities.speech.metrics.judges import Classes, Judge, judge_of, listener_of
from langevin.modalities.speech.metrics.listener import Listener, ear, heard
from langevin.modalities.speech.metrics.real import Real, utterances
from langevin.modalities.speech.plans import Utterance
from langevin.safety.memorisation import LossGap, Memorisation, loss_gap, memorisation

if TYPE_CHECKING:
    from langevin.modalities.speech.modality import Speech

REAL = 2000  # real recordings that are compared with, at most
UNSEEN = 20  # samples of each pair that was held out
BEYOND, TIMES = 24, 1.5  # samples that are longer than the window, and how much longer they are at least
LOSSES = 256  # examples of each part whose denoising loss is measured


@dataclass(frozen=True, kw_only=True)
class Heard:
    """The score of a judge on samples, copies and held-out recordings.

    Args:
        generated: per seed.
        copies: on held-out recordings, encoded and decoded: the ceiling of the codec.
        real: on held-out recordings.
        shuffled: on held-out recordings with the texts of others: what chance gets.
        mistakes: (what should be said, what is heard) of the first seed.
    """

    generated: tuple[float, ...]
    copies: float
    real: float
    shuffled: float
    mistakes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All measurements of a run.

    Args:
        words, speakers: what is heard, and whose voice; None where there are no texts or no speakers.
        by_speaker: `words` of the first seed by speaker.
        unseen: score on the pairs of speaker and text that were held out; None without such.
        beyond: score on texts longer than any window of training; None where a judge does not spell.
        mel_distance: mean absolute difference of the log-mel spectrograms of copies and originals.
        copied: Fréchet distance of copies to training recordings: the ceiling of the codec.
        seconds: of computing per second of sound.
        longer: Kolmogorov-Smirnov distance of the lengths of samples and held-out recordings.
    """

    drawn: Sequence[Samples]
    judge: Judge | None
    words: Heard | None
    speakers: Heard | None
    by_speaker: Mapping[str, float]
    unseen: float | None
    beyond: float | None
    mel_distance: float
    copied: float
    measures: Measures
    memory: Memorisation
    gap: LossGap
    losses: Mapping[str, list[float]]
    seconds: float
    longer: float

    @property
    def nfe(self) -> int:
        return max(samples.nfe for samples in self.drawn)


def measure_run(speech: "Speech", m: Measuring, recogniser: str, count: int) -> Measured:
    """Draw `count` samples per seed, and measure them."""
    rate = speech.known_rate
    judge, listener = judge_of(speech, m, recogniser), listener_of(speech, m)
    wanted = requests.like(speech, m.val, count, seed=0)
    texts = [one.text for one in wanted]
    drawn, seconds = _draw(speech, m, count)
    generated = [list(samples.values) for samples in drawn]
    real, known = utterances(speech, m.val, REAL), utterances(speech, m.train, REAL)
    copies = list(m.model.run(plans.copies(speech, real.signals, real.texts), batch=m.batch).values)
    words = None if judge is None else _heard(judge, generated, texts, real, copies)
    voices, by_speaker = None, dict[str, float]()
    if speech.speakers:
        labels = torch.tensor([one.speaker for one in wanted])
        voices = _voices(listener, generated, labels, real, copies)
        for i, name in enumerate(speech.speakers if judge is not None else ()):
            own = [j for j, one in enumerate(wanted) if one.speaker == i]
            if own and judge is not None:
                by_speaker[name] = judge.score([generated[0][j] for j in own], [texts[j] for j in own])
    features = [listener.features(signals) for signals in (known.signals, real.signals, *generated)]
    frames = listener.config.frames
    seen = [heard(signals, rate, frames)[0].flatten(1) for signals in (known.signals, copies, generated[0])]
    gap, losses = _losses(speech, m)
    return Measured(
        drawn=drawn, judge=judge, words=words, speakers=voices, by_speaker=by_speaker,
        unseen=_unseen(speech, judge, m), beyond=_beyond(speech, judge, m, wanted),
        mel_distance=mel_distance(real.signals, copies, rate),
        copied=frechet_distance(Moments.of(features[0]), Moments.of(listener.features(copies))),
        measures=measure({"listener": lambda x: x}, features[0], features[1], features[2:], seed=0),
        memory=memorisation(*seen), gap=gap, losses=losses, seconds=seconds, longer=_longer(generated[0], real.signals),
    )  # fmt: skip


def mel_distance(originals: Sequence[Tensor], copies: Sequence[Tensor], rate: int) -> float:
    """Mean absolute difference of log-mel spectrograms, over frames that both have, each normalised to one peak."""
    codec, total, count = ear(rate), 0.0, 0
    for a, b in zip(originals, copies, strict=True):
        mels = [codec.log_mel(long_enough(peak_normalised(x), codec.shortest)[None], rate)[0] for x in (a, b)]
        frames = min(mel.shape[1] for mel in mels)
        total += float((mels[0][:, :frames] - mels[1][:, :frames]).abs().sum())
        count += mels[0][:, :frames].numel()
    return total / max(1, count)


def _draw(speech: "Speech", m: Measuring, count: int) -> tuple[list[Samples], float]:
    """The samples of each seed, and seconds of computing per second of sound."""
    progress, drawn, begin = m.progress("sampling"), list[Samples](), time.perf_counter()
    for seed in range(m.seeds):
        context = RequestContext(model=m.model, data=lambda: (m.train, m.val), count=count, seed=1_000_000 * (seed + 1))
        drawn.append(m.model.run(speech.plan_like(m.val, context), batch=m.batch))
        progress(seed + 1, m.seeds)
    spent = time.perf_counter() - begin
    sound = sum(len(signal) for samples in drawn for signal in samples.values) / speech.known_rate
    return drawn, spent / max(sound, 1e-9)


def _heard(
    judge: Judge, generated: Sequence[list[Tensor]], texts: list[str], real: Real, copies: list[Tensor]
) -> Heard:
    some = spread(len(real.items), len(texts)).tolist()  # as many as samples: a judge may be slow
    said, signals, made = ([part[i] for i in some] for part in (real.texts, real.signals, copies))
    return Heard(
        generated=tuple(judge.score(drawn, texts) for drawn in generated),
        copies=judge.score(made, said), real=judge.score(signals, said), shuffled=judge.score(signals, _shuffled(said)),
        mistakes=tuple(judge.mistakes(generated[0], texts)[:40]),
    )  # fmt: skip


def _order(count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


def _shuffled(texts: list[str]) -> list[str]:
    return [texts[i] for i in _order(len(texts)).tolist()]


def _voices(
    listener: Listener, generated: Sequence[list[Tensor]], labels: Tensor, real: Real, copies: list[Tensor]
) -> Heard:
    """The share of samples in which the classifier hears the speaker."""

    def score(signals: list[Tensor], speakers: Tensor) -> float:
        return float((listener.classes(signals, "speaker") == speakers).double().mean())

    return Heard(
        generated=tuple(score(signals, labels) for signals in generated), copies=score(copies, real.speakers),
        real=score(real.signals, real.speakers), shuffled=score(real.signals, real.speakers[_order(len(real.speakers))]),
    )  # fmt: skip


def _unseen(speech: "Speech", judge: Judge | None, m: Measuring) -> float | None:
    """The score on the pairs of speaker and text that no training recording has, some samples of each."""
    if judge is None or not speech.held_out_pairs:
        return None
    pairs = [(text, speech.speakers.index(speaker)) for speaker, text in speech.held_out_pairs for _ in range(UNSEEN)]
    wanted = requests.utterances(speech, pairs, seed=0)
    context = RequestContext(model=m.model, data=lambda: (m.train, m.val), seed=77_000_000)
    samples = m.model.run(plans.draw(speech, wanted, context), batch=m.batch)
    return judge.score(list(samples.values), [text for text, _ in pairs])


def _beyond(speech: "Speech", judge: Judge | None, m: Measuring, wanted: Sequence[Utterance]) -> float | None:
    """The score on texts that take several windows: those of the held-out part, joined by speaker."""
    if judge is None or isinstance(judge, Classes):
        return None
    pairs = list[tuple[str, int]]()
    for first in spread(len(wanted), min(BEYOND, len(wanted))).tolist():
        speaker, texts, frames = wanted[first].speaker, list[str](), 0
        own = [one for one in (*wanted[first:], *wanted[:first]) if one.speaker == speaker]
        while frames <= TIMES * speech.window:
            one = own[len(texts) % len(own)]
            texts.append(one.text)
            frames += one.frames
        pairs.append((" ".join(texts), speaker))
    context = RequestContext(model=m.model, data=lambda: (m.train, m.val), seed=88_000_000)
    samples = m.model.run(plans.draw(speech, requests.utterances(speech, pairs, seed=1), context), batch=m.batch)
    return judge.score(list(samples.values), [text for text, _ in pairs])


def _losses(speech: "Speech", m: Measuring) -> tuple[LossGap, dict[str, list[float]]]:
    """The denoising loss by noise level on both parts."""
    found = dict[str, Tensor]()
    train, val = speech.open() if speech.held_out_pairs else (m.train, m.val)
    for name, part in (("training", train), ("validation", val)):
        batches, items = m.model.batches(part), spread(len(part), LOSSES)
        found[name] = torch.cat([m.model.parts.losses(batches(i), i) for i in items.split(64)], 1).cpu()
    return loss_gap(found["training"], found["validation"]), {n: v.mean(1).tolist() for n, v in found.items()}


def _longer(generated: list[Tensor], real: list[Tensor]) -> float:
    """The Kolmogorov-Smirnov distance of two sets of lengths."""
    a, b = (torch.tensor([len(signal) for signal in part]).double().sort().values for part in (generated, real))
    at = torch.cat([a, b])
    shares = [torch.searchsorted(part, at, right=True).double() / len(part) for part in (a, b)]
    return float((shares[0] - shares[1]).abs().max())
