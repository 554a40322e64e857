"""Every member of a union is listed, so that no part escapes the laws."""

import importlib
import pkgutil
from dataclasses import fields, replace
from typing import get_args

import pytest
import torch

import langevin.diffusion
from langevin.diffusion.denoiser import PredictionType
from langevin.diffusion.objective import TimeDensity, WeightedMSE
from langevin.diffusion.posterior import AnyPrediction, Score
from langevin.diffusion.process import GIDD, SDE, AnyProcess, Bounded, Gaussian, Masked, Product, UniformDiffusion
from langevin.diffusion.process.sde import OrnsteinUhlenbeck
from langevin.diffusion.sampler import DDIM, AnySampler, kinds_for, require_fit, start
from langevin.diffusion.sampler.grid import AnyGrid, UnmaskGrid
from langevin.diffusion.schedule import AnySchedule
from tests.laws.parts import (
    DENSITIES,
    GRIDS,
    MASKED_SAMPLERS,
    OWN_LAWS,
    PREDICTIONS,
    PRODUCT_SAMPLERS,
    SAMPLERS,
    SCHEDULES,
    SDE_SAMPLERS,
    WEIGHTINGS,
)


@pytest.mark.parametrize(
    ("union", "parts"),
    [
        (AnySchedule, SCHEDULES.values()),
        (AnyGrid, [*GRIDS.values(), UnmaskGrid()]),  # of symbols: its law is in test_grid
        (TimeDensity, DENSITIES.values()),
    ],
)
def test_every_member_of_a_union_is_listed(union, parts):
    assert {type(part) for part in parts} == set(get_args(union))


def test_every_literal_is_listed():
    assert set(PREDICTIONS) == set(get_args(PredictionType))
    assert set(WEIGHTINGS) == set(get_args(WeightedMSE.__annotations__["weighting"]))


def test_every_part_carries_its_kind():
    parts = [*SCHEDULES.values(), *GRIDS.values(), *DENSITIES.values(), Gaussian()]
    parts += [member() for member in get_args(AnySampler)]
    assert all(isinstance(part.kind, str) and part.kind for part in parts)


def test_every_sampler_is_under_the_laws_of_a_process_and_has_a_kind_of_its_own():
    members = get_args(AnySampler)
    under_laws = {
        type(tool) for tools in (SAMPLERS, MASKED_SAMPLERS, SDE_SAMPLERS, PRODUCT_SAMPLERS) for tool in tools.values()
    }
    assert {member for member in members if member.kind not in OWN_LAWS} == under_laws
    assert len({member.kind for member in members}) == len(members)


def test_a_sampler_holds_no_process_and_needs_no_parameters():
    for member in get_args(AnySampler):
        assert "process" not in {f.name for f in fields(member)}
        assert member() == member()
        assert all(f.kw_only for f in fields(member))


@pytest.mark.parametrize(
    "process",
    [Gaussian(), Masked(vocab_size=3), UniformDiffusion(vocab_size=3), GIDD(vocab_size=3), Product(parts={})],
)
def test_a_sampler_is_refused_on_a_process_that_it_is_not_for(process):
    for member in get_args(AnySampler):
        if member.kind in kinds_for(process):
            require_fit(member(), process)
            continue
        with pytest.raises(
            ValueError, match=f"'{member.kind}' is not for an? {process.kind} process: choose "
        ) as refused:
            start(member(), process, torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
        assert set(str(refused.value).split("choose ")[1].split(", ")) == set(kinds_for(process))


def test_the_nearest_name_comes_first():
    with pytest.raises(ValueError, match="process: choose psi, "):
        require_fit(replace(DDIM(), kind="psy"), Masked(vocab_size=3))  # type: ignore[arg-type]


PROCESSES = [
    Gaussian(), Masked(vocab_size=3), UniformDiffusion(vocab_size=3), GIDD(vocab_size=3), SDE(drift=OrnsteinUhlenbeck()),
    Product(parts={"a": Gaussian(), "b": Masked(vocab_size=3)}),
]  # fmt: skip


def test_every_process_is_a_process_and_says_whether_it_has_a_bound():
    assert {type(process) for process in PROCESSES} == set(get_args(AnyProcess))
    for process in PROCESSES:
        assert all(callable(getattr(process, name)) for name in ("prior", "corrupt", "transition"))
        assert isinstance(process, Bounded) == (not isinstance(process, SDE))


def test_every_prediction_extrapolates_and_posteriors_draw():
    for prediction in get_args(AnyPrediction):
        assert all(callable(getattr(prediction, name)) for name in ("extrapolate_from", "select"))
        assert hasattr(prediction, "draw") == (prediction is not Score)


def protocols():
    """Every protocol of the mathematics and where it is; samplers say what they take in their own room."""
    for module in pkgutil.walk_packages(langevin.diffusion.__path__, "langevin.diffusion."):
        if module.name == "langevin.diffusion.sampler.state":
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if getattr(value, "_is_protocol", False) and value.__module__ == module.name:
                yield value


def test_every_method_of_a_protocol_says_what_it_takes_and_returns():
    found = list(protocols())
    names = {protocol.__name__ for protocol in found}
    assert names >= {
        "Process",
        "Bounded",
        "Denoiser",
        "Prediction",
        "Posterior",
        "Schedule",
        "Noise",
        "Objective",
        "Grid",
    }
    for protocol in found:
        for name, value in vars(protocol).items():
            public = name == "__call__" or not name.startswith("_")
            if public and (callable(value) or isinstance(value, property)):
                assert value.__doc__, f"{protocol.__module__}.{protocol.__name__}.{name} has no docstring"
