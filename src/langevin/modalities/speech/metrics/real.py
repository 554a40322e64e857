"""Real utterances, which samples are compared with and judges are trained on: recordings, or splices of these."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from langevin.modalities.modality import spread
from langevin.modalities.speech.data import Clips
from langevin.modalities.speech.examples import SplicedExamples, stream

if TYPE_CHECKING:
    from langevin.modalities.speech.modality import Speech


@dataclass(frozen=True, kw_only=True)
class Real:
    """Utterances as a run was trained on them, with what is said in them and by whom.

    Args:
        items: the recording that each of them is, or begins with.
        speakers: (n,) int64.
    """

    items: list[int]
    signals: list[Tensor]
    texts: list[str]
    speakers: Tensor


def utterances(speech: "Speech", clips: Clips, most: int) -> Real:
    """At most `most` utterances, evenly spaced over a part of the data."""
    items = spread(len(clips), most).tolist()
    if speech.splice is None:
        signals, texts = [clips.signal(i) for i in items], [clips.texts[i] for i in items]
    else:
        examples = speech.examples(clips)
        assert isinstance(examples, SplicedExamples), "the run splices"
        joined = [examples.spliced(i, stream(i)) for i in items]
        signals, texts = [one.signal for one in joined], [examples.said(one) for one in joined]
    return Real(items=items, signals=signals, texts=texts, speakers=clips.labels[items])
