"""Wrong invocations: each says what is wrong, has its exit status, and changes nothing."""

import io
import re
import sys

import pytest

from langevin.cli import main
from tests import customers, pictures, texts, tiny
from tests.cli.invocations import BAD, INVOCATIONS

FILES = {
    "cut.tar": "x" * 2000, "other.toml": "x = 1\n",
    "afile": "abcd", "bad.yaml": "data: {kind: digits", "list.yaml": "- a\n- b\n", "circle.yaml": "extends: circle.yaml\n",
    "wrong.yaml": "extends: image/digits\nnetwork: {widht: 3}\n", "draft.txt": "the cat sees the sea.\n",
    "blank.txt": "\n\n", "broken.jsonl": "{oops\n", "nofield.jsonl": '{"txt": "a"}\n', "full/mine.txt": "mine",
    "ridge.yaml": "name: mine\ndensity: {kind: function, function: 'mine:log_p'}\n",
    "mine.py": "def log_p(x):\n    return -0.5 * (x ** 2).sum(1)\ndef bad(x):\n    return x.sum(1) * float('nan')\n"
    "def wrong(x):\n    return x\nnumber = 3\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A directory with runs of every kind, named as the commands name them, and files that are in the way."""
    here = tmp_path_factory.mktemp("workspace")
    for name in ("empty", "full", "dir.png", "dir.txt"):
        (here / name).mkdir()
    for name, text in FILES.items():
        (here / name).write_text(text)
    (here / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    pictures.classes(here / "images"), pictures.plain(here / "plain"), texts.corpus(here / "corpus")
    texts.summaries(here / "summaries"), texts.inferences(here / "inferences")

    def run(name, target, *changes):
        small = [c for c in tiny.SMALL if not ("toy/" in target or ".csv" in target) or "head_dim" not in c]
        words = [
            "train",
            target,
            "--out",
            str(here / name),
            *small,
            "training.steps=2",
            "training.snapshots=2",
            *changes,
        ]
        assert main(words) == 0, name

    run("image", str(here / "images"))
    run("free", str(here / "plain"))
    run("points", "toy/mixture", "data.count=300")
    run("sde", "toy/double-well", "data.count=300")
    corpus, length = str(here / "corpus"), "data.task.context_length=32"
    run("text", corpus, length)
    run("causal", corpus, length, "process.kind=autoregressive", "network.attention=causal")
    run("blocks", corpus, length, "network.attention=block", "network.block_size=8")
    run("pairs", str(here / "summaries"), "data.task.context_length=160", "data.task.max_target_length=30",
        "data.codec.size=300")  # fmt: skip
    run("table", str(customers.with_holes(here / "customers")))
    run("labels", str(here / "inferences"), "data.codec.size=300")
    return here


@pytest.fixture
def here(workspace, monkeypatch):
    """The working directory of the commands, from which `mine` is imported."""
    monkeypatch.chdir(workspace)
    monkeypatch.setattr(sys, "path", [str(workspace), *sys.path])
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    sys.modules.pop("mine", None)
    yield workspace
    sys.modules.pop("mine", None)


def content(folder):
    """Everything below a folder: path -> time of change and size."""
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*") if p.is_file()} | {
        p: () for p in folder.rglob("*") if p.is_dir()
    }


@pytest.mark.parametrize(("words", "status", "said"), INVOCATIONS, ids=[line[:60] for _, line, _ in BAD])
def test_a_wrong_invocation_says_what_is_wrong_and_changes_nothing(here, capsys, words, status, said):
    before = content(here.parent)
    assert main(words) == status
    out, err = capsys.readouterr()
    unframed = re.sub(r"\s+", " ", re.sub("[│╭╮╰╯─]", " ", err))
    assert re.sub(r"\s+", " ", said) in unframed, err
    assert "not foreseen" not in err
    assert "Traceback" not in err
    assert out == ""
    assert content(here.parent) == before


def test_the_table_covers_every_verb():
    from langevin.cli.parse import VERBS
    from langevin.modalities.options import requests

    assert {line.split()[0] for _, line, _ in BAD} >= {*VERBS, *requests()}
    assert len({line for _, line, _ in BAD}) == len(BAD) >= 150
