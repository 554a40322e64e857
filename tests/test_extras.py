"""An installation without an extra: all but the features that need it works, and those name the extra in one line.

The extras are read from `pyproject.toml`: a new one is covered by being written there.
"""

import ast
import json
import subprocess
import sys
import tomllib
from email.message import Message
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from langevin.cli import doctor
from langevin.extras import EXTRAS, require
from tests import pictures, scores, texts, voices
from tests.tiny import SMALL

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BROUGHT = PROJECT["optional-dependencies"]
STEPS = (*SMALL, "training.steps=2", "network.patch=2")
SHORT = ("network.width=32", "network.depth=1", "network.head_dim=16", "training.steps=2", "training.batch=4")
NEEDING = {  # by extra: commands that need it
    "data": (("train", "table"), ("inspect", "table"), ("train", "image/digits")),
    "text": (("train", "text/shakespeare", "--data", "texts", *SHORT),),
    "music": (("train", "scores", *SHORT), ("inspect", "scores")),
    "speech": (("train", "recordings", *SHORT), ("inspect", "recordings")),
    "recogniser": (),
    "video": (("train", "films"), ("inspect", "films")),
    "serve": (("serve", "run"),),
    "postgres": (),
    "provenance": (),
    "track": (("train", "photos", "--out", "tracked", "--track", "tensorboard", *STEPS),),
    "trackio": (("train", "photos", "--out", "tracked", "--track", "trackio", *STEPS),),
    "hub": (("pull", "ada/shapes", "--out", "tracked"),),
    "export": (("export", "run", "--to", "onnx"),),
    "openvino": (("export", "run", "--to", "openvino"),),
    "diffusers": (),
    "jax": (),
    "ray": (("train", "photos", "--out", "tracked", "--on", "ray", *STEPS),),
    "docs": (),
    "bench": (),
    "dev": (),
}
CORE = (  # what works without any
    ("inspect", "photos"),
    ("doctor", "--json"),
    ("train", "photos", "--out", "run", *STEPS),
    ("sample", "run", "--count", "2"),
    ("evaluate", "run", "--count", "8", "--seeds", "1"),
    ("train", "image/glyphs", "--out", "letters", *SHORT),
    ("train", "texts", "--out", "prose", *SHORT),
    ("sample", "prose", "--count", "1", "--steps", "4"),
)
PROGRAM = """
import contextlib, importlib, io, json, pkgutil, sys

blocked, needing, core = json.loads(sys.argv[1])

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, *rest):
        return None if name.partition(".")[0] in blocked else self.finder.find_spec(name, *rest)

sys.meta_path[:] = map(Without, sys.meta_path)
import langevin
from langevin.cli import main

def said(arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    return status, err.getvalue()

broken = {}
modules = [m.name for m in pkgutil.walk_packages(langevin.__path__, "langevin.", onerror=lambda name: None)]
for name in modules:
    if name != "langevin.__main__":  # which is the command itself
        try:
            importlib.import_module(name)
        except Exception as error:
            broken[name] = repr(error)
from langevin.cli.parse import VERBS
from langevin.modalities.options import requests
helps = {name: said([name, "--help"])[0] for name in (*VERBS, *requests())}
refused = [said(arguments) for arguments in needing]
if core:
    from functools import partial
    from langevin.modalities.image import measure
    measure.train_classifier = partial(measure.train_classifier, epochs=1)
print(json.dumps([modules, broken, helps, refused, [said(arguments) for arguments in core]]))
"""


def packages(extra: str) -> set[str]:
    """What an extra installs, and what the extras that it names do."""
    found: set[str] = set()
    for need in map(Requirement, BROUGHT[extra]):
        found |= set().union(*map(packages, need.extras)) if need.name == PROJECT["name"] else {need.name}
    return found


def importable(names: set[str]) -> set[str]:
    """The top-level modules of packages; of one that is not installed, its own name."""
    wanted = {canonicalize_name(name) for name in names}
    made = {m for m, owners in packages_distributions().items() if wanted & {canonicalize_name(o) for o in owners}}
    return made | {name.replace("-", "_") for name in wanted}


ALONE = [pytest.param([extra], marks=() if NEEDING[extra] else pytest.mark.slow) for extra in BROUGHT]


@pytest.mark.parametrize("extras", [*ALONE, pytest.param(list(BROUGHT), marks=pytest.mark.slow)], ids="+".join)
def test_all_but_what_an_extra_is_for_works_without_it(extras, tmp_path):
    pictures.classes(tmp_path / "photos", count=60)
    texts.corpus(tmp_path / "texts")
    scores.songs(tmp_path / "scores")
    voices.spoken(tmp_path / "recordings", each=1)
    (tmp_path / "films").mkdir()
    for i in range(2):
        (tmp_path / "films" / f"{i}.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "train.parquet").write_bytes(b"PAR1")
    blocked = importable(set().union(*map(packages, extras)))
    needing = [(extra, arguments) for extra in extras for arguments in NEEDING[extra]]
    asked = json.dumps([sorted(blocked), [arguments for _, arguments in needing], CORE if len(extras) > 1 else []])
    done = subprocess.run([sys.executable, "-c", PROGRAM, asked], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    modules, broken, helps, refused, worked = json.loads(done.stdout.splitlines()[-1])
    assert {f"langevin.{path.parent.name}" for path in (ROOT / "src" / "langevin").glob("*/__init__.py")} < set(modules)
    if "fastapi" in blocked:  # a whole package is for this extra
        broken = {name: error for name, error in broken.items() if not name.startswith("langevin.server")}
    assert not broken
    assert set(helps.values()) == {0}
    for (extra, arguments), (status, said) in zip(needing, refused, strict=True):
        message = said[said.rindex("langevin: ") :]
        assert status == 1, arguments
        assert f"pip install 'langevin[{extra}]'" in message, arguments
        assert message.count("\n") == 1, arguments
    assert not (tmp_path / "tracked").exists()  # refused before any work
    assert [(arguments, said) for arguments, (status, said) in zip(CORE, worked, strict=False) if status] == []


def test_what_is_imported_is_declared():
    known = packages_distributions()
    declared = importable({Requirement(need).name for need in PROJECT["dependencies"]}) | {*EXTRAS, "langevin"}
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            foreign = {name.partition(".")[0] for name in names} & set(known)
            assert foreign <= declared, f"{path}: {foreign - declared} is in no list of dependencies"


def test_the_table_of_extras_is_that_of_the_project():
    for module, (package, extra) in EXTRAS.items():
        assert package in packages(extra)
        assert module in importable({package})


def test_a_package_that_is_there_and_broken_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "tensorboard.py").write_text("import a_module_that_nobody_has")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorboard", raising=False)
    with pytest.raises(ValueError, match=r"needs tensorboard, which cannot be imported .*a_module_that_nobody_has"):
        require("tensorboard", "--track tensorboard")


def test_the_doctor_lists_every_extra_and_how_to_install_it(monkeypatch):
    written = Message()  # as an installation of this tree has it
    for extra in BROUGHT:
        written["Provides-Extra"] = extra
    needs = [*PROJECT["dependencies"], *(f"{need}; extra == '{e}'" for e, needs in BROUGHT.items() for need in needs)]
    monkeypatch.setattr(doctor, "metadata", lambda name: written)
    monkeypatch.setattr(doctor, "requires", lambda name: needs)
    monkeypatch.setattr(doctor, "_version", lambda package: None if package == "pyarrow" else "1.2.3")
    facts = doctor.extras()
    assert set(facts) == {f"extra {extra}" for extra in BROUGHT}
    assert facts["extra data"] == "scikit-learn 1.2.3; missing pyarrow: pip install 'langevin[data]'"
    for extra in BROUGHT:
        assert all(package in facts[f"extra {extra}"] for package in packages(extra))
