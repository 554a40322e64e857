"""Law of samplers: the table's step is the published one, as `tests.exact_steps` writes it, over grids and parameters."""

import inspect
from dataclasses import asdict

import pytest
import torch

from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import (
    DEIS,
    DPM2,
    DPM2M,
    DPM2S,
    DPM3M,
    IPNDM,
    Adams,
    EDMStochastic,
    Exponential,
    Langevin,
    Restart,
    UniPC,
    sample,
    start,
)
from langevin.diffusion.sampler.grid import KarrasGrid, LogSNR, UniformTimeGrid
from tests import exact, exact_steps
from tests.laws.parts import FEW_SCHEDULES, SAMPLERS

SEEDS = torch.tensor([3, 4])
GRIDS = {
    "karras": KarrasGrid(low=0.02, high=20.0, to_zero=False),
    "log_snr": LogSNR(low=0.05, high=8.0, to_zero=False),
    "uniform": UniformTimeGrid(low=0.3, high=10.0, to_zero=False),
}
LINEAR = {name: sampler for name, sampler in SAMPLERS.items() if sampler.kind != "ancestral"}  # a draw, and no table
MORE = {
    "langevin_thrice": Langevin(ratio=0.1, corrections=3),
    "dpm2_early": DPM2(r=0.3),
    "dpm2s_late": DPM2S(r=0.8),
    "edm_loud": EDMStochastic(s_churn=3.0, s_min=0.1, s_max=5.0, s_noise=1.01),
    "restart_once": Restart(low=0.4, high=2.0, num_restarts=1),
    "sde_dpm2m_some": DPM2M(eta=0.7, lower_order_final=True),
    "dpm3m_lower": DPM3M(lower_order_final=True),
    "exponential_5": Exponential(max_order=5, full_start=False),
    "exponential_3_lower": Exponential(max_order=3, lower_order_final=True),
    "adams_5_rising": Adams(max_order=5, full_start=False),
    "deis_1": DEIS(max_order=1),
    "ipndm_2": IPNDM(max_order=2),
    "unipc_4_rising": UniPC(p=4, full_start=False),
}
TOOLS = LINEAR | MORE


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("schedule", FEW_SCHEDULES.values(), ids=FEW_SCHEDULES)
def test_the_tables_step_is_the_papers(name, schedule):
    """Every point of a trajectory in the paper's form leads to the next, on three grids of 1 to 9 steps.

    Deterministic ones agree to rounding, to 1e-8 where the square root of a difference is noise. DEIS has a quadrature of
    eight points, which one or two steps over the whole range show."""
    tool, process, data = TOOLS[name], Gaussian(schedule=schedule), exact.Mixture(schedule=schedule)
    step, parameters = getattr(exact_steps, tool.kind), {k: v for k, v in asdict(tool).items() if k != "kind"}
    assert set(parameters) == set(inspect.signature(step).parameters) - {"w", "i", "x"}
    close = 1e-8 if tool.convergence_order is None else 1e-9 if tool.kind == "deis" else 1e-11
    for grid in GRIDS.values():
        for steps in (1, 2, 5, 9):
            times = grid(torch.tensor([steps]), schedule)
            state = start(tool, process, torch.zeros(2, 4, dtype=torch.float64), times.expand(2, -1), SEEDS)
            one_call_a_step = "full_start" in parameters  # its knots are those of the start at full order
            knots = state.times[0] if one_call_a_step else times[0]
            w = exact_steps.Walk(data=data, schedule=schedule, t=knots, seeds=SEEDS)
            want = exact_steps.walk(step, w, state.x, **parameters)
            for after in sample(tool, process, data, state):
                state = after
            assert len(w.D) == int(state.num_calls.max())
            error = float(((state.x - want) / want.abs().clamp_min(1)).abs().max())
            assert error < (2e-5 if tool.kind == "deis" and steps < 5 else close), (grid.kind, steps)
