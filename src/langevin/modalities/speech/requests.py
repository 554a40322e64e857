"""From the options of a request to the utterances that are drawn."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.process import Gaussian
from langevin.modalities.modality import Plan, RequestContext
from langevin.modalities.paths import did_you_mean, regular
from langevin.modalities.speech import alignment, plans
from langevin.modalities.speech.alignment import Filler, Monotonic, Uniform
from langevin.modalities.speech.codec import peak_normalised
from langevin.modalities.speech.data import Clips
from langevin.modalities.speech.examples import SplicedExamples, stream
from langevin.modalities.speech.options import Sample
from langevin.modalities.speech.plans import Utterance
from langevin.modalities.speech.sound_files import Unreadable, read
from langevin.modalities.speech.timeline import rounded_durations, uniform_durations, word_durations

if TYPE_CHECKING:
    from langevin.modalities.speech.modality import Speech

LONGEST = 3600.0  # seconds of a sample
LONGEST_FILE = 1 << 24  # bytes of a file of texts


def plan(speech: "Speech", options: Sample, context: RequestContext) -> Plan:
    """The plan of a request.

    Raises:
        ValueError: the run cannot do it, or options contradict each other."""
    if speech.vocoder is not None:
        return _vocoded(speech, options, context)
    _check(speech, options)
    texts = requested_texts(speech, options, context)
    for text in dict.fromkeys(texts):
        for line in speech.units.remarks(text) if speech.texts else ():
            context.say(line)
    named = options.speaker if options.voice is None else (options.voice,)
    speakers = [speaker_index(speech, name) for name in named] or list(range(max(1, len(speech.speakers))))
    count = context.count or max(len(texts), len(speakers) if options.speaker else 1, 1)
    pairs = [(texts[i % len(texts)] if texts else "", speakers[i % len(speakers)]) for i in range(count)]
    seconds = lengths(speech, pairs, seed=context.seed, fixed=options.seconds)
    sampling = context.model.sampling
    if options.clip is not None:
        clip = given_signal(speech, options.clip)
        process = context.model.parts.process
        assert isinstance(process, Gaussian), "speech has a Gaussian process"
        t = torch.tensor(options.strength, dtype=torch.float64)
        rho = float(process.schedule.sigma(t) / process.schedule.alpha(t)) if options.strength < 1 else 0.0
        sampling = plans.from_time(sampling, options.strength, rho)
        wanted = [_again(speech, text, speaker, clip) for text, speaker in pairs]
    elif options.infill is not None:
        wanted = [infilled(speech, text, speaker, options) for text, speaker in pairs]
    elif options.continue_ is not None:
        wanted = [
            continued(speech, text, speaker, options, s) for (text, speaker), s in zip(pairs, seconds, strict=True)
        ]
    else:
        wanted = [_utterance(speech, *pair, frames_of(speech, s)) for pair, s in zip(pairs, seconds, strict=True)]
    if isinstance(speech.alignment, Filler) and (long := max(one.frames for one in wanted)) > speech.window:
        raise ValueError(
            f"a run with filler tokens speaks in one piece, of up to {_seconds(speech, speech.window):.2f} seconds, and "
            f"this would take {_seconds(speech, long):.2f}: split the text"
        )
    return plans.draw(speech, wanted, context, sampling=sampling)


def _seconds(speech: "Speech", frames: int) -> float:
    return frames * speech.codec.stride / speech.known_rate


def _vocoded(speech: "Speech", options: Sample, context: RequestContext) -> Plan:
    """A vocoder's samples: copies of a clip, or of recordings of the validation part."""
    if options != Sample(clip=options.clip):
        raise ValueError("this run is a vocoder, which makes copies of recordings: it takes --clip FILE alone")
    if options.clip is None:
        return copied(speech, context.data()[1], context.count or 8, seed=context.seed)
    signals = [given_signal(speech, options.clip)] * (context.count or 1)
    return plans.copies(speech, signals, [Path(options.clip).stem] * len(signals), seed=context.seed)


def copied(speech: "Speech", dataset: Clips, count: int, *, seed: int) -> Plan:
    """The plan of copies of `count` recordings, evenly spaced over a part of the data."""
    items = (torch.arange(count) * len(dataset) // count).tolist()
    names = [Path(dataset.recordings[i].name).stem for i in items]
    return plans.copies(speech, [dataset.signal(i) for i in items], names, seed=seed)


def _check(speech: "Speech", options: Sample) -> None:
    """Raises `ValueError` for options that the run does not take, or that contradict each other."""
    modes = [name for name in ("continue_", "infill", "clip") if getattr(options, name) is not None]
    if len(modes) > 1:
        raise ValueError("--continue, --infill and --clip are three different requests: give one of them")
    if (options.text or options.file) and not speech.texts:
        raise ValueError("this run was trained without transcripts, so it cannot be told what to say: leave --text out")
    if options.text and options.file:
        raise ValueError("--text and --file both say what to speak: give one of them")
    if options.seconds is not None and not 0 < options.seconds <= LONGEST:
        raise ValueError(f"--seconds must be above 0, up to {LONGEST:g}, got {options.seconds:g}")
    if modes and modes[0] in ("continue_", "infill") and not speech.reads_context:
        raise ValueError(
            f"--{modes[0].strip('_')} needs a run that was trained with given context, and this one has data.context=0"
        )
    if (options.from_ is None) != (options.infill is None) or (options.to is None) != (options.infill is None):
        raise ValueError("--infill takes --from and --to, the seconds between which the clip is made anew")
    if (options.voice is None) != (options.clip is None) or (options.voice is not None and options.speaker):
        raise ValueError("--clip FILE is said again by --voice NAME: give both, and no --speaker")
    if not 0 < options.strength <= 1:
        raise ValueError(f"--strength must be in (0, 1], got {options.strength:g}")
    if options.strength != Sample.strength and options.clip is None:
        raise ValueError("--strength has no effect without --clip: leave it out")
    if modes and speech.texts and not (options.text or options.file):
        raise ValueError(f"--{modes[0].strip('_')} needs --text: what is said in the sample")


def requested_texts(speech: "Speech", options: Sample, context: RequestContext) -> list[str]:
    """What to say; texts of the validation part by default, and none for a run without texts.

    Raises:
        ValueError: nothing to say, or a file that cannot be read."""
    if not speech.texts:
        return []
    given = list(options.text)
    if options.file is not None or given == ["-"]:
        given = _lines(options.file)
    if not given:
        texts = list(dict.fromkeys(context.data()[1].texts))
        return texts[: context.count or 4]
    for text in given:
        speech.units.units(text)  # raises for a text with nothing to say
    return given


def _lines(file: str | None) -> list[str]:
    if file is None:
        content, where = sys.stdin.read(LONGEST_FILE), "standard input"
    else:
        path = Path(file)
        if not path.exists():
            raise ValueError(f"there is no file {file}")
        if not regular(path) or path.stat().st_size > LONGEST_FILE:
            raise ValueError(f"--file {file} is no text file of up to {LONGEST_FILE >> 20} megabytes")
        try:
            content, where = path.read_text(encoding="utf-8-sig"), file
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"--file {file} cannot be read as UTF-8 text: {error}") from error
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{where} holds no text to say")
    return lines


def speaker_index(speech: "Speech", name: str) -> int:
    """The index of a speaker.

    Raises:
        ValueError: no such speaker; the message names the nearest."""
    if name in speech.speakers:
        return speech.speakers.index(name)
    if not speech.speakers:
        raise ValueError(f"this run was trained without speakers, so it cannot speak as '{name}': leave --speaker out")
    raise ValueError(
        f"no speaker is called '{name}'{did_you_mean(name, speech.speakers)}; known are {', '.join(speech.speakers)}"
    )


def lengths(
    speech: "Speech", pairs: Sequence[tuple[str, int]], *, seed: int, fixed: float | None = None
) -> list[float]:
    """Seconds of each (text, speaker), drawn from the model of durations; `fixed` for all, if given."""
    if fixed is not None:
        return [fixed] * len(pairs)
    assert speech.durations is not None, "the modality of a run is fitted"
    seeds = seed + torch.arange(len(pairs))
    u = SampleNoise(seeds=seeds, steps=torch.full_like(seeds, -11)).uniform(torch.empty(len(pairs), 1))[:, 0].tolist()
    return [
        min(LONGEST, speech.durations.seconds(speech.units_in(text), speaker, v))
        for (text, speaker), v in zip(pairs, u, strict=True)
    ]


def frames_of(speech: "Speech", seconds: float) -> int:
    """Frames of a sample of this length."""
    return max(2, speech.codec.frames(int(seconds * speech.known_rate)))


def durations_of(speech: "Speech", units: Tensor, frames: int, signal: Tensor | None) -> Tensor:
    """Frames of each unit: as in training, equal ones, those found in the signal, or those of the model of durations."""
    assert speech.durations is not None, "the modality of a run is fitted"
    if signal is not None and isinstance(speech.alignment, Monotonic):
        return alignment.durations(speech.alignment, speech, [signal], [units])[0]
    expected = speech.durations.expected(units)
    if speech.splice is not None:
        return word_durations(units, expected, frames, speech.units.pauses)
    if isinstance(speech.alignment, Uniform):
        return uniform_durations(len(units), frames)
    return rounded_durations(expected, frames)


def _utterance(speech: "Speech", text: str, speaker: int, frames: int, *, signal: Tensor | None = None) -> Utterance:
    """The text in so many frames; with a signal, at the times at which it is said there."""
    units = speech.units_in(text)
    name = " ".join(part for part in (f"{speech.speakers[speaker]}:" if speech.speakers else "", text) if part)
    aligned = None
    if speech.texts:
        aligned = speech.encoder.features(units, frames, durations_of(speech, units, frames, signal))
    return Utterance(frames=frames, aligned=aligned, speaker=speaker, text=text, name=name)


def _again(speech: "Speech", text: str, speaker: int, signal: Tensor) -> Utterance:
    """The text as it is said in a signal, which is where the sample starts from."""
    x = speech.encoder.signals([signal])[0]
    return replace(_utterance(speech, text, speaker, x.shape[1], signal=signal), x=x)


def utterances(speech: "Speech", pairs: Sequence[tuple[str, int]], *, seed: int) -> list[Utterance]:
    """Utterances of each (text, speaker), with lengths from the model of durations."""
    seconds = lengths(speech, pairs, seed=seed)
    return [
        _utterance(speech, text, speaker, frames_of(speech, s))
        for (text, speaker), s in zip(pairs, seconds, strict=True)
    ]


def like(speech: "Speech", dataset: Clips, count: int, *, seed: int) -> list[Utterance]:
    """Utterances with the texts and speakers of a part of the data, in its proportions."""
    items, examples = torch.arange(count) * len(dataset) // count, None
    if speech.splice is not None:
        examples = speech.examples(dataset)
        assert isinstance(examples, SplicedExamples)
    return utterances(
        speech,
        [
            (
                dataset.texts[item] if examples is None else examples.text(item, stream(number)),
                int(dataset.labels[item]),
            )
            for number, item in enumerate(items.tolist())
        ],
        seed=seed,
    )


# --------------------------------------------------------------------------------------------------------- given clips


def given_signal(speech: "Speech", file: str) -> Tensor:
    """The signal (n,) of a sound file, as in training.

    Raises:
        ValueError: it cannot be read."""
    try:
        return peak_normalised(read(Path(file), speech.known_rate))
    except Unreadable as error:
        raise ValueError(f"{file} {error}") from error


def infilled(speech: "Speech", text: str, speaker: int, options: Sample) -> Utterance:
    """The clip with frames between two times made anew; its length stays."""
    assert options.infill is not None and options.from_ is not None and options.to is not None  # noqa: PT018
    whole = _again(speech, text, speaker, given_signal(speech, options.infill))
    stride, rate, frames = speech.codec.stride, speech.known_rate, whole.frames
    long = frames * stride / rate
    if not 0 <= options.from_ < options.to or options.from_ >= long:
        raise ValueError(f"--from {options.from_:g} --to {options.to:g} is no part of a clip of {long:.2f} s")
    at = torch.arange(frames) * stride / rate
    return replace(whole, given=(at < options.from_) | (at >= options.to))


def continued(speech: "Speech", text: str, speaker: int, options: Sample, seconds: float) -> Utterance:
    """The clip, followed by a sample that says the text; what is said in the clip is unknown to the network."""
    assert options.continue_ is not None
    clip = speech.encoder.signals([given_signal(speech, options.continue_)])[0]
    before, new = clip.shape[1], frames_of(speech, seconds)
    after = _utterance(speech, text, speaker, new)
    aligned = None if after.aligned is None else torch.cat([torch.zeros(before, after.aligned.shape[1]), after.aligned])
    x = torch.cat([clip, torch.zeros(clip.shape[0], new)], 1)
    return replace(
        after, frames=before + new, aligned=aligned, name=f"... {after.name}", x=x,
        given=torch.arange(before + new) < before,
    )  # fmt: skip
