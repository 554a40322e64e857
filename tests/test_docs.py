"""Every command, recipe and program in README and docs runs; commands of most pages take minutes, and are marked slow."""

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from PIL import Image

from langevin import notebook
from langevin.cli import main
from langevin.cli.parse import kind_of, parse
from langevin.modalities.image import measure
from langevin.modalities.image.classifier import train_classifier
from langevin.modalities.music.piece import of_pitches
from langevin.modalities.options import options_of
from langevin.modalities.speech import evaluate as speech
from langevin.modalities.speech.text.letters import Accuracy
from langevin.recipe.read import check, merge, read_tree
from tests import clips, customers, motions, pictures, scores, texts, voices
from tests.hub_server import client

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MEASURED = Accuracy(words=1, word_accuracy=1, word_accuracy_stress=1, error_rate=0, error_rate_stress=0)
TINY = ["training.steps=2", "training.batch=4", "network.width=32", "network.depth=1", "network.head_dim=16"]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.S | re.M)


def commands(page: Path) -> list[list[str]]:
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def shortened(words: list[str]) -> list[str]:
    """The same command on as little as possible: its own options, with sizes that take seconds."""
    small = {"--count": "10", "--seeds": "1", "--steps": None, "--iterations": "400"}
    words = [small.get(words[i - 1]) or w if i else w for i, w in enumerate(words)]
    if words[0] == "train":
        headless = words[1].startswith(("toy/", "table/", "customers")) or words[1] == "speech/vocoder"
        tiny = [w for w in TINY if "head_dim" not in w] if headless else TINY
        unet = words[1].endswith("-likelihood") or any(
            w.startswith(("network={kind: unet", "data.enlarge")) for w in words
        )
        tiny = [w.replace("depth", "blocks") if unet else w for w in tiny]
        if any(w.startswith(("network={kind: unet2d", "network={kind: dit2d")) for w in words):
            tiny = [w for w in tiny if not w.startswith("network.")]
        if any(w.startswith(("network.kind=autoencoder", "network={kind: autoencoder")) for w in words):
            tiny = [w for w in tiny if "depth" not in w and "head_dim" not in w]
        words += [w for w in tiny if w.split("=")[0] not in {v.split("=")[0] for v in words if "=" in v}]
    if words[0] == "attribute":
        words += ["--draws", "2", "--projection", "64", "--most", "20"]
    if words[0] == "distil":
        words += ["training.steps=2", "--count", "10"]
    if words[0] == "stress":
        words += ["--budget", "16", "--rounds", "2", "--conditions", "8"]
    if words[0] == "intervene":
        words += ["--count", "4", "--bands", "2", "--steps", "2"]
    if words[0] == "reward":
        words = [w for i, w in enumerate(words) if w != "--minutes" and words[i - 1] != "--minutes"]
        words += ["--train-steps", "1", "--steps", "2", "--count", "16", "--chains", "8", "--pairs", "8"]
    if words[0] == "adapt":
        words += ["training.steps=2", "--count", "0", "--share", "0.2"]
    if words[0] == "continue":  # a run of two steps draws nothing that could be replayed
        replayed = [] if {"--replay", "--adapter"} & {*words} else ["--replay", "0"]
        words += ["training.steps=2", *replayed, *(["adapter.share=0.2"] if "--adapter" in words else [])]
    if words[0] == "compare" and "--samplers" not in words:
        words += ["--count", "10", "--seeds", "1"]
    if words[0] == "evaluate":
        words += [] if "--count" in words else ["--count", "8"]
        unused = getattr(options_of(kind_of(Path(words[1])) or "").Evaluate, "UNUSED", {})
        words += [] if "seeds" in unused else ["--seeds", "1"]
    return words


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a folder of photos in two classes; the judging classifier is trained for one epoch."""
    monkeypatch.setattr(measure, "train_classifier", lambda *a, **k: train_classifier(*a, **{**k, "epochs": 1}))
    generator = np.random.default_rng(0)
    for kind, level in (("photos/cat", 60), ("photos/dog", 180), ("birds/owl", 120), ("birds/wren", 90)):
        (tmp_path / kind).mkdir(parents=True)
        for i in range(20):
            pixels = np.clip(generator.normal(level, 30, (12, 12, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / kind / f"{i}.png")
    for name, make in (("texts", texts.corpus), ("dialogues", texts.dialogues), ("summaries", texts.summaries),
                       ("pairs", texts.inferences)):  # fmt: skip
        make(tmp_path / name)
    for name, content in (("abstracts.txt", "the cat sees the moon. a dog hears the sea.\n"), ("draft.txt", "teh cat\n"),
                          ("questions.tsv", "a dog sees the sea.\ta dog sees.\n")):  # fmt: skip
        (tmp_path / name).write_text(content)
    scores.chorales(tmp_path)
    scores.tune(tmp_path)
    scores.written(of_pitches(np.array(scores.chorale(32, seed=9))), tmp_path / "hymn.mid")
    (tmp_path / "springs.py").write_text(blocks(ROOT / "docs" / "drift.md", "python")[0])
    (tmp_path / "ledger.py").write_text(blocks(ROOT / "docs" / "hub.md", "python")[0])
    (tmp_path / "taste.py").write_text(blocks(ROOT / "docs" / "restoration.md", "python")[0])
    customers.written(tmp_path / "customers.csv", count=120)
    customers.written(tmp_path / "holes.csv", count=30, seed=1)
    voices.spoken(tmp_path / "voices")
    soundfile.write(tmp_path / "clip.wav", voices.vowel("ee", 150, 0.25), voices.RATE)
    (tmp_path / "lines.txt").write_text("ah\nee oo\n")
    clips.captioned(tmp_path / "clips")
    clips.write(tmp_path / "start.gif", clips.frames("left", "blue", count=3))
    for name, way in (("first", "left"), ("last", "right")):
        clips.frames(way, "red")[0].save(tmp_path / f"{name}.png")
    pictures.captions(tmp_path / "pictures", side=32, count=60)
    clips.frames(side=32)[0].save(tmp_path / "square.png")
    motions.walks(tmp_path / "walks")
    motions.one(tmp_path)
    (tmp_path / "path.csv").write_text("time,x,z\n0,0,0\n1,1,0\n2,1,1\n")
    (tmp_path / "messages.txt").write_text("what do you see?\n")
    monkeypatch.setattr(speech, "held_out_accuracy", lambda: MEASURED)  # takes ten seconds, and has its own test
    monkeypatch.chdir(tmp_path)
    return tmp_path


QUICK = ("README.md", "index.md", "table.md", "music.md")
IN_TURN = [pytest.param(p, id=p.name, marks=() if p.name in QUICK else pytest.mark.slow) for p in PAGES]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server of the Hub's interface on this machine, in place of the Hub."""
    with client(monkeypatch, tmp_path):
        yield


@pytest.mark.parametrize("page", IN_TURN)
def test_every_command_of_a_page_runs_in_order(
    page: Path, somewhere: Path, hub: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    for words in commands(page):
        if words[0] == "make":
            assert words[1] in targets, f"{page.name}: there is no `make {words[1]}`"
        elif words[0] == "langevin":
            shown = " ".join(words)
            if (
                "LANGEVIN_DATA" in shown
                or "--likelihood" in words
                or words[1] in ("serve", "audit", "detect", "forget")
                or "--serve" in words
                or "--harden" in words
                or {"--webhook", "trackio,tensorboard"} & {*words}
            ):
                # real data, minutes of integration (run small in cli/test_measure), a server, a proof, what others are told
                # (run in run/test_track and run/test_webhook): the words must parse
                parse(words[1:])
            else:
                if "<" in words:  # standard input
                    *words, _, file = words
                    monkeypatch.setattr("sys.stdin", (somewhere / file).open())
                assert main(shortened(words[1:])) == 0, f"{page.name}: `{shown}` failed"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_complete_recipe_of_a_page_loads(page: Path) -> None:
    for block in blocks(page, "yaml"):
        tree = yaml.safe_load(block)
        base = read_tree(tree.pop("extends")) if "extends" in tree else {}
        assert check(merge(base, tree)).name


def test_the_readmes_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, but for a network and a time that take seconds."""
    (program,) = blocks(ROOT / "README.md", "python")
    assert len(program.splitlines()) <= 25
    train, evaluate = notebook.train, notebook.LoadedRun.evaluate
    monkeypatch.setattr(notebook, "train", lambda target, minutes: train(target, *TINY))
    monkeypatch.setattr(notebook.LoadedRun, "evaluate", lambda run: evaluate(run, count=8, seeds=1))
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(compile(program, "README.md", "exec"), found)
    assert found["images"].shape == (2, 1, 32, 32)
    assert Path("letters.png").read_bytes().startswith(b"\x89PNG")
    assert found["report"].path.name == "report.html"
    assert "<table" in found["report"]._repr_html_()


def test_the_program_in_the_extension_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    programs = [b for b in blocks(ROOT / "docs" / "extend.md", "python") if b.startswith("import")]
    assert programs
    for program in programs:
        compiled = compile(program, "extend.md", "exec")
        exec(compiled, {})
    means, spreads = re.findall(r"tensor\(\[([^\]]*)\]", capsys.readouterr().out)
    assert all(abs(float(m) - 0.3) < 0.06 for m in means.split(","))  # three standard errors of 1,000 draws
    assert all(abs(float(s) - 0.5) < 0.06 for s in spreads.split(","))


def test_the_tour_runs_and_its_claims_hold(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "docs" / "tour" / "tour.py"))
    assert len(capsys.readouterr().out.splitlines()) == 10


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_relative_link_of_a_page_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in link:
            assert (page.parent / link).exists(), f"{page.name}: {link} is not there"
