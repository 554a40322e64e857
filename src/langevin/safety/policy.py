"""What may be asked for and what may be given out: checks that allow, hold or deny, each with a reason.

Nothing is changed silently: what is denied is an error that names the check, and what is held waits for a person.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from langevin.safety.memorisation import nearest

Verdict = Literal["allow", "hold", "deny"]
ORDER: tuple[Verdict, ...] = ("allow", "hold", "deny")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a check says, with its name and its reason."""

    verdict: Verdict = "allow"
    check: str = ""
    reason: str = ""


ALLOWED = Decision()


@dataclass(frozen=True, kw_only=True)
class Phrases:
    """Words and phrases that a request may not hold, however they are written.

    Text is compared without case, accents, full-width forms, punctuation and repeated letters, and with digits that stand
    for letters as these. Phrases match whole words.

    Args:
        phrases: one or more.
        verdict: what a match leads to.
    """

    phrases: tuple[str, ...]
    verdict: Verdict = "deny"

    def __post_init__(self) -> None:
        if empty := [phrase for phrase in self.phrases if not normalised(phrase)]:
            raise ValueError(f"a phrase needs letters, got {empty[0]!r}")

    def check(self, texts: Sequence[str]) -> Decision:
        """The decision on the texts of a request."""
        wanted = {phrase: normalised(phrase) for phrase in self.phrases}
        for text in texts:
            plain = normalised(text)
            for phrase, form in wanted.items():
                spelled = spelled_out(plain) and joined(form) in joined(plain)
                if f" {form} " in f" {plain} " or spelled:
                    return Decision(verdict=self.verdict, check="phrases", reason=f"the text has the phrase '{phrase}'")
        return ALLOWED


LEET = str.maketrans("01l3457@$", "oiieastas")  # i, l and 1 are one letter


def normalised(text: str) -> str:
    """The words of a text in lower case, without accents, signs and repeated letters."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    plain = re.sub(r"[!|](?=\w)", "i", plain).translate(LEET)
    plain = "".join(c for c in plain if not unicodedata.combining(c) and unicodedata.category(c) != "Cf")
    words = re.sub(r"[\W_]+", " ", plain).split()
    return " ".join(re.sub(r"(.)\1+", r"\1", word) for word in words)


def spelled_out(plain: str) -> bool:
    """Whether a normalised text has three single letters or more in a row, as in "b a d"."""
    return re.search(r"(?:\b\w\b ?){3,}", plain) is not None


def joined(plain: str) -> str:
    """A normalised text without spaces, and without the repetitions that this makes."""
    return re.sub(r"(.)\1+", r"\1", plain.replace(" ", ""))


@dataclass(frozen=True, kw_only=True)
class AllowedWords:
    """Values that a request may name, such as classes; others are denied."""

    values: tuple[str, ...]

    def check(self, texts: Sequence[str]) -> Decision:
        """The decision on the texts of a request."""
        known = {normalised(value) for value in self.values}
        other = next((text for text in texts if normalised(text) not in known), None)
        if other is None:
            return ALLOWED
        reason = f"'{other[:60]}' is not among what is allowed: {', '.join(self.values)}"
        return Decision(verdict="deny", check="allowed", reason=reason)


@dataclass(frozen=True, kw_only=True, eq=False)
class NearCopies:
    """Samples that are nearer to an item of a set than real items are to each other: copies of training data, or of a list.

    Args:
        items: (n, ...) the set, encoded like the samples.
        below: distance below which a sample is a copy; by `threshold`.
        name: what the set is, for the reason.
    """

    items: Tensor
    below: float
    name: str = "the training data"
    verdict: Verdict = "hold"

    def check(self, samples: Tensor) -> Decision:
        """The decision on samples (m, ...)."""
        distances, indices = nearest(self.items, samples)
        worst = int(distances[:, 0].argmin())
        if float(distances[worst, 0]) >= self.below:
            return ALLOWED
        reason = (
            f"sample {worst} is a near copy of item {int(indices[worst, 0])} of {self.name} (distance "
            f"{float(distances[worst, 0]):.3g}, below {self.below:.3g})"
        )
        return Decision(verdict=self.verdict, check="near_copies", reason=reason)


def threshold(train: Tensor, held_out: Tensor, *, share: float = 0.01) -> float:
    """The distance to the training data that only a share of held-out items is below."""
    distances = nearest(train, held_out)[0][:, 0]
    return float(torch.quantile(distances, share))


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A function that looks at samples, such as a classifier of the user's own.

    Args:
        function: called with the samples; returns None, or the reason why they are not given out.
        name: of the function, for the reason.
    """

    function: Callable[[Any], str | None]
    name: str
    verdict: Verdict = "hold"

    def check(self, samples: Any) -> Decision:
        """The decision on samples; a function that fails is no permission."""
        try:
            reason = self.function(samples)
        except Exception as error:
            reason = f"the check {self.name} has failed ({type(error).__name__}: {error})"
        return ALLOWED if reason is None else Decision(verdict=self.verdict, check=self.name, reason=str(reason))


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Checks of requests: each maps their texts to a decision."""

    checks: Sequence[Any] = ()

    def request(self, texts: Sequence[str]) -> Decision:
        """The strictest decision on a request."""
        return strictest([check.check(texts) for check in self.checks])


def strictest(decisions: Sequence[Decision]) -> Decision:
    """The first of the decisions that are strictest."""
    return max((ALLOWED, *decisions), key=lambda decision: ORDER.index(decision.verdict))


def texts_of(value: Any) -> list[str]:
    """All texts within JSON, at any depth."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for part in value.values() for text in texts_of(part)]
    return [text for part in value for text in texts_of(part)] if isinstance(value, list | tuple) else []
