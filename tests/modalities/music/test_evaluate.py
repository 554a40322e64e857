"""The figures of an evaluation, where the truth is known."""

import math

import numpy as np
import pytest
import torch

from langevin.modalities.music.evaluate import cut, exchanged
from langevin.modalities.music.nats import cost, ngram_costs, ngrams
from langevin.run.directory import load_model
from langevin.run.plan import Wanted
from langevin.run.train import train_run
from tests import scores
from tests.tiny import SMALL


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    changes = (*SMALL, "data.context_length=16", "training.steps=1", "training.precision=float32")
    made = train_run(Wanted(target=str(scores.chorales(folder / "data")), overrides=changes, out=folder / "run"))
    return load_model(made)[0], made.open_data()


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_network_that_knows_nothing_costs_ln_v_a_token(run, shuffled):
    model, (_, val) = run
    heads = model.parts.network.heads
    before = {name: value.clone() for name, value in heads.state_dict().items()}
    torch.nn.init.zeros_(heads.weight)
    torch.nn.init.zeros_(heads.bias)
    windows = model.modality.batches(val, device=torch.device("cpu"))
    found = cost(model.parts, windows, torch.arange(len(windows)), shuffled=shuffled)
    heads.load_state_dict(before)
    assert found.per_token == pytest.approx(math.log(model.modality.codec.vocab_size), rel=1e-6)
    assert found.per_step == pytest.approx(4 * found.per_token)
    assert found.steps == sum(piece.steps for piece in val.pieces)
    assert found.error == pytest.approx(0, abs=1e-6)


def test_n_grams_of_more_context_cost_less_on_what_they_have_seen(run):
    model, (train, _) = run
    found = ngram_costs(model.modality, ngrams(model.modality, train.pieces), train.pieces)
    rates = [value.per_step for value in found]
    assert rates == sorted(rates, reverse=True)
    assert all(value.per_token == pytest.approx(value.per_step / 4) for value in found)


def test_real_pieces_are_cut_to_whole_windows(run):
    _, (train, _) = run
    windows = cut(train, 16)
    assert {piece.steps for piece in windows} == {16}
    assert len(windows) == sum(piece.steps // 16 for piece in train.pieces)
    assert [piece.steps for piece in cut(train, 100)] == [piece.steps for piece in train.pieces]


def test_exchanged_voices_are_those_of_different_pieces(run):
    _, (train, _) = run
    mixed = exchanged(train.pieces, 1)
    for voice in range(4):
        own = train.pieces[1 + voice].between(0, mixed.steps).notes
        assert np.array_equal(mixed.notes[mixed.notes[:, 3] == voice], own[own[:, 3] == voice])
