"""Sound files of every kind are read or refused in words; every layout is understood."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from langevin.modalities.modality import Budget
from langevin.modalities.speech.alignment import Filler, Monotonic
from langevin.modalities.speech.data import load_parts
from langevin.modalities.speech.examples import Splice
from langevin.modalities.speech.modality import Speech
from langevin.modalities.speech.sound_files import Unreadable, read
from langevin.modalities.speech.sources import find
from tests.voices import RATE, spoken, vowel


def tone(rate, seconds=0.5, hertz=440.0):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


@pytest.mark.parametrize(
    ("suffix", "subtype", "rate"),
    [(".wav", "PCM_16", 8000), (".wav", "PCM_24", 44100), (".wav", "FLOAT", 48000), (".wav", "PCM_U8", 11025),
     (".flac", "PCM_16", 22050), (".ogg", "VORBIS", 16000), (".mp3", "MPEG_LAYER_III", 32000), (".aiff", "PCM_16", 8000)],
)  # fmt: skip
def test_formats_and_rates_are_read_as_one(tmp_path, suffix, subtype, rate):
    """A tone is a tone of the same pitch and level, at 8,000 samples per second."""
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, tone(rate), rate, subtype=subtype)
    x = read(path, 8000)
    assert len(x) == pytest.approx(4000, abs=400)  # MP3 pads
    middle = x[1000:3000].double().numpy()
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(2000)))
    assert spectrum.argmax() * 4 == pytest.approx(440, abs=4)
    assert np.sqrt((middle**2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.03)


def test_channels_are_averaged(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([tone(8000), np.zeros(4000)], 1), 8000)
    assert np.allclose(read(tmp_path / "a.wav", 8000).numpy(), tone(8000) / 2, atol=1e-4)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"RIFF\x24\x00\x00\x00WAVE", "no sound"), (b"hello, this is a text", "no sound")],
)
def test_what_is_no_sound_is_said(tmp_path, content, said):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(Unreadable, match=said):
        read(tmp_path / "a.wav", 8000)


def test_short_and_infinite_sounds_are_refused(tmp_path):
    soundfile.write(tmp_path / "short.wav", tone(8000, 0.01), 8000)
    with pytest.raises(Unreadable, match="too short: 10 ms"):
        read(tmp_path / "short.wav", 8000)
    soundfile.write(tmp_path / "nan.wav", np.array([0.1] * 900 + [np.nan] * 9), 8000, subtype="FLOAT")
    with pytest.raises(Unreadable, match="not finite"):
        read(tmp_path / "nan.wav", 8000)
    with pytest.raises(Unreadable, match="not a regular file"):
        read(tmp_path, 8000)


# ------------------------------------------------------------------------------------------------------------- layouts


def recorded(folder: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, vowel("ah", 100 + 7 * i, 0.3, seed=i), RATE)
    return folder


def said(folder: Path) -> dict[str, tuple[str | None, str | None]]:
    return {r.name: (r.text, r.speaker) for r in find(str(folder)).recordings}


def test_directories_are_speakers(tmp_path):
    recorded(tmp_path, "anna/1.wav", "anna/2.wav", "ben/1.wav")
    assert said(tmp_path) == {"anna/1.wav": (None, "anna"), "anna/2.wav": (None, "anna"), "ben/1.wav": (None, "ben")}


def test_texts_beside_the_recordings(tmp_path):
    recorded(tmp_path, "a.wav", "b.wav", "c.wav")
    (tmp_path / "a.txt").write_text("One\n two.")
    (tmp_path / "b.txt").write_text("three")
    (tmp_path / "d.txt").write_text("four")
    (tmp_path / "README.txt").write_text("about these")
    listing = find(str(tmp_path))
    assert [(r.name, r.text) for r in listing.recordings] == [("a.wav", "One two."), ("b.wav", "three")]
    assert any("without a transcript" in line and "c.wav" in line for line in listing.remarks)
    assert any("without a recording" in line and "d.txt" in line for line in listing.remarks)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_metadata(tmp_path, form):
    recorded(tmp_path, "x/a.wav", "b.wav")
    records = [
        {"file_name": "x/a.wav", "text": "one, two", "speaker": "anna"},
        {"file_name": "b.wav", "text": "three", "speaker": "ben"},
        {"file_name": "gone.wav", "text": "four", "speaker": "ben"},
    ]  # fmt: skip
    lines = (
        [json.dumps(r) for r in records]
        if form == "jsonl"
        else ["file_name,text,speaker", *(f'{r["file_name"]},"{r["text"]}",{r["speaker"]}' for r in records)]
    )
    (tmp_path / f"metadata.{form}").write_text("\n".join(lines))
    assert said(tmp_path) == {"b.wav": ("three", "ben"), "x/a.wav": ("one, two", "anna")}
    assert find(str(tmp_path)).missing == ("gone.wav",)


def test_the_layout_of_ljspeech(tmp_path):
    recorded(tmp_path, "wavs/LJ001-0001.wav", "wavs/LJ001-0002.wav")
    (tmp_path / "metadata.csv").write_text('LJ001-0001|Mr. "A|Mister "A\nLJ001-0002|in 1999|in nineteen ninety nine\n')
    assert said(tmp_path) == {
        "wavs/LJ001-0001.wav": ('Mister "A', None), "wavs/LJ001-0002.wav": ("in nineteen ninety nine", None),
    }  # fmt: skip


def test_parts_of_the_data_are_kept(tmp_path):
    recorded(tmp_path, "train/anna/1.wav", "train/ben/2.wav", "test/anna/3.wav", "extra/4.wav")
    train, val = load_parts(str(tmp_path), rate=RATE, val_fraction=0.5)
    assert [r.name for r in train.recordings] == ["train/anna/1.wav", "train/ben/2.wav"]
    assert [r.name for r in val.recordings] == ["test/anna/3.wav"]
    assert any("not used: 1" in line for line in train.notes.lines())


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("name,text\na.wav,one\n", "needs `file_name`"),
        ("", "holds no record"),
        ("file_name,text\n,one\n", "needs `file_name`"),
    ],
)
def test_metadata_that_cannot_be_used_is_refused(tmp_path, lines, why):
    recorded(tmp_path, "a.wav")
    (tmp_path / "metadata.csv").write_text(lines)
    with pytest.raises(ValueError, match=why):
        find(str(tmp_path))


def test_bad_recordings_are_left_out_and_named(tmp_path):
    spoken(tmp_path)
    soundfile.write(tmp_path / "ah_anna_0.wav", np.zeros(2000), RATE)
    (tmp_path / "ah_anna_1.wav").write_bytes(b"no sound")
    clipped = np.clip(5 * vowel("ee", 200, 0.3), -0.5, 0.5)
    soundfile.write(tmp_path / "ee_anna_0.wav", clipped, RATE)
    train, val = load_parts(str(tmp_path), rate=None, val_fraction=0.2)
    lines = " ".join(train.notes.lines())
    assert len(train) + len(val) == 28
    assert "ah_anna_1.wav is no sound" in lines
    assert "Silent recordings, left out: 1 (ah_anna_0.wav)" in lines
    assert "Clipped recordings, whose peaks are cut off: 1 (ee_anna_0.wav)" in lines
    for i in range(4):
        (tmp_path / f"oo_ben_{i}.wav").write_bytes(b"")
    with pytest.raises(ValueError, match="more than one in ten"):
        load_parts(str(tmp_path), rate=None, val_fraction=0.2)


def test_held_out_pairs_are_never_trained_on(tmp_path):
    spoken(tmp_path)
    train, val = load_parts(str(tmp_path), rate=None, val_fraction=0.1, held_out_pairs=(("anna", "ee"),))
    assert not any((r.speaker, r.text) == ("anna", "ee") for r in train.recordings)
    assert sum((r.speaker, r.text) == ("anna", "ee") for r in val.recordings) == 5
    with pytest.raises(ValueError, match="no recording is of"):
        load_parts(str(tmp_path), rate=None, val_fraction=0.1, held_out_pairs=(("anna", "eee"),))


def test_signals_are_normalised_and_known_by_their_sound(tmp_path):
    spoken(tmp_path / "a")
    train, val = load_parts(str(tmp_path / "a"), rate=None, val_fraction=0.2)
    assert train.rate == RATE
    assert all(float(train.signal(i).abs().max()) == pytest.approx(0.9, abs=1e-3) for i in range(len(train)))
    from_disk = replace(train, signals=None)
    assert torch.allclose(from_disk.signal(0), train.signal(0), atol=1e-4)
    assert {r.name for r in train.recordings}.isdisjoint(r.name for r in val.recordings)
    soundfile.write(tmp_path / "a" / "ah_anna_0.wav", vowel("ah", 333, 0.3), RATE)
    again, _ = load_parts(str(tmp_path / "a"), rate=None, val_fraction=0.2)
    assert again.fingerprint != train.fingerprint


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"val_fraction": 0.0}, "val_fraction"),
        ({"context": 1.0}, "context"),
        ({"rate": 10}, "rate"),
        ({"seconds": 0.0}, "seconds"),
    ],
)
def test_absurd_options_are_refused(options, why):
    with pytest.raises(ValueError, match=why):
        Speech(path="x", **options)


def test_a_folder_without_sound_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(ValueError, match="holds no sound file"):
        find(str(tmp_path))
    with pytest.raises(ValueError, match="There is no file or folder"):
        find(str(tmp_path / "gone"))


@pytest.mark.parametrize(("words", "kind"), [(1, "uniform"), (4, "monotonic")])
def test_alignments_of_sentences_are_searched_and_those_of_words_are_even(tmp_path, words, kind):
    folder = spoken(tmp_path / "voices", each=2)
    lines = (folder / "metadata.csv").read_text().splitlines()
    longer = [
        lines[0],
        *(",".join([f, " ".join([word] * words), v]) for f, word, v in (x.split(",") for x in lines[1:])),
    ]
    (folder / "metadata.csv").write_text("\n".join(longer) + "\n")
    speech = Speech(path=str(folder))
    suggestion = speech.suggest(speech.open()[0], Budget(minutes=1, flops=1e11))
    assert suggestion.recipe.get("data", {}).get("alignment", {"kind": "uniform"}) == {"kind": kind}


def sentences(folder, **texts):
    """Twelve recordings that say "ah", and one for each further text."""
    lines = ["file_name,text,speaker"]
    for number, text in enumerate(["ah"] * 12 + list(texts.values())):
        soundfile.write(folder / f"{number}.wav", vowel("ah", 110 + number, 0.3, seed=number), RATE)
        lines.append(f'{number}.wav,"{text}",anna')
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return Speech(path=str(folder))


@pytest.mark.parametrize(
    ("text", "why"), [("...", "there is nothing to say"), ("\u03a9 resistance", "no letter of English")]
)
def test_transcripts_that_cannot_be_said_are_left_out_and_named(tmp_path, text, why):
    train, val = sentences(tmp_path, odd=text).open()
    assert text not in (*train.texts, *val.texts)
    assert len(train) + len(val) == 12
    assert any("cannot be said, left out" in line and "12.wav" in line and why in line for line in train.notes.remarks)


def test_many_transcripts_that_cannot_be_said_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"transcripts cannot be said, more than one in ten: .*choose other data\.units"
    ):
        sentences(tmp_path, a="\u65e5\u672c", b="\u65e5", c="\u672c", d="?!", e="...").open()


def test_filler_tokens_need_whole_recordings(tmp_path):
    speech = replace(Speech(path=str(spoken(tmp_path))), alignment=Filler(), val_fraction=0.3)
    train, _ = speech.open()
    fitted = speech.fitted(train)
    assert fitted.window == fitted.codec.frames(int(train.lengths.max()))
    with pytest.raises(
        ValueError, match=r"filler needs whole recordings, and the longest has 0\.\d+ seconds: data\.seconds=0\.1"
    ):
        replace(speech, seconds=0.1).fitted(train)


def test_splices_know_their_alignment(tmp_path):
    with pytest.raises(ValueError, match=r"data\.splice knows when each recording sounds"):
        Speech(path=str(tmp_path), splice=Splice(), alignment=Monotonic())


def test_a_run_of_another_rate_is_no_start(tmp_path):
    speech = Speech(path=str(spoken(tmp_path)))
    train, _ = speech.open()
    base = replace(speech.fitted(train), rate=16_000)
    with pytest.raises(ValueError, match=r"of 16,000 samples per second, and this data of 8,000: set data\.rate=16000"):
        speech.fitted(train, base=base)
