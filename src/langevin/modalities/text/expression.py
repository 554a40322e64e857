"""Regular expressions in Python's syntax as rules for whole texts, by sets of states of a nondeterministic automaton.

What is not regular, or not about the whole text, is refused: groups that are referred to, what must follow or not, words'
borders, flags. \\d, \\s and \\w are those of ASCII; `.` is any character.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

parser: Any = re._parser  # type: ignore[attr-defined]  # Python's own parser of its expressions

LONGEST = 1000  # characters of an expression
MOST_PLACES = 5000  # states of the nondeterministic automaton
LISTED = 4000  # characters beyond ASCII that an expression may name
OTHER = -1  # any character that no rule names
CATEGORIES = {
    "DIGIT": frozenset(map(ord, "0123456789")),
    "SPACE": frozenset(map(ord, " \t\n\r\f\v")),
    "WORD": frozenset(c for c in range(128) if chr(c).isalnum() or c == ord("_")),
}


@dataclass(frozen=True)
class Letters:
    """A set of characters: those of `codes`, or all others."""

    codes: frozenset[int]
    others: bool = False

    def __contains__(self, code: int) -> bool:
        return (code in self.codes) != self.others


@dataclass(frozen=True)
class Expression:
    """A regular expression that the whole text matches: a rule, see `rules.Rule`.

    Raises:
        ValueError: it cannot be parsed, is too large, or is none of a whole text.
    """

    name: str
    expression: str

    def __post_init__(self) -> None:
        _ = self._places

    @property
    def named(self) -> frozenset[int]:
        return frozenset(code for letters in self._places.letters for code in letters.codes)

    @property
    def start(self) -> frozenset[int]:
        return self._places.closed([self._places.first])

    def kind(self, code: int) -> tuple[bool, ...]:
        return tuple(code in letters for letters in self._places.letters)

    def step(self, state: frozenset[int], code: int) -> frozenset[int] | None:
        edges = self._places.edges
        return self._places.closed([to for at in state for letters, to in edges[at] if code in letters]) or None

    def accepts(self, state: frozenset[int]) -> bool:
        return self._places.last in state

    @cached_property
    def _places(self) -> "_Places":
        if len(self.expression) > LONGEST:
            raise ValueError(f"{self.name[:40]}... is longer than {LONGEST:,} characters")
        try:
            tree = parser.parse(self.expression)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"the rule {self.expression!r} is no regular expression: {error}") from error
        if tree.state.flags & ~re.UNICODE:
            raise ValueError(f"the rule {self.expression!r} has flags, which are not for rules")
        places = _Places(expression=self.expression)
        places.first = places.new()
        places.last = places.after(places.first, list(tree))
        return places


@dataclass(eq=False)
class _Places:
    """A nondeterministic automaton: `edges` that take a character, `free` ones that take none."""

    expression: str
    first: int = 0
    last: int = 0
    edges: list[list[tuple[Letters, int]]] = field(default_factory=list)
    free: list[list[int]] = field(default_factory=list)
    letters: list[Letters] = field(default_factory=list)

    def new(self) -> int:
        if len(self.edges) >= MOST_PLACES:
            raise ValueError(f"the rule {self.expression!r} is too large: it repeats too much")
        self.edges.append([])
        self.free.append([])
        return len(self.edges) - 1

    def closed(self, places: Sequence[int]) -> frozenset[int]:
        """The places, and those that are reached from them without a character."""
        found, left = set(places), list(places)
        while left:
            for to in self.free[left.pop()]:
                if to not in found:
                    found.add(to)
                    left.append(to)
        return frozenset(found)

    def after(self, at: int, parts: Sequence[tuple[Any, Any]]) -> int:
        """The place after a sequence of parts of the parsed expression."""
        for kind, argument in parts:
            at = self._after_one(at, str(kind), argument)
        return at

    def _after_one(self, at: int, kind: str, argument: Any) -> int:
        match kind:
            case "LITERAL" | "NOT_LITERAL":
                return self._taking(at, Letters(frozenset([argument]), others=kind == "NOT_LITERAL"))
            case "ANY":
                return self._taking(at, Letters(frozenset(), others=True))
            case "IN":
                return self._taking(at, self._set(argument))
            case "BRANCH":
                end = self.new()
                for one in argument[1]:
                    begin = self.new()
                    self.free[at].append(begin)
                    self.free[self.after(begin, list(one))].append(end)
                return end
            case "SUBPATTERN" if not argument[1] and not argument[2]:
                return self.after(at, list(argument[3]))
            case "MAX_REPEAT" | "MIN_REPEAT":
                return self._repeated(at, *argument)
            case _:
                raise ValueError(
                    f"the rule {self.expression!r} has a part that rules cannot have ({kind.lower()}): it is matched by "
                    "whole texts, without references, borders or what may follow"
                )

    def _repeated(self, at: int, least: int, most: Any, part: Any) -> int:
        for _ in range(least):
            at = self.after(at, list(part))
        if most is parser.MAXREPEAT:
            begin = self.new()
            self.free[at].append(begin)
            self.free[self.after(begin, list(part))].append(begin)
            return begin
        end = self.new()
        for _ in range(most - least):
            self.free[at].append(end)
            at = self.after(at, list(part))
        self.free[at].append(end)
        return end

    def _taking(self, at: int, letters: Letters) -> int:
        end = self.new()
        if letters not in self.letters:
            self.letters.append(letters)
        self.edges[at].append((letters, end))
        return end

    def _set(self, items: Sequence[tuple[Any, Any]]) -> Letters:
        found = Letters(frozenset())
        negated = False
        for kind, argument in items:
            match str(kind):
                case "NEGATE":
                    negated = True
                case "LITERAL":
                    found = joined(found, Letters(frozenset([argument])))
                case "RANGE":
                    low, high = argument
                    if high - low > LISTED:
                        raise ValueError(
                            f"a rule names more than {LISTED:,} characters: write what it excludes instead"
                        )
                    found = joined(found, Letters(frozenset(range(low, high + 1))))
                case "CATEGORY":
                    name = str(argument).removeprefix("CATEGORY_")
                    found = joined(found, Letters(CATEGORIES[name.removeprefix("NOT_")], others="NOT_" in name))
                case other:
                    raise ValueError(
                        f"the rule {self.expression!r} has a set with {other.lower()}, which is not for rules"
                    )
        return Letters(found.codes, others=found.others != negated)


def joined(a: Letters, b: Letters) -> Letters:
    """The characters of either."""
    match a.others, b.others:
        case False, False:
            return Letters(a.codes | b.codes)
        case True, True:
            return Letters(a.codes & b.codes, others=True)
        case _:
            named, others = (b.codes, a.codes) if a.others else (a.codes, b.codes)
            return Letters(others - named, others=True)
