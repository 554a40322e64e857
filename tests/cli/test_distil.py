"""`distil`: the student starts from the run, learns and is measured; what has no flow to learn is refused."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from langevin.cli import main
from langevin.cli.distil import SLOWER
from langevin.cli.parse import parse
from langevin.methods import DistributionMatching
from langevin.modalities.image.conditions import encode
from langevin.modalities.modality import Draw
from langevin.recipe.build import build, guided
from langevin.run.begin import begin
from langevin.run.directory import load_model, open_run
from langevin.run.teacher import teacher_of, with_teacher
from langevin.user_function import NO_CODE
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
    recipe = open_run(out).recipe
    assert recipe.training.init_lr_factor == SLOWER
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
    said = refused("resume", out)
    assert (
        f"the teacher that this run was trained with is neither at {copy}, where there is one with other weights"
        in said
    )


def test_a_student_with_a_discriminator_has_a_third_player_and_is_resumed(teacher, tmp_path, told):
    out = tmp_path / "student"
    words = ["--method", "distribution_matching", "--steps", 1, 2, "--count", 12, "--out", out, "training.steps=6"]
    status, _, err = told("distil", teacher, *words, "method.adversarial=0.1", "training.threads=1")
    assert status == 0, err
    (saved, *_) = sorted((out / "checkpoints").glob("step-*/model.safetensors"))
    assert {key.split(".")[0] for key in load_file(saved)} == {"generator", "fake", "discriminator"}
    end = load_file(max((out / "checkpoints").iterdir()) / "model.safetensors")
    shutil.rmtree(max((out / "checkpoints").iterdir()))
    assert main(["resume", str(out)]) == 0
    again = load_file(max((out / "checkpoints").iterdir()) / "model.safetensors")
    assert end.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in end.items())


def matched(teacher, **changes):
    """The recipe of a student of a run, and the denoiser that it matches."""
    recipe = open_run(teacher).recipe
    method = DistributionMatching.Config(teacher=str(teacher), **changes)
    student = with_teacher(replace(recipe, method=method))
    return student, teacher_of(torch.device("cpu"), NO_CODE, student.method)


@pytest.mark.parametrize("guidance", [True, False])
def test_the_teacher_is_the_run_as_it_draws(teacher, guidance):
    """The gradient is (D_fake - D_guided) / c, with what the sampler is given of a request for the same classes."""
    student, found = matched(teacher, guidance=guidance)
    method = build(student, teacher=lambda config: found).model.method
    model, labels = load_model(open_run(teacher))[0], torch.tensor([0, 1, 0, 1])
    sampling = model.sampling if guidance else replace(model.sampling, guidance=())
    request = Draw(
        shape=(3, 8, 8), seeds=torch.arange(4), sampling=sampling, condition=encode(labels, None, None)
    )  # fmt: skip
    begun = begin(model.built, request, torch.arange(4))
    y_t, t = begun.state.x, torch.tensor([0.2, 0.5, 0.7, 0.9], dtype=torch.float64)
    with torch.no_grad():
        as_sampled = guided(model.built, sampling)(y_t, t, begun.condition).mean
        unguided = model.parts.denoiser(y_t, t, request.condition).mean
        method.players["fake"].module.eval()
        fake = method.fake(y_t, t, request.condition).mean
    alpha, sigma, s_d = 1 - t, t, student.process.sigma_data
    c = sigma * s_d / (sigma.square() + alpha.square() * s_d**2).sqrt()
    away = method.gradient(y_t, t, request.condition)
    torch.testing.assert_close(away, (fake - as_sampled) / c[:, None, None, None].float())
    assert torch.allclose(as_sampled, unguided) == (not guidance)
    dropped = request.condition.only(torch.zeros(4, dtype=torch.bool))  # what is withheld is not guided by
    torch.testing.assert_close(found(y_t, t, dropped).mean, model.parts.denoiser(y_t, t, dropped).mean)


def test_a_teacher_is_not_asked_for_what_it_predicts_without_a_condition_if_it_has_not_learned_that(
    teacher, tmp_path, refused
):
    run = shutil.copytree(teacher, tmp_path / "run")
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text.replace("condition_dropout: 0.1", "condition_dropout: 0.0"))
    words = ["distil", run, "--method", "distribution_matching", "--steps", 1, "--out", tmp_path / "student"]
    said = refused(*words)
    assert "its guidance (classifier_free) compares with that" in said
    assert "method.guidance=false" in said
    said = refused(*words, "method.guidance=false", "method.condition_dropout=0.1")
    assert "its student would ask for it at method.condition_dropout" in said
    assert matched(run, guidance=False, condition_dropout=0.0)[0].method.teacher == str(run)


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
