"""Previews: a table shows every image where its row and column say, and frames those that are marked."""

import numpy as np
import torch

from langevin.modalities.image.preview import MARK, grid, table
from langevin.modalities.modality import Table

SIDE = 16  # of an image of 8 pixels, each shown twice


def test_every_image_is_in_its_cell_and_the_marked_ones_are_framed():
    colours = torch.tensor([[200, 40 * i, 255 - 40 * i] for i in range(6)], dtype=torch.uint8)
    images = colours[:, :, None, None].expand(6, 3, 8, 8)
    marked = (False, True, False, False, False, True)
    cells = Table(rows=("sans", "bold serif"), columns=("small a", "small b", "small c"), marked=marked, note="new")
    pixels = np.asarray(table(images, cells, zoom=2))
    corners = []
    for colour, framed in zip(colours.numpy(), marked, strict=True):
        rows, columns = (pixels == colour).all(-1).nonzero()
        top, left = rows.min(), columns.min()
        assert (len(rows), rows.max() - top, columns.max() - left) == (SIDE**2, SIDE - 1, SIDE - 1)
        corners.append((top, left))
        around = pixels[[top - 1, top + SIDE, top, top], [left, left, left - 1, left + SIDE]]
        assert (around == MARK).all() == framed
    tops, lefts = {top for top, _ in corners}, {left for _, left in corners}
    assert corners == [(top, left) for top in sorted(tops) for left in sorted(lefts)]


def test_a_caption_of_any_length_and_any_characters_is_drawn_on_one_line():
    images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    assert grid(images, captions=["a\n" * 100_000]).size == grid(images, captions=["a"]).size
    cells = Table(rows=("r" * 100_000,), columns=("c\n\x00" * 1000, " "), marked=(False, False), note="")
    assert table(images.expand(2, 1, 8, 8), cells).width < 1000
