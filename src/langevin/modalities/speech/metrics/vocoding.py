"""How well a vocoder makes signals from spectrograms, beside Griffin-Lim."""

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langevin.modalities.modality import Measuring, Samples, spread
from langevin.modalities.speech import plans
from langevin.modalities.speech.metrics.judges import few, listener_of
from langevin.modalities.speech.metrics.measure import mel_distance
from langevin.modalities.speech.signal import one_thread

if TYPE_CHECKING:
    from langevin.modalities.speech.modality import Speech

ITERATIONS = (0, 8, 32)  # of Griffin-Lim, to compare with
MOST = 300  # recordings


@dataclass(frozen=True, kw_only=True)
class Vocoded:
    """Copies of validation recordings, made from their log-mel spectrograms.

    Args:
        mel_distance: mean absolute difference in log-mel from the originals.
        recognised, speaker: shares in which a classifier hears the text and the speaker; None where it knows none.
        seconds: of computing per second of sound.
    """

    mel_distance: float
    recognised: float | None
    speaker: float | None
    seconds: float


def vocoded(speech: "Speech", m: Measuring, count: int) -> tuple[dict[str, Vocoded], Samples]:
    """The vocoder and Griffin-Lim by name, and the vocoder's copies."""
    assert speech.vocoder is not None, "it is a vocoder"
    items = spread(len(m.val), count).tolist()
    real = [m.val.signal(i) for i in items]
    begin = time.perf_counter()
    samples = m.model.run(plans.copies(speech, real, [m.val.texts[i] for i in items]), batch=m.batch)
    found = {"vocoder": _scored(speech, m, items, real, list(samples.values), time.perf_counter() - begin)}
    mels = speech.vocoder.encode(real, speech.known_rate)
    for iterations in ITERATIONS:
        codec = replace(speech.vocoder, iterations=iterations)
        begin = time.perf_counter()
        with one_thread():
            made = [codec.decode(mel[None], speech.known_rate, torch.tensor([i]))[0] for i, mel in enumerate(mels)]
        found[f"Griffin-Lim, {iterations}"] = _scored(speech, m, items, real, made, time.perf_counter() - begin)
    found["real"] = _scored(speech, m, items, real, real, 0.0)
    return found, samples


def _scored(
    speech: "Speech", m: Measuring, items: list[int], real: list[Tensor], made: list[Tensor], seconds: float
) -> Vocoded:
    listener, texts = listener_of(speech, m), few(m.train.texts) if m.train.has_text else ()
    shares = dict[str, float]()
    known = [j for j, i in enumerate(items) if not texts or m.val.texts[i] in texts]
    for head, right in (("text", [m.val.texts[items[j]] for j in known]), ("speaker", m.val.labels[items].tolist())):
        if head in listener.heads:
            heard = listener.classes([made[j] for j in known] if head == "text" else made, head).tolist()
            names = [texts[c] for c in heard] if head == "text" else heard
            shares[head] = sum(a == b for a, b in zip(names, right, strict=True)) / len(right)
    sound = sum(map(len, made)) / m.val.rate
    return Vocoded(
        mel_distance=mel_distance(real, made, m.val.rate), recognised=shares.get("text"), speaker=shares.get("speaker"),
        seconds=seconds / sound,
    )  # fmt: skip
