"""Laws of conditions: rows, keep bits and joins touch every field alike, and any two conditions join."""

from dataclasses import fields, replace

import pytest
import torch

from langevin.diffusion.condition import NOTHING, PORTS, Condition, Further, GuidanceWeight, KVCache, Port, join
from langevin.diffusion.measurement import Mask, Measurement


def condition(rows: int, offset: int = 0, *, n: int = 3, **changes) -> Condition:
    """Every field, of sequences of n, numbered by sample."""
    number = torch.arange(rows) + offset
    tokens, vectors = number[:, None].expand(-1, n) + 1, number[:, None, None].expand(-1, n, 2).float()
    every = {
        "global_": Port(tensor=number), "global_vector": Port(tensor=vectors[:, 0]), "cross": Port(tensor=tokens),
        "cross_vectors": Port(tensor=vectors + 1), "prepend": Port(tensor=vectors + 2),
        "concat": Port(tensor=vectors.transpose(1, 2) + 3), "aligned": Port(tensor=vectors + 4),
        "data_mask": torch.ones(rows, n, dtype=torch.bool), "prompt": torch.ones(rows, n, dtype=torch.bool),
        "clean": tokens + 5,
        "cache": KVCache(keys_values=vectors[:, :, None, None].expand(-1, -1, 1, 2, -1), mask=tokens > 0),
        "guidance": {
            "classifier_free": GuidanceWeight(weight=number + 0.5, interval=torch.stack([number, number + 1.0], 1))
        },
        "reference": Condition(global_=Port(tensor=number + 7)),
        "span": number + 0.75,
        "further": (Further(ports=Condition(global_=Port(tensor=number + 9)), weight=number + 0.25),),
        "measurement": Measurement(
            operator=Mask(seen=number[:, None] % torch.tensor([2, 3]) == 0), y=number[:, None] + torch.tensor([0.5, 1.5]),
            noise=number + 1.0, shape=(2,),
        ),
    }  # fmt: skip
    return Condition(**{**every, **changes})


def tensors(value: Condition) -> list[torch.Tensor]:
    found = []
    value.map(lambda tensor: found.append(tensor) or tensor)
    return found


def same(a: Condition, b: Condition) -> bool:
    one, other = tensors(a), tensors(b)
    return len(one) == len(other) and all(torch.equal(x, y) for x, y in zip(one, other, strict=True))


def cut(value: Condition, n: int) -> Condition:
    """The first n positions of each sequence, those of the data with them."""
    ports = {
        name: replace(port, tensor=port.tensor[:, :, :n] if name == "concat" else port.tensor[:, :n], mask=None)
        for name, port in value.ports.items() if name not in ("global_", "global_vector")
    }  # fmt: skip
    cache = KVCache(keys_values=value.cache.keys_values[:, :n], mask=value.cache.mask[:, :n])
    return replace(
        value, **ports, data_mask=value.data_mask[:, :n], prompt=value.prompt[:, :n], clean=value.clean[:, :n], cache=cache,
    )  # fmt: skip


def test_every_field_is_tested_and_touched_by_map():
    """But for what a cache keeps, see test_reuse."""
    assert {f.name for f in fields(Condition)} - {"features"} == {
        f.name for f in fields(Condition) if getattr(condition(2), f.name) not in (None, {}, ())
    }
    doubled = condition(2).map(lambda tensor: torch.cat([tensor, tensor]))
    assert all(len(tensor) == 4 for tensor in tensors(doubled))
    assert same(doubled.select(slice(0, 2)), condition(2))
    assert condition(3).count == 3
    assert Condition().count is None


def test_rows_are_the_rows_of_every_tensor():
    index, whole = torch.tensor([3, 0]), condition(4)
    for part, all_ in zip(tensors(whole.select(index)), tensors(whole), strict=True):
        assert torch.equal(part, all_[index])
    mask, keep = torch.rand(4, 3) > 0.5, torch.tensor([True, False, True, False])
    part = condition(4, prepend=Port(tensor=torch.rand(4, 3, 2), mask=mask, keep=keep)).select(index).prepend
    assert torch.equal(part.mask, mask[index])
    assert torch.equal(part.keep, keep[index])


def test_a_withheld_port_stays_withheld_and_facts_are_never_withheld():
    keep = torch.tensor([True, False, True, False])
    whole = condition(4, global_=Port(tensor=torch.arange(4), keep=keep))
    told = whole.only(torch.tensor([True, True, False, False]))
    assert told.global_.kept().tolist() == [True, False, False, False]
    assert told.cross.kept().tolist() == [True, True, False, False]
    dropped = whole.dropped()
    assert all(not bool(getattr(dropped, name).kept().any()) for name in PORTS)
    bare = dict.fromkeys(PORTS)
    assert same(replace(dropped, **bare), replace(whole, **bare))


def test_token_indices_are_padded_by_0_and_other_sequences_by_their_mask():
    tokens = torch.tensor([[3, 0], [0, 0]])
    assert Port(tensor=tokens).shown().tolist() == [[True, False], [False, False]]
    assert Port(tensor=tokens, mask=tokens > 5).shown().tolist() == [[False, False]] * 2
    assert bool(Port(tensor=tokens.double()[..., None]).shown().all())


# ------------------------------------------------------------------------------------------------------------- joins


def test_a_join_holds_the_rows_of_both_to_the_bit():
    one, two = condition(2), condition(3, 10)
    both = join(one, two)
    assert same(both.select(slice(0, 2)), one)
    assert same(both.select(slice(2, 5)), two)
    assert both.cross.mask is None
    assert both.cross.keep is None
    assert same(join(Condition(), Condition()), Condition())


def test_a_join_of_many_is_a_join_of_joins():
    parts = [condition(2, n=3), condition(1, 10, n=5, reference=None, guidance={}), condition(3, 20, n=4, cross=None)]
    assert same(join(*parts), join(join(parts[0], parts[1]), parts[2]))


def test_counts_say_how_many_samples_an_empty_condition_has():
    vector = Condition(global_vector=Port(tensor=torch.ones(2, 3)))
    both = join(Condition(), vector, counts=(3, 2))
    assert both.global_vector.kept().tolist() == [False] * 3 + [True] * 2
    assert same(join(Condition(), Condition(), counts=(1, 2)), Condition())


@pytest.mark.parametrize("lengths", [(3, 5), (5, 3), (1, 4)])
def test_a_join_pads_and_cutting_the_padding_off_gives_back_each_side(lengths):
    sides = [condition(2, n=lengths[0]), condition(3, 10, n=lengths[1])]
    both = join(*sides)
    for side, rows, n in zip(sides, (slice(0, 2), slice(2, 5)), lengths, strict=True):
        part = both.select(rows)
        assert same(cut(part, n), cut(side, n))
        for name in ("cross", "cross_vectors", "prepend", "aligned"):
            assert torch.equal(getattr(part, name).shown().sum(1), torch.full((part.count,), n)), name
        for facts in (
            part.data_mask,
            part.prompt,
            part.cache.mask,
            part.clean != NOTHING,
        ):
            assert torch.equal(facts.sum(1), torch.full((part.count,), n))


@pytest.mark.parametrize("masked", [(True, True), (True, False), (False, True), (False, False)])
def test_a_join_keeps_the_padding_of_either(masked):
    masks = [torch.tensor([[True, False, False]]) if m else None for m in masked]
    parts = [Condition(prepend=Port(tensor=torch.zeros(1, 3, 2), mask=mask)) for mask in masks]
    both = join(*parts).prepend
    if not any(masked):
        assert both.mask is None
    else:
        shown = [[True, False, False] if m else [True, True, True] for m in masked]
        assert both.mask.tolist() == shown


@pytest.mark.parametrize("name", PORTS)
def test_a_port_that_one_side_lacks_is_withheld_there(name):
    for order in (1, -1):
        sides = [condition(2, **{name: None}), condition(3, 10)][::order]
        port = getattr(join(*sides), name)
        assert port.kept().tolist() == [side.count == 3 for side in sides for _ in range(side.count)]
        kept = port.kept()
        assert torch.equal(port.tensor[kept], getattr(condition(3, 10), name).tensor)


def test_what_else_one_side_lacks_is_what_its_absence_means():
    facts = {"data_mask": None, "prompt": None, "clean": None, "cache": None, "guidance": {}}
    both = join(condition(1, **facts), condition(1, 10)).select(slice(0, 1))
    assert bool(both.data_mask.all())
    assert not bool(both.prompt.any())
    assert bool((both.clean == NOTHING).all())
    assert not bool(both.cache.mask.any())
    weights = both.guidance["classifier_free"]
    assert weights.weight.tolist() == [1.0]
    assert weights.interval.tolist() == [[0.0, torch.inf]]


def test_a_reference_that_one_side_lacks_is_its_own_condition_withheld():
    one, two = condition(1, reference=None), condition(1, 10)
    reference = join(one, two).reference
    assert reference.global_.tensor.tolist() == [0, 17]
    assert reference.global_.kept().tolist() == [False, True]
    assert reference.cross.kept().tolist() == [False, False]  # that of the second side names no text
    assert reference.data_mask is None


def test_what_guidance_compares_with_has_the_facts_of_the_condition_and_no_weights():
    whole = condition(2)
    compared = whole.compared()
    assert torch.equal(compared.global_.tensor, whole.reference.global_.tensor)
    assert compared.cross is None
    assert compared.clean is whole.clean
    assert compared.guidance == {}
    assert compared.reference is None
    alone = condition(2, reference=None).compared()
    assert not bool(alone.cross.kept().any())
    assert alone.guidance == {}


def test_data_masks_of_pictures_are_padded_along_both_sides():
    masks = [torch.ones(1, 2, 4, dtype=torch.bool), torch.ones(1, 3, 2, dtype=torch.bool)]
    both = join(*(Condition(data_mask=mask) for mask in masks))
    assert both.data_mask.shape == (2, 3, 4)
    for mask, joined in zip(masks, both.data_mask, strict=True):
        assert torch.equal(joined.nonzero().amax(0) + 1, torch.tensor(mask.shape[1:]))
        assert int(joined.sum()) == mask.numel()
    assert both.over(torch.zeros(2, 5, 3, 4)).shape == (2, 1, 3, 4)


def test_what_cannot_be_joined_is_refused():
    vector = Condition(global_vector=Port(tensor=torch.zeros(1, 3)))
    with pytest.raises(ValueError, match=r"'global_vector' is \(1, 3\) in one and \(1, 4\) in another"):
        join(vector, Condition(global_vector=Port(tensor=torch.zeros(1, 4))))
    with pytest.raises(ValueError, match="'prepend' is"):
        join(*(Condition(prepend=Port(tensor=torch.zeros(1, 3, d))) for d in (2, 4)))
    with pytest.raises(ValueError, match="one of them is empty"):
        join(Condition(), vector)


def test_what_makes_no_condition_is_refused():
    for other in (Condition(reference=Condition()), Condition(prompt=torch.ones(1, 2, dtype=torch.bool))):
        with pytest.raises(ValueError, match="a reference condition holds ports only"):
            Condition(reference=other)
    with pytest.raises(ValueError, match=r"an interval per sample, \(b, 2\)"):
        GuidanceWeight(weight=torch.ones(2), interval=torch.ones(2))
    with pytest.raises(ValueError, match=r"data mask is bool .* \(2, 3, 4\)"):
        Condition(data_mask=torch.ones(2, 5, dtype=torch.bool)).over(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="data mask is bool"):
        Condition(data_mask=torch.ones(2, 4)).over(torch.zeros(2, 3, 4))
