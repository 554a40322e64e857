"""`distil`: the student starts from the run, learns and is measured; what has no flow to learn is refused."""

import json

import pytest
import torch

from langevin.cli import main
from langevin.cli.distil import slower
from langevin.run.directory import load_model, open_run
from tests import pictures, tiny


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    data = pictures.classes(folder / "data", count=60)
    return tiny.run_of(
        data, folder / "run", "data.val_fraction=0.3", "sampling.guidance=[{kind: classifier_free, weight: 2.0}]"
    )


def test_a_student_starts_from_the_run_and_is_a_run_like_any_other(teacher, tmp_path, told):
    out = tmp_path / "student"
    words = [
        "--steps",
        1,
        2,
        "--count",
        12,
        "--out",
        out,
        "training.steps=2",
        "training.optimizer={kind: adamw, lr: 1e-9}",
    ]
    status, printed, err = told("distil", teacher, *words)
    assert status == 0, err
    old, new = (load_model(open_run(path))[0].parts.network.state_dict() for path in (teacher, out))
    for name, weight in old.items():  # the steps are too short to change them
        torch.testing.assert_close(new[name], weight, atol=1e-6, rtol=0)
    recipe, rates = open_run(out).recipe, open_run(teacher).recipe.training.optimizer
    assert slower(rates) == f"training.optimizer={{kind: muon, lr: {rates.lr / 4:g}, adamw_lr: {rates.adamw_lr / 4:g}}}"
    assert (recipe.method.kind, recipe.sampling.sampler.kind, recipe.sampling.steps) == (
        "consistency",
        "consistency",
        1,
    )
    assert (recipe.measured, recipe.sampling.guidance) == ("", ())
    found = json.loads((out / "distilled.json").read_text())["cells"]
    assert [(cell["of"], cell["nfe"]) for cell in found] == [
        ("student", 1),
        ("student", 2),
        ("run", 1),
        ("run", 2),
        ("run", 3),
    ]
    assert "real data" in printed
    assert main(["sample", str(out), "--count", "2", "--out", str(tmp_path / "a.png")]) == 0
    assert main(["sample", str(out), "--count", "2", "--steps", "4", "--out", str(tmp_path / "b.png")]) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [(["method.prediction=noise"], "prediction=noise"), (["method={kind: adversarial}"], "method.kind adversarial")],
)
def test_a_run_without_a_flow_to_learn_is_refused(changes, words, tmp_path, refused):
    run = tiny.run_of(pictures.classes(tmp_path / "data"), tmp_path / "run", *changes, steps=1)
    assert words in refused("distil", run, "--out", tmp_path / "student")
    assert not (tmp_path / "student").exists()


@pytest.mark.parametrize(
    ("options", "words"), [(["--steps", 0], "from 1 to 64"), (["--count", 2], "--count must be 10")]
)
def test_absurd_options_are_refused(teacher, options, words, tmp_path, refused):
    assert words in refused("distil", teacher, *options, "--out", tmp_path / "student")
