"""What is looked up by its time is what is computed, to the bit, in any batch."""

import pytest
import torch

from langevin.diffusion.denoiser import affine
from langevin.diffusion.memoise import FEW, MemoisedByTime
from langevin.diffusion.process.gaussian import reverse_step
from tests.laws.parts import PREDICTIONS, SCHEDULES

TIMES = torch.linspace(0, 1, 41, dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_looking_up_is_computing(schedule):
    for prediction in PREDICTIONS:
        kept = MemoisedByTime(lambda t, p=prediction: affine(p, schedule, t, 0.5))
        with torch.no_grad():
            first = kept(TIMES[::2])
            again, places = kept(TIMES), kept(TIMES[:40].view(4, 10))
        whole = torch.stack(affine(prediction, schedule, TIMES, 0.5))
        assert torch.equal(again.nan_to_num(), whole.nan_to_num())
        assert torch.equal(first.nan_to_num(), whole[:, ::2].nan_to_num())
        assert torch.equal(places.nan_to_num(), whole[:, :40].view(-1, 4, 10).nan_to_num())


def test_two_times_are_one_key():
    schedule = SCHEDULES["cosine"]
    kept = MemoisedByTime(lambda t, s: reverse_step(schedule, t, s, 1.0))
    t, s = TIMES[1:], TIMES[:-1]
    with torch.no_grad():
        kept(t, s)
        assert torch.equal(kept(t, s * 0.5), torch.stack(reverse_step(schedule, t, s * 0.5, 1.0)))


def test_a_function_is_asked_once_for_a_time_and_always_in_training():
    asked = []

    def double(t):
        asked.append(len(t))
        return (2 * t,)

    kept = MemoisedByTime(double)
    with torch.no_grad():
        kept(TIMES)
        kept(TIMES.flip(0))
        assert asked == [41]
        kept(torch.zeros(FEW + 1, dtype=torch.float64))
    kept(TIMES)
    assert asked == [41, FEW + 1, 41]
