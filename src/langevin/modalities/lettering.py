"""Text beside pictures, within a width in pixels."""

from bisect import bisect_right

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def fit_text(text: str, font: Font, width: int) -> str:
    """The text on one line, truncated with an ellipsis to `width` pixels."""
    drawn = "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text[: width + 1])
    if len(text) <= len(drawn) and font.getlength(drawn) <= width:
        return drawn
    most = bisect_right(range(1, len(drawn) + 1), width, key=lambda count: font.getlength(drawn[:count] + "…"))
    return drawn[:most] + "…"


def wrap_text(text: str, font: Font, width: int, lines: int) -> list[str]:
    """The text on up to `lines` lines, broken between words; what is left over is truncated."""
    words, found = text[: lines * (width + 1)].split(), list[str]()
    while words and len(found) < lines - 1:
        counts = range(1, len(words) + 1)
        count = max(1, bisect_right(counts, width, key=lambda n, left=tuple(words): font.getlength(" ".join(left[:n]))))
        found.append(fit_text(" ".join(words[:count]), font, width))
        words = words[count:]
    return [*found, fit_text(" ".join(words), font, width)] if words else found
