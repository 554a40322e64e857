"""What the doctor says of a machine, beside what `tests/cli/test_help.py` asks of every verb."""

import os
from dataclasses import replace

from langevin.cli.doctor import _others
from langevin.training import machine


def test_the_doctor_says_what_else_computes_here_and_what_to_do(monkeypatch):
    rival = machine.Neighbour(pid=77, name="python3", cores=1.9, nice=0, spins=True)
    monkeypatch.setattr(machine, "neighbours", lambda: [rival])
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    facts = {}
    advice = _others(facts)
    assert facts["busy neighbours"] == "python3 77: 1.9 cores"
    assert facts["threads wait by"] == "OMP_WAIT_POLICY=ACTIVE"
    assert any("process 77" in line and "OMP_NUM_THREADS" in line for line in advice)
    assert any("unset it" in line for line in advice)
    monkeypatch.setattr(machine, "neighbours", lambda: [replace(rival, nice=19)])
    monkeypatch.delenv("OMP_WAIT_POLICY")
    assert _others(facts) == []
    monkeypatch.setattr(machine, "neighbours", lambda: [replace(rival, spins=False, cores=os.cpu_count())])
    assert ["more than half of the cores" in line for line in _others(facts)] == [True]
