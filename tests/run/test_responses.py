"""Copies compared by a classifier of the data: the one of the run's evaluation, the same after a resume, or refused."""

import shutil
import time
from itertools import count

import pytest
import torch

from langevin.cli import main
from langevin.diffusion.batch import step_randomness
from langevin.methods import Autoencoding
from langevin.modalities.image import measure
from langevin.modalities.image.classifier import Classifier, train_classifier
from langevin.recipe.read import check, override
from langevin.run.directory import open_run
from langevin.run.display import QUIET
from langevin.run.responses import built_with, fit_responses
from langevin.training.distributed import World
from langevin.user_function import NO_CODE
from tests import pictures

LEARNED = (
    "method={kind: autoencoder, perceptual: 0.5, responses: classifier}",
    "network={kind: autoencoder, dimensions: 2, width: 8}",
)
SMALL = ("training.batch=8", "training.snapshots=1", "training.ema_lengths=[0.1]", "sampling.ema=0.1")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(measure, "train_classifier", lambda *a, **k: train_classifier(*a, **{**k, "epochs": 1}))


def test_a_run_compares_copies_by_the_classifier_of_its_evaluation(tmp_path, quick, capsys):
    data, run = pictures.classes(tmp_path / "data"), tmp_path / "run"
    assert (
        main(["train", str(data), "--out", str(run), "data.val_fraction=0.2", "training.steps=6", *LEARNED, *SMALL])
        == 0
    )
    recipe = open_run(run).recipe
    (folder,) = (run / "evaluation").iterdir()
    kept = Classifier.load(folder)
    assert recipe.method.sha256 == kept.fingerprint
    train, val = recipe.data.open()
    assert measure.classifier_of(recipe.data, train, val, run / "evaluation", lambda *_: None, pytest.fail) is not None
    found = recipe.data.fit_responses(train, val, run / "evaluation", lambda *_: None, pytest.fail)
    raw = train.read(torch.arange(5))
    last = found(recipe.data.codec.encode(raw))[-1]
    torch.testing.assert_close(kept.neck(torch.cat([last.mean((2, 3)), last.amax((2, 3))], 1)), kept.embed(raw))
    method = built_with(recipe, NO_CODE, found).model.method
    batch = recipe.data.batches(train, device=torch.device("cpu"))(torch.arange(5))
    draw = step_randomness(seed=0, step=0, samples=torch.arange(5), count=5)
    report, copies = method.loss("autoencoder", batch, draw), method.copied(batch, draw.noise.fork(2)).y
    pairs = zip(found(copies), found(batch.x), strict=True)
    expected = torch.stack([(a - b).square().flatten(1).mean(1) for a, b in pairs]).mean(0)
    torch.testing.assert_close(report.terms["perceptual"], expected.detach())

    def weights():
        built, step, _ = open_run(run).load(ema=0)
        return step, built.model.network.state_dict()

    whole, newest = weights(), max((run / "checkpoints").iterdir())
    shutil.rmtree(newest)
    shutil.copytree(folder, tmp_path / "kept")
    other = train_classifier(raw, torch.arange(5) % 2, 2, seed=1, epochs=1)
    other.save(folder)
    assert main(["resume", str(run)]) == 1
    assert "other weights than when the training of this run began" in " ".join(capsys.readouterr().err.split())
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "kept", folder)
    assert main(["resume", str(run)]) == 0
    again = weights()
    assert again[0] == whole[0] == 6
    assert all(torch.equal(value, again[1][name]) for name, value in whole[1].items())


def test_what_has_no_classifier_is_refused(tmp_path, capsys):
    folder = tmp_path / "unlabelled"
    folder.mkdir()
    for i in range(12):
        pictures.draw("disc", "red", side=8, seed=i).save(folder / f"{i}.png")
    words = (str(folder), *LEARNED, *SMALL, "training.steps=2", "--out", str(tmp_path / "run"))
    assert main(["train", *words]) == 1
    assert "no labels of two or more classes" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
    recipe = check(override({"data": {"kind": "points", "path": "points.npy"}}, LEARNED))
    with pytest.raises(ValueError, match="points data has no classifier"):
        fit_responses(recipe, None, None, World(), QUIET)
    with pytest.raises(ValueError, match="has no effect without a weight"):
        Autoencoding.Config(responses="classifier")


def test_a_classifier_that_takes_the_run_is_refused(tmp_path, monkeypatch, capsys):
    data = pictures.classes(tmp_path / "data")
    monkeypatch.setattr(time, "perf_counter", count(step=1.0).__next__)  # every look at the clock is a second later
    words = ("--minutes", "0.5", "--out", str(tmp_path / "run"), *LEARNED, *SMALL)
    assert main(["train", str(data), *words]) == 1
    assert "training the classifier would take" in " ".join(capsys.readouterr().err.split())
