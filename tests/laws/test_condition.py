"""Laws of conditions: rows, keep bits and joins touch every port alike."""

import pytest
import torch

from langevin.diffusion.condition import Condition, Port, join


def condition(rows: int, offset: int = 0, **ports) -> Condition:
    tensor = (torch.arange(rows) + offset)[:, None].expand(-1, 3).float()
    every = {name: Port(tensor=tensor + i) for i, name in enumerate(("cross", "prepend", "concat", "aligned"))}
    every["global_"] = Port(tensor=torch.arange(rows) + offset)
    return Condition(**{**every, "guidance": torch.arange(rows) + 0.5, **ports})


PORTS = ("global_", "cross", "prepend", "concat", "aligned")


def test_rows_are_the_rows_of_every_port():
    index = torch.tensor([3, 0])
    mask, keep = torch.rand(4, 3) > 0.5, torch.tensor([True, False, True, False])
    whole = condition(4, cross=Port(tensor=torch.rand(4, 3, 2), mask=mask, keep=keep))
    part = whole.rows(index)
    for name in PORTS:
        assert torch.equal(getattr(part, name).tensor, getattr(whole, name).tensor[index])
    assert torch.equal(part.cross.mask, mask[index])
    assert torch.equal(part.cross.keep, keep[index])
    assert torch.equal(part.guidance, whole.guidance[index])
    assert condition(2).rows(torch.tensor([0])).global_.mask is None


def test_a_withheld_port_stays_withheld():
    keep = torch.tensor([True, False, True, False])
    told = condition(4, global_=Port(tensor=torch.arange(4), keep=keep)).only(torch.tensor([True, True, False, False]))
    assert told.global_.kept().tolist() == [True, False, False, False]
    assert told.cross.kept().tolist() == [True, True, False, False]
    assert all(not bool(getattr(told.dropped(), name).kept().any()) for name in PORTS)
    assert torch.equal(told.dropped().guidance, told.guidance)


def test_a_join_holds_the_rows_of_both():
    one, two = condition(2), condition(3, 10)
    both = join(one, two)
    for name in PORTS:
        assert torch.equal(getattr(both, name).tensor[:2], getattr(one, name).tensor)
        assert torch.equal(getattr(both, name).tensor[2:], getattr(two, name).tensor)
    assert torch.equal(both.guidance, torch.cat([one.guidance, two.guidance]))


@pytest.mark.parametrize("masked", [(True, True), (True, False), (False, True), (False, False)])
def test_a_join_keeps_the_padding_of_either(masked):
    masks = [torch.tensor([[True, False, False]]) if m else None for m in masked]
    parts = [Condition(cross=Port(tensor=torch.zeros(1, 3, 2), mask=mask)) for mask in masks]
    both = join(*parts).cross
    if not any(masked):
        assert both.mask is None
    else:
        shown = [[True, False, False] if m else [True, True, True] for m in masked]
        assert both.mask.tolist() == shown


def test_conditions_of_different_ports_do_not_join():
    with pytest.raises(ValueError, match="global_"):
        join(Condition(), Condition(global_=Port(tensor=torch.zeros(1))))
    with pytest.raises(ValueError, match="guidance"):
        join(Condition(guidance=torch.ones(1)), Condition())
