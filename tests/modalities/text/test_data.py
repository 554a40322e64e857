"""Texts on disk: what is read, what is told apart, and what is said of what cannot be read."""

import json
import os
import time
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from langevin.modalities.remarks import Remarks
from langevin.modalities.text.data import TextSource, load_parts
from langevin.modalities.text.sources import detect, guess

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def jsonl(path: Path, records, more: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + more, encoding="utf-8")
    return path


def parquet(path: Path, **columns) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    path.parent.mkdir(parents=True, exist_ok=True)
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path)
    return path


def numbered(count: int, start: int = 0) -> list[dict]:
    return [{"id": i, "text": f"text number {i}"} for i in range(start, start + count)]


def load(path, **options):
    own = {name: options.pop(name) for name in ("fields", "within") if name in options}
    return load_parts(TextSource(path=str(path), **own), **options)


def plain(part) -> list[str]:
    return [record["text"] for record in part.records]


# ---------------------------------------------------------------------------------------------------------- plain texts


def test_one_text_is_cut_at_a_line_near_the_share(tmp_path):
    lines = [f"line {i} of the text\n" for i in range(1000)]
    path = tmp_path / "a.txt"
    path.write_text("".join(lines))
    for share in (0.01, 0.1, 0.5, 0.9):
        train, held = load(path, held_out=share)
        assert plain(train)[0] + plain(held)[0] == "".join(lines)
        assert plain(held)[0].startswith("line")
        assert held.characters == pytest.approx(share * path.stat().st_size, abs=25)
        assert train.characters + held.characters == path.stat().st_size


@pytest.mark.parametrize("text", ["ab", "a\n", "no line ends here but words", "x" * 100, "\n" * 50 + "a"])
def test_a_text_without_lines_is_still_cut(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    train, held = load(tmp_path / "a.txt", held_out=0.3)
    assert plain(train)[0] + plain(held)[0] == text
    assert train.characters
    assert held.characters
    if " " in text:
        assert plain(train)[0].endswith(" ")


def test_a_few_texts_are_cut_each_and_many_are_two_sample_accuracy(tmp_path):
    for i in range(4):
        (tmp_path / f"{i}.md").write_text(f"{i}" * 100)
    train, held = load(tmp_path)
    assert [text[0] for text in plain(train)] == [text[0] for text in plain(held)] == ["0", "1", "2", "3"]
    assert held.characters == 40
    for i in range(4, 200):
        (tmp_path / f"{i}.md").write_text(f"text number {i}")
    train, held = load(tmp_path)
    assert len(train) + len(held) == 200
    assert not set(plain(train)) & set(plain(held))
    assert 8 <= len(held) <= 36  # 20 expected, s.d. 4.2


def test_marks_and_returns_are_taken_away_and_said(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n" * 1)
    train, held = load(tmp_path / "a.txt", held_out=0.4)
    assert plain(train)[0] + plain(held)[0] == "one\ntwo\nthree\n"
    assert "read as \\n: 1" in " ".join(train.notes.lines())


def test_a_hundred_megabytes_on_one_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"abcd efghi" * 10_000_000)
    start = time.process_time()
    train, held = load(path)
    assert time.process_time() - start < 20
    assert (train.characters, held.characters) == (pytest.approx(9e7, abs=10), pytest.approx(1e7, abs=10))


@pytest.mark.parametrize(("content", "said"), [
    (b"fine \xe9t\xe9", "byte 5 is 0xe9.*Windows-1252.*été"), (b"\xef\xbb\xbffine\xff", "byte 7 is 0xff"),
    (b"", "not empty"),
    (b" \r\n ", "not empty"), (b"a\0b", "byte 1 is zero"), ("é".encode("utf-16"), "UTF-16"), (b"%PDF-1.4", "PDF"),
    (b"\x1f\x8b\x08\0", "gzip"), (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    (b"x", "one character"),
    (b"\xed\xa0\x80", "byte 0"),
])  # fmt: skip
def test_a_file_that_is_no_text_is_an_error_with_the_place(tmp_path, content, said):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"(?s)a\.txt.*{said}"):
        load(tmp_path / "a.txt")


def test_in_a_folder_broken_files_are_noted_until_they_are_most(tmp_path):
    for i in range(30):
        (tmp_path / f"{i:02}.txt").write_text(f"text {i}")
    (tmp_path / "40.txt").write_bytes(b"caf\xe9")
    (tmp_path / "41.txt").write_text("\n")
    train, held = load(tmp_path)
    assert len(train) + len(held) == 30
    assert [Path(where).name for where, _ in train.notes.broken] == ["40.txt"]
    assert "Empty, left out: 1" in " ".join(train.notes.lines())
    for i in range(33):
        (tmp_path / f"b{i}.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"34 of 65 files cannot be used, more than 50%.*40\.txt is not UTF-8"):
        load(tmp_path)
    for i in range(30):
        (tmp_path / f"{i:02}.txt").unlink()
    with pytest.raises(ValueError, match="nothing can be read"):
        load(tmp_path)


# --------------------------------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize(("train", "held"), [
    ("train.jsonl", "dev.jsonl"), ("sick_train.jsonl", "sick_trial.jsonl"), ("train/a.jsonl", "valid/b.jsonl"),
    ("x/Train/a.jsonl", "x/Validation/b.jsonl"),
    ("data/train-00000-of-00002.jsonl", "data/test-00000-of-00001.jsonl"),
    ("training.ndjson", "val.ndjson"), ("train_1.jsonl", "held_out.jsonl"),
])  # fmt: skip
def test_a_sources_own_parts_are_kept(tmp_path, train, held):
    jsonl(tmp_path / train, numbered(20))
    jsonl(tmp_path / held, numbered(5, start=100))
    parts = load(tmp_path)
    assert [len(part) for part in parts] == [20, 5]
    assert plain(parts[1])[0] == "text number 100"


def test_what_only_sounds_like_a_part_is_none(tmp_path):
    for name in ("Kafka_The_Trial.txt", "The_Train.txt", "a.txt", "Contest.txt", "device.txt"):
        (tmp_path / name).write_text(f"the text of {name}\n" * 9)
    train, held = load(tmp_path)
    assert len(train) == len(held) == 5


def test_a_validation_part_is_preferred_and_the_test_part_left_unread(tmp_path):
    for i, name in enumerate(("train", "test", "validation")):
        jsonl(tmp_path / f"{name}.jsonl", numbered(10, start=10 * i))
    train, held = load(tmp_path)
    assert plain(held)[0] == "text number 20"
    assert "test.jsonl" in " ".join(train.notes.lines())


def test_records_in_both_parts_are_dropped_from_training_and_counted(tmp_path):
    jsonl(tmp_path / "train.jsonl", [*numbered(20), {"id": 99, "text": " text number 21 "}])
    jsonl(tmp_path / "dev.jsonl", numbered(5, start=18))
    train, held = load(tmp_path)
    assert (len(train), len(held)) == (18, 5)
    assert "dropped from training: 3." in " ".join(held.notes.lines())
    jsonl(tmp_path / "dev.jsonl", numbered(30))
    with pytest.raises(ValueError, match="every record of the training part"):
        load(tmp_path)


def test_the_answer_does_not_make_a_text_another(tmp_path):
    """One text with two summaries is one text; a premise with two hypotheses is two."""
    summary = [{"text": f"text {i // 2}", "summary": f"summary {i}"} for i in range(200)]
    train, held = load(jsonl(tmp_path / "s.jsonl", summary))
    assert not set(plain(train)) & set(plain(held))
    assert len(train) + len(held) == 200
    same = {"premise": "p", "label": "neutral"}
    jsonl(tmp_path / "n" / "train.jsonl", [{**same, "hypothesis": "a"}, {**same, "hypothesis": "b"}])
    jsonl(tmp_path / "n" / "dev.jsonl", [{**same, "hypothesis": "b", "label": "entailment"}])
    train, held = load(tmp_path / "n")
    assert [record["hypothesis"] for record in train.records] == ["a"]


def test_parts_by_hash_do_not_move_when_records_are_added_and_copies_stay_together(tmp_path):
    records = numbered(300)
    before = load(jsonl(tmp_path / "a.jsonl", records), held_out=0.2)
    after = load(jsonl(tmp_path / "a.jsonl", [*numbered(100, start=1000), *records, *records]), held_out=0.2)
    for old, new, other in ((0, 0, 1), (1, 1, 0)):
        assert set(plain(before[old])) <= set(plain(after[new]))
        assert not set(plain(before[old])) & set(plain(after[other]))
    assert 35 <= len(before[1]) <= 88  # 60 expected, s.d. 7
    for count in range(2, 8):
        assert all(len(part) for part in load(jsonl(tmp_path / "b.jsonl", numbered(count)), held_out=0.01))
    with pytest.raises(ValueError, match="too few to hold any out"):
        load(jsonl(tmp_path / "b.jsonl", numbered(1) * 3))


# -------------------------------------------------------------------------------------------------------------- records

TALK = [["user", "hello there"], ["system", "good day"]]


@pytest.mark.parametrize(("record", "fields", "form"), [
    ({"id": "a long identifier, longer than the turns", "turns": TALK}, ("turns",), "dialogue"),
    ({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}, ("messages",), "dialogue"),
    ({"id": 1, "summary": "s", "text": "the text", "summaries": ["s", "t"]}, ("text", "summary", "summaries"), "summary"),
    ({"article": "the text", "highlights": "s"}, ("article", "highlights"), "summary"),
    ({"label": 2, "hypothesis": "h", "premise": "p"}, ("premise", "hypothesis", "label"), "inference"),
    ({"url": "http://x", "body": "a longer text than that", "n": 3, "tags": ["a", "b"]}, ("body",), "text"),
    ({"text": "short", "title": "a much longer title"}, ("title",), "text"),
])  # fmt: skip
def test_fields_are_guessed(tmp_path, record, fields, form):
    path = jsonl(tmp_path / "a.jsonl", [{**record, "n": i} for i in range(20)], "\n\n")
    assert guess(path).fields == fields
    path = jsonl(tmp_path / "a" / "train.jsonl", [record]).parent
    jsonl(path / "dev.jsonl", [json.loads(json.dumps(record).replace("the", "a").replace("h", "k")) | {"n": 2}])
    if all(name in json.loads((path / "dev.jsonl").read_text()) for name in fields):
        train, _ = load(path)
        assert (train.fields, train.form) == (fields, form)


def test_values_are_strings_lists_or_turns(tmp_path):
    record = {"text": "a\u0000b", "summaries": ["one", "two"], "turns": TALK, "label": 3}
    jsonl(tmp_path / "train.jsonl", [record])
    jsonl(tmp_path / "dev.jsonl", [{**record, "text": "c"}])
    train, _ = load(tmp_path, fields=("text", "summaries", "turns", "label"))
    kept = {"text": "a\0b", "summaries": ["one", "two"], "turns": [tuple(turn) for turn in TALK], "label": "3"}
    assert train.records == (kept,)
    assert list(train.strings()) == ["a\0b", "one", "two", "hello there", "good day", "3"]


def test_broken_lines_are_noted_by_number_until_one_in_a_hundred(tmp_path):
    lines = [json.dumps(record) for record in numbered(500)]
    lines[6] = '{"text": "cut'
    lines[8] = '{"texts": "other", "id": 3}'
    lines[9] = "[1]"
    lines[10] = '{"text": null}'
    lines[11] = '{"text": "\\ud800"}'
    lines[12] = '{"text": "  "}'
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    train, held = load(tmp_path / "a.jsonl", fields=("text",))
    assert len(train) + len(held) == 494
    said = [f"{where} {reason}" for where, reason in train.notes.broken]
    for line, (number, what) in zip(said, [
        (7, "not JSON"), (9, "no field 'text'; its fields are texts, id; did you mean 'texts'"), (10, "no JSON object"),
        (11, "empty (null)"), (12, "not Unicode"),
    ], strict=True):  # fmt: skip
        assert f"{number} " in line
        assert what in line
    lines[13] = "{"
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"6 of 500 lines or rows cannot be used, more than 1%.*line 7 is not JSON"):
        load(tmp_path / "a.jsonl", fields=("text",))


@pytest.mark.parametrize(("content", "said"), [
    (b"", "no record can be read"), (b"{\n{\n", "no record"),
    (b'{"n": 1.5}\n{"n": 2}\n', "no field holds text; the fields are n"),
    (b"\x1f\x8b\x08", "gzip"), (b'{"text": ""}\n', "no field holds text|no text"),
])  # fmt: skip
def test_records_of_no_use_are_an_error(tmp_path, content, said):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.jsonl.*({said})"):
        load(tmp_path / "a.jsonl")


def test_a_field_that_no_record_has_is_named_with_those_there(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)no field 'txt'; its fields are id, text; did you mean 'text'"):
        load(jsonl(tmp_path / "a.jsonl", numbered(5)), fields=("txt",))


def test_parquet_is_read_as_lines_are(tmp_path):
    texts = [f"text {i}" for i in range(50)]
    parquet(tmp_path / "train-00000-of-00001.parquet", text=texts, score=[0.5] * 50, turns=[TALK] * 50)
    parquet(tmp_path / "validation-00000-of-00001.parquet", text=["one more"], score=[1.0], turns=[TALK])
    train, held = load(tmp_path, fields=("text",))
    assert (plain(train), plain(held)) == (texts, ["one more"])
    (tmp_path / "validation-00000-of-00001.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(ValueError, match=r"validation.*cannot be read as Parquet"):
        load(tmp_path, fields=("text",))
    with pytest.raises(ValueError, match="its fields are"):
        load(parquet(tmp_path / "p" / "a.parquet", text=texts), fields=("other",))


# -------------------------------------------------------------------------------------------------------------- sources


@pytest.mark.parametrize(("name", "said"), [
    ("a.json", "JSON.*jsonl"), ("a.csv", "a table.*jsonl"), ("a.txt.gz", "unpack"),
    ("none.txt", "There is no file or folder"),
])  # fmt: skip
def test_what_is_not_read_says_what_to_do(tmp_path, name, said):
    if name != "none.txt":
        (tmp_path / name).write_text("a,b")
    with pytest.raises(ValueError, match=said):
        load(tmp_path / name)


def test_folders_without_text_and_other_names(tmp_path):
    with pytest.raises(ValueError, match=r"no text: looked for \.txt"):
        load(tmp_path)
    (tmp_path / "system.log").write_text("one\ntwo\n" * 50)
    with pytest.raises(ValueError, match=r"found system\.log.*data\.glob"):
        load(tmp_path)
    assert load(tmp_path, within="*.log")[0].characters == pytest.approx(360, abs=8)
    with pytest.raises(ValueError, match=r"no file like '\*\.lag'; it holds system\.log"):
        load(tmp_path, within="*.lag")


def test_readmes_licences_and_hidden_files_are_left_out(tmp_path):
    jsonl(tmp_path / "a.jsonl", numbered(50))
    for name in ("README.md", "LICENSE.txt", ".hidden.jsonl", ".git/config.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("about " * 2000)
    train, held = load(tmp_path)
    assert len(train) + len(held) == 50


@pytest.mark.parametrize("wrong", [{"path": ""}, {"path": "a", "fields": ("a", "a")}, {"path": "a", "fields": ("",)}])
def test_malformed_sources_are_refused(wrong):
    with pytest.raises(ValueError, match="text: "):
        TextSource(**wrong)
    with pytest.raises(ValueError, match="0 and 1"):
        load_parts(TextSource(path="a"), held_out=1.0)


def test_a_source_is_read_from_a_recipe():
    made = TypeAdapter(TextSource).validate_python({"kind": "text", "path": "x", "fields": ["a", "b"]})
    assert made == TextSource(path="x", fields=("a", "b"))


def test_progress_ends_at_the_total_and_fingerprints_tell_contents(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", numbered(50))
    seen = []
    first = load(path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)
    assert first[0].fingerprint == load(path)[0].fingerprint != first[1].fingerprint
    jsonl(path, [*numbered(49), {"text": "text number 50"}])
    assert {part.fingerprint for part in load(path)} != {part.fingerprint for part in first}
    assert Remarks().lines() == []


def test_what_detect(tmp_path):
    def folder(name, **files):
        for file, content in files.items():
            path = tmp_path / name / file.replace("__", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        return detect(tmp_path / name)

    words, record = "Wörter und words.\n".encode() * 2000, b'{"text": "some words"}\n'
    assert folder("plain", a__txt=words, b__md=words)
    assert folder("lines", a__jsonl=record, README__md=words)
    assert folder("long", a__jsonl=b'{"text": "' + b"word " * 9000 + b'"}\n')
    assert folder("cut", a__txt="é".encode() * 10_000)
    assert not folder("pictures", a__png=b"\x89PNG", a__txt=words, b__png=b"\x89PNG", b__txt=words)
    assert not folder("described", a__png=b"\x89PNG", metadata__jsonl=b'{"file_name": "a.png", "text": "x"}\n')
    assert not folder("numbers", a__txt=b"[0.5, 1.25, -3]\n" * 99)
    assert not folder("binary", a__txt=b"\0\1\2")
    assert not folder("sounds", a__wav=b"RIFF", LICENSE__txt=words)
    assert not detect(tmp_path / "nothing")
    assert detect(parquet(tmp_path / "t.parquet", text=["a"], label=[1]))
    assert not detect(parquet(tmp_path / "i.parquet", image=[b"a"], text=["a"]))
    assert not detect(parquet(tmp_path / "n.parquet", x=[1.0]))


def test_the_score_is_the_share_of_files_that_are_text(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.txt").write_text("some words\n")
    (tmp_path / "b.png").write_bytes(b"\x89PNG")
    (tmp_path / "README.md").write_text("about the others\n")
    assert detect(tmp_path)[0] == 0.75
    assert detect(tmp_path / "0.txt") == (1.0, "a text file, .txt")


# ------------------------------------------------------------------------------------------------------------ real data


def real(name: str) -> Path:
    folder = os.environ.get("LANGEVIN_DATA")
    if not folder or not (Path(folder) / name).exists():
        pytest.skip(f"set LANGEVIN_DATA to a folder that holds {name}/")
    return Path(folder) / name


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fields", "counts"), [
    ("books", ("text",), (85, 5)), ("dialogues", ("turns",), (12_174, 2_098)),
    ("summaries", ("text", "summary", "summaries"), (1_991, 619)),  # one abstract is in both
    ("nli", ("premise", "hypothesis", "label"), (4_439, 495)), ("shakespeare", ("text",), (1, 1)),
    ("spelling", ("text",), (2, 2)),
])  # fmt: skip
def test_real_folders_are_read_as_their_description_says(name, fields, counts):
    folder = real(name)
    assert detect(folder)
    train, held = load_parts(guess(folder))
    assert train.fields == fields
    assert (len(train), len(held)) == counts
    assert not train.notes.broken
    if name == "dialogues":
        assert [sum(len(r["turns"]) for r in part.records) for part in (train, held)] == [223_756, 38_768]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["cifar10", "emoji", "motion", "music", "speech_digits", "sprites", "digits_mnist", "cmudict"]
)
def test_real_folders_of_other_things_do_not_look_like_text(name):
    assert not detect(real(name))
