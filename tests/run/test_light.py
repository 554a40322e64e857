"""A run that draws at less cost: what changes nothing, what stays apart, and what each way is said to cost."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
import yaml

from langevin.cli import main
from langevin.diffusion.guidance import DDNM, ClassifierFreeGuidance, HistoryGuidance
from langevin.diffusion.light import BF16Weights, FeatureCache, GuidanceInterval, Int8Weights
from langevin.diffusion.sampling import Sampling
from langevin.modalities.image.options import Sample
from langevin.modalities.modality import RequestContext
from langevin.notebook import load
from langevin.run.begin import require_reusable
from langevin.run.generate import changed
from langevin.run.light import FILE, Interval, interval_of, light_of, lightened
from langevin.run.light_table import Way, _together, moved
from langevin.run.memory import weight_bytes
from langevin.server.errors import Refused
from langevin.server.runs import Runs
from langevin.server.service import JobRequest, Service
from tests import customers, pictures, texts, tiny
from tests.serving.driving import engine, plan_of, submit
from tests.tiny import drawn


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A run of classes whose network has blocks that can be used again, drawn with guidance."""
    folder = tmp_path_factory.mktemp("deep")
    small = "network.depth=3", "sampling.steps=5", "data.val_fraction=0.3"
    return load(tiny.run_of(pictures.classes(folder / "data"), folder / "run", *small))


def test_what_a_command_names_is_read():
    own = Sampling(light=(Int8Weights(),))
    assert light_of(None, own) == own.light
    assert light_of(["none"], own) == ()
    asked = light_of(["int8 products=int8", "cache interval=3 moved=0.5", "guidance"], Sampling())
    assert asked == (Int8Weights(products="int8"), FeatureCache(interval=3, moved=0.5), GuidanceInterval())


def test_always_computed_draws_the_same_to_the_bit(deep):
    labels = torch.arange(4) % 2
    plain = drawn(deep.model, range(4), labels, guidance=2.0).values
    light = lightened(deep.model, [FeatureCache(interval=1)])
    assert torch.equal(drawn(light, range(4), labels, guidance=2.0).values, plain)


@pytest.mark.parametrize("sampler", ["dpm2m", "heun"])
def test_a_sample_does_not_depend_on_what_is_drawn_beside_it(deep, sampler):
    labels, both = torch.arange(5) % 2, [FeatureCache(interval=2), Int8Weights()]
    light = lightened(changed(deep.model, sampler=sampler, guidance=2.0), both)
    whole = drawn(light, range(5), labels).values
    again = drawn(light, [3, 0], labels[[3, 0]], batch=1).values
    assert int((again.int() - whole[[3, 0]].int()).abs().max()) <= 1
    assert torch.equal(drawn(light, range(5), labels).values, whole)  # nothing is left of the request before


def test_weights_take_fewer_bytes_and_the_model_stays(deep):
    before = {name: p.clone() for name, p in deep.network.named_parameters()}
    sizes = [weight_bytes(lightened(deep.model, [one])) for one in (BF16Weights(), Int8Weights())]
    plain = weight_bytes(deep.model)
    assert plain > 1.8 * sizes[0] > 1.8 * sizes[1]
    assert all(torch.equal(p, before[name]) for name, p in deep.network.named_parameters())


def test_samples_of_a_run_in_python(deep):
    samples = deep.sample(2, light=["bf16", "cache"])
    assert samples.values.shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match="there is no light 'fast'"):
        deep.sample(2, light=["fast"])
    with pytest.raises(ValueError, match="draws in one step"):
        deep.sample(2, steps=1, light=["cache"])


def test_an_interval_is_where_guidance_changes_the_estimate():
    changes = {0.1: 0.001, 1.0: 0.1, 4.0: 0.3, 16.0: 0.2, 64.0: 0.01}
    found = interval_of(changes, 0.05)
    assert (found.low, found.high) == pytest.approx((math.sqrt(0.1), 32.0))
    assert found.saved == pytest.approx(0.4)
    assert interval_of(changes, 0.0).low == 0
    assert math.isinf(interval_of(changes, 0.0).high)
    assert interval_of(changes, 1.0).high == 0  # nowhere


def test_guidance_that_is_left_out_nowhere_or_everywhere(deep):
    labels = torch.arange(3) % 2
    model = changed(deep.model, guidance=2.0)
    full = lightened(model, [GuidanceInterval(tolerance=0)], deep.run)
    assert torch.equal(drawn(full, range(3), labels).values, drawn(model, range(3), labels).values)
    none = lightened(model, [GuidanceInterval(tolerance=1e6)], deep.run)
    bare = drawn(changed(deep.model, guidance=1.0), range(3), labels).values
    assert torch.equal(drawn(none, range(3), labels).values, bare)
    kept = json.loads((deep.path / FILE).read_text())
    assert len(kept["intervals"]) == 2
    said = []
    lightened(model, [GuidanceInterval(tolerance=0)], deep.run, say=said.append)
    assert not said  # it was measured before
    lightened(replace(model, adapters=("other:1",)), [GuidanceInterval(tolerance=0)], deep.run, say=said.append)
    assert len(said) == 1  # of other weights
    assert json.loads((deep.path / FILE).read_text()) == kept
    with pytest.raises(ValueError, match="is drawn without it"):
        lightened(changed(deep.model, guidance=1.0), [GuidanceInterval()], deep.run)
    own = ClassifierFreeGuidance(weight=2.0, interval=(0.1, 1.0))
    with pytest.raises(ValueError, match="has an interval"):
        lightened(replace(model, sampling=replace(model.sampling, guidance=(own,))), [GuidanceInterval()], deep.run)


def test_what_evaluates_at_other_inputs_is_refused(deep):
    context = RequestContext(model=deep.model, data=deep.run.open_data, count=2, seed=0)
    request = next(deep.model.modality.plan_like(deep.run.open_data()[0], context))
    require_reusable(request)
    for method in (HistoryGuidance(weight=2.0), DDNM()):
        with pytest.raises(ValueError, match=f"guidance by {method.kind}"):
            require_reusable(replace(request, sampling=replace(request.sampling, guidance=(method,))))
    with pytest.raises(ValueError, match="longer than the network's windows"):
        require_reusable(replace(request, window=4))


def test_other_modalities_draw_lightly_too(tmp_path):
    text = tiny.run_of(texts.corpus(tmp_path / "words"), tmp_path / "text", "data.task.context_length=32")
    small = [change for change in tiny.SMALL if "head_dim" not in change]
    table = customers.with_holes(tmp_path / "table")
    assert (
        main(["train", str(table), "--out", str(tmp_path / "rows"), "training.steps=2", *small, "network.width=64"])
        == 0
    )
    for path in (text, tmp_path / "rows"):
        run = load(path)
        plain = weight_bytes(run.model)
        for light in (Int8Weights(), Int8Weights(products="int8"), BF16Weights()):
            assert weight_bytes(lightened(run.model, [light])) < plain
        assert len(run.sample(2, light=["int8"])) == 2
        with pytest.raises(ValueError, match=r"no deep ones|none that could be used again"):
            run.sample(2, light=["cache shallow=9"])


def test_a_verdict_is_by_the_interval(deep):
    def way(light, scores, seconds, size):
        return Way(light=light, model=deep.model, size=size, scores=scores, seconds=seconds)

    plain = way((), [10.0, 11.0, 12.0], [1.0, 2.0, 4.0], 100)
    free = way((FeatureCache(),), [10.1, 11.0, 12.1], [0.5, 1.0, 2.0], 100)
    worse = way((FeatureCache(interval=3),), [12.0, 13.1, 14.0], [0.4, 0.8, 1.6], 100)
    unknown = way((Int8Weights(),), [9.0, 14.0, 11.0], [1.0, 2.0, 4.0], 25)
    idle = way((BF16Weights(),), [10.0, 11.0, 12.0], [1.3, 2.6, 5.2], 50)
    ways = plain, free, worse, unknown, idle
    assert [one.verdict(plain) for one in ways[1:]] == ["free", "costs", "open", "free"]
    assert [one.gains(plain) for one in ways[1:]] == [True, True, True, False]
    assert free.ratio(plain) == 0.5
    assert _together(ways) == (FeatureCache(),)


def test_how_far_samples_moved():
    a, b = torch.zeros(2, 3), torch.full((2, 3), 0.5)
    assert moved([a], [b]) == pytest.approx(0.5)
    assert moved([torch.tensor([[1, 2, 3, 4]])], [torch.tensor([[1, 2, 3, 5]])]) == pytest.approx(0.25)
    assert moved([{"x": a, "y": b}], [{"x": a, "y": b}]) == 0


def test_an_evaluation_has_the_table(deep):
    report = deep.evaluate(count=8, seeds=2, light=["int8", "cache"])
    kept = json.loads((deep.path / "evaluation.json").read_text())["light"]
    names = [way["light"] for way in kept["ways"]]
    assert names[:3] == ["as it is", "int8", "cache"]
    assert kept["ways"][0]["time_ratio"] == 1
    assert kept["ways"][1]["weight_bytes"] < kept["ways"][0]["weight_bytes"]
    assert kept["ways"][1]["moved"] > 0
    assert all(len(way["scores"]) == 2 for way in kept["ways"])
    assert kept["advice"] in report.path.read_text()
    assert any(line.startswith("Free, with 2 sets of 8 samples") for line in report.evaluation.lines)


def test_an_evaluation_compares_what_the_recipe_has_too(deep, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(deep.path, run)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["sampling"]["light"] = [{"kind": "int8"}, {"kind": "cache", "interval": 3}]
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["evaluate", str(run), "--count", "8", "--seeds", "1", "--light", "bf16"]) == 0
    kept = json.loads((run / "evaluation.json").read_text())
    ways = kept["light"]["ways"]
    assert [way["light"] for way in ways] == ["as it is", "bf16", "int8 and cache interval=3"]
    plain, half, quarter = (way["weight_bytes"] for way in ways)
    assert plain > half > quarter
    assert kept["sampling"]["light"] == []
    load(run).evaluate(count=8, seeds=1, light=["int8"])
    ways = json.loads((run / "evaluation.json").read_text())["light"]["ways"]
    assert [way["light"] for way in ways] == ["as it is", "int8", "int8 and cache interval=3"]


def test_python_measures_what_it_draws_with_the_recipes_light(deep, tmp_path, monkeypatch):
    seen, folder = [], tmp_path / "run"
    shutil.copytree(deep.path, folder)
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    recipe["sampling"]["light"] = [{"kind": "int8"}]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.setattr("langevin.notebook.evaluate_run", lambda run, model, *_, **given: (seen.append(model), folder))
    run = load(folder)
    run.evaluate(count=8, seeds=1)
    run.evaluate(count=8, seeds=1, light=[])
    assert weight_bytes(seen[0]) < weight_bytes(run.model)
    assert seen[1] is run.model  # all ways are made from the run without any


def test_served_requests_share_a_light_model_and_nothing_else(deep):
    runs = Runs(folders=[deep.path])
    name = deep.path.name
    held = runs.load(name, light=["int8", "cache"])
    for other in ("cache interval=2", "cache moved=0.01", "guidance"):  # of the same weights
        assert runs.load(name, light=["int8", other]) is held
    plain = runs.load(name)
    assert runs.load(name, light=["cache"]) is plain
    assert plain is not held
    assert held.size < plain.size
    assert held.name != plain.name
    with pytest.raises(Refused, match="there is no light 'fast'"):
        runs.load(name, light=["fast"])
    with pytest.raises(Refused, match="shallow at most 1"):
        plain.lightened(plain.model, [FeatureCache(shallow=5)])
    assert not runs._loading
    light = [held.lightened(changed(held.model, guidance=w), [Int8Weights(), FeatureCache()]) for w in (1.5, 2.0)]
    assert light[0].built is light[1].built  # so that requests share a batch
    assert light[0].built is not held.lightened(held.model, [FeatureCache(interval=3)]).built
    service = Service(runs=runs, engine=engine())
    with pytest.raises(Refused, match="light cache keeps what a step before computed"):
        service.submit(JobRequest(model=name, light=["cache"], reproducible=True), options=Sample())
    model = light[0]
    alone = [model.run(plan_of(model, Sample(), count=2, seed=9 * i)[0]).values for i in range(2)]
    serving = engine(max_batch=4)
    first = submit(serving, model, Sample(), count=2, seed=0)
    for _ in range(3):
        serving.tick()  # the second request begins when the first is half made
    second = submit(serving, model, Sample(), count=2, seed=9)
    while serving.tick():
        pass
    for ticket, expected in zip((first, second), alone, strict=True):
        assert int((ticket.result(0).values.int() - expected.int()).abs().max()) <= 1


def test_a_served_interval_is_of_the_guidance_of_its_request(deep, monkeypatch):
    measured, runs = [], Runs(folders=[deep.path])

    def measure(model, one, run):
        measured.append(next(method.weight for method in model.sampling.guidance))
        return Interval(low=measured[-1] / 100, high=math.inf, saved=0.5)

    monkeypatch.setattr("langevin.run.light.measured_interval", measure)
    serving, light = engine(), ["guidance tolerance=0.03"]
    service, name, seen = Service(runs=runs, engine=serving), deep.path.name, []
    for weight in (3.0, 1.75, 3.0):
        (deep.path / FILE).unlink(missing_ok=True)  # as of a run that cannot be written
        job = JobRequest(model=name, guidance=weight, light=light, count=1)
        ticket = service.submit(job, options=Sample())
        while serving.tick():
            pass
        seen.append(ticket.weights)
        assert ticket.result(0).values.shape[0] == 1
    assert measured == [3.0, 1.75]
    assert all("guidance tolerance=0.03" in weights for weights in seen)
    guided = [changed(runs.load(name).model, guidance=weight) for weight in (3.0, 1.75)]
    found = [runs.load(name).lightened(model, [GuidanceInterval(tolerance=0.03)]) for model in guided]
    assert [model.sampling.guidance[0].interval[0] for model in found] == [0.03, 0.0175]


def test_weights_for_a_cpu_are_refused_before_they_are_loaded(deep, monkeypatch):
    runs = Runs(folders=[deep.path])
    monkeypatch.setattr("langevin.training.machine.device", lambda: torch.device("cuda"))
    monkeypatch.setattr("langevin.server.runs.load_with", None)
    with pytest.raises(Refused, match="are for a CPU, and this network is on cuda"):
        runs.load(deep.path.name, light=["int8"])
    assert not runs._loading
