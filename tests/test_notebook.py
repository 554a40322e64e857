"""The Python interface: a report by metric, and a run that evaluation leaves as it was."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import langevin
from langevin.evaluation.report import MetricRow
from langevin.evaluation.statistics import Interval
from langevin.modalities.modality import Evaluation
from langevin.notebook import Report, options_from


def row(metric, value, group=""):
    interval = Interval(estimate=value, low=None, high=None, level=0.95, n=1)
    return MetricRow(metric=metric, generated=interval, better="lower", meaning="", group=group)


def test_a_metric_is_found_by_its_name_and_by_its_group_where_several_have_it():
    rows = [row("KID", 1.0, "pixels"), row("KID", 2.0, "features"), row("bits", 3.0)]
    report = Report(evaluation=Evaluation(rows=rows, sections=[], samples=None, figures={}, title=""), path=Path("a"))
    assert (report["pixels: KID"], report["features: KID"], report["bits"]) == (1.0, 2.0, 3.0)
    with pytest.raises(KeyError, match="several metrics 'KID': pixels: KID, features: KID"):
        report["KID"]
    with pytest.raises(KeyError, match="no metric 'FD'; there are pixels: KID, features: KID, bits"):
        report["FD"]


def test_a_quality_curve_leaves_the_weights(tmp_path):
    run = langevin.train(
        "toy/mixture", "data.count=200", "network.width=32", "network.depth=1", "training.batch=16", "training.steps=8",
        "sampling.steps=3", out=tmp_path / "run", quiet=True,
    )  # fmt: skip
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    run.evaluate(count=16, seeds=1, curve=True)
    assert len(json.loads((run.path / "evaluation.json").read_text())["curve"]) > 1
    assert all(torch.equal(value, before[name]) for name, value in run.network.state_dict().items())


def test_a_string_is_a_path_or_a_tuple_of_one_as_the_option_is():
    @dataclass(frozen=True, kw_only=True)
    class Options:
        baseline: Path | None = None
        condition: tuple[str, ...] = ()
        prompt: str | None = None

    made = options_from(Options, {"baseline": "a/b", "condition": "cat", "prompt": "x"}, "text")
    assert made == Options(baseline=Path("a/b"), condition=("cat",), prompt="x")
