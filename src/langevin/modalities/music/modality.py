"""The modality of music: scores as tokens of several streams per step."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal, Self

import torch

from langevin.diffusion.denoiser import Denoiser
from langevin.methods.models import TokenModel
from langevin.modalities.classification.plan import classify_plan
from langevin.modalities.modality import (
    Budget,
    Detected,
    Evaluation,
    File,
    Measuring,
    Model,
    Needs,
    Plan,
    Progress,
    RequestContext,
    Samples,
    Scorer,
    Suggestion,
)
from langevin.modalities.music import inspect, plans, preview, sources, suggest
from langevin.modalities.music.batches import QUARTERS, Windows
from langevin.modalities.music.codec import AnyCodec, PianoRoll, Voices
from langevin.modalities.music.data import Scores, load_parts
from langevin.modalities.music.edit import edit_plan
from langevin.modalities.music.harmony import NoParallels
from langevin.modalities.music.key import KEYS
from langevin.modalities.music.options import Classify, Edit, Evaluate, Sample
from langevin.modalities.music.piece import Piece

PREVIEWED = 4
TEMPO = 90.0  # of data without tempo


@dataclass(frozen=True, kw_only=True)
class Music:
    """Scores on a grid of steps.

    Args:
        path: a MIDI file, a folder of these, a .json of pieces in parts, or a .parquet file with a column of MIDI files.
        steps_per_quarter: steps of the grid in a quarter note.
        codec: how a step becomes tokens; None: voices if all pieces have the same ones, else a piano roll.
        context_length: steps of a training example.
        val_fraction: fraction of the pieces that is held out if the data has no parts of its own.
        transpose: most semitones by which training examples are transposed, up or down, within the ranges of the voices.
        key: whether the network is conditioned on the key, which is estimated.
        context: probability that a part of a training example is given: voices, or all but a span.
        metre: whether it is told where in its quarter and its bar each step is.
        bar: steps in a bar, and `tempo` in quarter notes a minute, of samples; fitted to the data.
        soundfont: a soundfont for .wav files, see `synthesis`.
        avoid_parallels: whether samples are drawn without parallel fifths and octaves, see `harmony`.
    """

    kind: Literal["music"] = "music"
    path: str
    steps_per_quarter: int = 4
    codec: AnyCodec | None = None
    context_length: int = 128
    val_fraction: float = 0.1
    transpose: int = 6
    key: bool = False
    context: float = 0.25
    metre: bool = True
    bar: int = 0
    tempo: float = 0.0
    soundfont: str = ""
    avoid_parallels: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.steps_per_quarter <= 96:
            raise ValueError(f"data.steps_per_quarter must be 1 to 96, got {self.steps_per_quarter}")
        if not 8 <= self.context_length <= 8192:
            raise ValueError(f"data.context_length must be 8 to 8192 steps, got {self.context_length}")
        if not 0 < self.val_fraction < 1 or not 0 <= self.context < 1:
            raise ValueError(
                f"data.val_fraction is between 0 and 1 and data.context from 0 to below 1, got {self.val_fraction} and "
                f"{self.context}"
            )
        if not 0 <= self.transpose <= 24 or not 0 <= self.bar <= 2**16 or not 0 <= self.tempo <= 999:
            raise ValueError(
                f"data.transpose is 0 to 24 semitones, data.bar and data.tempo are not negative: got {self.transpose}, "
                f"{self.bar} and {self.tempo}"
            )

    @property
    def forms(self) -> tuple[str, ...]:
        """File suffixes that samples can be written with, the default first; "" is a folder of MIDI files."""
        return (".mid", ".wav", ".png", "")

    @property
    def fixed(self) -> AnyCodec:
        """The fitted codec."""
        assert self.codec is not None, "the modality of a run is fitted"
        return self.codec

    @property
    def mask(self) -> int:
        """The mask token."""
        return self.fixed.vocab_size

    @classmethod
    def detect(cls, path: Path) -> Detected | None:
        found = sources.detect(path)
        return None if found is None else Detected(modality=cls(path=str(path)), score=found[0], reason=found[1])

    def inspect(self, *, progress: Progress | None = None) -> inspect.Inspection:
        return inspect.inspect(self.open(progress=progress), self.path, steps_per_quarter=self.steps_per_quarter)

    def open(self, *, progress: Progress | None = None) -> tuple[Scores, Scores]:
        return load_parts(
            self.path, steps_per_quarter=self.steps_per_quarter, val_fraction=self.val_fraction, progress=progress
        )

    def fitted(self, train: Scores, *, base: Self | None = None) -> Self:
        codec = self.codec if base is None else base.codec
        if codec is None:
            codec = Voices() if train.voices else PianoRoll()
        if isinstance(codec, Voices) and codec.ranges and len(codec.ranges) != train.voices:
            raise ValueError(f"the codec has {len(codec.ranges)} voices, and {train.odd or f'the data {train.voices}'}")
        codec = codec if codec.ranges else codec.fitted(train)
        bar = self.bar or Counter(piece.bar for piece in train.pieces).most_common(1)[0][0]
        tempos = [piece.tempo for piece in train.pieces if piece.tempo is not None]
        tempo = self.tempo or (round(float(median(tempos)), 1) if tempos else TEMPO)
        return replace(self, codec=codec, bar=bar, tempo=tempo)

    def needs(self, train: Scores) -> Needs:
        codec = self.fixed
        return Needs(
            processes=("masked",), space=(self.context_length * codec.streams,), tokens=codec.vocab_size,
            streams=codec.streams, classes=len(KEYS) if self.key else 0,
            aligned=self.steps_per_quarter + QUARTERS if self.metre else 0,
        )  # fmt: skip

    def suggest(self, train: Scores, budget: Budget) -> Suggestion:
        return suggest.suggest(train, budget, name=Path(self.path).resolve().stem, context_length=self.context_length)

    def batches(self, dataset: Scores, *, device: torch.device) -> Windows:
        return Windows(
            dataset=dataset, codec=self.fixed, length=self.context_length, transpose=self.transpose, keyed=self.key,
            per_quarter=self.steps_per_quarter if self.metre else 0, given=self.context, device=device,
        )  # fmt: skip

    def avoiding_parallels(self) -> Self:
        """The same, whose samples are drawn without parallel fifths and octaves.

        Raises:
            ValueError: the run has no voices."""
        if not isinstance(self.codec, Voices):
            raise ValueError("--avoid-parallels is a rule for voices, and this run holds a piano roll: leave it out")
        return replace(self, avoid_parallels=True)

    @property
    def rules(self) -> Callable[[Denoiser], Denoiser] | None:
        """What samples are drawn by besides the model; None for nothing."""
        codec = self.codec
        if not self.avoid_parallels or not isinstance(codec, Voices):
            return None
        return lambda denoiser: NoParallels(denoiser=denoiser, codec=codec)

    def tokens_of(self, model: Model) -> TokenModel:
        """The parts of a token model. Raises `ValueError` for any other model."""
        if not isinstance(model.parts, TokenModel):
            raise ValueError("music needs a model of tokens (a discrete process), and this is none")
        return model.parts

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that the network is conditioned on."""
        return KEYS if self.key else ()

    def plan(self, options: Sample | Edit | Classify, context: RequestContext) -> Plan:
        if isinstance(options, Classify):
            return classify_plan(options, context)
        return edit_plan(self, options, context) if isinstance(options, Edit) else plans.sample(self, options, context)

    def preview_plan(self, context: RequestContext) -> Plan:
        return plans.free_pieces(self, context.data()[1], PREVIEWED, context)

    def plan_like(self, dataset: Scores, context: RequestContext) -> Plan:
        """Free pieces of a whole context, in the keys of the dataset."""
        return plans.free_pieces(self, dataset, context.count or PREVIEWED, context)

    def decode(self, x: torch.Tensor) -> list[Piece]:
        steps = x.unflatten(1, (-1, self.fixed.streams))
        lengths = (steps != self.fixed.vocab_size + 1).any(2).sum(1).tolist()
        pieces = [self.fixed.decode(tokens[:n]) for tokens, n in zip(steps, lengths, strict=True)]
        return [replace(piece, bar=self.bar, tempo=self.tempo) for piece in pieces]

    def preview(self, samples: Samples) -> File:
        return File(suffix=".png", content=preview.picture(samples.values, columns=samples.columns))

    def text(self, samples: Samples) -> str:
        raise ValueError("music has no text form: give a file to write it to")

    def save(self, samples: Samples, out: Path) -> None:
        preview.save(self, samples, out)

    def evaluate(self, options: Evaluate, measuring: Measuring) -> Evaluation:
        from langevin.modalities.music.evaluate import evaluate  # with all metrics, which only this needs

        return evaluate(self, options, measuring)

    def scorer(self, measuring: Measuring) -> Scorer:
        from langevin.modalities.music.evaluate import scorer

        return scorer(self, measuring)
