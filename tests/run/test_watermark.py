"""The views of a file in which a watermark is looked for."""

import torch
import torch.nn.functional as F

from langevin.run.watermark import MARGINS, views


def test_a_picture_whose_margin_was_cut_off_is_seen_in_its_place():
    """A smooth picture, cut and enlarged to its old size, is among the views as it was, in the part that is seen."""
    i = torch.arange(40.0)
    x = (torch.sin(i[:, None] / 5) + torch.cos(i[None] / 7))[None, None]
    cut = round(MARGINS[0] * 40)
    enlarged = F.interpolate(x[..., cut:-cut, cut:-cut], size=(40, 40), mode="bicubic", antialias=True)
    found = list(views(enlarged))
    assert torch.equal(found[0][0], enlarged)
    part, seen = found[1]
    assert part.shape == x.shape
    inside = seen[0, 0, 2 * cut : -2 * cut, 2 * cut : -2 * cut]
    assert bool(inside.all())
    assert int(seen.sum()) == (40 - 2 * cut) ** 2
    assert float(((part - x) * seen).abs().amax()) < 0.02
    assert float((enlarged - x).abs().amax()) > 0.2


def test_small_pictures_and_other_data_are_seen_as_they_are():
    for x in (torch.zeros(1, 3, 8, 8), torch.zeros(1, 5), torch.zeros(1, 4, 30)):
        assert len(list(views(x))) == 1
