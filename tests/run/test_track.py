"""Trackers: what they are told, and that none of them can stop a training."""

import json
import sqlite3
import sys
import textwrap

import pytest

from langevin.cli import main
from langevin.run.directory import open_run
from langevin.run.track import figures
from langevin.training.metrics import read_metrics
from tests import tiny

FAKE = """
    import json
    calls = []
    def init(project, name, config, **more):
        calls.append(("init", project, name, sorted(config), more))
    def log(values, step):
        if {breaks}:
            raise RuntimeError("the service is down")
        calls.append(("log", step, values))
    def finish():
        calls.append(("finish",))
    class Image:
        def __init__(self, pixels):
            self.shape = pixels.shape
"""


@pytest.fixture
def train(trained, tmp_path, monkeypatch):
    """Trains with options, from a directory of its own."""
    monkeypatch.chdir(tmp_path)
    data = open_run(trained).recipe.data.path

    def run(*words):
        return main(["train", data, "--out", "run", "training.steps=2", *tiny.SMALL, *words])

    return run


def module(monkeypatch, folder, name, *, breaks=False):
    (folder / f"{name}.py").write_text(textwrap.dedent(FAKE.format(breaks=breaks)))
    monkeypatch.delitem(sys.modules, name, raising=False)


def test_a_module_of_wandbs_shape_is_told_of_the_run(train, tmp_path, monkeypatch):
    module(monkeypatch, tmp_path, "wandb")
    assert train("--track", "wandb") == 0
    calls = sys.modules["wandb"].calls
    assert calls[0][:3] == ("init", "langevin", "run")
    assert {"network", "training"} <= set(calls[0][3])
    assert calls[0][4] == {"resume": "allow"}
    assert calls[-1] == ("finish",)
    logged = [(step, values) for kind, step, *rest in (c for c in calls if c[0] == "log") for values in rest]
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [(step, v) for step, v in logged if "preview" not in v] == [
        (line["step"], figures(line)) for line in lines if figures(line)
    ]
    pictures = [(step, v["preview"].shape) for step, v in logged if "preview" in v]
    assert [step for step, _ in pictures] == [0, 1, 2]
    assert all(len(shape) == 3 and shape[2] == 3 for _, shape in pictures)


def test_figures_are_the_numbers_of_a_line():
    line = {"step": 3, "loss": 2.0, "norm": None, "terms": {"a": 1.5}, "val_loss": [1.0, 2.0], "log_snr": [0.0, 1.0]}
    assert figures(line) == {"loss": 2.0, "terms/a": 1.5, "loss/val": 1.5}
    assert figures({"step": 0, "event": "plan", "steps": 7}) == {}


def test_a_tracker_that_fails_is_said_once_and_the_same_run_comes_of_it(train, trained, tmp_path, monkeypatch, capsys):
    module(monkeypatch, tmp_path, "broken", breaks=True)
    assert train("--track", "broken") == 0
    said = capsys.readouterr().err
    assert said.count("broken could not log (RuntimeError: the service is down): the run goes on without it") == 1
    weights = (tmp_path / "run" / "checkpoints" / "step-00000002" / "model.safetensors").read_bytes()
    tracked = (tmp_path / "run").rename(tmp_path / "tracked")
    assert train() == 0
    again = (tmp_path / "run" / "checkpoints" / "step-00000002" / "model.safetensors").read_bytes()
    assert weights == again
    assert [line["step"] for line in read_metrics(tracked / "metrics.jsonl")]


@pytest.mark.parametrize(
    ("name", "said"),
    [("no_such_module", "cannot be imported"), ("os; x", "is no module"), ("json", "has no function init")],
)
def test_trackers_that_are_none_are_refused_before_any_work(train, tmp_path, capsys, name, said):
    assert train("--track", name) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_tensorboard_reads_back_what_was_written(train, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert train("--track", "tensorboard") == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    evaluated = [line for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if "val_loss" in line]
    found = [(event.step, event.value) for event in events.Scalars("loss/val")]
    assert [step for step, _ in found] == [line["step"] for line in evaluated]
    assert [value for _, value in found] == pytest.approx([figures(line)["loss/val"] for line in evaluated], rel=1e-6)
    assert [event.step for event in events.Images("preview")] == [0, 1, 2]


def test_trackio_keeps_it_on_this_machine(train, tmp_path, monkeypatch):
    trackio = pytest.importorskip("trackio")
    from trackio import sqlite_storage, utils

    monkeypatch.setattr(utils, "TRACKIO_DIR", tmp_path / "trackio")
    for name in ("TRACKIO_DIR", "MEDIA_DIR"):
        if hasattr(sqlite_storage, name):
            monkeypatch.setattr(sqlite_storage, name, tmp_path / "trackio")
    assert train("--track", "trackio") == 0
    (database,) = (tmp_path / "trackio").glob("langevin*.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("select step, metrics from metrics").fetchall()
    logged = [(step, json.loads(values)) for step, values in rows]
    evaluated = [line for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if "val_loss" in line]
    assert [(s, v["loss/val"]) for s, v in logged if "loss/val" in v] == [
        (line["step"], figures(line)["loss/val"]) for line in evaluated
    ]
    assert trackio.__version__
