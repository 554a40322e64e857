"""From rules to an automaton over the tokens of a run: over kinds of characters, then bytes of UTF-8, then tokens."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch

from langevin.diffusion.automaton import Automaton
from langevin.modalities.text.codec import AnyTokens
from langevin.modalities.text.expression import LISTED, OTHER
from langevin.modalities.text.rules import Rule

MOST_STATES = 4000  # of a compiled automaton
MOST_ENTRIES = 2**26  # of its table
DEAD = -1
S = TypeVar("S", bound=Hashable)  # a state
CONTINUED = (0x80, 0xBF)  # bytes that go on with a character
SECOND = {0xE0: (0xA0, 0xBF), 0xED: (0x80, 0x9F), 0xF0: (0x90, 0xBF), 0xF4: (0x80, 0x8F)}  # after these first ones


@lru_cache(maxsize=8)
def compiled(rules: tuple[Rule, ...], codec: AnyTokens, vocabulary: int) -> Automaton:
    """The automaton over tokens that all rules together are.

    Args:
        vocabulary: number of token ids; those beyond the codec's are never accepted.

    Raises:
        ValueError: rules that contradict each other, or are too large."""
    table, accepting = over_bytes(together(rules), min(MOST_STATES, MOST_ENTRIES // vocabulary))
    ends = np.full((len(accepting) + 1, vocabulary), len(accepting))
    for token, content in enumerate(bytes_of_tokens(codec)):
        state = np.arange(len(accepting) + 1)
        for byte in content:
            state = table[state, byte]
        if content:
            ends[:, token] = state
    transitions = torch.from_numpy(np.where(ends[:-1] == len(accepting), DEAD, ends[:-1]))
    return Automaton(transitions=transitions, accepting=torch.from_numpy(accepting))


@lru_cache(maxsize=8)
def bytes_of_tokens(codec: AnyTokens) -> tuple[bytes, ...]:
    """The bytes that each token stands for."""
    return tuple(codec.written([token]) for token in range(codec.vocab_size))


# -------------------------------------------------------------------------------------------------------- characters


@dataclass(frozen=True, kw_only=True)
class Characters:
    """An automaton over kinds of characters; state 0 is the first.

    Args:
        lines: of each state, the next one for each kind; DEAD for none, or where no text that goes on so obeys.
        accepting: of each state.
        kind_of: the kind of each character that is named; all others have the kind `other`.
    """

    lines: list[list[int]]
    accepting: list[bool]
    kind_of: dict[int, int]
    other: int


def together(rules: Sequence[Rule]) -> Characters:
    """What all rules are together.

    Raises:
        ValueError: rules that contradict each other, or are too large."""
    found = product(rules)
    if found is not None:
        return found
    first = next(i for i in range(1, len(rules) + 1) if product(rules[:i]) is None)
    others = ", ".join(rule.name for rule in rules[: first - 1])
    raise ValueError(f"no text obeys {rules[first - 1].name}" + f" together with {others}" * bool(others))


def product(rules: Sequence[Rule]) -> Characters | None:
    """The states that are reached of the rules' product; None if no text obeys them.

    Raises:
        ValueError: there are too many."""
    named = sorted(frozenset[int]().union(*(rule.named for rule in rules)))
    if len(named) > 2 * LISTED:
        raise ValueError(f"the rules name more than {2 * LISTED:,} characters: write what they exclude instead")
    kinds = dict[tuple[object, ...], int]()
    kind_of = {code: kinds.setdefault(tuple(rule.kind(code) for rule in rules), len(kinds)) for code in [*named, OTHER]}
    one_of = {kind: code for code, kind in kind_of.items()}

    def step(state: tuple[Any, ...], kind: int) -> tuple[Any, ...] | None:
        following = tuple(rule.step(at, one_of[kind]) for rule, at in zip(rules, state, strict=True))
        return None if None in following else following

    queue, lines = reached(tuple(rule.start for rule in rules), step, len(kinds), MOST_STATES)
    accepting = [all(rule.accepts(at) for rule, at in zip(rules, state, strict=True)) for state in queue]
    alive = live(lines, accepting)
    if not alive[0]:
        return None
    lines = [[to if to != DEAD and alive[to] else DEAD for to in line] for line in lines]
    return Characters(lines=lines, accepting=accepting, kind_of=kind_of, other=kind_of[OTHER])


def live(lines: list[list[int]], accepting: list[bool]) -> list[bool]:
    """The states from which an accepting one is reached."""
    before = [set[int]() for _ in lines]
    for state, line in enumerate(lines):
        for to in line:
            if to != DEAD:
                before[to].add(state)
    found, left = list(accepting), [state for state, accepts in enumerate(accepting) if accepts]
    while left:
        for state in before[left.pop()]:
            if not found[state]:
                found[state] = True
                left.append(state)
    return found


def reached(start: S, step: Callable[[S, int], S | None], letters: int, most: int) -> tuple[list[S], list[list[int]]]:
    """The states that are reached from the first one, and of each the index of the next one by letter (a number), or DEAD.

    Raises:
        ValueError: there are more than `most`."""
    number, queue, lines = {start: 0}, [start], list[list[int]]()
    for state in queue:
        line = list[int]()
        for letter in range(letters):
            following = step(state, letter)
            if following is None:
                line.append(DEAD)
                continue
            if following not in number:
                if len(queue) >= most:
                    raise ValueError(f"the rules are too much together: their automaton has more than {most:,} states")
                number[following] = len(queue)
                queue.append(following)
            line.append(number[following])
        lines.append(line)
    return queue, lines


# -------------------------------------------------------------------------------------------------------------- bytes


@dataclass(frozen=True)
class Begun:
    """A state between two bytes.

    Args:
        at: the state over characters; while a character that is not named is begun, the one after it.
        content: bytes of a character so far, if they begin one that is named; else empty.
        left: bytes of the character to come.
        within: the smallest and the largest next one.
    """

    at: int
    content: bytes = b""
    left: int = 0
    within: tuple[int, int] = CONTINUED


@dataclass(kw_only=True)
class Bytes:
    """An automaton over characters, stepped by bytes of well-formed UTF-8."""

    characters: Characters
    named: frozenset[bytes] = field(init=False)

    def __post_init__(self) -> None:
        codes = [code for code in self.characters.kind_of if code > 127 and not 0xD800 <= code <= 0xDFFF]
        contents = [chr(code).encode() for code in codes]
        self.named = frozenset(content[:k] for content in contents for k in range(1, len(content)))

    def step(self, state: Begun, byte: int) -> Begun | None:
        """The next state; None for none."""
        if state.left == 0:
            if byte < 128:
                return self._after(state.at, byte)
            left = 1 if 0xC2 <= byte <= 0xDF else 2 if 0xE0 <= byte <= 0xEF else 3 if 0xF0 <= byte <= 0xF4 else 0
            return self._begun(state.at, bytes([byte]), left, SECOND.get(byte, CONTINUED)) if left else None
        if not state.within[0] <= byte <= state.within[1]:
            return None
        if not state.content:
            return Begun(state.at, left=state.left - 1)
        content = state.content + bytes([byte])
        if state.left > 1:
            return self._begun(state.at, content, state.left - 1)
        return self._after(state.at, ord(content.decode()))

    def _begun(self, at: int, content: bytes, left: int, within: tuple[int, int] = CONTINUED) -> Begun | None:
        if content in self.named:
            return Begun(at, content, left, within)
        after = self._after(at, OTHER)
        return None if after is None else Begun(after.at, left=left, within=within)

    def _after(self, at: int, code: int) -> Begun | None:
        to = self.characters.lines[at][self.characters.kind_of.get(code, self.characters.other)]
        return None if to == DEAD else Begun(to)


def over_bytes(characters: Characters, most: int) -> tuple[np.ndarray, np.ndarray]:
    """(states + 1, 256) the next state, the last one for none; (states,) whether a state accepts. State 0 is the first.

    Raises:
        ValueError: there are more than `most`."""
    queue, lines = reached(Begun(0), Bytes(characters=characters).step, 256, most)
    dead = len(lines)
    table = np.array([*lines, [DEAD] * 256])
    accepting = np.array([state.left == 0 and characters.accepting[state.at] for state in queue])
    return np.where(table == DEAD, dead, table), accepting
