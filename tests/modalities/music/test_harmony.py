"""What is forbidden is what the measure of parallels counts, and pieces drawn note by note have none."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from langevin.diffusion.posterior import Categorical, MaskedCategorical
from langevin.modalities.modality import RequestContext
from langevin.modalities.music.codec import Voices
from langevin.modalities.music.harmony import NoParallels, without
from langevin.modalities.music.metrics.rules import parallels
from langevin.modalities.music.options import Sample
from langevin.run.directory import load_model
from langevin.run.generate import RunModel
from langevin.run.plan import Wanted
from langevin.run.train import train_run
from tests import scores
from tests.tiny import SMALL

CODEC = Voices(ranges=((60, 76), (55, 70), (45, 64)))
MASK = CODEC.vocab_size


def pitches_of(x):
    """(steps, voices) pitches of tokens, -1 at rests and masks."""
    return torch.cat([CODEC.pitches, torch.tensor([-1, -1])])[x].unflatten(0, (-1, 3)).numpy()


def test_a_token_is_forbidden_where_it_makes_a_parallel_with_what_is_known():
    """Every masked position of random scores, every token, by counting the parallels of the score with and without it."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, MASK + 1, (40, 4 * 3), generator=generator)
    x = torch.where(torch.rand(x.shape, generator=generator) < 0.2, MASK, x)
    x[:20] = torch.where(x[:20] < MASK, 1 + x[:20] % 8, MASK)  # few pitches: many parallels
    forbidden = NoParallels(denoiser=None, codec=CODEC).forbidden(x)
    assert forbidden.shape == (40, 12, MASK)
    found = 0
    for row, flags in zip(x, forbidden, strict=True):
        before = parallels(pitches_of(row))[0]
        for position in (row == MASK).nonzero()[:, 0].tolist():
            for token in range(MASK):
                tried = row.clone()
                tried[position] = token
                more = parallels(pitches_of(tried))[0] > before
                assert bool(flags[position, token]) == more
                found += more
    assert found > 100


def test_logits_are_kept_where_every_token_is_forbidden():
    logits = torch.zeros(2, 3)
    forbidden = torch.tensor([[True, False, False], [True, True, True]])
    assert without(logits, forbidden).tolist() == [[-torch.inf, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_both_forms_of_a_posterior_are_constrained_alike():
    x = torch.randint(0, 9, (9, 12), generator=torch.Generator().manual_seed(1))
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) < 0.2] = MASK
    logits = torch.randn(9, 12, MASK, generator=torch.Generator().manual_seed(2))
    dense = NoParallels(denoiser=lambda x, t, c: Categorical(logits), codec=CODEC)(x, torch.ones(9))
    masked = x == MASK
    sparse = NoParallels(denoiser=lambda x, t, c: MaskedCategorical(logits[masked], masked, x), codec=CODEC)(
        x, torch.ones(9)
    )
    assert torch.equal(dense.logits_at(masked), sparse.logits_at(masked))
    assert bool((sparse.logits_at(masked) == -torch.inf).any())


@pytest.fixture(scope="module")
def choir(tmp_path_factory) -> RunModel:
    folder = tmp_path_factory.mktemp("choir")
    options = (*SMALL, "data.context_length=16", "training.steps=1")
    return load_model(
        train_run(Wanted(target=str(scores.chorales(folder / "data")), overrides=options, out=folder / "run"))
    )[0]


def test_pieces_drawn_note_by_note_have_no_parallels(choir):
    choir = replace(choir, sampling=replace(choir.sampling, steps=1000))
    context = RequestContext(model=choir, data=choir.modality.open, count=12, seed=5)
    counts = []
    for avoid in (False, True):
        drawn = choir.run(choir.modality.plan(Sample(avoid_parallels=avoid), context)).values
        counts.append(int(np.sum([parallels(piece.states()[0].astype(int))[0] for piece in drawn])))
    assert counts[0] > 5
    assert counts[1] == 0


def test_a_piano_roll_has_no_voices_to_be_parallel(tmp_path):
    options = (*SMALL, "data.context_length=16", "training.steps=1")
    run = train_run(Wanted(target=str(scores.songs(tmp_path / "data")), overrides=options, out=tmp_path / "run"))
    piano = load_model(run)[0]
    context = RequestContext(model=piano, data=piano.modality.open)
    with pytest.raises(ValueError, match="--avoid-parallels is a rule for voices"):
        piano.modality.plan(Sample(avoid_parallels=True), context)
