"""A faulty text and its correction, place by place: repair as a change of symbols where they stand.

Between all symbols z_1 .. z_m of the faulty text lie gaps, so a row has 2 m + 1 places: gap, z_1, gap, z_2, ..., gap, with
a blank in the gaps. What is right has the same places: z_i stays, is another symbol, or blank (left out); a gap stays
blank or holds one symbol that was missing. Of several missing in one gap the first is written, the next by another pass.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from langevin.modalities.text.layout import BLANK, Mend
from langevin.modalities.text.speller import Speller
from langevin.modalities.text.tokens import AnyTokens


def spread(ids: Tensor, blank: int) -> Tensor:
    """(2 m + 1,) places of symbols (m,), gaps blank."""
    places = torch.full((2 * len(ids) + 1,), blank, dtype=torch.int64)
    places[1::2] = ids
    return places


def corrected(faulty: Tensor, right: Tensor, blank: int) -> Tensor:
    """(2 m + 1,) what is right at each place of the faulty text, by the fewest edits."""
    places = spread(faulty, blank)
    for edit in Levenshtein.editops(faulty.tolist(), right.tolist()):
        i, j = edit.src_pos, edit.dest_pos
        if edit.tag == "replace":
            places[2 * i + 1] = right[j]
        elif edit.tag == "delete":
            places[2 * i + 1] = blank
        elif places[2 * i] == blank:
            places[2 * i] = right[j]
    return places


@dataclass(frozen=True, kw_only=True, eq=False)
class Telling:
    """What is told of a faulty text: the text itself, and where readings of it by a lexicon differ.

    Args:
        nothing: the symbol of places at which a reading is as the text.
    """

    layout: Mend
    codec: AnyTokens
    nothing: int

    def __call__(self, faulty: str) -> Tensor:
        """(2 m + 1, 1 + hints) of a text of m symbols."""
        ids, blank = self.codec.encode(faulty), self.codec.symbols + BLANK
        text = spread(ids, blank)
        readings = [
            corrected(ids, self.codec.encode(_speller(self.layout.lexicon).correct(faulty, rank)), blank)
            for rank in range(self.layout.hints)
        ]
        return torch.stack([text, *(torch.where(one == text, self.nothing, one) for one in readings)], 1)


@lru_cache(maxsize=2)
def _speller(lexicon: str) -> Speller:
    return Speller.of(lexicon.split())
