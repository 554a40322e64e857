"""What a sample is worth, a number for each: the rewards of `run.reward`, and the judges of what it trains.

A rating is named by a word: a reader of classes that the modality has, one of its rules, or a user's function."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import torch
from torch import Tensor

from langevin.modalities.modality import Measuring
from langevin.user_function import NAME, CodePermission, load_function

ClassReader = Literal["classifier", "recogniser"]
CLASS = "the asked class"


@dataclass(frozen=True, kw_only=True)
class ByClass:
    """The probability of the class that a sample is conditioned on.

    Args:
        kind: by the classifier that the run is evaluated with, or by a reader of another architecture and other features.
    """

    kind: ClassReader = "classifier"


@dataclass(frozen=True, kw_only=True)
class ByRule:
    """A rule of the modality, by its name in `Modality.rules`."""

    kind: Literal["rule"] = "rule"
    rule: str = ""


@dataclass(frozen=True, kw_only=True)
class ByFunction:
    """A user's function of the samples, `module:function`."""

    kind: Literal["function"] = "function"
    function: str = ""


AnyRating = ByClass | ByRule | ByFunction


@dataclass(frozen=True, kw_only=True)
class Rating:
    """A rating that can be computed.

    Args:
        name: of the rating.
        quantity: what it measures. Two ratings of one quantity should rise together.
        function: of decoded samples, and of the classes (b,) int64 that they are conditioned on, or None.
    """

    name: str
    quantity: str
    function: Callable[[Any, Tensor | None], Any]

    def __call__(self, values: Any, classes: Tensor | None) -> Tensor:
        """The ratings (b,), float64, of b decoded samples, which it cannot change.

        Raises:
            ValueError: the function raises an error, or returns something else than a finite number for each sample."""
        try:
            found = self.function(copy.deepcopy(values), classes)
        except ValueError:
            raise  # a user's function says its name, and what it raised
        except Exception as error:
            raise ValueError(f"{self.name} raised {type(error).__name__}: {error}") from error
        try:
            rated = torch.as_tensor(found).detach().to("cpu", torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"{self.name} returns a number for each sample, ({len(values)},), and this is a {type(found).__name__}"
            ) from error
        if rated.shape != (len(values),):
            raise ValueError(
                f"{self.name} returns a number for each sample, ({len(values)},), and this is {tuple(rated.shape)}"
            )
        if not bool(rated.isfinite().all()):
            raise ValueError(f"{self.name} returned {rated[~rated.isfinite()][0].item()}, which is no reward")
        return rated


def parse(text: str, modality: Any, option: str) -> AnyRating:
    """The rating that a word names.

    Raises:
        ValueError: the modality has none of that name; lists those it has."""
    rules: tuple[str, ...] = tuple(getattr(modality, "rules", ()))
    readers = ("classifier", "recogniser") if hasattr(modality, "class_probabilities") else ()
    if text == "classifier" or text == "recogniser":
        if not readers or len(modality.class_names) < 2:
            raise ValueError(
                f"{option} {text} is the probability of the class that a sample is conditioned on, and this run has no "
                "classes: take another"
            )
        return ByClass(kind=text)
    if text in rules:
        return ByRule(rule=text)
    if NAME.fullmatch(text):
        return ByFunction(function=text)
    known = ", ".join((*readers, *rules))
    raise ValueError(
        f"{option} is {f'one of {known}, or ' if known else ''}MODULE:FUNCTION, such as taste:red for red of taste.py, got "
        f"'{text}'"
    )


def rating_of(config: AnyRating, measuring: Measuring, code: CodePermission) -> Rating:
    """The rating for runs of the modality of `measuring`; a reader of classes is trained if it is not kept.

    Raises:
        ValueError: a function that cannot be imported, or too few labels to train a reader."""
    modality = measuring.model.modality
    match config:
        case ByClass():
            read = modality.class_probabilities(measuring, config.kind)
            return Rating(name=config.kind, quantity=CLASS, function=lambda values, classes: _of(read(values), classes))
        case ByRule():
            rule = modality.rule(config.rule, measuring)
            return Rating(name=config.rule, quantity=config.rule, function=lambda values, classes: rule(values))
        case ByFunction():
            function = load_function(config.function, code, takes=("samples",))
            prepared: Callable[[Any], Any] = getattr(modality, "for_function", lambda values: values)
            return Rating(
                name=config.function, quantity=config.function,
                function=lambda values, classes: function(prepared(values)),
            )  # fmt: skip
        case _:
            assert_never(config)


def second(config: AnyRating, modality: Any) -> AnyRating | None:
    """The judge of samples that were trained by a rating, which the training does not see: of a class the other reader, of
    a rule the class, which should not be lost; None of a function, or where there are no classes."""
    match config:
        case ByClass():
            return ByClass(kind="recogniser" if config.kind == "classifier" else "classifier")
        case ByRule():
            known = hasattr(modality, "class_probabilities") and len(modality.class_names) > 1
            return ByClass() if known else None
        case ByFunction():
            return None
        case _:
            assert_never(config)


def _of(probabilities: Tensor, classes: Tensor | None) -> Tensor:
    """The probability of each sample's own class, (b,)."""
    assert classes is not None, "the samples of a run with classes are conditioned on them"
    return probabilities.gather(1, classes.to(probabilities.device)[:, None])[:, 0]
