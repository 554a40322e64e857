"""Splits a text into words and the characters between them, losslessly: for corruption, spelling and metrics."""

import re
from collections.abc import Iterator

_PIECE = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\s+|[\W\d_]", re.UNICODE)


def pieces(text: str) -> list[str]:
    """The text split into words of letters (with inner apostrophes), runs of white space and single other characters.

    Joined they give the text.
    """
    return _PIECE.findall(text)


def is_word(piece: str) -> bool:
    """Whether a piece is a word of letters."""
    return piece[:1].isalpha()


def plain_words(text: str) -> Iterator[str]:
    """The words of letters of a text in lower case, in order."""
    return (piece for piece in pieces(text.lower()) if is_word(piece))


def like_case(word: str, model: str) -> str:
    """The word in the case of `model`: in capitals, or with a capital first letter."""
    if len(model) > 1 and model.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if model[:1].isupper() else word
