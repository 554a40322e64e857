"""Requests: what is given stays, what is not is generated, and options that do not fit are refused."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from langevin.modalities.modality import RequestContext
from langevin.modalities.music import plans
from langevin.modalities.music.key import KEYS, parse
from langevin.modalities.music.options import Sample
from langevin.modalities.music.piece import Piece, of_pitches
from langevin.run.directory import load_model
from langevin.run.generate import RunModel, changed
from langevin.run.plan import Wanted
from langevin.run.train import train_run
from tests import scores
from tests.scores import notes
from tests.tiny import SMALL

CONTEXT = 16


def trained(folder: Path, data: Path, *changes: str) -> RunModel:
    options = (*SMALL, f"data.context_length={CONTEXT}", "training.steps=1", *changes)
    return load_model(train_run(Wanted(target=str(data), overrides=options, out=folder / "run")))[0]


@pytest.fixture(scope="module")
def choir(tmp_path_factory) -> RunModel:
    folder = tmp_path_factory.mktemp("choir")
    return trained(folder, scores.chorales(folder / "data"))


@pytest.fixture(scope="module")
def piano(tmp_path_factory) -> RunModel:
    folder = tmp_path_factory.mktemp("piano")
    return trained(folder, scores.songs(folder / "data"), "data.key=true")


def drawn(model: RunModel, *, said: list[str] | None = None, count: int | None = 2, **options):
    say = (lambda line: None) if said is None else said.append
    context = RequestContext(model=model, data=model.modality.open, count=count, seed=5, say=say)
    return model.run(model.modality.plan(Sample(**options), context))


def file_of(piece: Piece, folder: Path, name: str = "given.mid") -> Path:
    return scores.written(piece, folder / name, tempo=72.0)


def piece(steps: int = 40, seed: int = 3) -> Piece:
    return of_pitches(np.array(scores.chorale(steps, seed=seed)))


def voice(whole: Piece, number: int) -> list[list[int]]:
    return [note for note in whole.notes.tolist() if note[3] == number]


def test_windows_cover_what_is_free_and_lie_in_the_score():
    for steps in range(1, 40):
        for first in range(steps):
            for last in range(first + 1, steps + 1):
                found = plans.windows(first, last, steps, 8)
                assert all(0 <= begin <= max(0, steps - 8) for begin in found)
                assert {step for begin in found for step in range(begin, begin + 8)} >= set(range(first, last))
                assert all(0 < b - a <= 4 for a, b in itertools.pairwise(found))


def test_free_pieces_have_the_bars_that_are_asked_for(choir):
    free = drawn(choir, count=None)
    assert len(free) == plans.COUNT
    assert {one.steps for one in free.values} == {CONTEXT}
    long = drawn(choir, bars=5, tempo=61.0)
    assert {(one.steps, one.bar, one.tempo) for one in long.values} == {(80, 16, 61.0)}
    assert long.nfe > free.nfe


def test_the_metre_goes_on_from_window_to_window(choir):
    """Context 16, bars of 12 after an upbeat of 4: windows begin at steps 0, 8, 16, ..., in various quarters."""
    given = replace(piece(), bar=12, upbeat=4)
    score = plans.Score(tokens=torch.full((40, choir.modality.fixed.streams), plans.FREE), piece=given)
    context = RequestContext(model=choir, data=choir.modality.open, count=1, seed=0)
    plan, draws, result = (
        plans.drawn(choir.modality, score, torch.tensor([0]), None, context, tempo=60.0),
        [],
        None,
    )
    for _ in plans.windows(0, 40, 40, CONTEXT):
        draws.append(plan.send(result))
        result = torch.zeros_like(draws[-1].x)
    for first, draw in zip(plans.windows(0, 40, 40, CONTEXT), draws, strict=True):
        at = [(first + i - 4) % 12 for i in range(CONTEXT)]
        places = draw.condition.aligned.tensor[0]
        assert places[:, :4].argmax(1).tolist() == [step % 4 for step in at]
        assert places[:, 4:].argmax(1).tolist() == [step // 4 for step in at]
        assert places.sum(1).eq(2).all()


def test_a_harmonised_melody_is_the_highest_voice(choir, tmp_path):
    tune, said = scores.tune(tmp_path), list[str]()
    found = drawn(choir, said=said, melody=tune)
    ranges, melody = choir.modality.codec.ranges[0], scores.read(tune.read_bytes())
    assert len(found) == 2
    for one in found.values:
        got = voice(one, 0)
        shift = got[0][2] - int(melody.notes[0, 2])
        assert [note[:3] for note in got] == [[a, b, p + shift] for a, b, p, _ in melody.notes.tolist()]
        assert ranges[0] <= min(note[2] for note in got) <= max(note[2] for note in got) <= ranges[1]
        assert one.tempo == pytest.approx(66.0, abs=0.01)
        assert one.steps == melody.steps
    assert found.values[0] != found.values[1]
    assert len(said) == (1 if shift else 0)


def test_a_melody_out_of_range_is_moved_by_octaves_or_else_by_semitones_and_it_is_said(choir):
    context = RequestContext(model=choir, data=choir.modality.open)
    low, high = choir.modality.codec.ranges[0]
    assert 2 <= high - low <= 12

    def moved(pitches: list[int]) -> tuple[int, list[str]]:
        said: list[str] = []
        one = Piece(notes=notes(*[(i, i + 1, p, 0) for i, p in enumerate(pitches)]), steps=8, voices=4, name="it")
        kept = plans.fitting(choir.modality, one, replace(context, say=said.append))
        return int(kept.notes[0, 2]) - pitches[0], said

    assert moved([low, high]) == (0, [])
    assert moved([low - 24, high - 24]) == (24, ["it is moved up by 2 octaves, into the trained ranges"])
    assert moved([high + 1]) == (-12, ["it is moved down by 1 octave, into the trained ranges"])
    assert moved([low + 1, high + 1]) == (-1, ["it is moved down by 1 semitone, into the trained ranges"])
    with pytest.raises(ValueError, match="spans more than the trained ranges"):
        moved([10, 120])


def test_of_several_notes_at_a_time_the_melody_is_the_highest():
    chords = Piece(
        notes=notes((0, 4, 60, 0), (0, 8, 64, 0), (2, 4, 67, 0), (6, 8, 62, 0), (0, 8, 40, 1)), steps=8, voices=2
    )
    assert plans.melody_of(chords).notes.tolist() == [[0, 2, 64, 0], [2, 4, 67, 0], [4, 8, 64, 0]]
    assert plans.melody_of(replace(chords, notes=notes((0, 4, 60, 0), (4, 8, 62, 0)))).notes[:, 2].tolist() == [60, 62]


def test_given_voices_stay_and_the_others_are_generated(choir, tmp_path):
    whole = piece()
    given = file_of(whole, tmp_path)
    assert scores.read(given.read_bytes()) == whole
    for names, kept in (("soprano,bass", (0, 3)), ("2", (1,)), (" Tenor , 1", (0, 2))):
        for one in drawn(choir, voices=given, given=names).values:
            for number in range(4):
                same = voice(one, number) == voice(whole, number)
                assert same == (number in kept), (names, number)


def test_infilled_bars_alone_are_generated(choir, tmp_path):
    whole = piece(steps=64)
    given = file_of(whole, tmp_path)
    for one in drawn(choir, infill=given, from_bar=2, to_bar=3).values:
        assert one.steps == whole.steps
        assert one.between(0, 16) == whole.between(0, 16)
        assert one.between(48, 64) == whole.between(48, 64)
        assert one.between(16, 48) != whole.between(16, 48)
    for one in drawn(choir, infill=given, from_bar=1, given="alto").values:
        assert voice(one.between(0, 16), 1) == voice(whole.between(0, 16), 1)
        assert one.between(16, 64) == whole.between(16, 64)


def test_a_continued_piece_begins_as_it_is_given(choir, tmp_path):
    whole = piece(steps=32)
    for bars in (1, 4):
        for one in drawn(choir, continue_=file_of(whole, tmp_path), bars=bars).values:
            assert one.steps == 32 + 16 * bars
            assert one.between(0, 32) == whole
            assert len(one.between(32, one.steps).notes)
    begun = piece(steps=20)
    for one in drawn(choir, continue_=file_of(begun, tmp_path), bars=1).values:
        assert (one.steps, one.between(0, 20)) == (48, begun)


def test_a_piano_roll_is_harmonised_below_its_melody(piano, tmp_path):
    """What the network writes is at or below the melody, which is there."""
    found = drawn(piano, melody=scores.tune(tmp_path))
    melody = scores.read(scores.tune(tmp_path).read_bytes()).states()[0][:, 0]
    for one in found.values:
        shift = None
        for step in range(one.steps):
            sounding = [p for a, b, p, _ in one.notes.tolist() if a <= step < b]
            shift = max(sounding) - melody[step] if shift is None else shift
            assert max(sounding) == melody[step] + shift


def test_a_key_is_given_estimated_or_drawn(piano, tmp_path):
    assert drawn(piano, key="g major").names == ("G major",) * 2
    assert len(set(drawn(piano, count=12).names)) > 1
    assert drawn(piano, continue_=file_of(scores.song(2), tmp_path)).names[0] in KEYS


@pytest.mark.parametrize(
    ("text", "name"),
    [("C", "C major"), ("f# minor", "F# minor"), ("Gb", "F# major"), ("B flat major", None), ("am", "A minor"),
     ("Cb", "B major"), ("Bflat", "Bb major"), ("e-min", "E minor")],
)  # fmt: skip
def test_keys_are_read_by_name(text, name):
    if name is None:
        with pytest.raises(ValueError, match="is no key: name one such as"):
            parse(text)
    else:
        assert KEYS[parse(text)] == name


def test_samplers_that_start_from_a_text_and_guidance_by_what_is_given(choir, tmp_path):
    whole = piece()
    for model in (changed(choir, sampler="gibbs", steps=3), changed(choir, guidance=2.0)):
        for one in drawn(model, voices=file_of(whole, tmp_path), given="bass").values:
            assert voice(one, 3) == voice(whole, 3)


REFUSED = {
    "two files": ({"melody": "m", "infill": "m", "from_bar": 1}, "ask for different things"),
    "bars of a melody": ({"melody": "m", "bars": 3}, "--bars is a number of bars to generate"),
    "no bars": ({"bars": 0}, "--bars is a number"),
    "voices alone": ({"voices": "p"}, "belong together"),
    "given alone": ({"given": "alto"}, "belong together"),
    "an unknown voice": ({"voices": "p", "given": "alto,5"}, "are soprano, alto, tenor, bass, separated"),
    "no voice": ({"voices": "p", "given": ","}, "names no voice"),
    "no bar": ({"infill": "p"}, "--infill FILE and --from-bar 3 belong together"),
    "a bar without a file": ({"from_bar": 2}, "belong together"),
    "a bar too far": ({"infill": "p", "from_bar": 9}, "has 3 bars: --from-bar 9"),
    "bar 0": ({"infill": "p", "from_bar": 0}, "--from-bar 0 and --to-bar 0 are not a part of them"),
    "bars backwards": ({"infill": "p", "from_bar": 2, "to_bar": 1}, "are not a part of them"),
    "a key": ({"key": "G major"}, "runs with data.key=true"),
    "a tempo": ({"tempo": 1.0}, "5 to 999, got 1"),
    "a soundfont": ({"soundfont": Path("none.sf2")}, "soundfont"),
    "nothing there": ({"continue_": "none.mid"}, "there is no MIDI file"),
    "no score": ({"continue_": "x"}, "is not readable as MIDI"),
    "other voices": ({"continue_": "m"}, "has 1 parts, and this run has 4 voices"),
    "polyphony": ({"continue_": "s"}, "2 parts with several notes at a time"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_before_any_sampling(name, choir, tmp_path):
    options, said = REFUSED[name]
    (tmp_path / "x").write_bytes(b"no score")
    files = {
        "m": scores.tune(tmp_path), "p": file_of(piece(), tmp_path),
        "s": scores.written(scores.song(0), tmp_path / "s.mid"), "x": tmp_path / "x", "none.mid": tmp_path / "none.mid",
    }  # fmt: skip
    given = {k: files.get(v, v) if k in ("melody", "voices", "continue_", "infill") else v for k, v in options.items()}
    with pytest.raises(ValueError, match=re.escape(said)):
        choir.modality.plan(Sample(**given), RequestContext(model=choir, data=choir.modality.open))


def test_guidance_without_anything_given_is_refused(choir):
    with pytest.raises(ValueError, match="none are given"):
        choir.modality.plan(Sample(), RequestContext(model=choir, data=choir.modality.open, guided=True))


def test_from_python_files_are_named_by_words(choir, tmp_path):
    assert drawn(choir, melody=str(scores.tune(tmp_path))).values == drawn(choir, melody=scores.tune(tmp_path)).values
