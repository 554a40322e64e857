"""Motions as pictures: stick figures and systems, animated and side by side, drawn with Pillow."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from langevin.modalities.motion.skeleton import Skeleton

PAPER, GROUND, TEXT = (255, 255, 255), (222, 226, 230), (60, 60, 60)
LEFT, RIGHT, MIDDLE = (214, 90, 49), (43, 108, 176), (55, 65, 81)
BALLS = (LEFT, RIGHT, (58, 157, 110), (184, 95, 179), (201, 162, 39), (122, 135, 148))
SMOOTH = 2  # by which pictures are drawn larger, then made smaller
LINE = 14  # pixels of a caption


@dataclass(frozen=True, kw_only=True, eq=False)
class Film:
    """A motion as points on paper.

    Args:
        points: (frames, k, 2), x to the right and y up.
        bones: pairs of points that are joined.
        colours: of the bones; without bones, of the points.
        ground: y of the ground; None without.
        radius: of points without bones, in the unit of the points.
        trail: whether the way of the points is drawn.
    """

    points: Tensor
    bones: tuple[tuple[int, int], ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()
    ground: float | None = None
    radius: float = 0.0
    trail: bool = False


def of_skeleton(skeleton: Skeleton, poses: Tensor) -> Film:
    """A stick figure, seen from the side that it moves along, at an angle from above."""
    p = skeleton.positions_of(poses.double())
    flat = p[:, 0][:, [0, 2]]
    way = flat - flat.mean(0)
    direction = torch.linalg.svd(way, full_matrices=False)[2][0] if float(way.norm()) > 0.3 * skeleton.height else None
    along = torch.tensor([1.0, 0.0], dtype=p.dtype) if direction is None else direction
    if direction is not None and float((flat[-1] - flat[0]) @ along) < 0:
        along = -along
    turn = math.atan2(float(along[1]), float(along[0])) - 0.5  # seen a little from the front
    x = p[..., 0] * math.cos(turn) + p[..., 2] * math.sin(turn)
    depth = -p[..., 0] * math.sin(turn) + p[..., 2] * math.cos(turn)
    y = p[..., 1] * math.cos(0.2) - depth * math.sin(0.2)
    y = y - (y[:, 0] - p[:, 0, 1] * math.cos(0.2))[:, None]  # the ground stays level below the figure
    bones = tuple((parent, joint) for joint, parent in enumerate(skeleton.parents) if joint)
    sides = [skeleton.names[joint].lower() for _, joint in bones]
    colours = tuple(LEFT if _side(s, "l") else RIGHT if _side(s, "r") else MIDDLE for s in sides)
    return Film(points=torch.stack([x, y], -1), bones=bones, colours=colours, ground=0.0)


def _side(name: str, letter: str) -> bool:
    word = {"l": "left", "r": "right"}[letter]
    return word in name or name.startswith((f"{letter}_", f"{letter}-")) or name.endswith((f"_{letter}", f".{letter}"))


def of_points(points: Tensor, *, joined: bool, radius: float = 0.0) -> Film:
    """Points (frames, k, 2) of a system, joined to a line or each alone."""
    k = points.shape[1]
    bones = tuple((i, i + 1) for i in range(k - 1)) if joined else ()
    colours = (MIDDLE,) * len(bones) if joined else tuple(BALLS[i % len(BALLS)] for i in range(k))
    return Film(points=points.double(), bones=bones, colours=colours, radius=radius, trail=not joined)


def frame_of(film: Film, frame: int, box: tuple[float, float, float, float], size: tuple[int, int]) -> Image.Image:
    """One frame of a film: the part of the paper within box (left, bottom, right, top), on (width, height) pixels."""
    width, height = size[0] * SMOOTH, size[1] * SMOOTH
    left, bottom, right, top = box
    scale = min(width / max(right - left, 1e-9), height / max(top - bottom, 1e-9))
    canvas = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(canvas)
    shift_x, shift_y = (width - scale * (right - left)) / 2, (height - scale * (top - bottom)) / 2

    def at(points: Tensor) -> list[tuple[float, float]]:
        x, y = points.unbind(-1)
        return [
            (shift_x + scale * (a - left), height - shift_y - scale * (b - bottom))
            for a, b in zip(x.tolist(), y.tolist(), strict=True)
        ]

    if film.ground is not None:
        level = height - shift_y - scale * (film.ground - bottom)
        pen.line((0, level, width, level), fill=GROUND, width=SMOOTH)
    places = at(film.points[frame])
    thick = max(SMOOTH, round(min(width, height) / 40))
    if film.trail and frame:
        for k, colour in enumerate(film.colours):
            pen.line(at(film.points[: frame + 1, k]), fill=tuple((c + 2 * 255) // 3 for c in colour), width=SMOOTH)
    for (a, b), colour in zip(film.bones, film.colours, strict=False):
        pen.line((*places[a], *places[b]), fill=colour, width=thick, joint="curve")
    size_of = scale * film.radius or thick * (1.2 if film.bones else 1.8)
    for k, (x, y) in enumerate(places):
        colour = MIDDLE if film.bones else film.colours[k % len(film.colours)]
        reach = size_of if not film.bones else thick * 0.6
        pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)
    return canvas.resize(size, Image.Resampling.LANCZOS)


def box_of(points: Tensor, margin: float = 0.08, ground: float | None = None) -> tuple[float, float, float, float]:
    """The box around points (..., 2), with a margin."""
    flat = points.reshape(-1, 2)
    low, high = flat.amin(0).tolist(), flat.amax(0).tolist()
    if ground is not None:
        low[1] = min(low[1], ground)
    reach = margin * max(high[0] - low[0], high[1] - low[1], 1e-3)
    return low[0] - reach, low[1] - reach, high[0] + reach, high[1] + reach


def following(film: Film, frame: int, half: float) -> tuple[float, float, float, float]:
    """A box that moves along with a figure."""
    x = float(film.points[frame, 0, 0])
    low = min(0.0 if film.ground is None else film.ground, float(film.points[..., 1].min()))
    return x - half, low - 0.1 * half, x + half, low + 1.9 * half


def animation(
    films: Sequence[Film], names: Sequence[str], rate: float, *, side: int = 160, columns: int | None = None,
    form: str = "GIF", most: int = 240,
) -> bytes:  # fmt: skip
    """An animation of films side by side, at their rate or as near as the form holds; shorter ones stay at their end.

    Args:
        side: pixels of a film.
        form: GIF or WEBP.
        most: frames, beyond which some are left out.
    """
    columns = columns or min(len(films), 4)
    rows, frames = -(-len(films) // columns), max(len(film.points) for film in films)
    step = max(1, -(-frames // most), math.ceil(rate / 25))
    boxes = [box_of(film.points, ground=film.ground) for film in films]
    halves = [_half(film) for film in films]
    text = LINE if any(names) else 0
    pictures = list[Image.Image]()
    for number in range(0, frames, step):
        sheet = Image.new("RGB", (columns * side, rows * (side + text)), PAPER)
        for i, film in enumerate(films):
            frame = min(number, len(film.points) - 1)
            box = following(film, frame, halves[i]) if film.ground is not None else boxes[i]
            place = (i % columns * side, i // columns * (side + text))
            sheet.paste(frame_of(film, frame, box, (side, side)), place)
            if names:
                _write(sheet, names[i], place[0], place[1] + side, side)
        pictures.append(sheet if form != "GIF" else sheet.quantize(48))
    content, duration = io.BytesIO(), max(20, round(1000 * step / rate))
    more = {"disposal": 1} if form == "GIF" else {"lossless": True}
    pictures[0].save(
        content, form, save_all=True, append_images=pictures[1:], duration=[duration] * (len(pictures) - 1) + [800], loop=0,
        **more,
    )  # fmt: skip
    return content.getvalue()


def _half(film: Film) -> float:
    """Half of the width of a box that holds a figure in all of its frames."""
    if film.ground is None:
        return 1.0
    spread = (film.points - film.points[:, :1])[..., 0].abs().max()
    return 1.1 * max(float(spread), float(film.points[..., 1].max() - min(0.0, float(film.points[..., 1].min()))) / 1.7)


def film_strip(
    films: Sequence[Film], names: Sequence[str], rate: float, *, shots: int = 8, side: int = 96, height: int = 112
) -> bytes:
    """A PNG with a row of frames, evenly spaced in time, for each film; figures are seen from one place along their way."""
    text, font = (LINE if any(names) else 0), ImageFont.load_default(size=10)
    wide = shots * side
    sheet = Image.new("RGB", (wide, len(films) * (height + text)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for i, film in enumerate(films):
        top, last = i * (height + text), len(film.points) - 1
        box = box_of(film.points, ground=film.ground)
        for k in range(shots):
            frame = round(k * last / max(1, shots - 1))
            view = following(film, frame, _half(film)) if film.ground is not None else box
            sheet.paste(frame_of(film, frame, view, (side, height)), (k * side, top))
            pen.text((k * side + 3, top + 1), f"{frame / rate:.1f} s", fill=(150, 155, 160), font=font)
        if names:
            _write(sheet, names[i], 4, top + height, wide)
    content = io.BytesIO()
    sheet.save(content, "PNG", optimize=True)
    return content.getvalue()


def _write(sheet: Image.Image, text: str, x: int, y: int, width: int) -> None:
    font = ImageFont.load_default(size=11)
    shown = "".join(c if c.isprintable() else " " for c in text[:200])
    while shown and font.getlength(shown) > width:
        shown = shown[:-1]
    ImageDraw.Draw(sheet).text((x, y), shown, fill=TEXT, font=font)
