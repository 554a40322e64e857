"""How a task becomes rows of symbols: which places are given and which are asked for. Nothing of diffusion is in it.

Behind the codec's symbols come controls: END, SEPARATOR, and numbers 0, 1, 2, ... A row is one of

    corpus    a stretch of text, all of it asked for: generate, continue, fill in
    pairs     source SEPARATOR length target: summarise, reply. The length is a number and a symbol like any other, asked
              for in some rows by itself, with nothing behind it that would give it away: the model decides how long it
              writes, and no end marks fill the rest
    mend      a faulty text told beside, place by place, all of the right one asked for: repair
    labels    premise SEPARATOR hypothesis SEPARATOR number: the label is one symbol; in some rows all is asked for

so the same process, network and samplers do every task: what differs is what is known.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from langevin.modalities.text.corruption.corrupt import Corruption
from langevin.modalities.text.speller import NEAREST
from langevin.modalities.text.words import plain_words

END, SEPARATOR, NUMBERS = 0, 1, 2  # controls, counted from the codec's symbols
BLANK = END  # of a text that is repaired in place: no symbol here


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Stretches of `length` symbols of a text.

    Args:
        controls: how many control symbols to keep room for, so that a run may go on as another task; 0 for none.
        between: what stands between documents.
    """

    kind: Literal["corpus"] = "corpus"
    length: int = 256
    controls: int = 0
    between: str = "\n\n"

    def __post_init__(self) -> None:
        _require_length(self.length)
        if self.controls < 0:
            raise ValueError(f"layout.controls counts symbols, got {self.controls}")

    def needed(self, labels: int) -> int:
        """Control symbols."""
        return self.controls


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """A source and what is made of it.

    Args:
        length: of a row; a longer source is cut at its end (a dialogue at its beginning).
        target: the most symbols of a target; longer ones are cut in training.
        ask_length: share of training rows that ask for the length alone.
        joint: share of training rows in which the source is asked for as well.
        turns: of a dialogue, how many are shown before a reply.
        controls: at least target + 3.
    """

    kind: Literal["pairs"] = "pairs"
    length: int = 384
    target: int = 64
    ask_length: float = 0.1
    joint: float = 0.0
    turns: int = 5
    controls: int = 0

    def __post_init__(self) -> None:
        _require_length(self.length)
        if not 1 <= self.target < self.length - 4 or self.turns < 1:
            raise ValueError(f"layout.target {self.target} must leave room for a source in {self.length} places")
        if min(self.ask_length, self.joint) < 0 or self.ask_length + self.joint >= 1:
            raise ValueError("layout.ask_length and layout.joint are shares of the rows, together below 1")

    def needed(self, labels: int) -> int:
        return max(self.controls, NUMBERS + self.target + 1)


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Two texts and how they stand to each other, or one text and its class.

    Args:
        joint: share of training rows in which all is asked for, label and texts.
    """

    kind: Literal["labels"] = "labels"
    length: int = 128
    joint: float = 0.5
    controls: int = 0

    def __post_init__(self) -> None:
        _require_length(self.length)
        if not 0 <= self.joint < 1:
            raise ValueError(f"layout.joint is a share of the rows below 1, got {self.joint}")

    def needed(self, labels: int) -> int:
        return max(self.controls, NUMBERS + labels)


@dataclass(frozen=True, kw_only=True)
class Mend:
    """A faulty text told beside, place by place, and what is right asked for: see `slots`. Clean text is made faulty.

    Args:
        length: places of a row, two for each character and one.
        spelling, grammar: mean shares of words and places that are made faulty.
        clean: share of texts left as they are.
        hidden: share of training rows in which characters of the faulty text are hidden, as many as chance has it: what is
            told is nearly right, and who only ever reads on learns to copy and no language.
        misspellings: files of known ones, "word: error, error*3" or "wrong->right"; without any they are made up.
        hints: readings of the faulty text that are told beside it, in which each word outside the lexicon is its nearest
            word, the next nearest, and so on: the run learns when to believe them. 0 to 8.
        words: size of the lexicon, the most frequent words of the training text.
        lexicon: those words, the most frequent first, with spaces between; taken from the text where it is empty.
        reluctance: nats by which another symbol must be likelier than the one that stands there, in use.
    """

    kind: Literal["mend"] = "mend"
    length: int = 257
    spelling: float = 0.1
    grammar: float = 0.05
    clean: float = 0.17
    hidden: float = 0.5
    misspellings: tuple[str, ...] = ()
    hints: int = 2
    words: int = 20_000
    lexicon: str = field(default="", repr=False)
    reluctance: float = 2.0
    controls: int = 0

    def __post_init__(self) -> None:
        _require_length(self.length)
        Corruption(spelling=self.spelling, grammar=self.grammar, clean=self.clean)
        if not 0 <= self.hidden <= 1:
            raise ValueError(f"layout.hidden is a share of the rows, 0 to 1, got {self.hidden}")
        if not 0 <= self.hints <= NEAREST or self.words < 1:
            raise ValueError(
                f"layout.hints is 0 to {NEAREST}, and layout.words at least 1, got {self.hints} and {self.words}"
            )
        if not 0 <= self.reluctance < float("inf"):
            raise ValueError(f"layout.reluctance is at least 0 nats, got {self.reluctance}")

    def fitted(self, texts: Iterable[str]) -> "Mend":
        """With a lexicon of these texts, if it needs one."""
        if self.lexicon or not self.hints:
            return self
        count = Counter(word for text in texts for word in plain_words(text))
        frequent = sorted(count, key=lambda word: (-count[word], word))[: self.words]
        return replace(self, lexicon=" ".join(frequent), hints=self.hints if frequent else 0)

    @property
    def longest(self) -> int:
        """Characters of a text that a row surely holds."""
        return (self.length - 1) // 2

    def needed(self, labels: int) -> int:
        return max(self.controls, BLANK + 1)


AnyLayout = Corpus | Pairs | Labels | Mend


def _require_length(length: int) -> None:
    if not 4 <= length <= 65_536:
        raise ValueError(f"layout.length is the symbols of a row, 4 to 65536, got {length}")
