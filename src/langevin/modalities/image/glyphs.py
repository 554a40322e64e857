"""Glyphs of the typefaces that come with matplotlib, 32x32 grey, each with a caption: "bold serif capital G".

21 faces of three projects (DejaVu, STIX, Computer Modern) times 62 characters, black on white. Capitals of all faces
have the same height and baseline. The bounding box is centred horizontally. A glyph is drawn eight times as large and
averaged down, which removes hinting. The pixels depend only on the font files and on FreeType.

A tenth of the pairs (face, character) is held out, along diagonals of their table. Every face and every character is
trained on, these pairs never. No face has a letter held out both as a capital and as a small letter.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from langevin.modalities.image.table import Table

FACES = {
    "sans": "DejaVuSans",
    "bold sans": "DejaVuSans-Bold",
    "oblique sans": "DejaVuSans-Oblique",
    "bold oblique sans": "DejaVuSans-BoldOblique",
    "serif": "DejaVuSerif",
    "bold serif": "DejaVuSerif-Bold",
    "italic serif": "DejaVuSerif-Italic",
    "bold italic serif": "DejaVuSerif-BoldItalic",
    "mono": "DejaVuSansMono",
    "bold mono": "DejaVuSansMono-Bold",
    "oblique mono": "DejaVuSansMono-Oblique",
    "bold oblique mono": "DejaVuSansMono-BoldOblique",
    "stix": "STIXGeneral",
    "bold stix": "STIXGeneralBol",
    "italic stix": "STIXGeneralItalic",
    "bold italic stix": "STIXGeneralBolIta",
    "modern": "cmr10",
    "bold modern": "cmb10",
    "italic modern": "cmti10",
    "modern sans": "cmss10",
    "modern typewriter": "cmtt10",
}  # the caption's words for a face, and its font file
SYMBOLS = {
    **{f"capital {letter}": letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"},
    **{f"small {letter}": letter for letter in "abcdefghijklmnopqrstuvwxyz"},
    **{f"digit {digit}": digit for digit in "0123456789"},
}  # the caption's words for a character, and the character
SIDE = 32
_CAPITAL, _BASELINE = 18, 23  # height of a capital, and the baseline's distance from the top, in pixels
_FINER = 8  # supersampling factor


def held_out(face: int, symbol: int) -> bool:
    """Whether the pair of these indices into `FACES` and `SYMBOLS` is held out."""
    return (symbol + 3 * face) % 10 == 0


def parts(caption: str) -> tuple[str, str]:
    """A caption split into face and character: "bold serif", "capital G"."""
    *face, kind, symbol = caption.split()
    return " ".join(face), f"{kind} {symbol}"


def open_glyphs() -> Table:
    """The 1,302 glyphs, held-out pairs last. Raises `ValueError` for a missing or damaged font file."""
    pairs = sorted(
        (held_out(i, j), i, j, face, symbol) for i, face in enumerate(FACES) for j, symbol in enumerate(SYMBOLS)
    )
    fonts = {face: _font(f"{name}.ttf") for face, name in FACES.items()}
    values = [render(fonts[face], SYMBOLS[symbol]) for *_, face, symbol in pairs]
    captions = [f"{face} {symbol}" for *_, face, symbol in pairs]
    return Table(
        where="Glyphs",
        names=[caption.replace(" ", "-") for caption in captions],
        fetch=lambda row: values[row].tobytes(),
        raw=(1, SIDE, SIDE),
        captions=captions,
        test_from=sum(not unseen for unseen, *_ in pairs),
    )


def render(font: ImageFont.FreeTypeFont, symbol: str) -> np.ndarray:
    """uint8 (32, 32), black 0 on white 255."""
    side = SIDE * _FINER
    left, _, right, _ = font.getbbox(symbol, anchor="ls")
    canvas = Image.new("L", (side, side), 255)
    ImageDraw.Draw(canvas).text(
        ((side - left - right) // 2, _BASELINE * _FINER), symbol, fill=0, font=font, anchor="ls"
    )
    return np.asarray(canvas.reduce(_FINER), dtype=np.uint8)


def _font(name: str) -> ImageFont.FreeTypeFont:
    """A font of matplotlib, scaled to the common height of the capital H."""
    import matplotlib

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", name)
    advice = f"reinstall matplotlib (this is {matplotlib.__version__}), which brings its fonts with it"
    if not path.is_file():
        raise ValueError(f"Glyphs: there is no font {path}: {advice}")
    content = path.read_bytes()  # given a path it cannot read, Pillow falls back to a system font of that name
    try:
        large = _sized(content, 1000)
        return _sized(content, round(1000 * _CAPITAL * _FINER / -large.getbbox("H", anchor="ls")[1]))
    except OSError as error:
        raise ValueError(f"Glyphs: the font {path} cannot be read ({error}): {advice}") from error


def _sized(content: bytes, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(io.BytesIO(content), size, layout_engine=ImageFont.Layout.BASIC)
