"""The text modality: data, codec, task, and what a run does with them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self, assert_never

import torch

from langevin.methods.models import TokenModel
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
    spread,
)
from langevin.modalities.text import inspect, measure, open_text, plans, preview, rating, seq2seq, sources, suggest
from langevin.modalities.text.batches import AnyExamples, PairExamples, TextBatches, arrange
from langevin.modalities.text.codec import AnyTokens, Bytes
from langevin.modalities.text.data import Texts, load_parts, quiet
from langevin.modalities.text.explain import explain_plan
from langevin.modalities.text.files import JSONL, PLAIN
from langevin.modalities.text.input import read_text
from langevin.modalities.text.options import (
    SPEAKERS,
    Classify,
    Correct,
    Edit,
    Evaluate,
    Explain,
    Sample,
    Summarise,
    Turns,
)
from langevin.modalities.text.pairs import inferences, speakers
from langevin.modalities.text.sources import TextSource
from langevin.modalities.text.task import AnyTask, Classification, LanguageModel, Seq2Seq
from langevin.modalities.text.writer import writer_of

PREVIEWED = 4


@dataclass(frozen=True, kw_only=True)
class Text:
    """Texts: records of strings, their codec, and the task that turns them into sequences of token ids.

    Args:
        path: a text file, a file of records, or a folder, which is searched with all its sub-directories.
        fields: names of the record fields to read; empty: guessed.
        glob: files of a folder to read, such as '*.log'; empty: those with the suffix of a text.
        val_fraction: fraction kept for validation if the data has no such part of its own.
        classes: labels of a classification, fitted to the data.
        speakers: of dialogues, who begins most and who replies most; empty if the data has none. Fitted to the data; None
            in runs that were made before it was.
    """

    kind: Literal["text"] = "text"
    path: str
    fields: tuple[str, ...] = ()
    glob: str = ""
    val_fraction: float = 0.1
    codec: AnyTokens = Bytes()
    task: AnyTask = LanguageModel()
    classes: tuple[str, ...] = ()
    speakers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.val_fraction < 1:
            raise ValueError(f"data.val_fraction must be a fraction between 0 and 1, got {self.val_fraction}")
        if self.speakers and len(self.speakers) != 2:
            raise ValueError(f"data.speakers names who begins and who replies, two names, got {len(self.speakers)}")
        _ = self.source

    @property
    def source(self) -> TextSource:
        """The files and fields that are read."""
        return TextSource(path=self.path, fields=self.fields, within=self.glob)

    @property
    def forms(self) -> tuple[str, ...]:
        """Formats of samples: standard output (the default), plain text, JSON lines, tab-separated columns."""
        return ("-", *PLAIN, *JSONL, ".tsv")

    @classmethod
    def detect(cls, path: Path) -> Detected | None:
        text = sources.detect(path)
        return None if text is None else Detected(modality=cls(path=str(path)), score=text[0], reason=text[1])

    def inspect(self, *, progress: Progress | None = None) -> inspect.Inspection:
        with quiet():
            return inspect.inspect(self.path, fields=self.fields, within=self.glob, progress=progress)

    def open(self, *, progress: Progress | None = None) -> tuple[Texts, Texts]:
        with quiet():
            return load_parts(self.source, held_out=self.val_fraction, progress=progress)

    def fitted(self, train: Texts, *, base: Self | None = None) -> Self:
        codec, task, classes = self.codec, self.task, self.classes
        if base is not None:
            codec = base.codec
            task = replace(task, num_special_tokens=base.task.needed(len(base.classes)))
        else:
            codec = codec.fitted(train.strings())
        if isinstance(task, LanguageModel):
            _require_enough(train, codec, task)
        if isinstance(task, Classification) and not classes:
            classes = tuple(sorted({pair.label for pair in inferences(train.records)} - {""}))
        if base is not None and task.needed(len(classes)) != task.num_special_tokens:
            raise ValueError(
                f"the run to initialise from has {task.num_special_tokens} special tokens reserved, and task {task.kind} "
                f"needs {task.needed(len(classes))}: train it with a larger data.task.num_special_tokens"
            )
        names = self.speakers
        if names is None:
            names = speakers(train.records) if isinstance(task, Seq2Seq) and train.form == "dialogue" else ()
        return replace(self, codec=codec, task=task, classes=classes, speakers=names)

    def needs(self, train: Texts) -> Needs:
        only_masked = isinstance(self.task, Seq2Seq) and self.task.reverse_weight > 0
        return Needs(
            processes=("masked",) if only_masked else ("masked", "hybrid", "uniform", "autoregressive"),
            space=(self.task.context_length,),
            tokens=self.codec.vocab_size + self.task.needed(len(self.classes)),
            blocks=isinstance(self.task, LanguageModel),
        )

    def suggest(self, train: Texts, budget: Budget) -> Suggestion:
        return suggest.suggest(train, budget, name=Path(self.path).resolve().stem)

    def batches(self, dataset: Texts, *, device: torch.device) -> TextBatches:
        padding = self.codec.vocab_size + self.task.needed(len(self.classes)) + 1
        return TextBatches(dataset=dataset, examples=self.examples(dataset), padding=padding, device=device)

    def examples(self, dataset: Texts) -> AnyExamples:
        """A part of the data as examples of the task."""
        return _arranged(dataset, self.task, self.codec, self.classes)

    def tokens_of(self, model: Model) -> TokenModel:
        """The parts of a token model. Raises `ValueError` for any other model."""
        if not isinstance(model.parts, TokenModel):
            raise ValueError("text needs a model of tokens (a discrete process), and this is none")
        return model.parts

    # ---------------------------------------------------------------------------------------------------- requests

    def plan(self, options: Sample | Edit | Explain | Summarise | Correct | Classify, context: RequestContext) -> Plan:
        match options:
            case Summarise():
                return seq2seq.summarise(self, options, context)
            case Correct():
                return plans.correct(self, options, context)
            case Classify():
                return seq2seq.classify(self, options, context)
            case Edit():
                return open_text.edit(self, options, context)
            case Explain():
                return explain_plan(self, options, writer_of(self, context, None, None, None), context)
            case Sample():
                return plans.sample(self, options, context)

    def require_replies(self) -> None:
        """Check that the run replies to turns of a dialogue. Raises `ValueError` with what it does instead."""
        match self.task:
            case Seq2Seq() if self.speakers != ():
                return
            case Seq2Seq():
                does = "summarises texts: langevin summarise RUN FILE"
            case LanguageModel():
                does = "writes open text: langevin sample RUN --prompt TEXT goes on from one"
            case Classification():
                does = "labels pairs of texts: langevin classify RUN FILE"
            case _:
                assert_never(self.task)
        raise ValueError(f"only a run that was trained on dialogues replies, and this one {does}")

    def record(self, turns: Turns) -> dict[str, Any]:
        """Turns of (user or assistant, text) as a record of the data, by the names of its speakers."""
        names = dict(zip(SPEAKERS, self.speakers or SPEAKERS.values(), strict=True))
        return {"turns": [[names[role], said] for role, said in turns]}

    @property
    def pipeline_tag(self) -> str:
        """The task of the Hub that a run of it is listed under."""
        match self.task:
            case LanguageModel():
                return "text-generation"
            case Seq2Seq():
                return "summarization"
            case Classification():
                return "text-classification"
            case _:
                assert_never(self.task)

    def preview_plan(self, context: RequestContext) -> Plan:
        return self.plan_like(context.data()[1], replace(context, count=PREVIEWED))

    def plan_like(self, dataset: Texts, context: RequestContext) -> Plan:
        """Unconditional texts of a whole context; of other tasks, outputs for inputs spread over the dataset."""
        examples, count = self.examples(dataset), context.count or PREVIEWED
        if isinstance(self.task, LanguageModel):
            return open_text.free_texts(self, self.task, context, count)
        items = spread(len(examples), count)
        assert isinstance(examples, PairExamples)
        if isinstance(self.task, Classification):
            return measure.classified(self, examples, items, context)
        return measure.answered(self, examples, items, context)

    @property
    def rules(self) -> tuple[str, ...]:
        """Names of what texts can be rated by."""
        return rating.RULES

    def rule(self, name: str, measuring: Measuring) -> Callable[[list[str]], torch.Tensor]:
        """A rule by its name, a function of texts."""
        return rating.rule(name, measuring)

    def decode(self, x: torch.Tensor) -> list[str]:
        return [self.codec.decode(ids[ids < self.codec.vocab_size]) for ids in x]

    @property
    def positions(self) -> int | None:
        """Tokens of a text that is drawn whole; None where lengths differ."""
        return self.task.context_length if isinstance(self.task, LanguageModel) else None

    def encode_file(self, path: Path) -> torch.Tensor:
        """The text in a file as x (1, n). Raises `ValueError` if it is not UTF-8."""
        return self.codec.encode(read_text(str(path)).strip("\n"))[None]

    def preview(self, samples: Samples) -> File:
        return preview.preview(samples)

    def text(self, samples: Samples) -> str:
        return preview.content(samples)

    def save(self, samples: Samples, out: Path) -> None:
        preview.save(samples, out)

    # ---------------------------------------------------------------------------------------------------- measuring

    def evaluate(self, options: Evaluate, measuring: Measuring) -> Evaluation:
        from langevin.modalities.text.evaluate import evaluate  # with all metrics, which only this needs

        return evaluate(self, options, measuring)

    def scorer(self, measuring: Measuring) -> Scorer:
        from langevin.modalities.text.evaluate import scorer

        return scorer(self, measuring)


def _require_enough(train: Texts, codec: AnyTokens, task: LanguageModel) -> None:
    """Check that the text fills a context. Raises `ValueError` with its number of tokens."""
    if train.characters > 64 * task.context_length:  # no codec has tokens of 64 characters on average
        return
    tokens = sum(len(codec.encode(text)) for text in train.strings())
    if tokens < task.context_length:
        raise ValueError(
            f"the text to train on has {tokens} tokens, below data.task.context_length {task.context_length}: give more "
            "text, or a smaller data.task.context_length"
        )


@lru_cache(maxsize=4)
def _arranged(dataset: Texts, task: AnyTask, codec: AnyTokens, classes: tuple[str, ...]) -> AnyExamples:
    return arrange(dataset, task, codec, classes)
