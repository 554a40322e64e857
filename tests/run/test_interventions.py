"""Interventions: on exact denoisers of Gaussian data their effects are known, and what a network ignores has none."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from langevin.diffusion.condition import Condition, Port, class_labels, class_port
from langevin.diffusion.posterior import Point
from langevin.diffusion.shape import append_dims
from langevin.run.directory import load_model, open_run
from langevin.run.generate import changed
from langevin.run.interventions import Changes, Subject, frequent, shuffled
from langevin.run.template import template_of
from tests import pictures, tiny

STD = 0.4


@dataclass(frozen=True)
class Exact:
    """The denoiser of N(mean of the class, STD^2)."""

    process: Any
    means: torch.Tensor
    network: Any = None

    def __call__(self, x_t, t, condition=None):
        alpha, sigma = self.process.scales(t, x_t)
        labels = class_labels(condition.global_)
        mean = append_dims(torch.where(labels < 0, 0.0, self.means[labels.clamp_min(0)]), x_t)
        gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
        return Point(mean + gain * (x_t - alpha * mean))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("causes")
    run = open_run(tiny.run_of(pictures.classes(folder / "data", count=60), folder / "run", "data.val_fraction=0.3"))
    return load_model(run)[0], run.open_data()[0]


def subject(loaded, means, **options):
    """24 samples of an exact denoiser in 48 steps of DDIM, without guidance."""
    model = changed(loaded[0], steps=48, sampler="ddim", guidance=1)
    parts = model.parts
    exact = replace(parts, denoiser=Exact(parts.process, torch.as_tensor(means), parts.network))
    model = replace(model, built=replace(model.built, model=exact))
    return Subject(model=model, request=template_of(model, loaded[1], 24, 3, what="this"), **options)


def test_another_class_moves_a_sample_by_the_difference_of_the_means(loaded):
    # DDIM of a Gaussian is linear in x and in the mean: the changes in the bands add up to that in all steps
    means = torch.tensor([0.0, 0.5])
    made = subject(loaded, means)
    labels = class_labels(made.request.condition.global_)
    changes = [c for c in Changes(request=made.request, bands=4).conditions() if c.what == "another class"]
    base, effects, drawn = made.effects(changes, lambda done, of: None)
    moved = means[labels[shuffled(24, 4)]] - means[labels]
    assert torch.allclose((drawn[0] - base).mean((1, 2, 3)), moved, atol=3e-3)  # noise of 80 is not all
    assert torch.allclose(sum(x - base for x in drawn[1:]), drawn[0] - base, atol=1e-4)
    assert len(changes) == 5
    assert effects[0].n == int((moved != 0).sum()) < 24  # those whose class is another one


def test_a_condition_that_the_denoiser_ignores_has_no_effect_to_the_bit(loaded):
    made = subject(loaded, [0.0, 0.0], reads=lambda x: (x.mean((1, 2, 3)) > 0).long())
    _, effects, _ = made.effects(Changes(request=made.request, bands=2).conditions(), lambda done, of: None)
    assert {e.what for e in effects} == {"another class", "no class"}
    assert all(e.distance.estimate == 0 and e.other[0] == 0 for e in effects)


def test_what_fresh_noise_changes_is_what_the_level_left_open(loaded):
    # x_t = alpha x + sigma e, and DDIM maps it to s x_t / sqrt(alpha^2 s^2 + sigma^2)
    made = subject(loaded, [0.0, 0.0])
    changes = Changes(request=made.request, bands=8).noises()
    _, effects, _ = made.effects(changes, lambda done, of: None)
    times = torch.tensor([made.times[c.steps[0]] for c in changes], dtype=torch.float64)
    alpha, sigma = made.model.parts.process.schedule.alpha(times), made.model.parts.process.schedule.sigma(times)
    want = 1 - alpha * STD / (alpha**2 * STD**2 + sigma**2).sqrt()
    assert [e.distance.estimate for e in effects] == pytest.approx(want.tolist(), rel=0.1, abs=0.01)
    assert float(want[0]) > 0.98
    assert float(want[-1]) < 0.1
    assert effects[0].times[0] > effects[1].times[0] > effects[-1].times[1] == 0


def test_a_rating_rises_by_what_a_class_adds(loaded):
    made = subject(loaded, [0.0, 0.5], rate=lambda x: x.mean((1, 2, 3)))
    changes = [c for c in Changes(request=made.request, bands=1).conditions() if c.what == "no class"]
    _, effects, _ = made.effects(changes, lambda done, of: None)
    labels = class_labels(made.request.condition.global_)
    assert effects[0].rating.estimate == pytest.approx(-0.5 * float((labels > 0).double().mean()), abs=5e-3)


def test_skipped_steps_begin_at_a_later_time_of_the_grid(loaded):
    made = subject(loaded, [0.0, 0.0])
    assert made.times == sorted(made.times, reverse=True)
    assert len(made.times) == 49
    nothing = replace(made.request, skip=48)
    with pytest.raises(ValueError, match="at least one is left, and 48 are skipped"):
        _ = Subject(model=made.model, request=nothing).times
    assert Subject(model=made.model, request=replace(made.request, skip=40)).times == made.times[40:]


def test_words_that_most_captions_have():
    captions = torch.tensor([[5, 6, 0], [5, 7, 0], [5, 6, 1], [5, 9, 5]])
    condition = Condition(global_=class_port(torch.zeros(4, dtype=torch.int64)), cross=Port(tensor=captions))
    assert frequent(condition, 5) == [5, 6]  # neither padding, nor unknown words, nor those of one caption
    assert frequent(condition, 1) == [5]
    assert frequent(None, 3) == frequent(Condition(), 3) == []


def test_every_sample_has_another_one():
    for count in (2, 3, 17):
        other = shuffled(count, 0)
        assert sorted(other.tolist()) == list(range(count))
        assert bool((other != torch.arange(count)).all())
