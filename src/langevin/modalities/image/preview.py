"""Pictures to look at: labelled grids, files, and the denoising as an animation."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

BACKGROUND = (255, 255, 255)


def picture(image: Tensor, *, zoom: int = 1) -> Image.Image:
    """A uint8 (c, h, w) image, each pixel `zoom` x `zoom`."""
    array = image.permute(1, 2, 0).contiguous().cpu().numpy()
    made = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    return made.resize((made.width * zoom, made.height * zoom), Image.Resampling.NEAREST)


def zoom_for(side: int, *, target: int = 96) -> int:
    """How often to repeat a pixel so that an image of `side` is about `target` wide."""
    return max(1, round(target / side))


def grid(
    images: Tensor, *, columns: int | None = None, captions: Sequence[str] | None = None, zoom: int | None = None
) -> Image.Image:
    """uint8 (n, c, h, w) images row by row, `captions` below each."""
    n, _, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    zoom = zoom or zoom_for(max(height, width), target=96 if captions else 64)
    gap, text = 4, 14 if captions else 0
    cell_w, cell_h = width * zoom + gap, height * zoom + gap + text
    sheet = Image.new("RGB", (columns * cell_w + gap, rows * cell_h + gap), BACKGROUND)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for i in range(n):
        x, y = gap + (i % columns) * cell_w, gap + (i // columns) * cell_h
        sheet.paste(picture(images[i], zoom=zoom).convert("RGB"), (x, y))
        if captions:
            pen.text((x, y + height * zoom), fit_text(captions[i], font, cell_w - gap), fill=(60, 60, 60), font=font)
    return sheet


def fit_text(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, or as much of it as fits, with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def png(image: Image.Image) -> bytes:
    """The picture as a PNG file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def save_files(images: Tensor, folder: Path, names: Sequence[str]) -> None:
    """One PNG each."""
    folder.mkdir(parents=True, exist_ok=True)
    for image, name in zip(images, names, strict=True):
        picture(image).save(folder / f"{name}.png")


def save_animation(frames: Sequence[Tensor], path: Path, *, columns: int | None = None, seconds: float = 3.0) -> None:
    """A GIF of uint8 (n, c, h, w) states; the last one is held for a second."""
    sheets = [grid(frame, columns=columns).quantize(128) for frame in frames]
    step = max(20, int(1000 * seconds / max(1, len(sheets))))
    durations = [step] * (len(sheets) - 1) + [1000]
    sheets[0].save(path, save_all=True, append_images=sheets[1:], duration=durations, loop=0)


def side_by_side(left: Tensor, right: Tensor) -> Tensor:
    """Pairs (n, c, h, w) joined along the width, with a white bar between."""
    bar = torch.full((*left.shape[:3], 1), 255, dtype=left.dtype)
    return torch.cat([left, bar, right], -1)
