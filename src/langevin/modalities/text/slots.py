"""A corrupted text and its correction aligned position by position, so that correction predicts tokens in place.

A corrupted text of tokens z_1 .. z_m is interleaved with blanks: blank, z_1, blank, z_2, ..., z_m, blank, so 2 m + 1
positions. The clean text is aligned with them by the fewest edits. At z_i it has z_i (kept), another token (substituted)
or a blank (deleted). At a blank it has a blank, or the first of the tokens inserted there; more of them need more passes.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from langevin.extras import require
from langevin.modalities.text.codec import AnyTokens
from langevin.modalities.text.speller import Speller
from langevin.modalities.text.task import BLANK, Correction


def interleave_blanks(ids: Tensor, blank: int) -> Tensor:
    """(2 m + 1,) token ids of a text (m,), interleaved with blanks."""
    slots = torch.full((2 * len(ids) + 1,), blank, dtype=torch.int64)
    slots[1::2] = ids
    return slots


def aligned(corrupted: Tensor, clean: Tensor, blank: int) -> Tensor:
    """(2 m + 1,) the clean text at the positions of the corrupted one (m,), by the fewest (Levenshtein) edits."""
    edits = require("rapidfuzz.distance", "Correcting texts").Levenshtein
    slots = interleave_blanks(corrupted, blank)
    for edit in edits.editops(corrupted.tolist(), clean.tolist()):
        i, j = edit.src_pos, edit.dest_pos
        if edit.tag == "replace":
            slots[2 * i + 1] = clean[j]
        elif edit.tag == "delete":
            slots[2 * i + 1] = blank
        elif slots[2 * i] == blank:
            slots[2 * i] = clean[j]
    return slots


@dataclass(frozen=True, kw_only=True, eq=False)
class SideInputs:
    """The side inputs of a corrupted text: the text itself, and a spelling checker's candidates where they differ from it.

    Args:
        same: token id at positions where a candidate equals the text.
    """

    task: Correction
    codec: AnyTokens
    same: int

    def __call__(self, corrupted: str) -> Tensor:
        """(2 m + 1, 1 + spellcheck_candidates) token ids, for a text of m tokens."""
        ids, blank = self.codec.encode(corrupted), self.codec.vocab_size + BLANK
        text = interleave_blanks(ids, blank)
        candidates = [
            aligned(ids, self.codec.encode(_speller(self.task.lexicon).correct(corrupted, rank)), blank)
            for rank in range(self.task.spellcheck_candidates)
        ]
        return torch.stack([text, *(torch.where(other == text, self.same, other) for other in candidates)], 1)


@lru_cache(maxsize=2)
def _speller(lexicon: str) -> Speller:
    return Speller.of(lexicon.split())
