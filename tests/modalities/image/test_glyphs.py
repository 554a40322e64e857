"""The glyphs are matplotlib's own, legible, and the held-out pairs are pairs of what is trained on."""

import shutil
from collections import Counter
from pathlib import Path

import matplotlib
import pytest
import torch

from langevin.modalities.image.data import Glyphs, load_parts, open_table
from langevin.modalities.image.glyphs import FACES, SYMBOLS
from langevin.modalities.image.glyphs import parts as parts_of
from tests.modalities.image.pictures import everything

CAPTIONS = {f"{face} {symbol}": (face, symbol) for face in FACES for symbol in SYMBOLS}


@pytest.fixture(scope="module")
def parts():
    return load_parts(Glyphs())


@pytest.fixture
def fonts(tmp_path, monkeypatch):
    """A copy of matplotlib's fonts that may be damaged."""
    folder = tmp_path / "fonts" / "ttf"
    folder.mkdir(parents=True)
    for name in FACES.values():
        shutil.copy(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf"), folder)
    monkeypatch.setattr(matplotlib, "get_data_path", lambda: str(tmp_path))
    return folder


def by_caption(parts):
    return {
        caption: image for part in parts for caption, image in zip(part.captions, everything(part)[:, 0], strict=True)
    }


def test_every_symbol_of_every_face_is_there_once(parts):
    train, held = parts
    assert train.shape == held.shape == (1, 32, 32)
    assert sorted(train.captions + held.captions) == sorted(CAPTIONS)
    assert {"bold serif capital G", "modern typewriter digit 7", "oblique sans small a"} < set(CAPTIONS)
    assert train.notes.lines() == []


def test_held_out_pairs_are_new_and_their_parts_are_not(parts):
    train, held = parts
    assert not set(train.captions) & set(held.captions)
    assert 0.09 < len(held) / len(CAPTIONS) < 0.11
    pairs = [CAPTIONS[caption] for caption in held.captions]
    faces, symbols = Counter(face for face, _ in pairs), Counter(symbol for _, symbol in pairs)
    assert set(faces) == set(FACES)  # each is held out with some of the others,
    assert set(symbols) == set(SYMBOLS)
    assert max(faces.values()) <= 7  # and trained on with most of them
    assert max(symbols.values()) <= 3
    for face, symbol in pairs:
        case, letter = symbol.split()
        other = {"capital": f"small {letter.lower()}", "small": f"capital {letter.upper()}"}.get(case)
        assert (face, other) not in pairs


def test_the_parts_are_the_same_whatever_share_is_asked_for(parts):
    again = load_parts(Glyphs(), held_out=0.5)
    assert [part.fingerprint for part in again] == [part.fingerprint for part in parts]


def test_every_glyph_is_whole_and_unlike_all_others(parts):
    images = torch.stack(list(by_caption(parts).values()))
    assert bool((images[:, [0, -1]] == 255).all())  # nothing touches the border
    assert bool((images[:, :, [0, -1]] == 255).all())
    assert len(images.flatten(1).unique(dim=0)) == len(CAPTIONS)
    ink = (255 - images.float()).flatten(1).sum(1) / 255
    assert 15 < ink.min() < ink.max() < 350  # from a thin l to a bold W, of 1,024 pixels


def test_capitals_stand_on_one_line_and_are_equally_high(parts):
    images = by_caption(parts)
    for face in FACES:
        dark = (images[f"{face} capital H"] < 128).nonzero()
        assert (dark[:, 0].min(), dark[:, 0].max()) == (5, 22), face
        assert abs(dark[:, 1].min() + dark[:, 1].max() - 31) <= 1, face  # in the middle


def test_the_words_of_a_caption_say_what_is_seen(parts):
    ink = {caption: float((255 - image.float()).sum()) for caption, image in by_caption(parts).items()}
    for face in FACES:
        if f"bold {face}" in FACES:
            assert all(ink[f"bold {face} {symbol}"] > ink[f"{face} {symbol}"] for symbol in SYMBOLS)
    images = by_caption(parts)
    for face in ("oblique sans", "oblique mono", "italic serif", "italic stix", "italic modern"):
        stem = images[f"{face} capital I"].float()
        columns = torch.arange(32.0)
        middle = [float(((255 - row) * columns).sum() / (255 - row).sum()) for row in (stem[8], stem[19])]
        assert middle[0] > middle[1] + 0.5, face  # it leans to the right


def test_a_missing_font_is_named_with_what_to_do(fonts):
    (fonts / "cmr10.ttf").unlink()
    with pytest.raises(ValueError, match=r"there is no font .*cmr10\.ttf: reinstall matplotlib"):
        open_table(Glyphs())


def test_a_damaged_font_is_named_with_what_to_do(fonts):
    (fonts / "DejaVuSans.ttf").write_bytes(b"no font")
    with pytest.raises(ValueError, match=r"DejaVuSans\.ttf cannot be read .*reinstall matplotlib"):
        open_table(Glyphs())


def test_the_bytes_depend_on_the_font_files_alone(parts, fonts):
    assert [part.fingerprint for part in load_parts(Glyphs())] == [part.fingerprint for part in parts]


@pytest.mark.parametrize("caption", ["sans capital G", "bold italic serif digit 7", "modern typewriter small a"])
def test_a_caption_falls_into_face_and_symbol(caption):
    assert parts_of(caption) == CAPTIONS[caption]
