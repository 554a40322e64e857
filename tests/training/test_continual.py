"""Batches of new and old examples: each in its share, at times over the whole range, however a batch is split."""

from dataclasses import replace

import pytest
import torch

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.condition import Condition, class_port
from langevin.training.continual import Continual, concatenated, kinds, mixed, select
from langevin.training.order import DataOrder


def examples(count, first, *, labelled=True):
    """Examples whose x is their number."""
    x = torch.arange(first, first + count, dtype=torch.float32)[:, None]
    return Batch(x=x, condition=Condition(global_=class_port(torch.arange(count) % 3)) if labelled else None)


def new(data, seed=5):
    def of(count):
        order = DataOrder(count=len(data.x), batch=count, seed=seed)
        return lambda step, samples, draw: select(data, order.items(step, samples))

    return of


def draw(step, samples, batch):
    return step_randomness(seed=5, step=step, samples=samples, count=batch)


def test_without_old_examples_the_batches_are_those_of_the_new_ones():
    data, samples = examples(30, 0), torch.arange(8)
    read, plain = mixed(new(data), (), batch=8, seed=5), new(data)(8)
    for step in range(6):
        assert torch.equal(
            read(step, samples, draw(step, samples, 8)).x, plain(step, samples, draw(step, samples, 8)).x
        )


@pytest.mark.parametrize(("batch", "shares", "counts"), [
    (64, (0.25, 0.25), (32, 16, 16)), (10, (0.5,), (5, 5)), (10, (0.01, 0.3), (6, 1, 3)), (7, (0.0, 0.4), (4, 0, 3)),
])  # fmt: skip
def test_shares_are_counts_that_are_spread_evenly(batch, shares, counts):
    kind = kinds(batch, shares)
    assert torch.bincount(kind, minlength=len(counts)).tolist() == list(counts)
    for k, count in enumerate(counts):
        if count > 1:  # the times of a batch are a lattice in the order of its samples
            at = (kind == k).nonzero()[:, 0]
            gaps = torch.cat([at.diff(), at[:1] + batch - at[-1:]])
            assert int(gaps.max()) <= 2 * batch / count + 1


def test_a_batch_has_no_room_for_nothing_new():
    with pytest.raises(ValueError, match="no place for new examples beside 2 of the old ones"):
        kinds(2, (0.75,))


def test_a_mixed_batch_is_the_same_however_it_is_split():
    read = mixed(new(examples(40, 0)), [(0.3, examples(9, 100)), (0.2, examples(5, 200))], batch=10, seed=5)
    for step in range(12):
        whole = read(step, torch.arange(10), draw(step, torch.arange(10), 10))
        parts = [read(step, part, draw(step, part, 10)) for part in torch.arange(10).split(3)]
        again = concatenated(parts)
        assert torch.equal(whole.x, again.x)
        assert torch.equal(whole.condition.global_.tensor, again.condition.global_.tensor)
        assert [int((whole.x // 100 == k).sum()) for k in range(3)] == [5, 3, 2]


def test_labels_stay_with_their_examples_and_all_examples_are_seen():
    read = mixed(new(examples(40, 0)), [(0.5, examples(9, 100))], batch=10, seed=5)
    seen = set()
    for step in range(16):
        batch = read(step, torch.arange(10), draw(step, torch.arange(10), 10))
        number = batch.x[:, 0].long() % 100
        assert torch.equal(batch.condition.global_.tensor, number % 3)
        seen |= set(batch.x[:, 0].long().tolist())
    assert seen == {*range(40), *range(100, 109)}


def test_old_examples_go_to_the_device_of_new_ones():
    def of(count):
        def read(step, samples, draw):
            x = torch.zeros(len(samples), 1, device="meta")
            return Batch(
                x=x, condition=Condition(global_=class_port(torch.zeros(len(samples))).map(lambda t: t.to("meta")))
            )

        return read

    old = replace(examples(9, 100), mask=torch.ones(9, 1, dtype=torch.bool), known=torch.zeros(9, 1, dtype=torch.bool))
    read = mixed(of, [(0.5, old)], batch=4, seed=5, device=torch.device("meta"))
    for samples in (torch.arange(4), torch.tensor([0]), torch.tensor([1])):  # both kinds, and each alone
        batch = read(0, samples, draw(0, samples, 4))
        assert batch.x.device.type == "meta"
        assert batch.condition.global_.tensor.device.type == "meta"
        assert all(part is None or part.device.type == "meta" for part in (batch.mask, batch.known))


def test_masks_and_conditions_that_one_side_lacks_are_filled():
    one = Batch(x=torch.zeros(2, 1), mask=torch.tensor([[True], [False]]))
    both = concatenated([one, examples(1, 5)])
    assert both.condition.global_.kept().tolist() == [False, False, True]
    assert both.mask.tolist() == [[True], [False], [True]]


@pytest.mark.parametrize("wrong", [
    {"replay": 1.0}, {"replay": 0.6, "exemplars": 0.4}, {"replay": -0.1}, {"anchor": -1.0}, {"anchor": float("inf")},
    {"samples": 2}, {"budget": 0}, {"exemplars": float("nan")},
])  # fmt: skip
def test_what_is_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match=r"continual\."):
        Continual(**wrong)
