"""`distil`: the student starts from the run, learns and is measured; what has no flow to learn is refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from langevin.cli import main
from langevin.cli.distil import slower
from langevin.cli.parse import parse
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


def weights(run):
    return load_model(open_run(run), ema=0)[0].parts.method.players


def test_a_student_by_mean_flow_is_given_the_length_of_its_steps(teacher, tmp_path, told, refused):
    out = tmp_path / "student"
    words = ["--method", "meanflow", "--steps", 1, 2, "--count", 12, "--out", out, "training.steps=4"]
    status, _, err = told("distil", teacher, *words)
    assert status == 0, err
    recipe = open_run(out).recipe
    assert (recipe.method.kind, recipe.sampling.sampler.kind, recipe.network.conditioning.span) == (
        "meanflow", "flow_map", True
    )  # fmt: skip
    found = json.loads((out / "distilled.json").read_text())["cells"]
    assert [(cell["of"], cell["nfe"]) for cell in found][:2] == [("student", 1), ("student", 2)]
    model = load_model(open_run(out))[0]
    ahead, likewise = (tiny.drawn(model, range(4), steps=2, batch=batch).arrays for batch in (1, 4))
    assert all(bool((ahead[name] == likewise[name]).all()) for name in ahead)
    assert main(["sample", str(out), "--count", "2", "--sampler", "dpm2m", "--out", str(tmp_path / "a.png")]) == 0
    said = refused("sample", teacher, "--sampler", "flow_map", "--out", tmp_path / "b.png")
    assert "langevin distil RUN --method meanflow" in said
    assert "langevin distil RUN --method meanflow" in refused("train", tmp_path, "method={kind: meanflow}")


def test_a_student_by_distribution_matching_needs_its_teacher_as_it_was(teacher, tmp_path, told, refused):
    copy, out = tmp_path / "teacher", tmp_path / "student"
    shutil.copytree(teacher, copy)
    words = ["--method", "distribution_matching", "--steps", 1, 2, "--count", 12, "--out", out, "training.steps=6"]
    status, _, err = told("distil", copy, *words, "training.optimizer={kind: adamw, lr: 1e-9}")
    assert status == 0, err
    method, before = open_run(out).recipe.method, load_model(open_run(copy))[0].parts.network.state_dict()
    assert (method.teacher, method.steps, len(method.sha256)) == (str(copy), 2, 64)
    for player in weights(out).values():  # both start from the run, and these steps are too short to leave it
        for name, weight in player.module.get_submodule("network").state_dict().items():
            torch.testing.assert_close(weight, before[name], atol=1e-6, rtol=0)
    saved = (out / "checkpoints").glob("step-*/model.safetensors")
    assert {key.split(".")[0] for file in saved for key in load_file(file)} == {"generator", "fake"}
    assert main(["sample", str(out), "--count", "2", "--steps", "2", "--out", str(tmp_path / "a.png")]) == 0
    assert "--likelihood is of diffusion" in refused("evaluate", out, "--likelihood", "--count", 12)
    shutil.rmtree(max((out / "checkpoints").iterdir()))  # the last one: there are steps left to train
    (copy / "recipe.yaml").rename(copy / "gone.yaml")
    assert "is not a run" in refused("resume", out)
    (copy / "gone.yaml").rename(copy / "recipe.yaml")
    shutil.rmtree(max((copy / "checkpoints").iterdir()))
    assert "has other weights than when the training of this run began" in refused("resume", out)


def test_a_teacher_of_another_process_is_refused(teacher, tmp_path, refused):
    said = refused(
        "train", teacher / "recipe.yaml", f"method={{kind: distribution_matching, teacher: {teacher}}}",
        "process.schedule={kind: cosine}", "--out", tmp_path / "student",
    )  # fmt: skip
    assert "differs from the student in process" in said
    assert "method.teacher=RUN" in refused("train", teacher / "recipe.yaml", "method={kind: distribution_matching}")
    assert not (tmp_path / "student").exists()


def test_a_teacher_that_learned_no_score_is_refused(tmp_path, refused):
    run = tiny.run_of(
        pictures.classes(tmp_path / "data", count=60),
        tmp_path / "run",
        "data.val_fraction=0.3",
        "method.coupling={kind: optimal_transport}",
        steps=1,
    )
    said = refused("distil", run, "--method", "distribution_matching", "--out", tmp_path / "student", "--steps", 1, 2)
    assert "learned no score" in said


def test_overrides_before_an_option_of_several_numbers_are_overrides(teacher):
    words = ["distil", str(teacher), "training.steps=2", "--steps", "1", "2"]
    args = parse(words).args
    assert (args.steps, args.overrides) == ((1, 2), ("training.steps=2",))


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
