"""What `inspect` reports of recordings."""

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from langevin.modalities.modality import Progress
from langevin.modalities.paths import some
from langevin.modalities.speech.data import Clips
from langevin.modalities.speech.sources import find

if TYPE_CHECKING:
    from langevin.modalities.speech.modality import Speech


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The report on the recordings at a path.

    Args:
        described_by: where texts and speakers come from.
        recordings, seconds: how many, and how long all of them are.
        rate: samples per second that they are read with.
        length: least, median and greatest seconds of one.
        speakers: recordings by speaker.
        texts, words: different texts, and different words in them.
        silence: median share of a recording that is silent, below a hundredth of its peak.
        findings: sentences on what is broken or unusual.
    """

    path: str
    described_by: str
    recordings: int
    seconds: float
    rate: int
    length: tuple[float, float, float]
    speakers: dict[str, int]
    texts: int
    words: int
    examples: tuple[str, ...]
    silence: float
    findings: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report as text."""
        least, median, most = self.length
        told = f"{self.seconds / 3600:.2f} hours" if self.seconds > 3600 else f"{self.seconds / 60:.1f} minutes"
        lines = [
            f"{self.path}: {self.recordings:,} recordings, {told} at {self.rate:,} Hz, described by {self.described_by}",
            f"length: {least:.2f} to {most:.2f} s, median {median:.2f} s; {100 * self.silence:.0f} % of it silent",
        ]
        if self.speakers:
            lines.append(
                f"speakers: {some([f'{name} ({count:,})' for name, count in self.speakers.items()], limit=12)}"
            )
        if self.texts:
            lines.append(
                f"texts: {self.texts:,} different, of {self.words:,} words: {some(self.examples, between='; ')}"
            )
        return [*lines, *self.findings]

    def as_dict(self) -> dict[str, Any]:
        """The report, of JSON types."""
        return asdict(self)


def inspect(speech: "Speech", *, progress: Progress | None = None) -> Inspection:
    """Read all recordings, and report on them."""
    train, val = speech.open(progress=progress)
    seconds = torch.cat([train.lengths, val.lengths]).double() / train.rate
    recordings = (*train.recordings, *val.recordings)
    texts = dict.fromkeys(recording.text for recording in recordings if recording.text)
    counts = Counter(recording.speaker for recording in recordings if recording.speaker)
    return Inspection(
        path=speech.path, described_by=find(speech.path).described_by, recordings=len(recordings),
        seconds=float(seconds.sum()), rate=train.rate,
        length=(float(seconds.min()), float(seconds.median()), float(seconds.max())),
        speakers=dict(sorted(counts.items())) if train.speakers else {}, texts=len(texts),
        words=len({word for text in texts for word in text.lower().split()}), examples=tuple(list(texts)[:3]),
        silence=_silence(train), findings=tuple(train.notes.lines()),
    )  # fmt: skip


def _silence(clips: Clips) -> float:
    """The median share of 10 ms frames of some recordings whose root mean square is below a hundredth of the peak."""
    shares = list[float]()
    frame = max(1, clips.rate // 100)
    for item in range(0, len(clips), -(-len(clips) // 100)):
        signal = clips.signal(item)
        cut = signal[: len(signal) // frame * frame].view(-1, frame)
        if len(cut):
            shares.append(float((cut.square().mean(1).sqrt() < 0.01 * signal.abs().max()).float().mean()))
    return sorted(shares)[len(shares) // 2] if shares else math.nan
