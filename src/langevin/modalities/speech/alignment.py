"""When each unit of a text sounds: three ways, a typed union.

uniform     every unit of a text has the same length
monotonic   the most probable monotonic alignment under a model of how units sound, see `search`
filler      not at all: units come first, one per frame, then nothing, and the network learns where they sound ("E2
            TTS: Embarrassingly Easy Fully Non-Autoregressive Zero-Shot TTS", 2024, arXiv 2406.18009)
"""

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from langevin.modalities.speech import search
from langevin.modalities.speech.codec import LogMel, long_enough

if TYPE_CHECKING:
    from langevin.modalities.speech.data import Clips
    from langevin.modalities.speech.modality import Speech


BINS = 40
REMEMBERED = 4  # datasets whose alignments are kept in memory
_FOUND = dict[Hashable, tuple[Tensor, ...]]()


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """Every unit has the same length: for texts of a word or two."""

    kind: Literal["uniform"] = "uniform"


@dataclass(frozen=True, kw_only=True)
class Monotonic:
    """Searched alignments.

    Args:
        states: parts of a unit, one after another, each with a model of its sound.
        iterations: of searching, and fitting the models again.
        models: of the states, as base64; fitted to the data.
    """

    kind: Literal["monotonic"] = "monotonic"
    states: int = 3
    iterations: int = 12
    models: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.states <= 10 or not 1 <= self.iterations <= 100:
            raise ValueError(
                f"data.alignment has 1 to 10 states and 1 to 100 iterations, got {self.states} and {self.iterations}"
            )


@dataclass(frozen=True, kw_only=True)
class Filler:
    """No alignment: the network finds it. Needs far more data and time."""

    kind: Literal["filler"] = "filler"


AnyAlignment = Uniform | Monotonic | Filler


def fitted(alignment: Monotonic, speech: "Speech", signals: Iterable[Tensor], units: Sequence[Tensor]) -> Monotonic:
    """With models of the states, fitted to training recordings."""
    sequences, features = states(alignment, speech, units), heard(speech, signals)
    kinds = alignment.states * len(speech.units.inventory)
    models = search.fit(features, sequences, kinds=kinds, iterations=alignment.iterations)
    return replace(alignment, models=models.text())


def durations(
    alignment: Monotonic, speech: "Speech", signals: Iterable[Tensor], units: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Frames of each unit in each signal (n,), by search."""
    models = search.StateModels.of_text(alignment.models, alignment.states * len(speech.units.inventory))
    sequences = states(alignment, speech, units)
    paths = search.align(models, heard(speech, signals), sequences)
    return tuple(search.unit_durations(p, s, len(u)) for p, s, u in zip(paths, sequences, units, strict=True))


def durations_of(
    alignment: Monotonic, speech: "Speech", dataset: "Clips", units: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Frames of each unit of each recording, by search; those of the last datasets are remembered."""
    key = (alignment.models, alignment.states, speech.codec.stride, speech.units, dataset.fingerprint)
    if key not in _FOUND:
        while len(_FOUND) >= REMEMBERED:
            _FOUND.pop(next(iter(_FOUND)))
        _FOUND[key] = durations(alignment, speech, dataset.each(), units)
    return _FOUND[key]


def states(alignment: Monotonic, speech: "Speech", units: Sequence[Tensor]) -> list[search.States]:
    """The states of each text."""
    pauses = frozenset(speech.units.pauses)
    return [search.states_of(u, states=alignment.states, pauses=pauses) for u in units]


def heard(speech: "Speech", signals: Iterable[Tensor]) -> list[Tensor]:
    """Cepstra of each signal, a row per frame of x."""
    stride, rate = speech.codec.stride, speech.known_rate
    n_fft = max(2 ** round(math.log2(0.032 * rate)), 2 * stride)
    codec = LogMel(bins=BINS, n_fft=n_fft, hop=stride)
    rows = list[Tensor]()
    for given in signals:
        signal = long_enough(given, speech.codec.shortest)
        log_mel = codec.log_mel(long_enough(signal, codec.shortest)[None], rate)[0]
        rows.append(search.cepstra(log_mel)[: speech.codec.frames(len(signal))])
    return rows
