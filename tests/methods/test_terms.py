"""Terms of the loss that a modality supplies: weighted by the SNR, over frames that count, and least for the truth."""

import math

import pytest
import torch

from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian
from langevin.methods.terms import LossTerms
from langevin.recipe.build import build
from langevin.recipe.read import check

PROCESS = Gaussian(sigma_data=0.5)


def squares(mean, x):
    return {"own": (mean - x).square().mean(1)}


def times(rho):
    return PROCESS.schedule.time(-2 * torch.as_tensor(rho, dtype=torch.float64).log())


def test_a_term_is_the_error_times_the_snr():
    x = torch.randn(3, 2, 5)
    t = times([0.1, 1.0, 10.0])
    found = LossTerms(errors=squares, process=PROCESS, weight=2.0)(Point(x + 0.3), Batch(x=x), t)
    expected = 2 * 0.09 * 0.25 / torch.tensor([0.01, 1.0, 100.0])
    assert torch.allclose(found["own"], expected, rtol=1e-4)


def test_given_frames_and_padding_do_not_count():
    x = torch.randn(2, 2, 6)
    t = times([1.0, 1.0])[:, None, None].expand(2, 1, 6).clone()
    t[:, :, :2] = 0
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[:, 5:] = False
    mean = x.clone()
    mean[:, :, :2] += 9
    mean[:, :, 5:] += 9
    mean[:, :, 2] += 0.6
    terms = LossTerms(errors=squares, process=PROCESS, weight=1.0)
    found = terms(Point(mean), Batch(x=x, condition=Condition(data_mask=mask)), t)["own"]
    assert torch.allclose(found, torch.full((2,), 0.36 * 0.25 / 3), rtol=1e-4)


def test_a_modality_without_terms_refuses_a_weight(tmp_path):
    recipe = check(
        {
            "data": {"kind": "points", "distribution": "ring", "columns": 2}, "method": {"kind": "diffusion", "terms": 1.0},
            "network": {"kind": "mlp", "channels": 2},
        }
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"method\.terms weighs further terms .* points data has none"):
        build(recipe)


@pytest.mark.parametrize("weight", [-1.0, math.inf])
def test_a_weight_is_a_number(weight):
    with pytest.raises(ValueError, match=r"method\.terms is a weight"):
        check({"data": {"kind": "points", "distribution": "ring"}, "method": {"kind": "diffusion", "terms": weight}})
