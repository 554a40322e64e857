"""Text beside pictures: the longest beginning that fits, and lines that lose no word before the last."""

import pytest
from PIL import ImageFont

from langevin.modalities.lettering import fit_text, wrap_text

FONT = ImageFont.load_default(size=11)


@pytest.mark.parametrize("width", [0, 5, 40, 92, 300])
@pytest.mark.parametrize("text", ["", "a cat", "WWWWWWWWWWWWWWWWWWWW", "illicit " * 30, "Überraschung, 猫 und 🙂 " * 4])
def test_a_caption_is_the_longest_beginning_that_fits(text, width):
    seen = fit_text(text, FONT, width)
    if FONT.getlength(text) <= width:
        assert seen == text
        return
    kept = seen.removesuffix("…")
    assert seen == kept + "…"
    assert text.startswith(kept)
    assert not kept or FONT.getlength(seen) <= width
    assert FONT.getlength(text[: len(kept) + 1] + "…") > width


def test_a_text_of_any_length_and_any_characters_is_one_line():
    assert fit_text("x" * 10_000_000, FONT, 92) == fit_text("x" * 100, FONT, 92)
    assert fit_text("a\nb\tc\x1b[0m\x00\ud83d", FONT, 300) == "a b c\ufffd[0m\ufffd\ufffd"
    assert len(wrap_text("a " * 10_000_000, FONT, 92, 3)) == 3


@pytest.mark.parametrize("width", [5, 40, 92, 300])
@pytest.mark.parametrize("lines", [1, 2, 3])
@pytest.mark.parametrize("text", ["", "a cat", "Character of brown hair walks to the left", "WWWWWWWWWWWWWWWWWWWWW W"])
def test_lines_are_filled_from_the_first_and_only_what_does_not_fit_is_cut(text, lines, width):
    found = wrap_text(text, FONT, width, lines)
    assert len(found) <= lines
    words = text.split()
    for i, line in enumerate(found[:-1]):
        count = max(1, len(line.split()))
        assert line == fit_text(" ".join(words[:count]), FONT, width)
        words = words[count:]
        assert FONT.getlength(f"{line} {words[0]}") > width or line.endswith("…"), i  # the next word had no room
    assert (found or [""])[-1] == fit_text(" ".join(words), FONT, width)
