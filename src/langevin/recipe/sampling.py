"""Samplers from text, such as "exponential max_order=3", and the sampler of a recipe's sampling section."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from difflib import get_close_matches
from typing import Any, get_args

from langevin.diffusion.light import AnyLight
from langevin.diffusion.process import Process
from langevin.diffusion.sampler import AnySampler, FittedSolver, TokenSampling, require_fit
from langevin.diffusion.sampler.choice import unknown_kind
from langevin.diffusion.sampling import Sampling
from langevin.recipe.read import check_part, override

LIGHT: dict[str, type[AnyLight]] = {member.kind: member for member in get_args(AnyLight)}
KINDS: dict[str, Any] = {member.kind: member for member in get_args(AnySampler)}


def parse_sampler(text: str, process: Process, *, tokens: TokenSampling | None = None) -> AnySampler:
    """Parse a sampler: `heun`, `exponential max_order=3`, or `{kind: exponential, max_order: 3}`.

    Args:
        process: that the sampler has to be for.
        tokens: default temperature and top-p of a sampler of tokens.

    Raises:
        ValueError: an unknown kind, or one of another process, with those that fit; an unknown parameter, with the nearest;
            or an invalid value."""
    tree = _tree(text)
    kind = str(tree.get("kind"))
    if kind not in KINDS:
        raise unknown_kind(kind, process)
    member = KINDS[kind]
    require_fit(member(), process)
    if tokens is not None and "tokens" not in tree and hasattr(member, "tokens"):
        tree["tokens"] = asdict(tokens)
    return check_part(tree, member, where=f"the sampler '{text}'")


def parse_light(text: str) -> AnyLight:
    """Parse what makes sampling cheaper: `int8`, `cache interval=3`, or `{kind: cache, interval: 3}`.

    Raises:
        ValueError: an unknown kind or parameter, with the nearest; or an invalid value."""
    tree = _tree(text)
    kind = str(tree.get("kind"))
    if kind not in LIGHT:
        near = get_close_matches(kind, LIGHT, n=1)
        raise ValueError(
            f"there is no light '{kind}'"
            + (f"; did you mean {near[0]}?" if near else "")
            + f"; there are {', '.join(LIGHT)}"
        )
    return check_part(tree, LIGHT[kind], where=f"light '{text}'")


def _tree(text: str) -> dict[str, Any]:
    """The mapping that a text describes."""
    if text.lstrip().startswith("{"):
        value = override({}, [f"sampler={text}"])["sampler"]
        return dict(value) if isinstance(value, Mapping) else {"kind": value}
    kind, *parameters = text.split() or [""]
    return override({"kind": kind}, parameters)


def describe(sampler: AnySampler | AnyLight) -> str:
    """A sampler as `parse_sampler` reads it, or one of `parse_light`: its kind, and what differs from the defaults."""
    if isinstance(sampler, FittedSolver):
        return sampler.kind
    return " ".join([sampler.kind, *_changes(asdict(sampler), asdict(type(sampler)()), "")])


def _changes(values: Mapping[str, Any], defaults: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _changes(value, defaults[name], f"{path}{name}.")
        elif value != defaults[name]:
            yield f"{path}{name}={value if isinstance(value, str) else json.dumps(value)}"


def unfitted(sampling: Sampling) -> AnySampler:
    """Stands for the learned samplers in parts that were not loaded from a run.

    Raises:
        ValueError: always."""
    raise ValueError(
        "the learned sampler is fitted to a trained run and stored in it: fit one by `langevin fit-solver RUN --steps "
        f"{sampling.steps}`"
    )


def sampler_of(
    process: Process, sampling: Sampling, learned: Callable[[Sampling], AnySampler] = unfitted
) -> AnySampler:
    """The sampler of a sampling section.

    Args:
        learned: loads the run's fitted solver, if the sampling names the learned sampler without coefficients.

    Raises:
        ValueError: it is not for the process, or was not fitted."""
    require_fit(sampling.sampler, process)
    match sampling.sampler:
        case FittedSolver(rows=()):
            return learned(sampling)
        case sampler:
            return sampler
