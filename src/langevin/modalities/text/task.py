"""Tasks: how a record becomes a sequence of token ids, and which positions are known and which are predicted.

After the codec's tokens come special tokens: END, SEPARATOR, and the numbers 0, 1, 2, ... A sequence is one of

    language_model    a window of the text, all predicted: generate, continue, infill
    seq2seq           source SEPARATOR length target: summarise, reply. The length is a token that is predicted before the
                      target, instead of end tokens after it. It is learned from examples that end at it
    classification    premise SEPARATOR hypothesis SEPARATOR number: the label is a number; some examples predict all

The same process, network and samplers serve every task.
"""

from dataclasses import dataclass
from typing import Literal

END, SEPARATOR, NUMBERS = 0, 1, 2  # special tokens, counted from the codec's last


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """Windows of `context_length` tokens of a text.

    Args:
        num_special_tokens: special tokens reserved, so that a run of another task may start from this one's weights.
        document_separator: put between documents.
    """

    kind: Literal["language_model"] = "language_model"
    context_length: int = 256
    num_special_tokens: int = 0
    document_separator: str = "\n\n"

    def __post_init__(self) -> None:
        _require_length(self.context_length)
        if self.num_special_tokens < 0:
            raise ValueError(f"data.task.num_special_tokens must be at least 0, got {self.num_special_tokens}")

    def needed(self, labels: int) -> int:
        """Number of special tokens for a number of labels."""
        return self.num_special_tokens


@dataclass(frozen=True, kw_only=True)
class Seq2Seq:
    """A source, and a target to generate from it: a reply or a summary.

    Args:
        context_length: tokens of source and target together; a longer source is cut at its end, a dialogue at its start.
        max_target_length: tokens of a target; longer ones are cut in training.
        length_only_fraction: fraction of the training examples that end at the length.
        joint_fraction: fraction of the training examples in which the source is predicted as well.
        turns: turns of a dialogue before a reply that are its source.
        best_of: samples drawn for each source, of which the likeliest under the model is kept.
        reverse_weight: weight, at least 0, of ln p(source | target) beside ln p(target | source) in that choice.
        num_special_tokens: special tokens reserved; there are at least max_target_length + 3.
    """

    kind: Literal["seq2seq"] = "seq2seq"
    context_length: int = 384
    max_target_length: int = 64
    length_only_fraction: float = 0.1
    joint_fraction: float = 0.0
    turns: int = 5
    best_of: int = 1
    reverse_weight: float = 0.0
    num_special_tokens: int = 0

    def __post_init__(self) -> None:
        _require_length(self.context_length)
        if not 0 <= self.reverse_weight < float("inf"):
            raise ValueError(f"data.task.reverse_weight must be at least 0 and finite, got {self.reverse_weight}")
        if self.reverse_weight and not self.joint_fraction:
            raise ValueError(
                f"data.task.reverse_weight {self.reverse_weight:g} needs a run that has seen the source masked: set "
                "data.task.joint_fraction above 0, such as 0.3"
            )
        if not 1 <= self.best_of <= 1000:
            raise ValueError(f"data.task.best_of must be 1 to 1000, got {self.best_of}")
        if not 1 <= self.max_target_length < self.context_length - 4 or self.turns < 1:
            raise ValueError(
                f"data.task.max_target_length {self.max_target_length} must leave room for a source in a context of "
                f"{self.context_length} tokens, and data.task.turns be at least 1, got {self.turns}"
            )
        fractions = (self.length_only_fraction, self.joint_fraction)
        if min(fractions) < 0 or sum(fractions) >= 1:
            raise ValueError(
                "data.task.length_only_fraction and data.task.joint_fraction must be at least 0 and together below 1, got "
                f"{fractions[0]} and {fractions[1]}"
            )

    def needed(self, labels: int) -> int:
        return max(self.num_special_tokens, NUMBERS + self.max_target_length + 1)


@dataclass(frozen=True, kw_only=True)
class Classification:
    """Two texts and the label of the pair, or one text and its label.

    Args:
        joint_fraction: fraction of the training examples in which all is predicted, label and texts.
        num_special_tokens: special tokens reserved; there are at least two more than labels.
    """

    kind: Literal["classification"] = "classification"
    context_length: int = 128
    joint_fraction: float = 0.5
    num_special_tokens: int = 0

    def __post_init__(self) -> None:
        _require_length(self.context_length)
        if not 0 <= self.joint_fraction < 1:
            raise ValueError(f"data.task.joint_fraction must be in [0, 1), got {self.joint_fraction}")

    def needed(self, labels: int) -> int:
        return max(self.num_special_tokens, NUMBERS + labels)


AnyTask = LanguageModel | Seq2Seq | Classification


def _require_length(context_length: int) -> None:
    if not 4 <= context_length <= 65_536:
        raise ValueError(f"data.task.context_length must be 4 to 65536 tokens, got {context_length}")
