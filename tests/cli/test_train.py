"""`train` and `resume`: from a folder to a run, and what cannot become one."""

import json
import re
import shutil
import sys

import pytest
import torch
import yaml

from langevin.cli import main
from langevin.run.directory import open_run, writing
from langevin.training import checkpoint
from langevin.training.metrics import read_metrics
from tests import pictures, tiny


def weights(run):
    return checkpoint.load(checkpoint.steps(run / "checkpoints")[0]).groups


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for group, tensors in first.items():
        assert all(torch.equal(tensor, second[group][name]) for name, tensor in tensors.items())


def test_training_on_a_folder_makes_a_run(trained):
    made = open_run(trained)
    recipe = made.recipe
    assert recipe.data.classes == ("bar", "disc")
    assert (recipe.network.width, recipe.network.depth, recipe.training.steps) == (32, 1, 4)
    assert recipe.training.precision in ("float32", "bfloat16")
    assert made.facts["shape"] == [3, 8, 8]
    lines = read_metrics(trained / "metrics.jsonl")
    assert [m["step"] for m in lines if "loss" in m] == [1, 2, 3, 4]
    assert [m["step"] for m in lines if "val_loss" in m] == [1, 2, 3, 4]
    assert sorted(p.name for p in (trained / "samples").iterdir()) == [f"step-0000000{i}.png" for i in range(5)]


def test_a_loss_that_rises_and_stays_finite_is_said_and_rolled_back(trained, tmp_path, told):
    status, _, err = told(
        "train", trained.parent / "data", "--out", tmp_path / "run", *tiny.SMALL, "training.steps=60",
        "training.optimizer.lr=1", "training.optimizer.adamw_lr=1",
    )  # fmt: skip
    assert "the loss rose from" in err
    assert "back to step" in err
    assert status == 1 or "train again with a lower learning rate" in err


def test_a_run_that_continues_elsewhere_says_that_its_bits_depend_on_it(trained, tmp_path, told):
    run = shutil.copytree(trained, tmp_path / "run")
    environment = json.loads((run / "environment.json").read_text())
    environment["machine"]["processor"] = "another"
    (run / "environment.json").write_text(json.dumps(environment))
    status, _, err = told("resume", run)
    assert status == 0
    assert "processor another then" in err


def test_resuming_a_finished_run_changes_nothing(trained, tmp_path, told):
    run = shutil.copytree(trained, tmp_path / "run")
    before = weights(run)
    status, _, err = told("resume", run)
    assert status == 0
    assert "trained 4 steps" in err
    assert_equal(before, weights(run))
    assert (run / "metrics.jsonl").read_bytes() == (trained / "metrics.jsonl").read_bytes()


def test_a_run_started_with_a_relative_path_goes_on_from_another_directory(tmp_path, told, monkeypatch):
    pictures.classes(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    tiny_run = ("network.width=32", "network.depth=1", "training.steps=2", "training.batch=2", "--out", "run")
    assert told("train", "data", *tiny_run)[0] == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    status, _, err = told("resume", "../run")
    assert (status, "trained 2 steps" in err) == (0, True)


def test_a_run_that_was_stopped_and_resumed_is_the_run(trained, tmp_path, told):
    run = shutil.copytree(trained, tmp_path / "run")
    for path in checkpoint.steps(run / "checkpoints")[:1]:
        shutil.rmtree(path)
    status, _, err = told("resume", run)
    assert status == 0
    assert "resuming from step 3" in err
    assert_equal(weights(trained), weights(run))
    steps = [m["step"] for m in read_metrics(run / "metrics.jsonl") if "loss" in m]
    assert steps == [1, 2, 3, 4]


def test_the_same_command_makes_the_same_weights_and_another_seed_others(trained, tmp_path):
    data = trained.parent / "data"
    assert_equal(weights(trained), weights(tiny.run_of(data, tmp_path / "same")))
    other = weights(tiny.run_of(data, tmp_path / "other", "training.seed=1"))["model"]
    assert any(not torch.equal(tensor, other[name]) for name, tensor in weights(trained)["model"].items())


def test_captions_make_a_vocabulary(captioned):
    recipe = open_run(captioned).recipe
    assert recipe.data.classes == ()
    assert set(recipe.data.captions.words) == {"red", "green", "blue", "disc", "bar"}
    assert recipe.data.captions.length == 2


def test_a_shipped_recipe_with_data_of_ones_own_trains(tmp_path, told):
    data = pictures.classes(tmp_path / "data", side=8)
    network = "network={kind: dit, width: 32, depth: 1, head_dim: 16, patch: 4}"
    changes = ["data.held_out_captions=[]", "data.size=8", "training.steps=1", "training.batch=4", network]
    status, _, err = told("train", "image/emoji", "--data", data, "--out", tmp_path / "run", *changes)
    assert status == 0, err
    assert open_run(tmp_path / "run").recipe.data.classes == ("bar", "disc")


def test_a_time_budget_becomes_steps(tmp_path, told):
    data = pictures.plain(tmp_path / "data")
    status, _, err = told("train", data, "--minutes", 0.01, "--out", tmp_path / "run", *tiny.SMALL)
    assert status == 0
    assert open_run(tmp_path / "run").recipe.training.steps is None
    assert re.search(r"so [1-9]\d* steps of 8 in 0.01 minutes", err)
    newest = checkpoint.steps(tmp_path / "run" / "checkpoints")[0]
    steps = checkpoint.load(newest, only=()).state["plan"][-1][1]  # which may have been planned anew
    assert newest.name == f"step-{steps:08d}"
    assert f"trained {steps} steps" in err
    assert json.loads(told("inspect", tmp_path / "run", "--json")[1])["steps"] == steps


def test_a_u_net_can_be_asked_for(tmp_path):
    data = pictures.plain(tmp_path / "data")
    changes = [
        "training.steps=1",
        "training.batch=4",
        "network={kind: unet, width: 8, channel_mult: [1, 2], blocks: 1}",
    ]
    assert main(["train", str(data), "--out", str(tmp_path / "run"), *changes, "network.head_dim=8"]) == 0
    assert open_run(tmp_path / "run").recipe.network.kind == "unet"


def empty(folder):
    folder.mkdir()
    return folder


def one_picture(folder):
    return pictures.plain(folder, count=1)


def zero_bytes(folder):
    folder.mkdir()
    for i in range(5):
        (folder / f"{i}.png").touch()
    return folder


def texts(folder):
    folder.mkdir()
    (folder / "notes.txt").write_text("no picture")
    return folder


def same(folder):
    pictures.plain(folder, count=1)
    for i in range(1, 6):
        shutil.copy(folder / "000.png", folder / f"00{i}.png")
    return folder


@pytest.mark.parametrize(("make", "words"), [
    (empty, "holds nothing that can be trained on"), (texts, "has 2 tokens, below data.task.context_length 128"),
    (zero_bytes, "zero"),
    (lambda folder: folder / "nowhere", "neither an existing folder or file nor a shipped recipe"),
])  # fmt: skip
def test_data_that_is_none_is_refused(make, words, tmp_path, refused):
    message = refused("train", make(tmp_path / "data"), "--out", tmp_path / "run", "training.steps=1", *tiny.SMALL)
    assert words in message or "empty" in message
    assert not (tmp_path / "run" / "recipe.yaml").exists()


@pytest.mark.parametrize("make", [one_picture, same])
def test_a_single_picture_is_trained_on_and_said(make, tmp_path, told):
    status, _, err = told("train", make(tmp_path / "data"), "--out", tmp_path / "run", "training.steps=1", *tiny.SMALL)
    assert status == 0
    assert "only one image" in err


def test_pictures_of_many_sizes_and_a_broken_one_become_one_size(tmp_path, told):
    data = pictures.plain(tmp_path / "data", count=20, side=8)
    pictures.draw("disc", "red", side=31, seed=1).save(data / "large.png")
    pictures.draw("disc", "red", side=9, seed=1).convert("L").resize((9, 20)).save(data / "tall.png")
    (data / "broken.png").write_bytes((data / "000.png").read_bytes()[:60])
    status, _, err = told("train", data, "--out", tmp_path / "run", "training.steps=1", "data.size=8", *tiny.SMALL)
    assert status == 0
    assert "broken.png" in err
    assert open_run(tmp_path / "run").facts["shape"] == [3, 8, 8]


@pytest.mark.parametrize(("changes", "words"), [
    (["training.steps=0"], "steps = 0"),
    (["training.steps=many"], "training.steps"),
    (["network.widht=3"], "did you mean 'width'"),
    (["training.steps=1", "network.patch=3"], "does not fit patches of 3"),
    (["training.steps=1", "data.size=2"], "size is 2"),
    (["sampling.guidance=[{kind: classifier_free, weight: .nan}]"], "guidance must be a finite number"),
    (["--minutes", "nan"], "--minutes must be positive"),
    (["--minutes", "-1"], "--minutes must be positive"),
    (["--minutes", "0"], "--minutes must be positive"),
    (["training.batch=0"], "batch = 0"),
    (["training.ema_lengths=[0.7]"], "between 0 and 0.28"),
    (["network.width"], "is no override"),
    (["sampling.sampler.kind=unmask"], "is not for a gaussian process"),
    (["sampling.sampler=heun"], "should be {kind: heun}, got 'heun'"),
    (["network.conditioning.aligned_width=8"], "(the port aligned): expected"),
    (["data.kind=imgae"], "there is no data.kind 'imgae'; did you mean 'image'?"),
])  # fmt: skip
def test_wishes_that_cannot_be_granted_are_refused_before_anything_is_written(
    changes, words, trained, tmp_path, refused
):
    message = refused("train", trained.parent / "data", "--out", tmp_path / "run", *tiny.SMALL, *changes)
    assert words in message
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_a_recipe_file_that_is_damaged_or_missing_is_named(tmp_path, refused):
    assert "there is no recipe" in refused("train", tmp_path / "nothing.yaml")
    (tmp_path / "a.yaml").write_text("data: {kind: digits")
    assert "a.yaml is not readable as YAML" in refused("train", tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text(yaml.safe_dump({"extends": "b.yaml"}))
    assert "in a circle" in refused("train", tmp_path / "b.yaml")


def test_a_run_is_no_data_and_a_recipe_misspelt_is_named(trained, refused):
    assert f"{trained} is a run, not data: `langevin resume {trained}`" in refused("train", trained)
    assert "did you mean image/digits?" in refused("train", "image/digit")


def test_a_directory_that_holds_a_run_is_not_overwritten(trained, tmp_path, refused):
    run = shutil.copytree(trained, tmp_path / "run")
    message = refused("train", trained.parent / "data", "--out", run, "training.steps=1")
    assert "already holds a run" in message
    assert f"langevin resume {run}" in message
    before = sorted(run.rglob("*"))
    assert "holds files that are not of an earlier demo" in refused("demo", "--out", run)
    assert "positive" in refused("demo", "--out", run, "--minutes", "nan")
    assert sorted(run.rglob("*")) == before
    assert_equal(weights(trained), weights(run))


def test_an_out_that_is_a_file_is_refused(trained, tmp_path, refused):
    (tmp_path / "run").write_text("mine")
    message = refused("train", trained.parent / "data", "--out", tmp_path / "run", "training.steps=1", *tiny.SMALL)
    assert str(tmp_path / "run") in message
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize("verb", ["train", "resume"])
def test_a_run_that_is_being_written_is_left_alone(verb, trained, tmp_path, refused):
    run = tmp_path / "run"
    if verb == "resume":
        shutil.copytree(trained, run)
    asked = {"resume": ["resume", run], "train": ["train", trained.parent / "data", "--out", run, *tiny.SMALL]}[verb]
    with writing(run):
        assert "being written by another process" in refused(*asked, *(["training.steps=1"] if verb == "train" else []))


def test_a_run_whose_data_has_changed_is_not_resumed(tmp_path, refused):
    data = pictures.classes(tmp_path / "data")
    run = tiny.run_of(data, tmp_path / "run", steps=1)
    pictures.draw("disc", "red", side=8, seed=77).save(data / "disc" / "new.png")
    assert "has changed since it was started" in refused("resume", run)
    shutil.rmtree(data)
    assert str(data) in refused("resume", run)


def test_a_run_of_which_no_checkpoint_can_be_read_is_refused_and_left_alone(trained, tmp_path, refused):
    run = shutil.copytree(trained, tmp_path / "run")
    for path in checkpoint.steps(run / "checkpoints"):
        (path / "state.json").write_text("{")
    before = (run / "metrics.jsonl").read_bytes()
    message = refused("resume", run)
    assert "would lose them" in message
    assert "state.json" in message
    assert (run / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "changes", [("--seed", "5"), ("data.val_fraction=0.3",), ("--seed", "5", "data.val_fraction=0.2")]
)
def test_a_run_of_any_seed_and_share_is_resumed_and_measured_on_its_own_parts(tmp_path, told, changes):
    data = pictures.classes(tmp_path / "data", count=60)
    run = tiny.run_of(data, tmp_path / "run", *changes, steps=1)
    assert told("resume", run)[0] == 0
    assert told("evaluate", run, "--count", 8, "--seeds", 1)[0] == 0


def test_runs_of_two_seeds_can_be_compared(tmp_path, told):
    data = pictures.classes(tmp_path / "data", count=60)
    runs = [tiny.run_of(data, tmp_path / f"run{seed}", "--seed", str(seed), steps=1) for seed in (1, 2)]
    out = tmp_path / "comparison"
    assert told("compare", *runs, "--samplers", "ddim", "--steps", 2, "--count", 10, "--out", out)[0] == 0


@pytest.mark.parametrize("verb", ["evaluate", "compare"])
def test_a_run_whose_data_has_changed_is_not_measured(tmp_path, refused, verb):
    data = pictures.classes(tmp_path / "data")
    run = tiny.run_of(data, tmp_path / "run", steps=1)
    (data / "ant").mkdir()
    pictures.draw("disc", "red", side=8, seed=77).save(data / "ant" / "new.png")
    assert "has changed since it was started" in refused(verb, run)


@pytest.mark.parametrize("name", ["4e00", "1e6", "007", "yes", "null", "2024-01-02"])
def test_classes_of_any_name_come_back(tmp_path, told, name):
    data = pictures.classes(tmp_path / "data")
    (data / "disc").rename(data / name)
    run = tiny.run_of(data, tmp_path / "run", steps=1)
    assert name in open_run(run).recipe.data.classes
    assert told("sample", run, "--count", 2, "--condition", name)[0] == 0


def test_a_path_beside_a_folder_to_train_on_is_refused(trained, refused):
    data = trained.parent / "data"
    assert "leave --data out" in refused("train", data, "--data", data)


def test_a_full_disk_is_one_message(trained, tmp_path, refused, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1000, 900, 100))
    message = refused("train", trained.parent / "data", "--out", tmp_path / "run", "training.steps=1", *tiny.SMALL)
    assert "disk full" in message
    assert "langevin resume" in message


def test_debug_shows_where_an_error_comes_from(tmp_path):
    with pytest.raises(ValueError, match="neither an existing folder"):
        main(["train", str(tmp_path / "nowhere"), "--debug"])


def test_an_error_that_nobody_foresaw_says_how_to_see_more(monkeypatch, capfd, trained):
    from langevin.cli import inspect

    monkeypatch.setattr(inspect, "of_run", lambda asked: 1 / 0)
    assert main(["inspect", str(trained)]) == 1
    assert "ZeroDivisionError: division by zero\n(this was not foreseen: repeat with --debug" in capfd.readouterr().err


def test_an_interruption_is_said(monkeypatch, capfd, trained):
    def stop(asked):
        raise KeyboardInterrupt

    from langevin.cli import inspect

    monkeypatch.setattr(inspect, "of_run", stop)
    assert main(["inspect", str(trained)]) == 130
    assert capfd.readouterr().err == "\ninterrupted\n"


def test_machine_facts_of_a_run_are_json(trained):
    facts = json.loads((trained / "environment.json").read_text())
    assert facts["machine"]["python"] == ".".join(map(str, sys.version_info[:3]))
