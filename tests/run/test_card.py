"""The model card: what the run's own files say, next to figures of real data, and what its owner adds."""

import shutil

from langevin.evaluation.report import MetricRow
from langevin.evaluation.statistics import Interval
from langevin.run.card import write_card
from langevin.run.directory import open_run

BETWEEN = Interval(estimate=2.5, low=2.25, high=2.75, level=0.95, n=3)
ROW = MetricRow(metric="FD", generated=BETWEEN, better="lower", meaning="", floor=1.25, copycat=0.5, group="pixels")


def test_training_writes_the_card_and_an_evaluation_its_figures(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    run = open_run(tmp_path / "run")
    card = (run.path / "card.md").read_text()
    assert "29 items of image" in card
    assert str(run.facts["data"]) in card
    assert "4 steps of 8" in card
    assert "None yet: `langevin evaluate " in card
    assert "trained on 29 items only" in card
    assert "was not measured" in card
    (run.path / "NOTES.md").write_text("For tests. CC0.")
    card = write_card(run, step=4, metrics=[ROW], command="langevin evaluate run").read_text()
    assert "| FD (pixels) | 2.5 ± 0.25 | 1.25 | 0.5 | lower |" in card
    assert "For tests. CC0." in card
    assert "was not measured" not in card


def test_notes_that_cannot_be_read_do_not_fail_a_training_that_is_done(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "NOTES.md").mkdir()
    assert "Not stated" in write_card(open_run(tmp_path / "run"), step=4).read_text()
