"""Size and channels are chosen from what is there, and can be told."""

import pytest

from langevin.modalities.image.data import Folder, load_parts
from langevin.modalities.image.shape import choose_size
from tests.modalities.image.pictures import encoded, fill, many, picture

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_size_and_channels_are_chosen_and_can_be_told(tmp_path):
    fill(tmp_path / "mixed", *many(5, "a{}.png"), side=40)
    fill(tmp_path / "mixed", *many(4, "b{}.png"), side=90)
    assert load_parts(Folder(path=str(tmp_path / "mixed")))[0].shape == (3, 32, 32)
    assert load_parts(Folder(path=str(tmp_path / "mixed"), size=24, channels=1))[0].shape == (1, 24, 24)
    fill(tmp_path / "grey", *many(5), side=20, mode="L")
    assert load_parts(Folder(path=str(tmp_path / "grey")))[0].shape == (1, 20, 20)
    assert load_parts(Folder(path=str(tmp_path / "grey")), at_most=16)[0].shape == (1, 16, 16)
    (tmp_path / "grey" / "rgb.png").write_bytes(encoded(picture(9, side=20, mode="L").convert("RGB")))
    # grey is what is seen, not how it is stored
    assert load_parts(Folder(path=str(tmp_path / "grey")))[0].shape[0] == 1
    fill(tmp_path / "grey", "colour.png", side=20)
    assert load_parts(Folder(path=str(tmp_path / "grey")))[0].shape[0] == 3


def test_choose_size():
    assert choose_size([(72, 72)] * 5) == 32
    assert choose_size([(72, 72)] * 5, at_most=256) == 64
    assert choose_size([(28, 28)] * 5) == 28
    assert choose_size([(20, 20)]) == 20
    assert choose_size([(4, 4)]) == 4
    assert choose_size([(48, 48)] * 2) == 32
    assert choose_size([(48, 48)] * 2, at_most=64) == 48
    assert choose_size([(40, 30)] * 3) == 28
    assert choose_size([(10, 10), (500, 20), (90, 80)], at_most=64) == 16
    assert choose_size([(3, 9), (5, 5)]) == 8
    assert choose_size([(4000, 3000), (500, 400)], at_most=1000) == 256
    with pytest.raises(ValueError, match="no readable image"):
        choose_size([])
