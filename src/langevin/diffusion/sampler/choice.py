"""Which samplers fit a process, by the `processes` of each sampler."""

from dataclasses import replace
from difflib import SequenceMatcher, get_close_matches
from typing import Any, get_args

from langevin.diffusion.process.terms import Process
from langevin.diffusion.sampler.state import Sampler
from langevin.diffusion.sampler.tokens import TokenSampling


def kinds_for(process: Process) -> dict[str, type[Sampler]]:
    """The classes of `AnySampler` that fit a process, by kind, in the union's order."""
    from langevin.diffusion.sampler import AnySampler  # at call time: an import cycle otherwise

    members: tuple[Any, ...] = get_args(AnySampler)
    return {member.kind: member for member in members if isinstance(process, member.processes)}


def require_fit(sampler: Sampler, process: Process) -> None:
    """Check that a sampler fits a process.

    Raises:
        ValueError: it does not; lists the kinds that do, the nearest first."""
    if isinstance(process, sampler.processes):
        return
    raise ValueError(f"the sampler '{sampler.kind}' is not for {named(process)}: {fitting(sampler.kind, process)}")


def unknown_kind(kind: str, process: Process) -> ValueError:
    """The error for a kind that no sampler has."""
    near = get_close_matches(kind, kinds_for(process), n=1, cutoff=0.5)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return ValueError(f"there is no sampler '{kind}'{hint} for {named(process)}: {fitting(kind, process)}")


def fitting(kind: str, process: Process) -> str:
    """A sentence that lists the samplers of a process, those nearest to `kind` first."""
    near = sorted(kinds_for(process), key=lambda known: -SequenceMatcher(None, kind, known).ratio())
    return f"choose {', '.join(near)}" if near else "it has no samplers"


def named(process: Process) -> str:
    """A process in words: "a masked process"."""
    kind = str(getattr(process, "kind", type(process).__name__))
    return f"{'an' if kind[0] in 'aeio' or kind == 'sde' else 'a'} {kind} process"


def tokens_of(sampler: Any) -> TokenSampling:
    """How a sampler draws tokens; the neutral `TokenSampling` if it draws none."""
    return getattr(sampler, "tokens", TokenSampling())


def with_tokens(sampler: Any, *, temperature: float | None = None, top_p: float | None = None) -> Any:
    """The sampler with another temperature or top_p; None keeps its own.

    Raises:
        ValueError: one is given, and the sampler draws no tokens."""
    changes = {k: v for k, v in {"temperature": temperature, "top_p": top_p}.items() if v is not None}
    if changes and not hasattr(sampler, "tokens"):
        raise ValueError(f"the sampler '{sampler.kind}' draws no tokens, so it has no {' and no '.join(changes)}")
    changed: Any = {"tokens": replace(tokens_of(sampler), **changes)} if changes else {}
    return replace(sampler, **changed)
