"""Folders of small pictures that tests make."""

import json

import numpy as np
from PIL import Image

COLOURS = {"red": (220, 40, 30), "green": (30, 170, 60), "blue": (40, 60, 210)}
SHAPES = ("disc", "bar")


def draw(shape, colour, *, side, seed):
    """A disc or a bar of some colour, somewhere near the middle."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] + 0.5
    x, y = x - side * random.uniform(0.4, 0.6), y - side * random.uniform(0.4, 0.6)
    inside = x**2 + y**2 < (0.3 * side) ** 2 if shape == "disc" else np.abs(x) < 0.15 * side
    noise = random.integers(-12, 12, (side, side, 3))
    picture = np.where(inside[..., None], np.array(COLOURS[colour]), 240) + noise
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def classes(folder, *, count=30, side=8):
    """`count` pictures in one directory a shape."""
    for i in range(count):
        shape, colour = SHAPES[i % 2], list(COLOURS)[i % 3]
        (folder / shape).mkdir(parents=True, exist_ok=True)
        draw(shape, colour, side=side, seed=i).save(folder / shape / f"{i:03d}.png")
    return folder


def captions(folder, *, count=30, side=8):
    """`count` pictures in one directory, with a metadata.jsonl that says 'red disc' and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(count):
        shape, colour = SHAPES[i % 2], list(COLOURS)[i % 3]
        draw(shape, colour, side=side, seed=i).save(folder / f"{i:03d}.png")
        lines.append(json.dumps({"file_name": f"{i:03d}.png", "text": f"{colour} {shape}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def plain(folder, *, count=30, side=8):
    """`count` pictures in one directory, told nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        draw(SHAPES[i % 2], list(COLOURS)[i % 3], side=side, seed=i).save(folder / f"{i:03d}.png")
    return folder
