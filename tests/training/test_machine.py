"""What the machine is said to do, and training in its precisions."""

import os

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


def stat(folder, pid, *, name="python3", ticks=0, nice=0, maps=""):
    """A process as /proc describes it."""
    place = folder / str(pid)
    place.mkdir(parents=True, exist_ok=True)
    fields = ["S", *["0"] * 10, str(ticks), "0", "0", "0", "20", str(nice), "1"]
    (place / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
    (place / "maps").write_text(maps)


def test_busy_neighbours_are_found_by_the_time_that_they_take(tmp_path, monkeypatch):
    hertz, now = os.sysconf("SC_CLK_TCK"), [0.0]
    stat(tmp_path, 10, name="quiet")
    stat(tmp_path, 11, name="a (b) c", maps="7f00 r-xp /lib/libtorch_cpu.so")
    stat(tmp_path, 12, name="niced", nice=19)
    stat(tmp_path, os.getpid(), name="me")

    def sleep(seconds):
        now[0] += 2.0
        stat(tmp_path, 11, name="a (b) c", ticks=3 * hertz, maps="7f00 r-xp /lib/libtorch_cpu.so")
        stat(tmp_path, 12, name="niced", ticks=hertz, nice=19)
        stat(tmp_path, 13, name="new", ticks=50 * hertz)
        stat(tmp_path, os.getpid(), name="me", ticks=4 * hertz)

    monkeypatch.setattr(machine.time, "sleep", sleep)
    monkeypatch.setattr(machine.time, "monotonic", lambda: now[0])
    first, second = machine.neighbours(proc=tmp_path)
    assert (first.pid, first.name, first.cores, first.nice, first.spins) == (11, "a (b) c", 1.5, 0, True)
    assert (second.pid, second.cores, second.nice, second.spins) == (12, 0.5, 19, False)


def test_a_system_without_proc_has_no_neighbours_to_tell_of(tmp_path):
    assert machine.neighbours(seconds=0.0, proc=tmp_path / "proc") == []
