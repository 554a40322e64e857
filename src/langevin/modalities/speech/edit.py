"""Recordings of which parts are drawn anew, or all that noise drowns, or that another voice says again.

What is known of the spectrogram is given to the network as it was trained to read it, or becomes a `Measurement`, which
guidance makes samples agree with. Either way answers to one input are samples of what may have been there.

    --mask      frames whose window touches a masked part are drawn, and samples outside of it stay as they are
    --denoise   bins are known as well as noise of that level lets them be, and those that it drowns are drawn
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langevin.diffusion.guidance import MMPS
from langevin.diffusion.sampler import Ancestral
from langevin.diffusion.sampling import Sampling
from langevin.modalities.modality import Plan, RequestContext, Samples, Say, seeds_of
from langevin.modalities.speech import plans, requests
from langevin.modalities.speech.alignment import Filler, Monotonic
from langevin.modalities.speech.codec import PEAK, LogMel, Vocoder, Waveform
from langevin.modalities.speech.options import Edit, Sample
from langevin.modalities.speech.plans import Utterance
from langevin.modalities.speech.reconstruct import reconstruct
from langevin.modalities.speech.signal import mel_filters, one_thread
from langevin.modalities.speech.sound_files import Unreadable, header, read

if TYPE_CHECKING:
    from langevin.modalities.speech.modality import Speech

ANSWERS = 8  # by default
STEPS = 40  # of a repair by default
LITTLE = 0.5  # of a recording, by which its loudness is hardly known
SLACK = 0.005  # seconds by which a mask may end after the recording
LOUDER = 3.0  # than noise, in magnitude, is a bin of which something is known; noise alone is so in 1 of 1,000


@dataclass(frozen=True, kw_only=True)
class Recording:
    """An input.

    Args:
        signal: (n,) float32, at the loudness of training data.
        level: by which it was multiplied.
        kept: (n,) bool, the samples that stay.
    """

    signal: Tensor
    level: float
    kept: Tensor


def edit_plan(speech: "Speech", options: Edit, context: RequestContext) -> Plan:
    """The plan of an edit.

    Raises:
        ValueError: options that contradict each other, the run, or change nothing, or an input that cannot be read."""
    require_sense(speech, options)
    if context.guided and options.text is None and options.speaker is None and options.to is None:
        raise ValueError("--guidance leads to what is said by whom: give --text or --speaker, or leave it out")
    count = ANSWERS if context.count is None else context.count
    given = recording(speech, options, context.say)
    if options.to is not None:
        said = () if options.text is None else (options.text,)
        strength = Sample.strength if options.strength is None else options.strength
        wanted = Sample(text=said, voice=options.to, clip=options.input, strength=strength)
        return restyled(speech, given, requests.plan(speech, wanted, replace(context, count=count)), context)
    return repaired(speech, given, [utterance_of(speech, options, given)] * count, context)


def restyled(speech: "Speech", given: Recording, plan: Plan, context: RequestContext) -> Plan:
    """The plan of a clip that another voice says."""
    made = yield from plan
    return shown(speech, list(made.values), given, made.sampling, seed=context.seed)


def repaired(speech: "Speech", given: Recording, wanted: list[Utterance], context: RequestContext) -> Plan:
    """The plan of answers to one input."""
    sampling = repairing(context, guided=wanted[0].error is not None)
    x = yield from plans.frames_drawn(speech, wanted, context, sampling=sampling)
    if isinstance(speech.codec, LogMel):
        with one_thread():
            made = [reconstruct(speech.codec, one, given.signal, given.kept, speech.known_rate) for one in x]
    else:
        signals = yield from plans.decoding(speech, x, seeds_of(context.seed, len(x)))
        made = [torch.where(given.kept, given.signal, like(signal, given.signal)) for signal in signals]
    say_spread(x, wanted[0], context)
    return shown(speech, made, given, sampling, seed=context.seed)


def require_sense(speech: "Speech", options: Edit) -> None:
    """Check the options. Raises `ValueError` for one out of range, or two that exclude each other."""
    repairs = [name for name in ("mask", "denoise") if getattr(options, name) not in (None, ())]
    if speech.vocoder is not None:
        raise ValueError("this run is a vocoder, which makes sound of spectrograms: edit with a run of a voice")
    if not repairs and options.to is None:
        raise ValueError("nothing to edit: give --mask FROM,TO or --denoise, or --to SPEAKER")
    if repairs and options.to is not None:
        raise ValueError(f"--{repairs[0]} repairs a recording and --to changes its voice: do one after the other")
    if len(repairs) > 1:
        raise ValueError("--mask keeps the rest as it is, and --denoise does not: do one after the other")
    if options.denoise is not None and not 0 < options.denoise <= 1:
        raise ValueError(f"--denoise is a standard deviation above 0 and at most 1, got {options.denoise:g}")
    if options.denoise is not None and not isinstance(speech.codec, LogMel | Vocoder):
        raise ValueError("--denoise needs a run on spectrograms (data.codec.kind=log_mel)")
    if options.denoise is not None and options.method == "context":
        raise ValueError("--denoise knows bins and not frames, which the network reads: leave --method out")
    if options.strength is not None and options.to is None:
        raise ValueError("--strength goes with --to SPEAKER")
    if options.to is not None and speech.texts and options.text is None:
        raise ValueError("--to SPEAKER needs --text: what is said in the recording")
    if options.to is not None and (options.speaker is not None or options.method is not None):
        raise ValueError("--to SPEAKER says who speaks: it takes neither --speaker nor --method")
    if options.text is not None and not speech.texts:
        raise ValueError(
            "this run was trained without transcripts, so it cannot be told what is said: leave --text out"
        )
    if options.method == "context" and not speech.reads_context:
        raise ValueError("--method context needs a run trained with given context, and this one has data.context=0")


def recording(speech: "Speech", options: Edit, say: Say = lambda line: None) -> Recording:
    """The input; masked samples are 0.

    Raises:
        ValueError: it cannot be read, or a mask that is no part of it."""
    try:
        found = header(Path(options.input))
        signal = read(Path(options.input), speech.known_rate)
    except Unreadable as error:
        raise ValueError(f"{Path(options.input).name} {error}") from error
    if (found.rate, found.channels) != (speech.known_rate, 1):
        said = "one channel" if found.channels == 1 else f"{found.channels} channels"
        say(
            f"{Path(options.input).name} has {said} at {found.rate:,} Hz, and the run makes one at {speech.known_rate:,} Hz"
        )
    kept = ~masked(options.mask, len(signal), speech.known_rate)
    if not bool(kept.any()):
        raise ValueError(f"--mask {' '.join(options.mask)} covers all of the recording, so that nothing is given")
    peak = float(signal[kept].abs().max())
    if peak < 1e-5:
        raise ValueError(f"{Path(options.input).name} is silent where it is given")
    if float(kept.double().mean()) < LITTLE:
        say("most of the recording is to be drawn, and how loud it is follows from the little that is given")
    kept = kept & bool(options.mask)
    level = PEAK / peak
    return Recording(signal=torch.where(kept | (not options.mask), signal * level, 0.0), level=level, kept=kept)


def masked(parts: tuple[str, ...], samples: int, rate: int) -> Tensor:
    """(samples,) bool: the samples of parts FROM,TO in seconds.

    Raises:
        ValueError: it is not written so, or no part of the recording."""
    found, long = torch.zeros(samples, dtype=torch.bool), samples / rate
    for part in parts:
        try:
            start, end = (float(word) for word in part.split(","))
        except ValueError as error:
            raise ValueError(f"--mask {part} is FROM,TO in seconds, such as 0.2,0.3") from error
        first, last = (math.ceil(t * rate) if 0 <= t < math.inf else -1 for t in (start, end))
        if not 0 <= first < last or first >= samples or end > long + SLACK:
            raise ValueError(f"--mask {part} is no part of a recording of {long:.2f} seconds")
        found[first:last] = True
    return found


def utterance_of(speech: "Speech", options: Edit, given: Recording) -> Utterance:
    """What is drawn: the text and the speaker if they are known, and what is given of the spectrogram."""
    x = speech.encoder.signals([given.signal])[0]
    frames = x.shape[1]
    speaker = None if options.speaker is None else requests.speaker_index(speech, options.speaker)
    aligned = None
    if options.text is not None:
        units = speech.units_in(options.text)
        signal = given.signal if isinstance(speech.alignment, Monotonic) and not options.mask else None
        aligned = speech.encoder.features(units, frames, requests.durations_of(speech, units, frames, signal))
    if isinstance(speech.alignment, Filler) and frames > speech.window:
        raise ValueError("a run with filler tokens speaks in one piece, and this recording is longer: cut it")
    wanted = Utterance(frames=frames, aligned=aligned, speaker=speaker, text=options.text or "", name="", x=x)
    if options.denoise is not None:
        return below(speech, wanted, options.denoise * given.level)
    known = untouched(speech, given.kept, frames)
    if bool(known.all()):
        raise ValueError(f"--mask {' '.join(options.mask)} is shorter than a frame: make it longer")
    method = options.method or ("context" if speech.reads_context and options.text is not None else "mmps")
    if method == "mmps":
        return replace(wanted, error=torch.where(known, plans.EXACT, math.inf).expand(len(x), -1))
    return replace(wanted, given=known)


def untouched(speech: "Speech", kept: Tensor, frames: int) -> Tensor:
    """(frames,) bool: the frames of x of which every sample is kept."""
    codec = speech.codec
    stride = codec.stride
    before, after = (0, stride) if isinstance(codec, Waveform) else (mel_of(speech).stft.n_fft // 2,) * 2
    lost = torch.nn.functional.pad((~kept).long().cumsum(0), (1, 0))  # samples that are lost before each
    at = torch.arange(frames) * stride
    return lost[(at + after).clamp(0, len(kept))] == lost[(at - before).clamp(0, len(kept))]


def below(speech: "Speech", wanted: Utterance, std: float) -> Utterance:
    """The utterance of which is known what white noise of `std` leaves of it.

    The magnitude of noise in a bin, |N|, is known on average. From |X| = |S + N| follows |S|^2 = |X|^2 - |N|^2 on average,
    and ln |S| to |N| / sqrt(2) |S|, the part of N that is in phase. Below |X| = LOUDER |N| nothing is taken to be known."""
    mel = mel_of(speech)
    assert wanted.x is not None, "an edit has an input"
    window = torch.hann_window(mel.stft.n_fft)
    filters = mel_filters(speech.known_rate, mel.stft.n_fft, mel.bins)
    noise = filters.sum(1, keepdim=True) * (std * math.sqrt(math.pi / 4 * float(window.square().sum())))
    both = mel.magnitudes(wanted.x)
    clean = (both.square() - noise.square()).clamp_min(1e-12).sqrt()
    width, mean = (torch.tensor(values)[:, None] for values in (mel.std, mel.mean))
    error = (noise / clean / math.sqrt(2) / width).clamp_min(plans.EXACT)
    audible = both > LOUDER * noise
    x = torch.where(audible, (clean.log() - mean) / width, wanted.x)
    if bool(audible.all()):
        raise ValueError(f"nothing to edit: noise of {std:g} drowns nothing of the recording")
    return replace(wanted, x=x, error=torch.where(audible, error, math.inf))


def mel_of(speech: "Speech") -> LogMel:
    """The spectrogram of a run that has one."""
    codec = speech.codec.mel if isinstance(speech.codec, Vocoder) else speech.codec
    assert isinstance(codec, LogMel)
    return codec


def repairing(context: RequestContext, *, guided: bool) -> Sampling:
    """The sampling of a repair: unguided by text and speaker, which narrows the answers, unless the user chose it."""
    sampling = context.model.sampling
    guidance = sampling.guidance if "guidance" in context.chosen else ()
    sampling = replace(sampling, guidance=(*guidance, MMPS()) if guided else guidance)
    sampling = sampling if "sampler" in context.chosen else replace(sampling, sampler=Ancestral())
    return sampling if "steps" in context.chosen else replace(sampling, steps=STEPS)


def like(signal: Tensor, other: Tensor) -> Tensor:
    """A signal at the length of another: cut off, or with zeros after it."""
    return torch.nn.functional.pad(signal, (0, max(0, len(other) - len(signal))))[: len(other)]


def say_spread(x: list[Tensor], utterance: Utterance, context: RequestContext) -> None:
    """Say how far the answers differ where they are drawn, in the unit of what the training data differ by."""
    if len(x) < 2:
        return
    known = utterance.given if utterance.error is None else utterance.error.isfinite()
    assert known is not None, "something is given"
    spread = torch.stack(x).std(0)[~known.expand(x[0].shape)]
    context.say(
        f"{100 * float((~known).double().mean()):.0f} % of the spectrogram is drawn; answers differ there by "
        f"{float(spread.square().mean().sqrt()):.2f} of what recordings do"
    )


def shown(speech: "Speech", made: list[Tensor], given: Recording, sampling: Sampling | None, *, seed: int) -> Samples:
    """The answers at the loudness of the input, then the input."""
    signals = [signal / given.level for signal in (*made, given.signal)]
    names = (*(f"answer {i + 1}" for i in range(len(made))), "input")
    return Samples(
        modality=speech, values=signals, names=names, num_drawn=len(made), columns=3, sampling=sampling,
        arrays={"seed": torch.cat([seeds_of(seed, len(made)), torch.tensor([-1])])},
    )  # fmt: skip
