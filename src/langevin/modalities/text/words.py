"""Words within a text whose every other character is to stay: what corrupts, corrects and compares sentences shares."""

import re
from collections.abc import Iterator

_PIECE = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\s+|[\W\d_]", re.UNICODE)


def pieces(text: str) -> list[str]:
    """The text cut into words of letters (apostrophes inside kept), runs of white space and single other characters.

    Joined they are the text again.
    """
    return _PIECE.findall(text)


def is_word(piece: str) -> bool:
    """Whether a piece is a word of letters."""
    return piece[:1].isalpha()


def plain_words(text: str) -> Iterator[str]:
    """The lower-case words of letters of a text, in order."""
    return (piece for piece in pieces(text.lower()) if is_word(piece))


def like_case(word: str, model: str) -> str:
    """The word in capitals where the model is, or with a capital first letter where the model has one."""
    if len(model) > 1 and model.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if model[:1].isupper() else word
