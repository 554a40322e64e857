"""Concepts that a condition names: a class, or words of a caption; and the condition without them."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition, Port, class_port


@dataclass(frozen=True, kw_only=True)
class ClassConcept:
    """A class of the port `global_`.

    Args:
        label: its index.
        instead: the class that takes its place; None withholds the port.
    """

    port: ClassVar[str] = "global_"
    label: int
    instead: int | None = None

    def holds(self, condition: Condition) -> Tensor:
        """Which samples are of the class, (b,) bool; none of those from which it is withheld."""
        port = condition.global_
        assert port is not None, "the run is conditioned on classes"
        return (port.tensor == self.label) & port.kept()

    def anchored(self, condition: Condition) -> Condition:
        """The condition with the other class, or without one, where it has this one."""
        port = condition.global_
        assert port is not None, "the run is conditioned on classes"
        labels = port.tensor.where(port.kept(), -1)
        other = -1 if self.instead is None else self.instead
        return replace(condition, global_=class_port(labels.where(~self.holds(condition), other)))


@dataclass(frozen=True, kw_only=True)
class WordConcept:
    """Captions of the port `cross` that have all of some words.

    Args:
        words: their token ids.
        instead: the ids that take the places of the first of them; the others are left out. A caption of which nothing is
            left is withheld.

    Raises:
        ValueError: no words, or more in their places.
    """

    port: ClassVar[str] = "cross"
    words: tuple[int, ...]
    instead: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.words or len(self.instead) > len(self.words):
            raise ValueError(
                f"a concept is one or more words, and at most as many take their places, got {len(self.words)} and "
                f"{len(self.instead)}"
            )

    def holds(self, condition: Condition) -> Tensor:
        """Which captions have all of the words, (b,) bool."""
        port = condition.cross
        assert port is not None, "the run is conditioned on captions"
        found = torch.stack([(port.tensor == word).any(1) for word in self.words]).all(0)
        return found & port.kept()

    def anchored(self, condition: Condition) -> Condition:
        """The condition with other words, or without them, in captions that have all of these."""
        port, holds = condition.cross, self.holds(condition)
        assert port is not None, "the run is conditioned on captions"
        tokens = port.tensor.clone()
        for i, word in enumerate(self.words):
            other = self.instead[i] if i < len(self.instead) else 0
            tokens[(port.tensor == word) & holds[:, None]] = other
        tokens = tokens.gather(1, (tokens == 0).long().argsort(stable=True, dim=1))  # padding goes to the end
        left = port.kept() & (~holds | (tokens > 0).any(1))
        keep = None if bool(left.all()) else left
        return replace(condition, cross=Port(tensor=tokens, mask=tokens > 0, keep=keep))


AnyConcept = ClassConcept | WordConcept


def with_concept(condition: Condition, source: Condition, concept: AnyConcept) -> Condition:
    """A condition of b samples whose port of the concept is that of `source`, of b samples too."""
    return replace(condition, **{concept.port: getattr(source, concept.port)})
