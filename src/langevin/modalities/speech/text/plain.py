"""English text as ASCII: accents are dropped, and quotation marks, dashes, ligatures and digits are the plain ones."""

import re
import unicodedata

from langevin.modalities.speech.text.abbreviations import SIGNS

LONGEST_TEXT = 10_000  # characters

ASCII = str.maketrans(
    dict.fromkeys("‘’‚‛ʼ′`´", "'") | dict.fromkeys("“”„‟«»‹›″", '"') | dict.fromkeys("–―‒", " — ")
    | dict.fromkeys("‐‑−", "-") | dict.fromkeys("\u00ad™®©", "")
    | {"№": "No. ", "…": ", ", "⁄": "/", "。": ". ", "，": ", ", "？": "? ", "！": "! "}
    | {"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D",
       "þ": "th", "Þ": "Th", "ð": "d", "Ð": "D", "ı": "i"}
)  # fmt: skip


def require_short(text: str) -> None:
    """Raise `ValueError` for a text of more than 10,000 characters."""
    if len(text) > LONGEST_TEXT:
        raise ValueError(
            f"the text has {len(text):,} characters, and at most {LONGEST_TEXT:,} are read: split it into sentences"
        )


def plain(text: str) -> str:
    """The text in ASCII, but for signs that are not read."""
    if not isinstance(text, str):
        raise ValueError(f"a text (str) was expected, got {type(text).__name__}")
    require_short(text)
    if not text.isascii():
        text = re.sub(r"(?<=\d)([¼-¾⅐-⅞])", r" \1", text)
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text.translate(ASCII)).translate(ASCII))
        text = "".join(map(_digit, (c for c in text if unicodedata.category(c) not in ("Mn", "Me", "Cf"))))
    for c in text:
        if not c.isascii() and unicodedata.category(c) in ("Lu", "Ll", "Lt", "Lm", "Lo", "Mc"):
            raise ValueError(
                f"'{c}' is no letter of English: write the text in English, or read it with the characters of its own "
                "language, or with espeak"
            )
        if "\ud800" <= c <= "\udfff":
            raise ValueError(
                f"the text is not Unicode: it has U+{ord(c):04X}, an unpaired surrogate; repair its source"
            )
    return text


def _digit(c: str) -> str:
    value = None if c.isascii() else unicodedata.decimal(c, None)
    return c if value is None else str(value)


def left_out(text: str) -> tuple[str, ...]:
    """The characters that `normalise` does not read, such as emoji, each once."""
    return tuple(sorted({c for c in plain(text) if not (c.isascii() or c.isspace())} - {*SIGNS, "—"}))
