"""`metrics.jsonl` is a log: whatever stands in it, reading gives figures, and a run goes on."""

import json

import pytest

from langevin.training import metrics
from langevin.training.metrics import Metrics, evaluated, read_metrics

GOOD = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}, {"step": 2, "val_loss": [1.0, 2.0]}]
BAD = [
    b"\xff\xfe", b"123", b"[1]", b"null", b"{", b"\x00" * 4096,
    b'{"step": null, "loss": 1}', b'{"step": "3"}',
    b'{"loss": 1}', b"[" * 100_000, b'{"step": ' + b"9" * 6000 + b"}", b'{"step": 1.5}', b'{"step": true}',
    "\u2028".encode(),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_damaged_line_costs_that_line(tmp_path, bad):
    file = tmp_path / "metrics.jsonl"
    lines = [json.dumps(line).encode() for line in GOOD]
    for place in range(len(lines) + 1):
        file.write_bytes(b"\n".join([*lines[:place], bad, *lines[place:]]))
        assert read_metrics(file) == GOOD
        assert evaluated(file, 2)
        assert not evaluated(file, 1)
        Metrics(file, after=1).write(step=2, loss=0.5)
        assert read_metrics(file) == [GOOD[0], {"step": 2, "loss": 0.5}]


@pytest.mark.parametrize("value", ['"abc"', "Infinity", "NaN", "-Infinity", "{}", '[1, "a"]', "[NaN]"])
def test_what_is_not_a_figure_is_left_out(tmp_path, value):
    file = tmp_path / "metrics.jsonl"
    file.write_text(f'{{"step": 3, "smooth_loss": {value}, "loss": 1.5}}\n')
    assert read_metrics(file) == [{"step": 3, "loss": 1.5}]


def test_a_log_that_cannot_be_read_now_is_kept(tmp_path, monkeypatch):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1, "loss": 2.0, "more": "kept"}\n')

    def refuse(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(metrics, "read_regular", refuse)
    Metrics(file, after=1).write(step=2, loss=1.0)
    monkeypatch.undo()
    assert file.read_text().splitlines() == ['{"step": 1, "loss": 2.0, "more": "kept"}', '{"step": 2, "loss": 1.0}']
    Metrics(file, after=1)
    assert file.read_text().splitlines() == ['{"step": 1, "loss": 2.0, "more": "kept"}']


def test_no_file_is_no_figures(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []
    assert not evaluated(tmp_path / "metrics.jsonl", 1)
