"""What is said of a folder of text before anything is trained on it."""

import json

import pytest

from langevin.modalities.text.inspect import inspect
from tests.modalities.text.test_data import jsonl, real


def test_the_facts_of_records(tmp_path):
    same = {"premise": "dög", "label": "yes"}
    train = [{**same, "hypothesis": h} for h in ("a", "b", "b", "ccc")]
    jsonl(tmp_path / "train.jsonl", train, "{broken\n")
    jsonl(tmp_path / "dev.jsonl", [{**same, "hypothesis": "a", "label": "no"}, {**same, "hypothesis": "😀"}])
    found = inspect(str(tmp_path))
    assert (found.documents, found.form, found.fields) == (6, "inference", ("premise", "hypothesis", "label"))
    assert found.characters == 6 * 3 + 3 + 1 + 2 + 2
    assert found.bytes == found.characters + 6 + 3
    assert found.alphabet == len(set("dögabc😀"))
    assert found.rare == len("ab😀")
    assert found.non_ascii == pytest.approx(7 / 26)
    assert found.unusual == ("ö", "😀")
    assert found.lengths["hypothesis"] == (6, 1, 1, 1, 3, 3)
    assert (found.parts, found.labels) == ({"train": 4, "held_out": 2}, {"yes": 5, "no": 1})
    assert (found.duplicates, found.shared) == (1, 1)
    assert "line 5" in found.broken[0][0]
    assert json.loads(json.dumps(found.as_dict()))["alphabet"] == found.alphabet
    said = "\n".join(found.lines())
    for part in ("6 inferences", "yes 5, no 1", "train 4, held_out 2", "line 5 is not JSON", "dög | a", "'ö', '😀'"):
        assert part in said


def test_the_facts_of_one_plain_text(tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"line {i}\n" for i in range(1000)))
    found = inspect(str(tmp_path / "a.txt"))
    assert (found.documents, found.parts, found.labels, found.broken) == (1, {"all": 1}, {}, ())
    assert found.characters == found.bytes == sum(len(f"line {i}\n") for i in range(1000))
    assert found.sample[0] == "line 0"
    assert len(found.sample) == 5
    assert all(line.startswith("line ") for line in found.sample)
    with pytest.raises(ValueError, match="There is no file or folder"):
        inspect(str(tmp_path / "b.txt"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "documents", "alphabet"), [("books", 90, 224), ("summaries", 2611, None), ("nli", 4934, None)]
)
def test_real_folders(name, documents, alphabet):
    found = inspect(str(real(name)))
    assert found.documents == documents
    assert alphabet in (None, found.alphabet)
    assert found.shared == (1 if name == "summaries" else 0)
