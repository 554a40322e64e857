"""Scores at a path: parts, splits, broken files, and what is said of them."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from langevin.modalities.music.batches import Windows
from langevin.modalities.music.codec import PianoRoll, Voices
from langevin.modalities.music.data import divided, load_parts
from langevin.modalities.music.modality import Music
from langevin.modalities.music.piece import of_pitches
from langevin.modalities.music.sources import midi_columns, read
from tests import pictures, scores

DATA = os.environ.get("LANGEVIN_DATA")


def load(path: Path, **options):
    return load_parts(str(path), **{"steps_per_quarter": 4, "val_fraction": 0.2, **options})


def json_of(tmp_path: Path, tree) -> Path:
    (tmp_path / "it.json").write_text(tree if isinstance(tree, str) else json.dumps(tree))
    return tmp_path / "it.json"


def test_official_parts_are_kept(tmp_path):
    train, val = load(scores.chorales(tmp_path))
    assert (len(train), len(val), len(val.test or ())) == (12, 4, 4)
    assert np.array_equal(train.pieces[0].states()[0], scores.chorale(20, seed=0))
    assert train.voices == val.voices == 4


def test_a_piece_of_another_part_is_not_trained_on(tmp_path):
    same = scores.chorale(20, seed=1)
    parts = {"train": [same, scores.chorale(20, seed=2)], "valid": [scores.chorale(20, seed=3)], "test": [same]}
    train, _ = load(json_of(tmp_path, parts))
    assert len(train) == 1
    assert any("dropped from it: 1" in line for line in train.notes.lines())


def test_silence_is_minus_one_or_null(tmp_path):
    piece = [[60, None], [60, -1], [62, 50]]
    train, _ = load(json_of(tmp_path, {"train": [piece], "valid": [scores.chorale(8, seed=0)]}))
    assert train.pieces[0].states()[0].tolist() == [[60, -1], [60, -1], [62, 50]]


def test_the_split_is_by_content_and_adding_scores_moves_no_other():
    pieces = [of_pitches(np.array(scores.chorale(12, seed=i))) for i in range(60)]
    train, held = divided([*pieces, *pieces], 0.2)
    assert len(train) + len(held) == 120
    assert not {piece.content for piece in train} & {piece.content for piece in held}
    assert 6 <= len(held) <= 50
    fewer = divided(pieces[:40], 0.2)[1]
    assert {piece.content for piece in fewer} <= {piece.content for piece in held}
    assert [len(part) for part in divided(pieces[:2], 1e-9)] == [1, 1]
    assert [len(part) for part in divided(pieces[:2], 1 - 1e-9)] == [1, 1]


def test_a_fingerprint_is_of_the_content(tmp_path):
    one, two = load(scores.songs(tmp_path / "a")), load(scores.songs(tmp_path / "b"))
    assert [part.fingerprint for part in one] == [part.fingerprint for part in two]
    other = load(scores.songs(tmp_path / "c", count=15))
    assert [part.fingerprint for part in one] != [part.fingerprint for part in other]


def test_a_folder_a_table_and_a_file_of_them_hold_the_same(tmp_path):
    folder = scores.songs(tmp_path / "a")
    files = [path.read_bytes() for path in sorted(folder.iterdir())]
    table = pa.table({"id": [str(i) for i in range(len(files))], "midi": pa.array(files, pa.binary())})
    parquet.write_table(table, tmp_path / "songs.parquet")
    nested = pa.array([{"bytes": content, "path": ""} for content in files])
    parquet.write_table(pa.table({"song": nested}), tmp_path / "nested.parquet")
    found = [load(path)[0].fingerprint for path in (folder, tmp_path / "songs.parquet", tmp_path / "nested.parquet")]
    assert found[0] == found[1] == found[2]
    with pytest.raises(ValueError, match="too few pieces that differ"):
        load(folder / "00.mid")


def test_tables_of_images_and_of_scores_are_two_sample_accuracy(tmp_path):
    folder = scores.songs(tmp_path / "a")
    files = [path.read_bytes() for path in sorted(folder.iterdir())]
    parquet.write_table(pa.table({"x": pa.array(files, pa.binary())}), tmp_path / "songs.parquet")
    drawings = [path.read_bytes() for path in sorted(pictures.plain(tmp_path / "b", count=3).glob("*.png"))]
    parquet.write_table(pa.table({"x": pa.array(drawings, pa.binary())}), tmp_path / "drawings.parquet")
    assert midi_columns(tmp_path / "songs.parquet") == ["x"]
    assert midi_columns(tmp_path / "drawings.parquet") == []
    assert Music.detect(tmp_path / "songs.parquet") is not None
    assert Music.detect(tmp_path / "drawings.parquet") is None
    (tmp_path / "songs.parquet").write_bytes((tmp_path / "songs.parquet").read_bytes()[:-20])
    assert Music.detect(tmp_path / "songs.parquet") is None
    with pytest.raises(ValueError, match="0 columns of MIDI files"):
        load(tmp_path / "drawings.parquet")


def test_few_broken_files_are_left_out_by_name_and_many_are_an_error(tmp_path):
    folder = scores.songs(tmp_path / "a", count=20)
    (folder / "broken.mid").write_bytes(b"MThd and no more")
    (folder / "empty.midi").write_bytes(b"")
    train, _ = load(folder)
    assert [name for name, _ in train.notes.broken] == ["broken.mid", "empty.midi"]
    (folder / "third.mid").write_bytes(b"MTh")
    with pytest.raises(ValueError, match=r"3 of 23 scores cannot be read: broken.mid is not readable as MIDI"):
        load(folder)


def test_drums_and_scores_without_notes_are_said(tmp_path):
    folder = scores.songs(tmp_path / "a", count=6)
    beat = [scores.on(36, channel=9), scores.off(36, 10, channel=9)]
    (folder / "beat.mid").write_bytes(scores.made(beat))
    (folder / "both.mid").write_bytes(scores.made([scores.on(60), scores.off(60, 480)], beat))
    lines = load(folder)[0].notes.lines()
    assert lines == ["Notes of drums, left out: 2.", "Scores without notes, left out: 1 (beat.mid)."]


REFUSED = {
    "no JSON": ("{", "not readable as JSON"),
    "deep": ("[" * 100_000, "not readable as JSON"),
    "no parts": ([[[60]]], "should hold"),
    "parts that are no lists": ({"train": 1}, "should hold"),
    "one piece": ({"train": [[[60], [62]]]}, "too few pieces that differ"),
    "words": ({"train": [["do", "re"]] * 3, "valid": []}, "not lists of equally many pitches"),
    "uneven": ({"train": [[[60, 62], [60]]]}, "not lists of equally many pitches"),
    "high": ({"train": [[[600]]]}, "other than 0 to 127"),
    "not a number": ('{"train": [[[NaN]]]}', "other than 0 to 127"),
    "half a pitch": ({"train": [[[60.5]]]}, "other than 0 to 127"),
    "truth": ({"train": [[[True]]]}, "other than 0 to 127"),
    "no steps": ({"train": [[]]}, "is no list of 1 to"),
    "silence": ({"train": [[[-1]], [[-1]]]}, "holds no scores with notes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_json_that_is_no_music_is_refused_in_words(name, tmp_path):
    tree, said = REFUSED[name]
    with pytest.raises(ValueError, match=said):
        load(json_of(tmp_path, tree))


def test_nothing_at_a_path_is_said(tmp_path):
    with pytest.raises(ValueError, match="There is no file or folder"):
        read(str(tmp_path / "none"), steps_per_quarter=4)
    with pytest.raises(ValueError, match=r"holds no score: looked for \.mid \.midi"):
        read(str(tmp_path), steps_per_quarter=4)


def test_voices_are_chosen_where_all_pieces_have_the_same(tmp_path):
    choir = Music(path=str(scores.chorales(tmp_path / "a")))
    assert isinstance(choir.fitted(choir.open()[0]).codec, Voices)
    piano = Music(path=str(scores.songs(tmp_path / "b")))
    train, _ = piano.open()
    assert isinstance(piano.fitted(train).codec, PianoRoll)
    with pytest.raises(ValueError, match=r"has a part of several notes at a time: use data\.codec\.kind=piano_roll"):
        Music(path=piano.path, codec=Voices()).fitted(train)
    parts = {"train": [scores.chorale(8, seed=0), [[60], [62]]], "valid": [scores.chorale(8, seed=1)]}
    mixed = load(json_of(tmp_path, parts))[0]
    assert (mixed.voices, mixed.odd) == (0, "it.json, train 0 has 4 parts and it.json, train 1 has 1")


def test_inspection_says_what_the_data_cannot_tell(tmp_path):
    lines = Music(path=str(scores.chorales(tmp_path / "a"))).inspect().lines()
    assert any("20 pieces (12 training, 4 validation, 4 test)" in line for line in lines)
    assert any("cannot tell a repeated note from a held one" in line for line in lines)
    assert any("A piano roll, as" in line for line in Music(path=str(scores.songs(tmp_path / "b"))).inspect().lines())


# ---------------------------------------------------------------------------------------------------------- real data


@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="LANGEVIN_DATA names no folder of real data")
@pytest.mark.parametrize(
    ("path", "counts", "streams"),
    [("jsb_chorales/jsb_chorales_16th.json", (229, 76), 4), ("music/pop909.parquet", (813, 96), 83)],
)
def test_real_scores_are_their_tokens(path, counts, streams):
    """Decode after encode is exact for every piece, and the windows without noise cover every step once."""
    modality = Music(path=str(Path(DATA or "") / path))
    train, val = modality.open()
    modality = modality.fitted(train)
    codec = modality.fixed
    assert (len(train), len(val), codec.streams) == (*counts, streams)
    for piece in (*train.pieces[:100], *(val.pieces if isinstance(codec, Voices) else ())):
        assert codec.decode(codec.encode(piece)).notes.tolist() == codec.plain(piece).notes.tolist()
    windows = Windows(dataset=train, codec=codec, length=128)
    covered = sum(min(128, train.pieces[i].steps - first) for i, first in windows.starts)
    assert covered == sum(piece.steps for piece in train.pieces)
