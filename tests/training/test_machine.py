"""What the machine is said to do, and training in its precisions."""

import pytest
import torch

from langevin.training import machine
from tests import tiny


def test_auto_is_float32_where_there_are_no_bf16_units(monkeypatch):
    monkeypatch.setattr(machine, "has_bf16_units", lambda: False)
    monkeypatch.setattr(machine, "matrix_rate", lambda *_, **__: pytest.fail("nothing needs to be measured"))
    assert machine.precision("auto") == "float32"


@pytest.mark.parametrize(("bf16", "chosen"), [(1.0, "float32"), (1.4, "float32"), (2.0, "bfloat16")])
def test_auto_with_units_is_what_is_measured_to_be_faster(monkeypatch, bf16, chosen):
    monkeypatch.setattr(machine, "has_bf16_units", lambda: True)
    monkeypatch.setattr(machine, "matrix_rate", lambda dtype, **_: bf16 if dtype == torch.bfloat16 else 1.0)
    assert machine.precision("auto") == chosen


@pytest.mark.parametrize(("has", "units"), [({}, False), ({"amx_tile": True}, True), ({"avx512_bf16": True}, True)])
def test_bf16_units_of_a_cpu_are_read_off_its_instructions(monkeypatch, has, units):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert machine.has_bf16_units() is units


@pytest.mark.parametrize("wish", ["float32", "bfloat16"])
def test_a_wish_is_granted(wish):
    assert machine.precision(wish) == wish


def test_rates_and_facts_are_given():
    assert machine.matrix_rate(torch.float32, size=32, seconds=0.001, where=torch.device("cpu")) > 0
    facts = machine.describe()
    assert {"python", "torch", "system", "processor", "cores", "threads"} <= set(facts)
    assert all(isinstance(value, str | int | float) for value in facts.values())


@pytest.mark.parametrize("network", ["dit", "unet"])
def test_a_step_in_bf16_keeps_weights_and_states_and_loss_in_float32(network):
    training = tiny.config(steps=2, batch=4)
    losses = {}
    for precision in (torch.float32, torch.bfloat16):
        made = tiny.method(network, precision=precision)
        state = tiny.state_of(made, training)
        before = {n: p.detach().clone() for n, p in state.optimizers["denoiser"].parameters.items()}
        reports = tiny.advance(state, made, training, until=2)
        assert all(r.applied for r in reports)
        assert all(t.dtype == torch.float32 for g in state.groups().values() for t in g.values())
        assert any(not torch.equal(before[n], p) for n, p in state.optimizers["denoiser"].parameters.items())
        losses[precision] = reports[0].loss
    assert losses[torch.bfloat16] != losses[torch.float32]
    assert losses[torch.bfloat16] == pytest.approx(losses[torch.float32], rel=0.05)
