"""Rules for texts: expressions, required and forbidden words, counts, facts; compiled to an automaton over tokens.

A rule is an automaton over characters (`greenery`), then over the bytes of UTF-8, then over the tokens of the run's codec.
All rules of a request hold together, for the whole text, what is given included.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from langevin.diffusion.automaton import Automaton
from langevin.extras import require
from langevin.modalities.text.codec import AnyTokens
from langevin.modalities.text.input import read_text

MOST_STATES = 4000  # of a compiled automaton
LISTED = 4000  # characters beyond ASCII that expressions may name
DEAD = -1


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a text has to obey.

    Args:
        name: for messages.
        automaton: over characters.
    """

    name: str
    automaton: Any

    def accepts(self, text: str) -> bool:
        """Whether a text obeys."""
        return bool(self.automaton.accepts(text))


def rules_of(
    *, rule: str | None = None, contain: Sequence[str] = (), without: Sequence[str] = (), at_least: Sequence[str] = (),
    at_most: Sequence[str] = (), facts: str | None = None,
) -> list[Rule]:  # fmt: skip
    """The rules that options give.

    Raises:
        ValueError: an expression that cannot be parsed, an empty word, or a count or a fact of another form."""
    found = list[Rule]()
    if rule is not None:
        found.append(Rule(name=f"--rule {rule}", automaton=parsed(rule)))
    found += [Rule(name=f"--contain {word}", automaton=containing(word)) for word in contain]
    found += [Rule(name=f"--without {word}", automaton=containing(word).everythingbut()) for word in without]
    for option, texts in (("--at-least", at_least), ("--at-most", at_most)):
        for text in texts:
            word, count = counted(option, text)
            if option == "--at-least":
                found.append(Rule(name=f"{option} {text}", automaton=containing(word, count)))
            else:
                found.append(Rule(name=f"{option} {text}", automaton=containing(word, count + 1).everythingbut()))
    return found + (facts_of(facts) if facts is not None else [])


def parsed(expression: str) -> Any:
    """The automaton of a regular expression, which the whole text has to match; `.` is any character."""
    greenery = require("greenery", "a rule")
    try:
        return greenery.parse(expression).to_fsm()
    except Exception as error:
        raise ValueError(f"the rule {expression!r} is no regular expression: {error}") from error


def containing(word: str, count: int = 1) -> Any:
    """The automaton of texts with a word, at least `count` times and not overlapping."""
    if not word:
        raise ValueError("a rule needs a word, and it is empty")
    escaped = "".join(c if c.isalnum() or c in " \n" else f"\\{c}" for c in word)
    return parsed(f"(.*{escaped}){{{count}}}.*").reduce()


def counted(option: str, text: str) -> tuple[str, int]:
    """The word and the count of WORD:COUNT. Raises `ValueError` if it is not written so."""
    word, _, count = text.rpartition(":")
    if not word or not count.isdigit() or int(count) > 100:
        raise ValueError(f"{option} takes WORD:COUNT with a count up to 100, got '{text}'")
    return word, int(count)


def facts_of(path: str) -> list[Rule]:
    """Of each line "subject TAB relation TAB object": a text that names subject and relation names the object.

    Raises:
        ValueError: a line that has not three parts."""
    found = list[Rule]()
    for number, line in enumerate(read_text(path).splitlines(), 1):
        parts = [part.strip() for part in line.split("\t")]
        if not line.strip():
            continue
        if len(parts) != 3 or not all(parts):
            raise ValueError(
                f"{path}, line {number}: a fact is subject, relation and object between tabs, got {line!r}"
            )
        subject, relation, object_ = map(containing, parts)
        implied = (subject & relation).everythingbut() | object_
        found.append(Rule(name=f"fact {' '.join(parts)}", automaton=implied.reduce()))
    return found


def compiled(rules: Sequence[Rule], codec: AnyTokens, vocabulary: int) -> Automaton:
    """The automaton over tokens that all rules together are.

    Args:
        vocabulary: number of token ids; those beyond the codec's are never accepted.

    Raises:
        ValueError: rules that contradict each other, or are too large."""
    whole = rules[0].automaton
    for i, one in enumerate(rules[1:], 1):
        whole = (whole & one.automaton).reduce()
        if whole.empty():
            before = ", ".join(rule.name for rule in rules[:i])
            raise ValueError(f"no text obeys {one.name} together with {before}")
    if whole.empty():
        raise ValueError(f"no text obeys {rules[0].name}")
    table, accepting, start = over_bytes(whole)
    ends = np.full((len(accepting) + 1, vocabulary), len(accepting))
    for token, content in enumerate(bytes_of_tokens(codec)):
        state = np.arange(len(accepting) + 1)
        for byte in content:
            state = table[state, byte]
        if content:
            ends[:, token] = state
    transitions = torch.from_numpy(np.where(ends[:-1] == len(accepting), DEAD, ends[:-1]))
    return Automaton(transitions=transitions, accepting=torch.from_numpy(accepting), start=start)


@lru_cache(maxsize=8)
def bytes_of_tokens(codec: AnyTokens) -> tuple[bytes, ...]:
    """The bytes that each token stands for."""
    return tuple(codec.written([token]) for token in range(codec.vocab_size))


@dataclass(kw_only=True)
class _Bytes:
    """An automaton over characters, stepped by bytes. A state is (state, bytes of a character begun, bytes to come)."""

    automaton: Any
    numbers: dict[Any, int] = field(default_factory=dict)
    queue: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.live = {state for state in self.automaton.states if self.automaton.islive(state)}
        self.other = next(c for c in self.automaton.alphabet if c.negated)
        self.of_character: dict[int, Any] = {}
        for one in self.automaton.alphabet:
            if not one.negated:
                for low, high in one.ord_ranges:
                    if high - low > LISTED or len(self.of_character) > 2 * LISTED:
                        raise ValueError(
                            f"a rule names more than {LISTED:,} characters: write what it excludes instead"
                        )
                    self.of_character |= dict.fromkeys(range(low, high + 1), one)
        named = [chr(code).encode() for code in self.of_character if code > 127 and not 0xD800 <= code <= 0xDFFF]
        self.begun = {content[:k] for content in named for k in range(1, len(content))}

    def number(self, state: Any) -> int:
        if state not in self.numbers:
            if len(self.queue) >= MOST_STATES:
                raise ValueError(
                    f"the rules are too much together: their automaton has more than {MOST_STATES:,} states"
                )
            self.numbers[state] = len(self.queue)
            self.queue.append(state)
        return self.numbers[state]

    def step(self, state: Any, byte: int) -> Any | None:
        """The next state; None for none."""
        at, begun, left = state
        if left == 0:
            if byte < 128:
                return self._after(at, byte)
            count = 1 if 0xC2 <= byte <= 0xDF else 2 if 0xE0 <= byte <= 0xEF else 3 if 0xF0 <= byte <= 0xF4 else 0
            return (at, self._known(bytes([byte])), count) if count else None
        if not 0x80 <= byte <= 0xBF:
            return None
        begun = b"" if begun == b"" else begun + bytes([byte])
        if left > 1:
            return (at, self._known(begun), left - 1)
        try:
            code = ord(begun.decode()) if begun else -1
        except UnicodeDecodeError:
            return None
        return self._after(at, code)

    def _known(self, begun: bytes) -> bytes:
        """The bytes so far if they begin a character that is named; nothing if they begin any other."""
        return begun if begun in self.begun else b""

    def _after(self, at: Any, code: int) -> Any | None:
        following = self.automaton.map.get(at, {}).get(self.of_character.get(code, self.other))
        return None if following is None or following not in self.live else (following, b"", 0)


def over_bytes(automaton: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """(states + 1, 256) the next state, the last one for none; (states,) whether a state accepts; the first state."""
    walk = _Bytes(automaton=automaton)
    walk.number((automaton.initial, b"", 0))
    lines = list[list[int]]()
    for state in walk.queue:
        following = [walk.step(state, byte) for byte in range(256)]
        lines.append([DEAD if one is None else walk.number(one) for one in following])
    dead = len(lines)
    table = np.array([*lines, [DEAD] * 256])
    accepting = np.array([left == 0 and at in automaton.finals for at, _, left in walk.queue])
    return np.where(table == DEAD, dead, table), accepting, 0
