"""Rules for texts: expressions, required and forbidden words, counts, facts. All of a request hold together, for the whole
text, what is given included. `compile_rules` makes them one automaton over a run's tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from langevin.modalities.text.expression import OTHER, Expression
from langevin.modalities.text.input import read_text

MOST_COUNT = 100
MOST_FACTS = 100


class Rule(Protocol):
    """A finite automaton over characters, whose states are made as they are reached."""

    @property
    def name(self) -> str:
        """The option that gave it, for messages."""
        ...

    @property
    def named(self) -> frozenset[int]:
        """Code points that it tells from others."""
        ...

    @property
    def start(self) -> Any:
        """The first state; states can be hashed."""
        ...

    def kind(self, code: int) -> Any:
        """What of a character matters: characters of one kind lead from any state to the same. OTHER is one not named."""
        ...

    def step(self, state: Any, code: int) -> Any:
        """The next state; None for none."""
        ...

    def accepts(self, state: Any) -> bool:
        """Whether a text that ends here obeys."""
        ...


def obeys(rule: Rule, text: str) -> bool:
    """Whether a text obeys."""
    state = rule.start
    for character in text:
        code = ord(character)
        state = rule.step(state, code if code in rule.named else OTHER)
        if state is None:
            return False
    return rule.accepts(state)


@dataclass(frozen=True)
class Word:
    """A text has a word so many times, counted from the left without overlaps. A state is (characters matched, count)."""

    name: str
    word: str
    least: int = 0
    most: int | None = None

    def __post_init__(self) -> None:
        if not self.word:
            raise ValueError(f"{self.name}: a rule needs a word, and it is empty")

    @property
    def named(self) -> frozenset[int]:
        return frozenset(map(ord, self.word))

    @property
    def start(self) -> tuple[int, int]:
        return 0, 0

    def kind(self, code: int) -> int:
        return code if code in self.named else OTHER

    def step(self, state: tuple[int, int], code: int) -> tuple[int, int] | None:
        matched, count = state
        if self.most is None and count == self.least:
            return state  # whatever follows
        while matched and ord(self.word[matched]) != code:
            matched = self._shorter[matched - 1]
        matched += ord(self.word[matched]) == code
        if matched < len(self.word):
            return matched, count
        if self.most is not None and count == self.most:
            return None
        return 0, min(count + 1, self.least if self.most is None else self.most)

    def accepts(self, state: tuple[int, int]) -> bool:
        return state[1] >= self.least

    @cached_property
    def _shorter(self) -> list[int]:
        """For each length but 0, that of the longest shorter beginning that it ends in (Knuth, Morris, Pratt)."""
        found, k = [0] * len(self.word), 0
        for i in range(1, len(self.word)):
            while k and self.word[i] != self.word[k]:
                k = found[k - 1]
            k += self.word[i] == self.word[k]
            found[i] = k
        return found


@dataclass(frozen=True)
class Fact:
    """A text that names subject and relation names the object."""

    name: str
    subject: Word
    relation: Word
    object_: Word

    @property
    def words(self) -> tuple[Word, Word, Word]:
        return self.subject, self.relation, self.object_

    @property
    def named(self) -> frozenset[int]:
        return frozenset[int]().union(*(word.named for word in self.words))

    @property
    def start(self) -> Any:
        return tuple(word.start for word in self.words)

    def kind(self, code: int) -> int:
        return code if code in self.named else OTHER

    def step(self, state: Any, code: int) -> Any:
        if self.object_.accepts(state[2]):
            return state  # whatever follows
        state = tuple(word.step(at, code) for word, at in zip(self.words, state, strict=True))
        object_ = state[2]
        return (*self.start[:2], object_) if self.object_.accepts(object_) else state

    def accepts(self, state: Any) -> bool:
        subject, relation, object_ = (word.accepts(at) for word, at in zip(self.words, state, strict=True))
        return object_ or not (subject and relation)


def rules_of(
    *, rule: str | None = None, contain: Sequence[str] = (), without: Sequence[str] = (), at_least: Sequence[str] = (),
    at_most: Sequence[str] = (), facts: str | None = None,
) -> tuple[Rule, ...]:  # fmt: skip
    """The rules that options give.

    Raises:
        ValueError: an expression that cannot be parsed, an empty word, or a count or a fact of another form."""
    found = list[Rule]()
    if rule is not None:
        found.append(Expression(f"--rule {rule}", rule))
    found += [Word(f"--contain {word}", word, least=1) for word in contain]
    found += [Word(f"--without {word}", word, most=0) for word in without]
    for text in at_least:
        word, count = counted("--at-least", text)
        found.append(Word(f"--at-least {text}", word, least=count))
    for text in at_most:
        word, count = counted("--at-most", text)
        found.append(Word(f"--at-most {text}", word, most=count))
    return tuple(found) + (facts_of(facts) if facts is not None else ())


def counted(option: str, text: str) -> tuple[str, int]:
    """The word and the count of WORD:COUNT. Raises `ValueError` if it is not written so."""
    word, _, count = text.rpartition(":")
    if not word or not count.isdecimal() or int(count) > MOST_COUNT:
        raise ValueError(f"{option} takes WORD:COUNT with a count up to {MOST_COUNT}, got '{text}'")
    return word, int(count)


def facts_of(path: str) -> tuple[Fact, ...]:
    """Of each line "subject TAB relation TAB object": a text that names subject and relation names the object.

    Raises:
        ValueError: a line that has not three parts, or too many lines."""
    found = list[Fact]()
    for number, line in enumerate(read_text(path).splitlines(), 1):
        parts = [part.strip() for part in line.split("\t")]
        if not line.strip():
            continue
        if len(parts) != 3 or not all(parts):
            raise ValueError(
                f"{path}, line {number}: a fact is subject, relation and object between tabs, got {line!r}"
            )
        if len(found) == MOST_FACTS:
            raise ValueError(f"{path} has more than {MOST_FACTS} facts")
        name = f"fact {' '.join(parts)}"
        found.append(Fact(name, *(Word(name, part, least=1) for part in parts)))
    return tuple(found)
