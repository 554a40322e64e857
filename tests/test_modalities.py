"""A modality is one room: nothing outside its folder knows it but the union, and a new one needs no other line."""

import ast
from pathlib import Path

import numpy as np
import pytest

import langevin
from langevin.cli import main
from langevin.modalities import union
from langevin.modalities.options import kinds
from langevin.recipe import read
from tests import temperatures

SOURCE = Path(langevin.__file__).parent
OTHERWISE = ("extras.py", "networks/dit.py")  # the extra `text`, and the layers that read captions
FOREIGN = "server/openai/"  # whose fields have the names that OpenAI gave them
MEMBERS = {"Points"}  # classes of the union whose names no other package has


def outside():
    """The files that must not know a modality, as syntax trees."""
    for path in sorted(SOURCE.rglob("*.py")):
        inside = path.parts[len(SOURCE.parts) : len(SOURCE.parts) + 2]
        owner = (
            inside[1] if len(inside) == 2 and inside[0] == "modalities" and (SOURCE / Path(*inside)).is_dir() else None
        )
        if path not in (SOURCE / "modalities" / "union.py", SOURCE / "modalities" / "parts.py"):
            yield path, owner, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def docstrings(tree):
    """Texts that stand alone: of modules, classes, functions and fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


def test_no_file_imports_another_modality():
    for path, owner, tree in outside():
        for name in imported(tree):
            for kind in kinds():
                assert kind == owner or not name.startswith(f"langevin.modalities.{kind}"), f"{path}: {name}"


def test_no_file_names_a_modality():
    """Neither its kind as a string, nor its class."""
    for path, owner, tree in outside():
        where = path.relative_to(SOURCE).as_posix()
        if owner is not None or where in OTHERWISE or where.startswith(FOREIGN):
            continue
        said = set(map(id, docstrings(tree)))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
                assert node.value not in kinds(), f"{path}:{node.lineno}: '{node.value}'"
            if isinstance(node, ast.Name | ast.Attribute):
                name = node.id if isinstance(node, ast.Name) else node.attr
                assert name not in MEMBERS, f"{path}:{node.lineno}: {name}"


# --------------------------------------------------------------------------- a modality that the package does not know


@pytest.fixture
def years(tmp_path, monkeypatch):
    """A folder of years with a slope and a season, and the modality in the union."""
    monkeypatch.setattr(union, "AnyModality", union.AnyModality | temperatures.Temperatures)
    read._adapter.cache_clear()
    folder, random = tmp_path / "years", np.random.default_rng(0)
    folder.mkdir()
    for year in range(40):
        days = 8 + 6 * np.sin(np.arange(temperatures.DAYS) / 5) + random.normal(0, 1, temperatures.DAYS)
        np.savetxt(folder / f"{1980 + year}.celsius", days)
    yield folder
    read._adapter.cache_clear()


SMALL = ("training.steps=4", "training.batch=8", "training.ema_lengths=[0.1]", "sampling.ema=0.1", "sampling.steps=3")


def test_a_modality_is_a_folder_and_a_line(years, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["inspect", str(years)]) == 0
    assert "temperatures (1.00): 40 years" in capsys.readouterr().out
    assert main(["train", str(years), "--out", str(run), *SMALL]) == 0
    assert sorted(p.name for p in (run / "samples").iterdir()) == [f"step-{i:08d}.txt" for i in range(5)]
    assert main(["resume", str(run)]) == 0
    assert main(["sample", str(run), "--help"]) == 0
    assert "--warmer" in capsys.readouterr().out
    cold, warm = tmp_path / "cold.txt", tmp_path / "warm.txt"
    assert main(["sample", str(run), "--count", "3", "--out", str(cold)]) == 0
    assert main(["sample", str(run), "--count", "3", "--warmer", "2", "--sampler", "dpm2m", "--out", str(warm)]) == 0
    assert np.allclose(np.loadtxt(warm), np.loadtxt(cold) + 2, atol=0.011)
    assert main(["evaluate", str(run), "--count", "8", "--curve"]) == 0
    assert (run / "report.html").is_file()
    assert (
        main(["compare", str(run), "--samplers", "ddim", "--steps", "2", "--count", "10", "--out", str(tmp_path / "c")])
        == 0
    )
    assert main(["fit-solver", str(run), "--steps", "2", "--count", "4"]) == 0
    assert main(["sample", str(run), "--sampler", "learned", "--steps", "2", "--count", "2"]) == 0
    capsys.readouterr()
    assert main(["sample", str(run), "--prompt", "x"]) == 1
    assert "--prompt is an option of runs of text" in capsys.readouterr().err


def test_a_run_in_a_notebook(years, tmp_path):
    run = langevin.train(years, *SMALL, out=tmp_path / "run", quiet=True)
    samples = run.sample(2, warmer=1.0, sampler="heun")
    assert samples.values.shape == (2, temperatures.DAYS)
    assert "<pre" in samples._repr_html_()
    assert "<table" in run.evaluate(count=8)._repr_html_()
    again = langevin.load(tmp_path / "run").sample(2, warmer=1.0, sampler="heun")
    assert (again.values == samples.values).all()
    with pytest.raises(ValueError, match="no option prompt; they have warmer"):
        run.sample(2, prompt="x")
