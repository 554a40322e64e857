"""Every item once an epoch, as a pure function of (seed, epoch, position)."""

import pytest
import torch

from langevin.training.order import DataOrder, in_windows, permutation


def sequence(order, steps):
    """All items of the first steps, in order."""
    return torch.cat([order.items(step, torch.arange(order.batch)) for step in range(steps)])


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_a_permutation_holds_every_item_once(count):
    for epoch in range(3):
        assert permutation(count, seed=4, epoch=epoch).sort().values.tolist() == list(range(count))


def test_permutations_differ_by_seed_and_epoch():
    orders = {tuple(permutation(50, seed=s, epoch=e).tolist()) for s in range(5) for e in range(5)}
    assert len(orders) == 25


def test_each_item_is_about_equally_often_at_each_place():
    count, epochs = 4, 800
    table = torch.zeros(count, count)
    for epoch in range(epochs):
        table[permutation(count, seed=1, epoch=epoch), torch.arange(count)] += 1
    expected = epochs / count
    assert ((table - expected).abs() < 5 * expected**0.5).all()


@pytest.mark.parametrize(("count", "batch"), [(12, 4), (13, 4), (5, 16), (1, 3), (7, 7)])
def test_every_item_is_seen_once_an_epoch_however_batches_straddle_epochs(count, batch):
    order = DataOrder(count=count, batch=batch, seed=3)
    seen = sequence(order, 4 * count)
    for epoch in range(len(seen) // count):
        assert seen[epoch * count : (epoch + 1) * count].tolist() == permutation(count, seed=3, epoch=epoch).tolist()


def test_items_are_a_pure_function_of_the_step():
    forward = DataOrder(count=10, batch=4, seed=0)
    expected = [forward.items(step, torch.arange(4)).tolist() for step in range(30)]
    wandering = DataOrder(count=10, batch=4, seed=0)
    for step in (29, 0, 17, 3, 28, 1, 0):
        assert wandering.items(step, torch.arange(4)).tolist() == expected[step]


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_parts_of_a_batch_put_together_are_the_batch(parts):
    whole = DataOrder(count=9, batch=14, seed=8)
    for step in range(6):
        rows = [torch.arange(rank, 14, parts) for rank in range(parts)]
        items = torch.empty(14, dtype=torch.int64)
        for mine in rows:
            items[mine] = DataOrder(count=9, batch=14, seed=8).items(step, mine)
        assert items.tolist() == whole.items(step, torch.arange(14)).tolist()


def test_far_steps_of_a_large_data_set_are_within_it():
    order = DataOrder(count=10**5, batch=1024, seed=0)
    items = order.items(10**9, torch.arange(1024))
    assert 0 <= int(items.min()) <= int(items.max()) < 10**5
    assert len(items.unique()) >= 1023 - 1024 // 100  # two epochs at most may share items


@pytest.mark.parametrize(("count", "batch"), [(0, 4), (4, 0), (-1, 4)])
def test_no_data_and_no_batch_are_refused(count, batch):
    with pytest.raises(ValueError, match="data and batch must have at least 1 item"):
        DataOrder(count=count, batch=batch, seed=0)


@pytest.mark.parametrize(("count", "batch"), [(100, 8), (37, 5), (6, 8), (64, 16)])
def test_items_of_similar_length_share_a_batch(count, batch):
    """An epoch is still a permutation; batches differ from epoch to epoch; lengths in a batch differ far less than by
    chance, in the first epoch as in later ones, which begin in the middle of a batch."""
    lengths = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    grouped = DataOrder(count=count, batch=batch, seed=3, lengths=lengths)
    plain = DataOrder(count=count, batch=batch, seed=3)
    for epoch in range(3):
        everything = grouped.items(0, epoch * count + torch.arange(count))
        assert torch.equal(everything.sort().values, torch.arange(count))
    steps = count // batch
    if steps < 4:
        return
    for begin in (0, count // batch + 1, 5 * count // batch + 1):
        spread = [
            sum(
                int((found := lengths[order.items(step, torch.arange(batch))]).max() - found.min())
                for step in range(begin, begin + steps - 1)
            )
            for order in (grouped, plain)
        ]
        assert spread[0] < 0.6 * spread[1]
    again = DataOrder(count=count, batch=batch, seed=3, lengths=lengths)
    assert all(
        torch.equal(grouped.items(s, torch.arange(batch)), again.items(s, torch.arange(batch))) for s in range(9)
    )
    assert not torch.equal(grouped.items(0, torch.arange(count)), grouped.items(0, torch.arange(count, 2 * count)))


def test_lengths_are_of_all_items():
    with pytest.raises(ValueError, match="4 items have 4 lengths, got 3"):
        DataOrder(count=4, batch=2, seed=0, lengths=torch.arange(3))


def counted(count, kinds):
    """A bucket for each of `count` items, unevenly: the first has most, the last at least one."""
    shares = torch.arange(kinds, 0, -1).double() ** 2
    buckets = torch.searchsorted((shares / shares.sum()).cumsum(0), torch.linspace(0, 1, count, dtype=torch.float64))
    return buckets.clamp_max(kinds - 1)[torch.randperm(count, generator=torch.Generator().manual_seed(1))]


@pytest.mark.parametrize(("count", "batch", "kinds"), [(100, 8, 3), (37, 5, 5), (6, 8, 2), (64, 16, 1), (90, 90, 4)])
def test_a_batch_is_of_one_bucket_or_of_what_is_left_of_neighbours(count, batch, kinds):
    """Every item once an epoch; fewer mixed batches in an epoch than buckets, wherever epochs begin, each of buckets that
    follow each other."""
    buckets = counted(count, kinds)
    order, epochs = DataOrder(count=count, batch=batch, seed=3, buckets=buckets), 6
    seen = sequence(order, -(-epochs * count // batch))
    for epoch in range(epochs):
        assert torch.equal(seen[epoch * count : (epoch + 1) * count].sort().values, torch.arange(count))
    kept = [buckets[order.items(step, torch.arange(batch))].unique() for step in range(epochs * count // batch)]
    assert sum(len(found) > 1 for found in kept) <= epochs * (len(buckets.unique()) - 1)
    assert all(int(found.max() - found.min()) == len(found) - 1 for found in kept)


def test_buckets_come_in_any_order_and_their_items_in_another_one_each_epoch():
    buckets = torch.arange(96) % 3
    order = DataOrder(count=96, batch=8, seed=3, buckets=buckets)
    epochs = [sequence(order, 60)[i * 96 : (i + 1) * 96] for i in range(5)]
    assert len({tuple(buckets[items].tolist()) for items in epochs}) == 5
    assert len({tuple(items[buckets[items] == 0].tolist()) for items in epochs}) == 5
    assert buckets[epochs[0]].tolist() != sorted(buckets.tolist())


@pytest.mark.parametrize("parts", [2, 3])
def test_items_in_buckets_are_the_same_for_any_number_of_ranks_and_any_first_step(parts):
    buckets, batch = counted(29, 4), 6
    whole = DataOrder(count=29, batch=batch, seed=8, buckets=buckets)
    expected = [whole.items(step, torch.arange(batch)) for step in range(25)]
    for step in (24, 0, 13, 1):
        for rank in range(parts):
            mine = torch.arange(rank, batch, parts)
            resumed = DataOrder(count=29, batch=batch, seed=8, buckets=buckets)
            assert torch.equal(resumed.items(step, mine), expected[step][mine])


def test_buckets_are_of_all_items():
    with pytest.raises(ValueError, match="4 items have 4 buckets, got 3"):
        DataOrder(count=4, batch=2, seed=0, buckets=torch.arange(3))


# ------------------------------------------------------------------------------------------------------------ windows

SHARDS = torch.tensor([0] * 9 + [3] * 4 + [1] * 1 + [7] * 11)[permutation(25, seed=9, epoch=9)]


@pytest.mark.parametrize("window", [1, 4, 10, 25, 100])
@pytest.mark.parametrize("grouped", [{}, {"lengths": torch.arange(25) % 6}, {"buckets": torch.arange(25) % 3}])
def test_in_windows_every_item_is_seen_once_an_epoch_as_a_pure_function(window, grouped):
    order = DataOrder(count=25, batch=4, seed=3, shards=SHARDS, window=window, **grouped)
    seen = sequence(order, 50)
    for epoch in range(8):
        assert seen[epoch * 25 : epoch * 25 + 25].sort().values.tolist() == list(range(25))
    again = DataOrder(count=25, batch=4, seed=3, shards=SHARDS, window=window, **grouped)
    for step in (40, 3, 40, 17):
        for mine in (torch.arange(4), torch.tensor([3, 1])):
            assert again.items(step, mine).tolist() == seen[4 * step + mine].tolist()


@pytest.mark.parametrize("window", [1, 4, 10])
def test_a_window_holds_what_follows_each_other_in_permuted_shards(window):
    for epoch in range(5):
        order = in_windows(SHARDS, window, seed=2, epoch=epoch)
        for start in range(0, 25, window):
            touched = {int(SHARDS[item]) for item in order[start : start + window]}
            # a shard that is begun in a window and not ended is the first of the next one
            following = {int(SHARDS[item]) for item in order[start + window :]}
            assert len(touched & following) <= 1
        plain = in_windows(SHARDS, 1, seed=2, epoch=epoch)
        for start in range(0, 25, window):
            chosen = slice(start, start + window)
            assert order[chosen].sort().values.tolist() == plain[chosen].sort().values.tolist()
        changes = (SHARDS[plain][1:] != SHARDS[plain][:-1]).sum()
        assert changes == 3  # each of four shards is read once


def test_windows_as_large_as_the_data_shuffle_all_of_it():
    count, epochs = 4, 800
    shards = torch.tensor([0, 0, 1, 1])
    table = torch.zeros(count, count)
    for epoch in range(epochs):
        table[in_windows(shards, count, seed=1, epoch=epoch), torch.arange(count)] += 1
    expected = epochs / count
    assert ((table - expected).abs() < 5 * expected**0.5).all()
    assert len({tuple(in_windows(SHARDS, 5, seed=s, epoch=e).tolist()) for s in range(4) for e in range(4)}) == 16


def test_shards_come_in_every_order():
    shards = torch.tensor([0, 1, 2])
    orders = {tuple(in_windows(shards, 1, seed=0, epoch=epoch).tolist()) for epoch in range(60)}
    assert len(orders) == 6


def test_a_window_needs_shards_and_a_size():
    for options in ({"window": 3}, {"window": 0, "shards": torch.zeros(4, dtype=torch.int64)}):
        with pytest.raises(ValueError, match="a window is of 1 item or more"):
            DataOrder(count=4, batch=2, seed=0, **options)
