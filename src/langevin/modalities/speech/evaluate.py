"""Evaluation of speech: the sections of the report."""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from langevin.evaluation.frechet import Moments, frechet_distance
from langevin.evaluation.report import (
    Facts,
    MetricRow,
    Metrics,
    Picture,
    Pictures,
    Quotes,
    Section,
    Sound,
    Sounds,
    Source,
)
from langevin.evaluation.statistics import mean_interval
from langevin.methods.models import LOG_SNR
from langevin.modalities.losses import loss_gap_metric, loss_section
from langevin.modalities.modality import Evaluation, Measuring, Samples, Scorer
from langevin.modalities.sound import wav
from langevin.modalities.speech.metrics.judges import Judge, listener_of
from langevin.modalities.speech.metrics.measure import Heard, Measured, measure_run
from langevin.modalities.speech.metrics.real import utterances
from langevin.modalities.speech.metrics.vocoding import ITERATIONS, MOST, vocoded
from langevin.modalities.speech.options import Evaluate
from langevin.modalities.speech.text.letters import held_out_accuracy
from langevin.modalities.speech.text.units import Phonemes

if TYPE_CHECKING:
    from langevin.modalities.speech.modality import Speech

SHOWN = 12  # samples in the report
REFERENCE = 2000  # training recordings that samplers are ranked by, at most


def evaluate(speech: "Speech", options: Evaluate, m: Measuring) -> Evaluation:
    """What a recogniser hears, whose voice, likeness to real recordings, memorisation, and the codec's ceiling.

    Raises:
        ValueError: too few recordings, or an unknown recogniser."""
    if len(m.train) < 8 or len(m.val) < 4:
        raise ValueError(
            f"evaluate needs 8 training and 4 validation recordings, and there are {len(m.train)} and {len(m.val)}"
        )
    if speech.vocoder is not None:
        return _evaluate_vocoder(speech, m)
    if speech.held_out_pairs:  # judges may know what the run has never heard
        train, val = replace(speech, held_out_pairs=()).open()
        m = replace(m, train=train, val=val)
    count = m.count or min(max(len(m.val), 32), 300)
    measured = measure_run(speech, m, options.recogniser, count)
    rows = [*own_rows(measured), *measured.measures.rows]
    source = Source(samples=measured.measures.samples, seeds=list(range(m.seeds)), command=m.command)
    first = measured.drawn[0].first(SHOWN)
    sections: list[Section] = [
        Pictures(
            heading="Samples",
            pictures=[Picture(image=first.preview().content, caption="Waveforms and log-mel spectrograms")],
            note="Not cherry-picked: first of seed 0.",
        ),
        Sounds(heading="To listen to", sounds=sounds(speech, first)),
        Metrics(heading="Measured", rows=rows, source=source, note=" ".join(measured.measures.notes)),
        *_details(speech, measured, source),
        loss_section(measured.losses, source),
    ]
    lines = [f"codec: copies of real recordings differ by {measured.mel_distance:.3f} in log-mel"]
    lines += [f"{name}: {value:.3f}" for name, value in measured.by_speaker.items()]
    return Evaluation(
        rows=rows, samples=measured.drawn[0], sections=sections, figures=figures(measured, count, m.seeds), lines=lines,
        title=f"{count} samples x {m.seeds} seeds, {measured.nfe} function evaluations each",
    )  # fmt: skip


def _evaluate_vocoder(speech: "Speech", m: Measuring) -> Evaluation:
    """Copies of validation recordings by the vocoder, beside those by Griffin-Lim."""
    found, samples = vocoded(speech, m, m.count or MOST)
    own, real = found["vocoder"], found["real"]
    best = found[f"Griffin-Lim, {ITERATIONS[-1]}"]
    rows = [
        MetricRow(
            metric="mel distance", generated=mean_interval([own.mel_distance]), floor=0.0, copycat=best.mel_distance,
            better="lower", meaning="mean absolute difference in log-mel of copies; copycat is Griffin-Lim",
        ),
        *(
            MetricRow(
                metric=name, generated=mean_interval([getattr(own, name)]), floor=getattr(real, name),
                copycat=getattr(best, name), better="higher", meaning="share heard by a classifier; copycat is Griffin-Lim",
            )
            for name in ("recognised", "speaker") if getattr(own, name) is not None
        ),
        MetricRow(
            metric="real-time factor", generated=mean_interval([own.seconds]), copycat=best.seconds, better="lower",
            meaning="seconds of computing per second of sound, on this machine; copycat is Griffin-Lim",
        ),
    ]  # fmt: skip
    source = Source(samples={"copies": len(samples)}, seeds=[0], command=m.command)
    first = samples.first(SHOWN)
    tables = [Facts(heading=f"Copies by {name}", rows=asdict(scores), source=source) for name, scores in found.items()]
    sections: list[Section] = [
        Pictures(heading="Samples", pictures=[Picture(image=first.preview().content, caption="Copies by the vocoder")]),
        Sounds(heading="To listen to", sounds=sounds(speech, first)),
        Metrics(heading="Measured", rows=rows, source=source),
        *tables,
    ]
    lines = [
        f"{name}: mel distance {s.mel_distance:.3f}, recognised {s.recognised}, real-time factor {s.seconds:.4f}"
        for name, s in found.items()
    ]
    return Evaluation(
        rows=rows, samples=samples, sections=sections, lines=lines, title=f"{len(samples)} copies of recordings",
        figures={name: asdict(scores) for name, scores in found.items()},
    )  # fmt: skip


def sounds(speech: "Speech", samples: Samples) -> list[Sound]:
    """The samples as audio elements."""
    names = samples.names or ("",) * len(samples)
    return [
        Sound(wav=wav(signal, speech.known_rate), caption=name)
        for signal, name in zip(samples.values, names, strict=True)
    ]


def own_rows(found: Measured) -> list[MetricRow]:
    """Rows of what is heard, of memorisation, and of speed."""
    rows = [] if found.words is None or found.judge is None else said_rows(found, found.words, found.judge)
    if found.speakers is not None:
        meaning = "share of samples in which a classifier hears the speaker; real is its accuracy"
        rows += _heard_rows(found.speakers, "speaker", "higher", meaning)
    memory = found.memory
    return [
        *rows,
        MetricRow(
            metric="lengths, KS distance", generated=mean_interval([found.longer]), better="lower", floor=0.0,
            meaning="Kolmogorov-Smirnov distance of the lengths of samples and of validation recordings",
        ),
        MetricRow(
            metric="C_T", generated=mean_interval([memory.c_t]), floor=0.0, copycat=memory.c_t_copycat,
            better="near real", meaning="are samples nearer to training recordings than validation recordings are? Far "
            "below 0 means copying",
        ),
        MetricRow(
            metric="authentic share", generated=mean_interval([memory.authentic]), floor=memory.authentic_held_out,
            copycat=0.0, better="near real", meaning="share of samples farther from their nearest training recording than "
            "that one is from its own nearest",
        ),
        loss_gap_metric(found.gap),
        MetricRow(
            metric="FD train, of copies", generated=mean_interval([found.copied]), better="near real",
            meaning="the ceiling of the codec: Fréchet distance of real recordings, encoded and decoded",
        ),
        MetricRow(
            metric="real-time factor", generated=mean_interval([found.seconds]), better="lower",
            meaning="seconds of computing per second of sound, on this machine, with decoding",
        ),
    ]  # fmt: skip


def said_rows(found: Measured, words: Heard, judge: Judge) -> list[MetricRow]:
    """Rows of what is said: in texts like those of the data, by unseen pairs, and in long texts."""
    further = {
        "unseen pairs": (found.unseen, "the same on pairs of speaker and text that were never trained on"),
        "long texts": (
            found.beyond,
            "the same on texts longer than any window of training, made in windows that overlap; real is of usual lengths",
        ),
    }
    return [
        *_heard_rows(words, judge.metric, judge.better, judge.meaning),
        *(
            MetricRow(
                metric=f"{judge.metric}, {what}", generated=mean_interval([value]), better=judge.better, floor=words.real,
                meaning=meaning,
            )
            for what, (value, meaning) in further.items() if value is not None
        ),
    ]  # fmt: skip


def _heard_rows(heard: Heard, metric: str, better: str, meaning: str) -> list[MetricRow]:
    return [
        MetricRow(
            metric=metric, generated=mean_interval(heard.generated), values=heard.generated, floor=heard.real,
            better=better, meaning=meaning,  # type: ignore[arg-type]
        ),
        MetricRow(
            metric=f"{metric}, of copies", generated=mean_interval([heard.copies]), floor=heard.real,
            better=better, meaning="the ceiling of the codec: real recordings, encoded and decoded",  # type: ignore[arg-type]
        ),
        MetricRow(
            metric=f"{metric}, shuffled", generated=mean_interval([heard.shuffled]), floor=heard.real,
            better=better, meaning="the control: real recordings, with what belongs to others",  # type: ignore[arg-type]
        ),
    ]  # fmt: skip


def _details(speech: "Speech", found: Measured, source: Source) -> list[Section]:
    """By speaker, what was misheard, and the pronunciation of unknown words."""
    sections = list[Section]()
    if found.by_speaker and found.judge is not None:
        sections.append(Facts(heading=f"{found.judge.metric} by speaker", rows=found.by_speaker, source=source))
    if found.words is not None and found.words.mistakes:
        sections.append(
            Quotes(
                heading="Misheard",
                quotes=found.words.mistakes[:20],
                note="What should be said, and what the recogniser hears, of seed 0.",
            )
        )
    if speech.texts and isinstance(speech.units, Phonemes) and found.judge is not None:
        accuracy = held_out_accuracy()
        rows = {name.replace("_", " "): value for name, value in asdict(accuracy).items()}
        note = "Words that are not in the dictionary are pronounced by their letters: measured on a tenth of it."
        sections.append(Facts(heading="Letter-to-sound", rows=rows, source=source, note=note))
    return sections


def figures(found: Measured, count: int, seeds: int) -> dict[str, object]:
    """All results, of JSON types."""
    return {
        "count": count, "seeds": seeds, "nfe": found.nfe, "measures": found.measures.as_dict(),
        "judge": None if found.judge is None else found.judge.metric,
        "words": None if found.words is None else asdict(found.words),
        "speakers": None if found.speakers is None else asdict(found.speakers),
        "by_speaker": dict(found.by_speaker), "unseen": found.unseen, "beyond": found.beyond,
        "mel_distance_of_copies": found.mel_distance,
        "memorisation": asdict(found.memory), "losses": dict(found.losses), "real_time_factor": found.seconds,
        "loss_gap": {"log_snr": LOG_SNR.tolist(), "gap": found.gap.gap.tolist(), "z": found.gap.z.tolist()},
        "lengths_ks": found.longer, "fd_of_copies": found.copied,
    }  # fmt: skip


def scorer(speech: "Speech", m: Measuring) -> Scorer:
    """The Fréchet distance to the training recordings in the features of the classifier."""
    if speech.vocoder is not None:
        raise ValueError(
            "a vocoder is asked once per sample, so there are no samplers to rank: see `langevin evaluate`"
        )
    m.require_training("a listener")
    count = min(m.count or 200, len(m.val), len(m.train))
    if len(m.train) < 4 or count < 2:
        raise ValueError(
            "ranking needs 4 training and 2 validation recordings: see `langevin evaluate` for other metrics"
        )
    listener = listener_of(speech, m)
    reference, held_out = (
        Moments.of(listener.features(utterances(speech, part, most).signals))
        for part, most in ((m.train, REFERENCE), (m.val, count))
    )
    floor = frechet_distance(reference, held_out)
    return Scorer(
        name="FD (listener)", floor=floor,
        score=lambda samples: frechet_distance(reference, Moments.of(listener.features(list(samples.values)))),
    )  # fmt: skip
