"""The modality of speech, and of any other sound."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition
from langevin.modalities.classification.plan import classify_plan
from langevin.modalities.modality import (
    Budget,
    Detected,
    Evaluation,
    File,
    Measuring,
    Needs,
    Plan,
    Progress,
    RequestContext,
    Samples,
    Say,
    Scorer,
    Suggestion,
)
from langevin.modalities.paths import some
from langevin.modalities.speech import alignment, inspect, plans, preview, requests, suggest
from langevin.modalities.speech.alignment import AnyAlignment, Filler, Monotonic, Uniform
from langevin.modalities.speech.batches import SpeechBatches, padded_frames
from langevin.modalities.speech.codec import PEAK, AnyCodec, LogMel, Vocoder, Waveform
from langevin.modalities.speech.data import Clips, load_parts
from langevin.modalities.speech.detect import detect
from langevin.modalities.speech.durations import Durations, fit_durations, mean_durations
from langevin.modalities.speech.edit import edit_plan
from langevin.modalities.speech.examples import Encoder, Examples, Recorded, Splice, SplicedExamples, stream
from langevin.modalities.speech.options import Classify, Edit, Evaluate, Sample
from langevin.modalities.speech.signal import one_thread
from langevin.modalities.speech.sound_files import Unreadable, read
from langevin.modalities.speech.text.units import AnyUnits, Phonemes
from langevin.modalities.speech.timeline import width
from langevin.modalities.speech.vocoder import VocoderBatches

MEASURED = 400  # recordings from which the codec's statistics and the models of alignments are computed, about
LONGEST = 8.0  # seconds of a window, at most, unless the recipe says so
COVERED = 0.985  # share of the recordings that fit into the window


@dataclass(frozen=True, kw_only=True)
class Speech:
    """Recordings of one rate, of different lengths; float32 signals (samples,) when decoded.

    Args:
        path: a folder of sound files, see `sources`, or one file.
        rate: samples per second; None takes that of most files, at most 24,000.
        seconds: length of the longest example; longer recordings are cut into windows. None fits most recordings, up to 8.
        val_fraction: fraction of the recordings that is held out, if the data has no test part of its own.
        held_out_pairs: (speaker, text) of which all recordings are held out, to evaluate combinations never trained on.
        codec: the map between signals and x.
        units: what texts are made of.
        alignment: when each unit sounds.
        vocoder: train a vocoder, conditioned on this spectrogram of the signal and on nothing else; None trains a voice.
        splice: join several recordings of one speaker; None trains on the recordings themselves.
        context: probability that most of an example is given, so that the run can continue and infill; 0 for never.
        speakers: their names, or those of classes; fitted to the data.
        window: frames of the longest example; fitted to the data.
        durations: the model of durations; fitted to the data. None without recordings.
        texts: whether the network is conditioned on texts; fitted to the data.
    """

    kind: Literal["speech"] = "speech"
    path: str
    rate: int | None = None
    seconds: float | None = None
    val_fraction: float = 0.1
    held_out_pairs: tuple[tuple[str, str], ...] = ()
    codec: AnyCodec = LogMel()
    units: AnyUnits = Phonemes()
    alignment: AnyAlignment = Uniform()
    vocoder: LogMel | None = None
    splice: Splice | None = None
    context: float = 0.2
    speakers: tuple[str, ...] = ()
    window: int = 0
    durations: Durations | None = None
    texts: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.val_fraction < 1 or not 0 <= self.context < 1:
            raise ValueError(
                f"data.val_fraction is between 0 and 1 and data.context from 0 to below 1, got {self.val_fraction} and "
                f"{self.context}"
            )
        if self.splice is not None and not isinstance(self.alignment, Uniform):
            raise ValueError("data.splice knows when each recording sounds: leave data.alignment.kind at uniform")
        if self.rate is not None and not 1000 <= self.rate <= 192_000:
            raise ValueError(f"data.rate is 1,000 to 192,000 samples per second, got {self.rate}")
        if self.seconds is not None and not 0.05 <= self.seconds <= 600:
            raise ValueError(f"data.seconds is 0.05 to 600, got {self.seconds}")

    @property
    def forms(self) -> tuple[str, ...]:
        """File suffixes that samples can be written with, the default first; "" is a folder, a file per sample."""
        return (".wav", ".png", ".npz", "")

    @property
    def capacity(self) -> dict[str, int]:
        """The largest number of samples that a form holds."""
        return {".png": preview.MOST}

    @property
    def known_rate(self) -> int:
        """The rate of a fitted modality."""
        assert self.rate, "the modality of a run is fitted"
        return self.rate

    @property
    def models(self) -> dict[str, tuple[str, str]]:
        """Other runs whose models the plans request, with the hash of their weights."""
        return {plans.VOCODER: (self.codec.path, self.codec.sha256)} if isinstance(self.codec, Vocoder) else {}

    @property
    def reads_context(self) -> bool:
        """Whether the network reads what is given of a sample."""
        return self.context > 0

    @property
    def encoder(self) -> Encoder:
        """Encodes utterances as the network reads them."""
        inventory = len(self.units.inventory) if self.texts else 0
        return Encoder(
            codec=self.codec, rate=self.known_rate, inventory=inventory, packed=isinstance(self.alignment, Filler)
        )

    @classmethod
    def detect(cls, path: Path) -> Detected | None:
        found = detect(path)
        return None if found is None else Detected(modality=cls(path=str(path)), score=found[0], reason=found[1])

    def inspect(self, *, progress: Progress | None = None) -> inspect.Inspection:
        return inspect.inspect(self, progress=progress)

    def open(self, *, progress: Progress | None = None) -> tuple[Clips, Clips]:
        train, val = load_parts(
            self.path, rate=self.rate, val_fraction=self.val_fraction, held_out_pairs=self.held_out_pairs,
            progress=progress,
        )  # fmt: skip
        if self.vocoder is not None or not train.has_text:
            return train, val
        return self._sayable(train, val)

    def _sayable(self, train: Clips, val: Clips) -> tuple[Clips, Clips]:
        """Both parts without recordings whose texts cannot be said.

        Raises:
            ValueError: these are more than one in ten."""
        why = self._unsayable(dict.fromkeys((*train.texts, *val.texts)))
        if not why:
            return train, val
        named = [
            f"{r.name}: {why[r.text or '']}" for r in (*train.recordings, *val.recordings) if (r.text or "") in why
        ]
        count, total, first = len(named), len(train) + len(val), some(named, between="; ")
        if 10 * count > total:
            raise ValueError(
                f"{train.root}: {count:,} of {total:,} transcripts cannot be said, more than one in ten: {first}. Mend "
                "them, or choose other data.units"
            )
        line = f"Transcripts that cannot be said, left out with their recordings: {count:,} ({first})."
        return train.without(why, line), val.without(why, line)

    def _unsayable(self, texts: Iterable[str]) -> dict[str, str]:
        """Why texts cannot be said, by text."""
        found = dict[str, str]()
        for text in texts:
            try:
                if isinstance(self.units, Phonemes):
                    self.units.units(text)
                elif not any(c.isalnum() for c in text):
                    found[text] = "there is nothing to say in it"
            except ValueError as error:
                found[text] = str(error)
        return found

    def fitted(self, train: Clips, *, base: Self | None = None) -> Self:
        if base is not None and base.speakers != train.speakers:
            raise ValueError(
                f"the run to initialise from knows the speakers {', '.join(base.speakers) or 'none'}, and this data has "
                f"{', '.join(train.speakers) or 'none'}: their embeddings would be mixed up"
            )
        if base is not None and base.rate != train.rate:
            raise ValueError(
                f"the run to initialise from is of {base.rate:,} samples per second, and this data of {train.rate:,}: set "
                f"data.rate={base.rate}"
            )
        if self.window:
            return self
        if self.vocoder is not None:
            return self._fitted_vocoder(train)
        units = self.units if base is None else base.units
        units = units.fitted(train.texts) if train.has_text else units
        start = replace(self, rate=train.rate, speakers=train.speakers, texts=train.has_text, units=units)
        codec = self.codec.at(train.rate) if base is None else base.codec
        some = train.select(self._some(train))
        if base is None:
            codec = codec.fitted(list(some.each()), train.rate)
        start = replace(start, codec=codec)
        units_of_some = start.units_of(some)
        if isinstance(self.alignment, Monotonic) and units_of_some is not None and not self.alignment.models:
            start = replace(start, alignment=alignment.fitted(self.alignment, start, some.each(), units_of_some))
        return replace(start, window=start.longest_window(train), durations=start.fitted_durations(train))

    def longest_window(self, train: Clips) -> int:
        """Frames of the longest example.

        Raises:
            ValueError: filler tokens, and recordings that are longer than `seconds`."""
        lengths, packed = self.spliced_lengths(train), isinstance(self.alignment, Filler)
        most = float(lengths.max() if packed else lengths.quantile(COVERED)) / train.rate
        seconds = self.seconds or (most if packed else min(LONGEST, most))
        if packed and most > seconds:
            raise ValueError(
                f"data.alignment.kind=filler needs whole recordings, and the longest has {most:.2f} seconds: data.seconds="
                f"{seconds:g} is too short"
            )
        frames = self.codec.frames
        return max(1, min(frames(int(seconds * train.rate)), frames(int(lengths.max()))))

    def _fitted_vocoder(self, train: Clips) -> Self:
        """A vocoder has no texts and speakers, and short windows."""
        assert self.vocoder is not None
        signals = [train.signal(i) for i in self._some(train)]
        mel = self.vocoder.at(train.rate).fitted(signals, train.rate)
        codec = Waveform(patch=mel.stride).fitted(signals, train.rate)
        window = max(4, int((self.seconds or 0.5) * train.rate / mel.stride))
        nothing = [torch.tensor([0])] * len(train)
        durations = fit_durations(
            nothing, torch.zeros(len(train), dtype=torch.int64), train.lengths / train.rate, inventory=1, num_speakers=0
        )
        return replace(self, rate=train.rate, vocoder=mel, codec=codec, window=window, durations=durations, context=0.0)

    def spliced_lengths(self, train: Clips) -> Tensor:
        """Samples of some utterances, float64."""
        if self.splice is None:
            return train.lengths.double()
        examples = self.examples(train)
        assert isinstance(examples, SplicedExamples)
        lengths = [len(examples.spliced(i, stream(i)).signal) for i in self._some(train)]
        return torch.tensor(lengths, dtype=torch.float64)

    def _some(self, train: Clips) -> list[int]:
        """Recordings that are measured, evenly spaced."""
        return list(range(0, len(train), -(-len(train) // MEASURED)))

    def fitted_durations(self, train: Clips) -> Durations:
        """The model of durations of the training recordings."""
        units, seconds = self.units_of(train), train.lengths.double() / train.rate
        speakers = {"speakers": train.labels, "num_speakers": len(self.speakers)}
        if units is None:
            if self.splice is not None:
                some = self._some(train)
                seconds, speakers["speakers"] = self.spliced_lengths(train) / train.rate, train.labels[some]
            nothing = [torch.tensor([0])] * len(seconds)
            return fit_durations(nothing, seconds=seconds, inventory=1, **speakers)
        known = None
        if isinstance(self.alignment, Monotonic):
            frames = alignment.durations_of(self.alignment, self, train, units)
            known = mean_durations(units, frames, len(self.units.inventory)) * self.codec.stride / train.rate
        found = fit_durations(units, seconds=seconds, inventory=len(self.units.inventory), known=known, **speakers)
        return found if self.splice is None else found.with_pause(self.units.pauses[0], self.splice.gap / 2)

    def units_in(self, text: str) -> Tensor:
        """The units of a text, (n,) int64; searched alignments have a pause at either end.

        Raises:
            ValueError: there is nothing to say in it."""
        if not self.texts:
            return torch.tensor([0])
        units = torch.tensor(self.units.units(text))
        if not isinstance(self.alignment, Monotonic):
            return units
        return torch.nn.functional.pad(units, (1, 1), value=self.units.pauses[0])

    def units_of(self, dataset: Clips) -> tuple[Tensor, ...] | None:
        """The units of each text; None without texts."""
        if not self.texts:
            return None
        known = {text: self.units_in(text) for text in dict.fromkeys(dataset.texts)}
        return tuple(known[text] for text in dataset.texts)

    def needs(self, train: Clips) -> Needs:
        if self.vocoder is not None:
            frames = padded_frames(self.window)
            return Needs(
                processes=("gaussian",), channels=self.codec.channels, space=(frames,), std=1.0,
                concat=self.vocoder.channels,
            )  # fmt: skip
        return Needs(
            processes=("gaussian",), channels=self.codec.channels,
            space=(padded_frames(self.window),), std=1.0, classes=len(self.speakers),
            concat=self.codec.channels + 1 if self.reads_context else 0,
            aligned=width(len(self.units.inventory)) if self.texts else 0,
        )  # fmt: skip

    def suggest(self, train: Clips, budget: Budget) -> Suggestion:
        fitted = self.fitted(train)
        return suggest.suggest(
            train, budget, name=Path(self.path).resolve().stem, window=fitted.window, stride=fitted.codec.stride
        )

    def examples(self, dataset: Clips) -> Examples:
        """The examples of a part of the data."""
        units = self.units_of(dataset)
        if self.splice is not None:
            return SplicedExamples(
                dataset=dataset, encoder=self.encoder, how=self.splice, units=units, pause=self.units.pauses[0]
            )
        durations = None
        if isinstance(self.alignment, Monotonic) and units is not None:
            durations = alignment.durations_of(self.alignment, self, dataset, units)
        return Recorded(dataset=dataset, encoder=self.encoder, units=units, durations=durations)

    def batches(self, dataset: Clips, *, device: torch.device) -> SpeechBatches | VocoderBatches:
        if self.vocoder is not None:
            assert isinstance(self.codec, Waveform), "the modality of a run is fitted"
            return VocoderBatches(
                dataset=dataset, mel=self.vocoder, std=self.codec.std, window=self.window, device=device
            )
        return SpeechBatches(
            dataset=dataset, codec=self.codec, examples=self.examples(dataset), window=self.window,
            labelled=bool(self.speakers), given=self.context if self.reads_context else None, device=device,
        )  # fmt: skip

    # ---------------------------------------------------------------------------------------------------- requests

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that the network is conditioned on."""
        return self.speakers

    def plan(self, options: Sample | Edit | Classify, context: RequestContext) -> Plan:
        if isinstance(options, Classify):
            return classify_plan(options, context)
        return edit_plan(self, options, context) if isinstance(options, Edit) else requests.plan(self, options, context)

    @property
    def pipeline_tag(self) -> str:
        """The task of the Hub that a run of it is listed under."""
        return "text-to-speech"

    def preview_plan(self, context: RequestContext) -> Plan:
        return self.plan_like(context.data()[1], replace(context, count=min(8, len(context.data()[1]))))

    def plan_like(self, dataset: Clips, context: RequestContext) -> Plan:
        count = context.count or len(dataset)
        if self.vocoder is not None:
            return requests.copied(self, dataset, count, seed=context.seed)
        return plans.draw(self, requests.like(self, dataset, count, seed=context.seed), context)

    def decoded(self, x: Sequence[Tensor], seeds: Tensor) -> list[Tensor]:
        """The signals of samples x (channels, frames); seeds (n,) are those of their phases."""
        with one_thread():
            return [self.codec.decode(row[None], self.known_rate, seeds[i : i + 1])[0] for i, row in enumerate(x)]

    @property
    def choices(self) -> dict[str, tuple[str, ...]]:
        """The speakers, which `speaker`, `voice` and `to` are chosen from."""
        return {"speaker": self.speakers, "voice": self.speakers, "to": self.speakers} if self.speakers else {}

    def decode(self, x: Tensor) -> list[Tensor]:
        return self.decoded(list(x), torch.arange(len(x)))

    @property
    def duration(self) -> float:
        """Seconds of the longest example."""
        return padded_frames(self.window) * self.codec.stride / self.known_rate

    def filled(self, batch: Batch) -> Tensor:
        """x (b, channels, frames) of a batch at the length of the longest example, with silence after its end."""
        assert batch.condition is not None, "lengths are known"
        assert batch.condition.data_mask is not None, "lengths are known"
        silence = self.encoder.signals([torch.zeros(self.codec.shortest + self.codec.stride)])[0][:, :1]
        x, inside = batch.x, batch.condition.data_mask
        missing = padded_frames(self.window) - x.shape[2]
        x, inside = torch.nn.functional.pad(x, (0, missing)), torch.nn.functional.pad(inside, (0, missing))
        return torch.where(inside[:, None], x, silence.to(x))

    def read(self, path: Path, *, say: Say) -> Tensor:
        """A sound file as x (1, channels, frames) of the longest example, cut after that.

        Raises:
            ValueError: it cannot be read, or is silent."""
        try:
            signal = read(path, self.known_rate)
        except Unreadable as error:
            raise ValueError(f"{path.name} {error}") from error
        peak = float(signal.abs().max())
        if peak < 1e-5:
            raise ValueError(f"{path.name} is silent")
        x = self.encoder.signals([signal * PEAK / peak])[0]
        if x.shape[1] > self.window:
            say(f"{path.name} is read for its first {self.window / x.shape[1]:.0%}, as long as the longest example")
        x = x[:, : self.window]
        inside = torch.ones(1, x.shape[1], dtype=torch.bool)
        return self.filled(Batch(x=x[None], condition=Condition(data_mask=inside)))

    def reader(self, measuring: Measuring, column: str) -> Callable[[Sequence[Tensor]], list[str]]:
        """What a classifier of texts, trained on the real training part, hears. Raises `ValueError` for another column."""
        from langevin.modalities.speech.metrics.judges import few, listener_of

        texts = few(measuring.train.texts) if measuring.train.has_text else ()
        if column != "text" or not texts:
            raise ValueError(f"the column '{column}' is not heard: texts that repeat are, as the column 'text'")
        listener = listener_of(self, measuring)
        return lambda signals: [texts[i] for i in listener.classes(list(signals), "text").tolist()]

    def preview(self, samples: Samples) -> File:
        shown = preview.picture(samples.values, samples.names, self.known_rate, columns=samples.columns)
        return File(suffix=".png", content=shown)

    def text(self, samples: Samples) -> str:
        raise ValueError("speech has no text form: give a file to write it to")

    def save(self, samples: Samples, out: Path) -> None:
        preview.save(self, samples, out)

    # ---------------------------------------------------------------------------------------------------- measuring

    def evaluate(self, options: Evaluate, measuring: Measuring) -> Evaluation:
        from langevin.modalities.speech.evaluate import evaluate  # with all metrics, which only this needs

        return evaluate(self, options, measuring)

    def scorer(self, measuring: Measuring) -> Scorer:
        from langevin.modalities.speech.evaluate import scorer

        return scorer(self, measuring)
