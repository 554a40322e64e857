"""A lexicon as a tree of the beginnings of its words, and the words of it that were most likely meant.

The search is best first. A beginning is worth the nats of the likeliest way to have typed some beginning of the typed word
for it, `AHEAD` nats for each character that is left of that word, and the fewest nats of a word with this beginning. With
`AHEAD` = 0 words would be found in the order of ln p(typed | meant) + ln p(meant). With more of it the search looks at
fewer beginnings, and the order is nearly the same, as every character costs something.
"""

import heapq
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import add

from langevin.modalities.text.repair.channel import PART, Channel, bounded, extended, start

AHEAD = 2.0  # nats
_Reached = tuple[float, int, str, "_Node", tuple[list[float], ...]]  # nats, order, beginning, its node, last rows


@dataclass(slots=True)
class _Node:
    """A beginning: the longer ones by their last character, and the fewest nats of a word with it."""

    longer: dict[str, "_Node"] = field(default_factory=dict)
    nats: float = math.inf


class Lexicon:
    """Words in lower case with -ln p of each."""

    def __init__(self, nats: Mapping[str, float]) -> None:
        self._root = _Node()
        for word, value in nats.items():
            node = self._root
            for character in bounded(word):
                node = node.longer.setdefault(character, _Node())
                node.nats = min(node.nats, value)

    def meant(self, typed: str, channel: Channel) -> Iterator[tuple[str, float]]:
        """(word, ln p(typed | word, misspelt)) of words that may have been meant by another, the likeliest first."""
        arcs, ahead = channel.arcs(typed), [AHEAD * j for j in range(len(typed) + 2, -1, -1)]
        queue: list[_Reached] = [(0.0, 0, "", self._root, (start(typed),))]
        number = 0
        while queue:
            _, _, beginning, node, rows = heapq.heappop(queue)
            if not node.longer and beginning[1:-1] != typed:
                yield beginning[1:-1], -rows[-1][-1]
            for character, longer in node.longer.items():
                row = extended(rows, beginning + character, arcs)
                nats = longer.nats + (min(map(add, row, ahead)) if longer.longer else row[-1])
                if nats < math.inf:
                    number += 1
                    heapq.heappush(queue, (nats, number, beginning + character, longer, (*rows[1 - PART :], row)))
