"""A run that counts n-grams: stored before the first step, resumed to the bit, read wherever the run is loaded."""

import shutil

import pytest
import torch

from langevin.cli import main
from langevin.run.counts import FILE, read
from langevin.run.directory import load_model, open_run
from langevin.training import checkpoint
from tests import texts

SMALL = (
    "network.width=32", "network.depth=1", "network.head_dim=16", "training.batch=8", "training.threads=1",
    "data.task.context_length=16", "data.codec.kind=characters", "network.ngram_order=3",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counts")
    assert (
        main(
            ["train", str(texts.corpus(folder / "data", 80)), "--out", str(folder / "run"), "training.steps=4", *SMALL]
        )
        == 0
    )
    return folder / "run"


def weights(path):
    return checkpoint.load_latest(path / "checkpoints")[0].groups["model"]


def test_the_counts_are_those_of_the_training_text(run):
    made = open_run(run)
    model, _ = load_model(made)
    train, _ = made.open_data()
    ids = model.batches(train)(torch.arange(len(model.batches(train)))).x
    prior = model.parts.network.ngram_prior
    counts = torch.bincount(ids[ids < prior.vocab_size], minlength=prior.vocab_size)
    torch.testing.assert_close(prior.frequencies, (counts + 1) / (counts.sum() + len(counts)))
    pairs = ids.lt(prior.vocab_size)[:, 1:] & ids.lt(prior.vocab_size)[:, :-1]
    assert int(read(run)["2.counts"].sum()) == int(pairs.sum())


def test_a_run_that_is_stopped_ends_in_the_same_weights_with_its_counts_or_without(run, tmp_path):
    data = str(run.parent / "data")
    for name in ("kept", "lost"):
        path = tmp_path / name
        assert main(["train", data, "--out", str(path), "training.steps=4", *SMALL]) == 0
        for one in checkpoint.steps(path / "checkpoints"):
            if checkpoint.step_of(one) > 0:
                shutil.rmtree(one)
        if name == "lost":  # killed between the run's directory and this file
            (path / FILE).unlink()
        assert main(["resume", str(path)]) == 0
        assert (path / FILE).read_bytes() == (run / FILE).read_bytes()
        assert all(torch.equal(weights(path)[k], v) for k, v in weights(run).items())


def test_a_damaged_file_is_named(run, tmp_path):
    path = shutil.copytree(run, tmp_path / "run")
    (path / FILE).write_bytes(b"counts")
    with pytest.raises(ValueError, match=rf"{FILE} is damaged .* put a copy of it back, or train the run again"):
        load_model(open_run(path))


def test_a_file_that_is_gone_is_missed(run, tmp_path):
    path = shutil.copytree(run, tmp_path / "run")
    (path / FILE).unlink()
    with pytest.raises(ValueError, match=r"the run's counts\.safetensors is gone"):
        load_model(open_run(path))


@pytest.mark.parametrize("process", ["uniform", "hybrid"])
def test_a_process_that_replaces_visible_tokens_is_refused(run, process, tmp_path, capsys):
    changes = [f"process.kind={process}", "network.time_conditioning=true", "training.steps=1"]
    assert main(["train", str(run.parent / "data"), "--out", str(tmp_path / "run"), *SMALL, *changes]) == 1
    assert "network.ngram_order takes visible tokens for the text's" in capsys.readouterr().err
