"""Windows: what an example is, with noise and without."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from langevin.diffusion.noise import SampleNoise
from langevin.modalities.music.batches import QUARTERS, metre
from langevin.modalities.music.codec import Voices
from langevin.modalities.music.key import key_of
from langevin.modalities.music.modality import Music
from langevin.modalities.music.piece import of_pitches
from tests import scores

LENGTH = 16


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    modality = Music(path=str(scores.chorales(tmp_path_factory.mktemp("music"))), context_length=LENGTH, key=True)
    train, _ = modality.open()
    return modality.fitted(train), train


def batches(music, **options):
    modality, train = music
    return Music(**{**vars(modality), "context": 0.0, **options}).batches(train, device=torch.device("cpu"))


def noise(count: int, seed: int = 0) -> SampleNoise:
    return SampleNoise(seeds=torch.arange(count) + 1000 * seed, steps=torch.zeros(count, dtype=torch.int64))


def test_without_noise_windows_follow_one_another_and_cover_everything_once(music):
    windows = batches(music)
    x = windows(torch.arange(len(windows)))
    pieces = windows.dataset.pieces
    found = {
        i: torch.cat([x.x[j][x.mask[j]] for j, (k, _) in enumerate(windows.starts) if k == i])
        for i in range(len(pieces))
    }
    for i, piece in enumerate(pieces):
        assert torch.equal(found[i], windows.codec.encode(piece).flatten().long())
    assert torch.equal(x.mask, x.x != windows.padding)
    assert torch.equal(x.known, ~x.mask)


def test_with_noise_a_window_begins_with_its_piece_or_at_a_bar_of_it_transposed(music):
    windows, codec = batches(music), music[0].codec
    seen = {"starts": set(), "semitones": set()}
    for item in range(len(windows)):
        index, _ = windows.starts[item]
        piece = windows.dataset.pieces[index]
        down, up = codec.room(piece)
        for seed in range(20):
            x = windows(torch.tensor([item]), noise(1, seed))
            tokens = x.x[x.mask].view(-1, 4)
            ways = [
                (first, semitones)
                for first in (0, *range(piece.upbeat, piece.steps, piece.bar))
                for semitones in range(max(-6, down), min(6, up) + 1)
                if torch.equal(codec.encode(piece.transposed(semitones))[first : first + LENGTH].long(), tokens)
            ]
            assert ways
            seen["starts"] |= {ways[0][0]}
            seen["semitones"] |= {ways[0][1]}
            key = int(x.condition.global_.tensor[0])
            assert key == key_of(piece.transposed(ways[0][1]))
    assert seen["starts"] >= {0, 16}
    assert len(seen["semitones"]) > 4


def test_bars_longer_than_a_window_leave_none_empty(music):
    modality, train = music
    long = of_pitches(np.array(scores.chorale(18, seed=5)), bar=96)
    alone = replace(modality, context=0.0)
    windows = alone.batches(type(train)(pieces=(long,), voices=4), device=torch.device("cpu"))
    for seed in range(20):
        assert int(windows(torch.tensor([0]), noise(1, seed)).mask.sum()) >= 4


def test_no_transposition_is_an_option(music):
    windows = batches(music, transpose=0)
    for item in range(len(windows)):
        piece = windows.dataset.pieces[windows.starts[item][0]]
        x = windows(torch.tensor([item]), noise(1))
        assert set(x.x[x.mask].tolist()) <= set(windows.codec.encode(piece).flatten().tolist())


def test_notes_beyond_the_trained_range_are_said(music):
    modality, train = music
    high = of_pitches(np.array([[100, 60, 55, 20]] * 8), name="high")
    part = type(train)(pieces=(high,), voices=4)
    windows = modality.batches(part, device=torch.device("cpu"))
    assert windows.remarks == ("Notes beyond the trained range, moved by octaves: 2 in 1 pieces.",)
    assert int(windows(torch.tensor([0])).x.max()) < windows.codec.vocab_size


def test_a_part_with_other_voices_is_refused_by_name(music):
    modality, train = music
    assert isinstance(modality.codec, Voices)
    part = type(train)(pieces=(of_pitches(np.array([[60]] * 8), name="solo.mid"),), voices=1)
    with pytest.raises(ValueError, match=r"solo\.mid does not have 4 voices"):
        modality.batches(part, device=torch.device("cpu"))(torch.tensor([0]))


def test_the_metre_is_that_of_the_window_and_ends_with_it(music):
    """Windows begin at a bar; the last of a piece may be short, and its padding has no metre."""
    windows = batches(music)
    batch = windows(torch.arange(len(windows)))
    port, steps = batch.condition.aligned, batch.mask.unflatten(1, (-1, 4)).all(2)
    assert torch.equal(port.mask, steps)
    for (index, first), places, real in zip(windows.starts, port.tensor, steps, strict=True):
        piece = windows.dataset.pieces[index]
        expected = metre(first - piece.upbeat, int(real.sum()), bar=piece.bar, per_quarter=4)
        assert torch.equal(places[real], expected)
        assert not places[~real].any()
    assert batches(music, metre=False, key=False)(torch.arange(2)).condition is None


def test_late_quarters_of_a_long_bar_are_alike():
    places = metre(6, 60, bar=44, per_quarter=4)
    at = [(6 + i) % 44 for i in range(60)]
    assert places[:, :4].argmax(1).tolist() == [step % 4 for step in at]
    assert places[:, 4:].argmax(1).tolist() == [min(step // 4, QUARTERS - 1) for step in at]


def test_parts_of_examples_are_given_as_requests_give_them(music):
    """Voices or all but a span, in half of the share each; what is given is known, and its loss does not count."""
    windows, count = batches(music, context=0.6), 4000
    batch = windows(torch.arange(count) % len(windows), noise(count))
    assert torch.equal(batch.known, ~batch.mask)
    real = (batch.x != windows.padding).unflatten(1, (-1, 4))
    given = batch.known.unflatten(1, (-1, 4)) & real
    assert not given.flatten(1).logical_xor(real.flatten(1)).logical_not().all(1).any()  # something is left to draw
    some = given.flatten(1).any(1)
    by_voice = (given == (given.any(1)[:, None] & real)).flatten(1).all(1) & some
    by_step = (given == given.any(2)[:, :, None]).flatten(1).all(1) & some
    assert torch.equal(by_voice | by_step, some)
    assert abs(float(by_voice.double().mean()) - 0.3) < 0.04
    assert abs(float(by_step.double().mean()) - 0.3) < 0.06  # of short windows a span may be all
    spans = given.all(2)[by_step]
    assert ((~spans & real.any(2)[by_step]).int().diff(dim=1) == 1).sum(1).max() <= 1  # one span is free
    subsets = {tuple(row) for row in given.any(1)[by_voice].tolist()}
    assert len(subsets) == 14
    assert batches(music, context=0.6)(torch.arange(4)).known.eq(batches(music)(torch.arange(4)).known).all()
