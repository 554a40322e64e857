"""Image grids with captions, tables, files, and the trajectory as an animation."""

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from langevin.files import write_atomic, write_folder
from langevin.modalities.files import file_name, save_arrays
from langevin.modalities.lettering import fit_text
from langevin.modalities.modality import Samples, Table

MOST = 4096  # images of a grid
BACKGROUND = (255, 255, 255)
TEXT, MARK = (60, 60, 60), (214, 69, 65)
_GAP, _FRAME, _LINE = 4, 2, 18
_HEADING = 400  # pixels of the name of a row or a column, at most


def picture(image: Tensor, *, zoom: int = 1) -> Image.Image:
    """A uint8 (c, h, w) image, enlarged `zoom` times without interpolation."""
    array = image.permute(1, 2, 0).contiguous().cpu().numpy()
    result = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    return result.resize((result.width * zoom, result.height * zoom), Image.Resampling.NEAREST)


def zoom_for(side: int, *, target: int = 96) -> int:
    """The integer factor that brings `side` to about `target` pixels."""
    return max(1, round(target / side))


def grid(
    images: Sequence[Tensor] | Tensor,
    *,
    columns: int | None = None,
    captions: Sequence[str] | None = None,
    zoom: int | None = None,
) -> Image.Image:
    """A grid of uint8 (n, c, h, w) images in row-major order, each with its caption below.

    Images of several sizes are each in the middle of a cell for the largest width and height."""
    n = len(images)
    height, width = (max(image.shape[dim] for image in images) for dim in (1, 2))
    if n > MOST:
        raise ValueError(f"a grid shows at most {MOST:,} images, got {n:,}: write them to .npz or a folder")
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    zoom = zoom or zoom_for(max(height, width), target=96 if captions else 64)
    gap, text = 4, 14 if captions else 0
    cell_w, cell_h = width * zoom + gap, height * zoom + gap + text
    canvas = Image.new("RGB", (columns * cell_w + gap, rows * cell_h + gap), BACKGROUND)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=11)
    for i in range(n):
        x, y = gap + (i % columns) * cell_w, gap + (i // columns) * cell_h
        left, top = ((width - images[i].shape[2]) * zoom // 2, (height - images[i].shape[1]) * zoom // 2)
        canvas.paste(picture(images[i], zoom=zoom).convert("RGB"), (x + left, y + top))
        if captions:
            pen.text((x, y + height * zoom), fit_text(captions[i], font, cell_w - gap), fill=(60, 60, 60), font=font)
    return canvas


def png(image: Image.Image) -> bytes:
    """The picture as a PNG file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def table(images: Tensor, cells: Table, *, zoom: int = 1) -> Image.Image:
    """A labelled table of uint8 (rows * columns, c, h, w) images; marked ones get a frame, which a note explains.

    The columns' headings are the last words of their names if these differ."""
    font = ImageFont.load_default(size=13)
    rows, names = ([fit_text(name, font, _HEADING) for name in part] for part in (cells.rows, cells.columns))
    short = [name.split()[-1] if name.split() else name for name in names]
    columns = short if len(set(short)) == len(short) else names
    height, width = images.shape[-2] * zoom + _GAP, images.shape[-1] * zoom + _GAP
    left = 3 * _GAP + int(max(font.getlength(name) for name in rows))
    canvas = Image.new(
        "RGB", (left + len(columns) * width + _GAP, 2 * _LINE + len(rows) * height + 2 * _GAP), BACKGROUND
    )
    pen = ImageDraw.Draw(canvas)
    for j, name in enumerate(columns):
        pen.text((left + j * width + width // 2, _LINE - 3), name, fill=TEXT, font=font, anchor="ms")
    for i, name in enumerate(rows):
        pen.text((left - 2 * _GAP, _LINE + i * height + height // 2), name, fill=TEXT, font=font, anchor="rm")
    for k, image in enumerate(images):
        x, y = left + k % len(columns) * width, _LINE + k // len(columns) * height
        canvas.paste(picture(image, zoom=zoom).convert("RGB"), (x + _GAP // 2, y + _GAP // 2))
        if cells.marked[k]:
            pen.rectangle((x, y, x + width - 1, y + height - 1), outline=MARK, width=_FRAME)
    below = canvas.height - _LINE + 2
    pen.rectangle((left, below, left + 9, below + 9), outline=MARK, width=_FRAME)
    pen.text((left + 16, below + 9), cells.note, fill=TEXT, font=font, anchor="ls")
    return canvas


def save(samples: Samples, out: Path) -> None:
    """Write a grid (.png), an array (.npz), an animation of the trajectory (.gif), or a folder, a file per sample.

    Raises:
        ValueError: an animation of samples without recorded frames, or of several sizes."""
    match out.suffix:
        case ".png":
            write_atomic(out, samples.stamped(samples.preview().content))
        case ".npz":
            several = {} if isinstance(samples.values, Tensor) else {"size": sizes_of(samples.values)}
            filled = replace(samples, arrays={**samples.arrays, **several})
            save_arrays(out, filled, "images", on_one_canvas(samples.values).permute(0, 2, 3, 1).numpy())
        case ".gif":
            if not samples.frames:
                raise ValueError("the trajectory was not recorded: draw with frames=True to animate it")
            require_one_size(len({value.shape for value in samples.values}))
            write_atomic(out, animation(samples.frames, columns=samples.columns))
        case _:
            shown = samples.names or [""] * len(samples)
            with write_folder(out) as folder:
                for i, (image, name) in enumerate(zip(samples.values, shown, strict=True)):
                    file = f"{i:05d}" + (f"-{file_name(name)}" if name else "") + ".png"
                    (folder / file).write_bytes(samples.stamped(png(picture(image)), i))


def require_one_size(count: int) -> None:
    """Raise `ValueError` if the images to animate are of several sizes."""
    if count > 1:
        raise ValueError(f"an animation is of images of one size, and these are of {count} sizes: give --size")


def sizes_of(images: Sequence[Tensor]) -> Tensor:
    """(n, 2) int64: width and height of images (c, h, w)."""
    return torch.tensor([[image.shape[2], image.shape[1]] for image in images])


def on_one_canvas(images: Sequence[Tensor] | Tensor) -> Tensor:
    """Images of several sizes as one tensor (n, c, height, width), 0 to the right of each and below."""
    if isinstance(images, Tensor):
        return images
    width, height = sizes_of(images).amax(0).tolist()
    return torch.stack([torch.nn.functional.pad(x, (0, width - x.shape[2], 0, height - x.shape[1])) for x in images])


def animation(frames: Sequence[Tensor], *, columns: int | None = None, seconds: float = 3.0) -> bytes:
    """A GIF of uint8 (n, c, h, w) frames; the last one stays for a second."""
    grids = [grid(frame, columns=columns).quantize(128) for frame in frames]
    step = max(20, int(1000 * seconds / max(1, len(grids))))
    durations = [step] * (len(grids) - 1) + [1000]
    content = io.BytesIO()
    grids[0].save(content, "GIF", save_all=True, append_images=grids[1:], duration=durations, loop=0)
    return content.getvalue()


def side_by_side(left: Tensor, right: Tensor) -> Tensor:
    """Pairs (n, c, h, w) joined along the width, with a white bar between."""
    bar = torch.full((*left.shape[:3], 1), 255, dtype=left.dtype)
    return torch.cat([left, bar, right], -1)
