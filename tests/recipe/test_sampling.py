"""One typed union of samplers in YAML, on the command line and in Python."""

from dataclasses import replace
from typing import get_args

import pytest
import yaml

from langevin.diffusion.process import Gaussian, Masked, UniformDiffusion
from langevin.diffusion.sampler import (
    DDIM,
    DPM2M,
    AncestralUnmask,
    AnySampler,
    Exponential,
    FittedSolver,
    FlowMap,
    Heun,
    ThresholdUnmask,
    TokenSampling,
)
from langevin.diffusion.sampler.choice import with_tokens
from langevin.recipe.read import check, dump, override, read_tree
from langevin.recipe.sampling import describe, parse_sampler, sampler_of
from langevin.recipe.tree import Sampling
from tests.laws.parts import MASKED_SAMPLERS, SAMPLERS, SDE_SAMPLERS

GAUSSIAN, MASKED = Gaussian(), Masked(vocab_size=3)
LISTED = [*((GAUSSIAN, tool) for tool in SAMPLERS.values()), *((MASKED, tool) for tool in MASKED_SAMPLERS.values())]


@pytest.mark.parametrize(("text", "sampler"), [
    ("heun", Heun()),
    (" heun ", Heun()),
    ("{kind: heun}", Heun()),
    ("exponential max_order=4 full_start=false", Exponential(max_order=4, full_start=False)),
    ("{kind: exponential, max_order: 4, full_start: false}", Exponential(max_order=4, full_start=False)),
    ("ddim eta=1", DDIM(eta=1.0)),
    ("learned", FittedSolver()),
])  # fmt: skip
def test_a_text_says_a_sampler(text, sampler):
    assert parse_sampler(text, GAUSSIAN) == sampler


@pytest.mark.parametrize(("process", "sampler"), LISTED, ids=[describe(tool) for _, tool in LISTED])
def test_what_is_said_of_a_sampler_says_it(process, sampler):
    if getattr(sampler, "threshold", None) != float("inf"):  # which JSON has no number for
        assert parse_sampler(describe(sampler), process) == sampler


@pytest.mark.parametrize("member", get_args(AnySampler), ids=lambda member: member.kind)
def test_every_sampler_is_named_by_a_recipe_and_comes_back(member):
    span = ["network.conditioning.span=true"] if member is FlowMap else []
    tree = override(read_tree("image/digits"), [f"sampling.sampler={{kind: {member.kind}}}", *span])
    if member is FittedSolver:
        with pytest.raises(ValueError, match="a recipe cannot name the learned sampler"):
            check(tree)
        return
    recipe = check(tree)
    assert recipe.sampling.sampler == member()
    assert check(yaml.safe_load(dump(recipe))) == recipe


@pytest.mark.parametrize(("text", "process", "words"), [
    ("dmp2m", GAUSSIAN, r"no sampler 'dmp2m' \(did you mean 'dpm2m'\?\) for a gaussian process: choose dpm2m, "),
    ("heum", MASKED, "no sampler 'heum' for a masked process: choose .*psi"),
    ("heun", MASKED, "'heun' is not for a masked process: choose "),
    ("unmask", UniformDiffusion(vocab_size=3), "not for an? uniform process: choose (ancestral, psi|psi, ancestral)$"),
    ("", GAUSSIAN, "no sampler '' for a gaussian process"),
    ("exponential max_oder=3", GAUSSIAN, "max_oder: no such key; did you mean 'max_order'?"),
    ("heun eta=1", GAUSSIAN, "eta: no such key"),
    ("exponential max_order=9", GAUSSIAN, "max_order must be from 1 to 6, got 9"),
    ("exponential max_order=2.5", GAUSSIAN, "max_order: Input should be a valid integer"),
    ("exponential 3", GAUSSIAN, "'3' is no override"),
    ("{kind: exponential", GAUSSIAN, "not readable as YAML"),
    ("confidence tokens.temprature=2", MASKED, "tokens.temprature: no such key; did you mean 'temperature'?"),
    ("threshold rule=factors", MASKED, "rule: Input should be 'confidence', 'factor' or 'entropy_bound'"),
])  # fmt: skip
def test_what_is_wrong_is_said_with_what_is_right(text, process, words):
    with pytest.raises(ValueError, match=words):
        parse_sampler(text, process)


def test_how_tokens_are_drawn_stays_the_runs_unless_it_is_said():
    tokens = TokenSampling(temperature=0.5, top_p=0.9)
    run = Sampling(sampler=AncestralUnmask(tokens=tokens))
    assert parse_sampler("threshold rule=factor", MASKED, tokens=tokens) == ThresholdUnmask(
        rule="factor", tokens=tokens
    )
    assert parse_sampler("unmask tokens.top_p=0.7", MASKED, tokens=tokens).tokens == TokenSampling(top_p=0.7)
    assert with_tokens(run.sampler, temperature=0.0, top_p=None).tokens == replace(tokens, temperature=0.0)
    assert with_tokens(run.sampler, temperature=None, top_p=0.2).tokens == replace(tokens, top_p=0.2)
    assert parse_sampler("ddim", GAUSSIAN) == DDIM()


def test_a_sampler_without_tokens_has_no_temperature():
    with pytest.raises(ValueError, match="'dpm2m' draws no tokens, so it has no temperature and no top_p"):
        with_tokens(DPM2M(), temperature=0.5, top_p=0.5)
    assert with_tokens(DPM2M()) == DPM2M()


def test_the_learned_sampler_is_found_and_another_stands_for_itself():
    fitted = FittedSolver(times=(0.9, 0.0), rows=((0.0, 1.0),))
    assert sampler_of(GAUSSIAN, Sampling(sampler=FittedSolver()), lambda sampling: fitted) is fitted
    assert sampler_of(GAUSSIAN, Sampling(sampler=fitted)) is fitted
    for tool in SDE_SAMPLERS.values():
        with pytest.raises(ValueError, match="is not for a gaussian process"):
            sampler_of(GAUSSIAN, Sampling(sampler=tool))
