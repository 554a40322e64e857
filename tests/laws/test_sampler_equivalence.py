"""Law of samplers: methods that are the same by theory are the same by number, to 1e-11, and calls are where
they should be.

A grid of unequal steps, from sigma / alpha = 20 to 0.02; the data is a mixture on the line.
"""

import itertools

import pytest
import torch

from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import (
    DDIM,
    DDPM,
    DEIS,
    DPM2M,
    DPM3M,
    IPNDM,
    Adams,
    Ancestral,
    EDMStochastic,
    Exponential,
    Heun,
    KarrasGrid,
    Langevin,
    Restart,
    UniPC,
    sample,
    start,
)
from langevin.diffusion.schedule import Cosine
from tests import exact, exact_steps

SCHEDULE = Cosine()
PROCESS, DATA = Gaussian(schedule=SCHEDULE), exact.Mixture(schedule=SCHEDULE)
TIMES = KarrasGrid(low=0.02, high=20.0, to_zero=False)(torch.tensor([9]), SCHEDULE)
SEEDS = torch.tensor([3, 4])


def begin(tool, process=PROCESS, times=TIMES):
    return start(tool, process, torch.zeros(2, 4, dtype=torch.float64), times.expand(2, -1), SEEDS)


def final(tool, process=PROCESS, data=DATA, times=TIMES):
    for told in sample(tool, process, data, begin(tool, process, times)):
        state = told
    return state.x


def close(a, b, *, by=1e-11):
    return float((a - b).abs().max()) < by * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Exponential(max_order=1), DDIM()),
        (Exponential(max_order=1, eta=1.0), Ancestral()),
        (DDIM(eta=1.0), Ancestral()),
        (DDPM(variance="posterior"), Ancestral()),
        (Adams(max_order=1), DDIM()),
        (DEIS(max_order=1), DDIM()),
        (IPNDM(max_order=1), DDIM()),
        (Restart(num_restarts=0), Heun()),
        (EDMStochastic(s_churn=0.0), Heun()),
    ],
)
def test_equal_by_theory_is_equal_by_number(one, other):
    assert close(final(one), final(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (DPM2M(eta=1.0), Ancestral()),
        (DPM2M(lower_order_final=True), DPM2M()),
        (UniPC(p=2), DPM2M()),
    ],
)
def test_equal_in_one_step(one, other):
    assert close(final(one, times=TIMES[:, :2]), final(other, times=TIMES[:, :2]))


def test_the_exact_third_order_has_twice_the_published_second_difference():
    """Of the outputs' divided differences: the two forms agree on one step from the same three outputs."""
    ends = {}
    for name, step, options in (
        ("published", exact_steps.dpm3m, {}),
        ("doubled", exact_steps.third_order, {"second": 2}),
        ("exact", exact_steps.exponential, {"max_order": 3}),
    ):
        w = exact_steps.Walk(data=DATA, schedule=SCHEDULE, t=TIMES[0], seeds=SEEDS)
        x = begin(DPM3M()).x
        for i in range(2):
            x = exact_steps.euler(w, i, x)
        ends[name] = step(w, 2, x, **options)
    assert close(ends["doubled"], ends["exact"])
    assert not close(ends["published"], ends["exact"], by=1e-5)


def test_restart_goes_back_up_as_often_as_it_is_told():
    times = KarrasGrid(low=0.02, high=20.0)(torch.tensor([16]), SCHEDULE)
    levels = (SCHEDULE.sigma(times) / SCHEDULE.alpha(times))[0]
    tool = Restart(low=0.3, high=2.0, num_restarts=2)
    asked = []

    def denoiser(x, t, condition=None):
        asked.append(float(SCHEDULE.sigma(t[:1]) / SCHEDULE.alpha(t[:1])))
        return DATA(x, t)

    list(sample(tool, PROCESS, denoiser, begin(tool, PROCESS, times)))
    ups = [(a, b) for a, b in itertools.pairwise(asked) if b > a * 1.0001]
    down = max(float(v) for v in levels if v <= 0.3)
    up = min(float(v) for v in levels if v >= 2.0)
    assert len(ups) == 2
    assert all(b == pytest.approx(up) for _, b in ups)
    assert all(a == pytest.approx(down) for a, _ in ups)


def test_the_langevin_corrector_asks_again_at_the_level_it_came_to():
    tool, asked = Langevin(corrections=2), []

    def denoiser(x, t, condition=None):
        asked.append(float(t[0]))
        return DATA(x, t)

    times = KarrasGrid(low=0.02, high=20.0)(torch.tensor([3]), SCHEDULE)
    list(sample(tool, PROCESS, denoiser, begin(tool, PROCESS, times)))
    t = times[0].tolist()
    assert asked == pytest.approx([t[0], t[1], t[1], t[1], t[2], t[2], t[2]])


@pytest.mark.parametrize(("tool", "more"), [
    (Exponential(max_order=3), 1), (Exponential(max_order=4), 2),
    (UniPC(p=2), 0), (UniPC(p=3), 1), (Adams(max_order=2), 0),
])  # fmt: skip
def test_a_full_start_costs_as_many_calls_as_it_says(tool, more):
    assert len(list(sample(tool, PROCESS, DATA, begin(tool)))) == TIMES.shape[1] - 1 + more
