"""Help is instant: nothing heavy is imported before a verb needs it. And what is asked is read as it was meant."""

import dataclasses
import pkgutil
import shlex
import subprocess
import sys
from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from langevin import modalities
from langevin.cli import kinds, main, verbs
from langevin.cli.parse import VERBS, module_of, parse
from langevin.modalities import options
from langevin.recipe.read import is_density, shipped

REQUESTS = options.requests()
PROGRAM = """
import sys
from langevin.cli import main
given = [[], ["--help"], ["train", "--help"], ["sample", "--help"]]
given += [["sample", sys.argv[1], "--help"], ["sample", "--nonsense"]]
statuses = [main(a) for a in given]
heavy = [m for m in ("torch", "numpy", "PIL", "pydantic", "matplotlib") if m in sys.modules]
print(statuses, heavy)
"""
OWN = {"image": "--condition", "text": "--infill", "points": None}  # an option of `sample` by modality


def run_of(kind: str, folder: Path) -> Path:
    """A directory that the command line takes for a run of a modality."""
    folder.mkdir(exist_ok=True)
    (folder / "recipe.yaml").write_text(f"name: a\ndata:\n  path: here\n  kind: {kind}\nnetwork:\n  kind: mlp\n")
    return folder


def test_help_imports_nothing_heavy_and_is_no_error(tmp_path):
    run = run_of("text", tmp_path / "run")
    done = subprocess.run([sys.executable, "-c", PROGRAM, run], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0, 0, 2] []"
    assert all(name in done.stdout for name in (*VERBS, *REQUESTS))
    assert "--infill" in done.stdout


def test_output_that_nobody_reads_to_its_end_is_no_error():
    code = "from langevin.cli import entry; entry()"
    command = f"{{ sleep 0.2; {shlex.quote(sys.executable)} -c '{code}' --help; }} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


def file_of(verb):
    """A keyword of Python is no name of a module."""
    return verb.replace("-", "_") + "_" * iskeyword(verb)


@pytest.mark.parametrize("name", [*VERBS, *REQUESTS])
def test_every_verb_has_help_and_a_file_that_does_it(name, capsys):
    verb = VERBS.get(name) or REQUESTS[name][1]
    assert main([name, "--help"]) == 0
    assert verb.__doc__.split("\n")[0].split(",")[0][:30] in " ".join(capsys.readouterr().out.split())
    file = file_of(name) if name in VERBS else "apply"
    assert callable(import_module(f"langevin.cli.{file}").run)


def test_help_of_train_says_how_every_kind_of_data_is_recognised(capsys):
    assert main(["train", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    folders = {name for _, name, package in pkgutil.iter_modules(modalities.__path__) if package}
    rooms = {name for name in folders if (Path(modalities.__path__[0]) / name / "modality.py").is_file()}
    assert set(options.kinds()) == rooms, "each modality's module of options says how its data is recognised"
    for room in rooms:
        recognised = options.options_of(room).RECOGNISED
        assert recognised.startswith(f"{room.removesuffix('s')}")
        assert recognised in shown


def test_help_of_train_names_the_recipes_that_train(capsys):
    trained = [name for name in shipped() if not is_density(name)]
    assert kinds.trainable() == trained
    assert main(["train", "--help"]) == 0
    shown = "".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"Shippedrecipes:{','.join(trained)}." in shown


@pytest.mark.parametrize("kind", OWN)
def test_help_of_a_run_shows_the_options_of_its_modality_and_no_others(kind, tmp_path, capsys):
    assert main(["sample", str(run_of(kind, tmp_path / "run")), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--steps" in shown
    assert [option for option in OWN.values() if option and option in shown] == [OWN[kind]] * bool(OWN[kind])


@pytest.mark.parametrize("name", [name for name in (*VERBS, *REQUESTS) if name not in ("edit", "classify")])
def test_every_verb_takes_the_arguments_that_it_is_made_of(name):
    """But for those whose input is a modality's."""
    verb = VERBS.get(name, verbs.Apply)
    made_of = [verb] if name in VERBS else [verb, REQUESTS[name][1]]
    required = [f for part in made_of for f in dataclasses.fields(part) if f.default is dataclasses.MISSING]
    needed = [f.name for f in required]
    choices = {f.name: get_args(f.type) for f in required if get_origin(f.type) is Literal}
    named = [f"--{f.name}=here" for f in required if f.type in (Path, str)]  # not Positional
    named += [f"--{name}={several[0]}" for name, several in choices.items()]
    parsed = parse([name, *(["here"] * (len(needed) - len(named))), *named])
    assert (parsed.verb, parsed.kind) == (name, None if name in VERBS else REQUESTS[name][0])
    assert type(parsed.args) is verb or isinstance(parsed.args, verbs.Apply)
    assert module_of(parsed) == (file_of(name) if name in VERBS else "apply")
    own = getattr(parsed.args, "options", None)
    given = [getattr(parsed.args, n, None) or getattr(own, n) for n in needed if n not in choices]
    assert all(str(value) in ("here", "(PosixPath('here'),)") for value in given)


def test_overrides_may_stand_anywhere():
    orders = (["a", "x.y=1", "--seed", "2"], ["x.y=1", "--seed", "2", "a"], ["--seed", "2", "a", "x.y=1"])
    assert {parse(["train", *order]).args for order in orders} == {
        verbs.Train(target="a", overrides=("x.y=1",), seed=2)
    }


def test_a_run_is_found_wherever_it_stands(tmp_path):
    run = str(run_of("text", tmp_path / "run"))
    first, last = (parse(["sample", *words]) for words in ([run, "--prompt", "a"], ["--prompt", "a", run]))
    assert (first.kind, first.args.options.prompt) == ("text", "a")
    assert dataclasses.asdict(first.args) == dataclasses.asdict(last.args)


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(("verb", "kind", "option", "owner"), [
    ("sample", "image", "--prompt=a", "text"), ("sample", "image", "--best-of", "text"),
    ("sample", "points", "--condition", "image"), ("sample", "text", "--condition", "image"),
    ("evaluate", "text", "--likelihood-count", "image"), ("evaluate", "image", "--baseline", "text"),
])  # fmt: skip
def test_an_option_of_another_modality_says_whose_it_is(verb, kind, option, owner, tmp_path, refused):
    run = run_of(kind, tmp_path / "run")
    said = refused(verb, run, option, "3")
    assert f"{option.split('=')[0]} is an option of runs of {owner}, and {run} is a run of {kind}" in said
    assert f"langevin {verb} {run} --help" in said


def test_an_option_of_no_modality_is_a_usage_error(tmp_path, told):
    status, _, err = told("sample", run_of("text", tmp_path / "run"), "--promt", "a")
    assert status == 2
    assert "--prompt" in err  # the nearest one


@pytest.mark.parametrize("verb", ["sample", "evaluate"])
def test_a_run_of_an_unknown_kind_is_refused_with_the_known_ones(verb, tmp_path, refused):
    said = refused(verb, run_of("smells", tmp_path / "run"))
    assert f"there is no modality 'smells'. Known are {', '.join(options.kinds())}" in said


@pytest.mark.parametrize("content", ["name: a\nnetwork:\n  kind: mlp\n", "", "data:\n  path: here\n"])
def test_a_recipe_that_does_not_say_its_kind_is_refused(content, tmp_path, refused):
    (tmp_path / "recipe.yaml").write_text(content)
    assert "does not say of what data the run is (data.kind)" in refused("sample", tmp_path)


def test_a_recipe_that_is_no_text_is_refused(tmp_path, refused):
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refused("sample", tmp_path)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_verb_of_one_modality_refuses_runs_of_another(name, trained, tmp_path, refused):
    assert f"this verb is for runs of {REQUESTS[name][0]}, and {trained} is one of image" in refused(name, trained, "x")
