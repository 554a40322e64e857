"""Help is instant: nothing heavy is imported before a verb needs it."""

import dataclasses
import shlex
import subprocess
import sys
from importlib import import_module
from typing import get_args

import pytest

from langevin.cli import main, verbs

VERBS = [get_args(member)[0] for member in get_args(verbs.Verb)]
PROGRAM = """
import sys
from langevin.cli import main
statuses = [main(a) for a in ([], ["--help"], ["train", "--help"], ["sample", "--help"], ["sample", "--nonsense"])]
heavy = [m for m in ("torch", "numpy", "PIL", "pydantic", "matplotlib") if m in sys.modules]
print(statuses, heavy)
"""


def test_help_imports_nothing_heavy_and_is_no_error():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0, 2] []"
    assert all(verb.__name__.lower() in done.stdout for verb in VERBS)


def test_output_that_nobody_reads_to_its_end_is_no_error():
    code = "from langevin.cli import entry; entry()"
    command = f"{{ sleep 0.2; {shlex.quote(sys.executable)} -c '{code}' --help; }} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("verb", VERBS, ids=lambda v: v.__name__)
def test_every_verb_has_help_and_a_file_that_does_it(verb, capsys):
    name = verb.__name__.lower()
    assert main([name, "--help"]) == 0
    assert verb.__doc__.split("\n")[0].split(",")[0][:30] in " ".join(capsys.readouterr().out.split())
    assert callable(import_module(f"langevin.cli.{name}").run)


@pytest.mark.parametrize("verb", VERBS, ids=lambda v: v.__name__)
def test_every_verb_takes_the_arguments_that_it_is_made_of(verb):
    needed = [f.name for f in dataclasses.fields(verb) if f.default is dataclasses.MISSING]
    asked = verbs.parse([verb.__name__.lower(), *(["here"] * len(needed))])
    assert type(asked) is verb
    assert all(str(getattr(asked, name)) in ("here", "(PosixPath('here'),)") for name in needed)


def test_overrides_may_stand_anywhere():
    orders = (["a", "x.y=1", "--seed", "2"], ["x.y=1", "--seed", "2", "a"], ["--seed", "2", "a", "x.y=1"])
    assert {verbs.parse(["train", *order]) for order in orders} == {
        verbs.Train(target="a", overrides=("x.y=1",), seed=2)
    }
