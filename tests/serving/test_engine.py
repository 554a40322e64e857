"""Samples of a request are those that it has alone, whatever is served beside it, and network calls are shared."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import DDIM, kinds_for
from langevin.modalities.image.conditions import encode
from langevin.modalities.image.options import Sample as Images
from langevin.modalities.modality import Draw, Predict, Samples
from langevin.modalities.text.options import Sample as Texts
from langevin.run.directory import load_model, open_run
from langevin.serving.cost import Cost
from langevin.serving.engine import Engine
from langevin.serving.policy import ContinuousBatching, FirstInFirstOut, ShortestRemaining, StepBatching, WholeRequests
from langevin.serving.ticket import Cancelled, DeadlineExceeded, Preview, Progress, QueueFull
from tests import pictures, texts, tiny
from tests.serving.driving import Heard, alone, drain, engine, submit

POLICIES = (ShortestRemaining(), FirstInFirstOut(), WholeRequests(), StepBatching(), ContinuousBatching())
KINDS = [kind for kind in kinds_for(Gaussian()) if kind not in ("learned", "flow_map")]
A, B = Images(condition=("bar",)), Images(condition=("disc",))


@pytest.fixture(scope="module")
def model(trained):
    return load_model(open_run(trained))[0]


@pytest.fixture(scope="module")
def stepping(tmp_path_factory):
    """Of a network that is given the length of its steps."""
    folder = tmp_path_factory.mktemp("stepping")
    run = tiny.run_of(pictures.classes(folder / "data"), folder / "run", "method={kind: meanflow}",
                      "network.conditioning.span=true")  # fmt: skip
    model, generator = load_model(open_run(run))[0], torch.Generator().manual_seed(0)
    with torch.no_grad():  # after four steps the length hardly matters
        for parameter in model.parts.network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("writer")
    return texts.loaded(tiny.run_of(texts.corpus(folder / "text"), folder / "run", "data.task.context_length=32"))


def near(a, b):
    """The same images, up to a rounding in a few places."""
    difference = (a.int() - b.int()).abs()
    assert int(difference.max()) <= 1
    assert float((difference > 0).double().mean()) < 0.01


def bars(count):
    """The condition of samples of the first class."""
    return encode(torch.zeros(count, dtype=torch.int64), None, None)


def mixed(model):
    """Requests of every sampler, of many numbers of steps, with guidance and without."""
    return [
        {"options": (A, B)[i % 2], "count": 1 + i % 3, "seed": 100 * i,
         "changes": {"sampler": kind, "steps": 3 + i % 5, "guidance": (1.0, 2.5)[i % 3 == 0]}}
        for i, kind in enumerate(KINDS)
    ]  # fmt: skip


def test_samplers_with_and_without_steps_of_a_flow_map_share_their_calls(stepping):
    wanted = [
        {"options": (A, B)[i % 2], "count": 1 + i, "seed": 10 * i, "changes": {"sampler": kind, "steps": steps}}
        for i, (kind, steps) in enumerate([("flow_map", 1), ("flow_map", 4), ("dpm2m", 4), ("ddim", 2)])
    ]
    serving = engine(policy=ContinuousBatching())
    tickets = [submit(serving, stepping, **one) for one in wanted]
    assert drain(serving) <= 6
    for ticket, one in zip(tickets, wanted, strict=True):
        near(ticket.result(0).values, alone(stepping, **one).values)
    same = {**wanted[1], "changes": {"sampler": "ddim", "steps": 4}}  # but for the length of its steps
    difference = alone(stepping, **wanted[1]).values.int() - alone(stepping, **same).values.int()
    assert int(difference.abs().max()) > 8


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.kind)
def test_every_request_gets_the_samples_that_it_has_alone(model, policy):
    serving, wanted = engine(policy=policy), mixed(model)
    tickets = []
    for i, one in enumerate(wanted):  # they arrive while others are under way
        tickets.append(submit(serving, model, **one))
        for _ in range(i % 3):
            serving.tick()
    drain(serving)
    for ticket, one in zip(tickets, wanted, strict=True):
        expected = alone(model, **one)
        near(ticket.result(0).values, expected.values)
        assert ticket.result(0).nfe == expected.nfe
        assert ticket.status == "done"
    assert not serving.tickets
    assert not serving.items


def test_requests_of_all_samplers_and_weights_share_network_calls(model, monkeypatch):
    monkeypatch.setattr(Cost, "batch_size", lambda self, size: self.most)  # room for all, whatever a call's time
    wanted, calls = mixed(model), []
    longest = 0
    for one in wanted:
        made, _ = calls_of(model, monkeypatch, lambda one=one: alone(model, **one))
        calls.append(made)
        longest = max(longest, made)
    serving = engine(max_batch=1000)
    for one in wanted:
        submit(serving, model, **one)
    together, _ = calls_of(model, monkeypatch, lambda: drain(serving))
    assert together == longest < sum(calls)


def calls_of(model, monkeypatch, work):
    """The number of network calls that something makes, and its result."""
    network, count = model.parts.network, [0]
    forward = type(network).forward

    def counted(self, *args, **kwargs):
        count[0] += 1
        return forward(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(type(network), "forward", counted)
        result = work()
    return count[0], result


def test_only_guided_samples_are_two_inputs(model, monkeypatch):
    sizes = []
    network = type(model.parts.network)
    forward = network.forward
    monkeypatch.setattr(network, "forward", lambda self, x, *rest: sizes.append(len(x)) or forward(self, x, *rest))
    serving = engine()
    for i, weight in enumerate((1.0, 2.0, 1.0, 3.0)):
        submit(serving, model, A, seed=i, changes={"guidance": weight, "steps": 2})
    drain(serving)
    assert sizes == [6, 6]


@pytest.mark.parametrize("kind", KINDS)
def test_reproducible_bytes_do_not_depend_on_what_else_is_served(model, kind):
    one = {"options": A, "count": 3, "seed": 7, "changes": {"sampler": kind, "guidance": 2.0, "steps": 4}}
    quiet = engine()
    first = submit(quiet, model, **one, reproducible=True)
    drain(quiet)
    busy = engine(max_batch=24)
    others = [submit(busy, model, **other, reproducible=i % 2 == 0) for i, other in enumerate(mixed(model))]
    busy.tick()
    second = submit(busy, model, **one, reproducible=True)
    drain(busy)
    assert all(other.status == "done" for other in others)
    assert torch.equal(first.result(0).values, second.result(0).values)
    near(first.result(0).values, alone(model, **one).values)


def test_reproducible_texts_do_not_depend_on_what_else_is_served(writer):
    for sampler in ("unmask", "confidence jitter=0.5", "threshold rule=entropy_bound threshold=2.0"):
        one = {"options": Texts(prompt="the cat"), "count": 3, "seed": 7, "changes": {"sampler": sampler, "steps": 9}}
        quiet, busy = engine(), engine()
        first = submit(quiet, writer, **one, reproducible=True)
        drain(quiet)
        for i in range(4):
            submit(busy, writer, Texts(), count=2, seed=i, changes={"steps": 3 + i}, reproducible=True)
        second = submit(busy, writer, **one, reproducible=True)
        drain(busy)
        assert list(first.result(0).values) == list(second.result(0).values)


def test_pictures_and_texts_are_served_by_one_engine(model, writer):
    serving = engine()
    picture = submit(serving, model, A, count=2, changes={"steps": 5})
    text = submit(serving, writer, Texts(prompt="a dog"), count=2, changes={"steps": 5})
    drain(serving)
    near(picture.result(0).values, alone(model, A, count=2, changes={"steps": 5}).values)
    expected = alone(writer, Texts(prompt="a dog"), count=2, changes={"steps": 5})
    assert list(text.result(0).values) == list(expected.values)


def test_plans_that_predict_and_draw_in_turns_are_served(model):
    """Twice a prediction, then a draw that depends on it."""

    def plan(answers):
        x = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        for _ in range(2):
            x = yield Predict(x_t=x, t=torch.full((5,), 0.5, dtype=torch.float64), condition=bars(5))
            answers.append(x)
        x = yield Draw(shape=(3, 8, 8), seeds=torch.arange(5), sampling=model.sampling, clean=x, condition=bars(5))
        return Samples(modality=model.modality, values=model.modality.decode(x))

    served, expected = [], []
    serving = engine(max_batch=2)
    ticket = serving.submit(plan(served), model)
    other = submit(serving, model, A, count=3)
    drain(serving)
    near(ticket.result(0).values, model.run(plan(expected)).values)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(served, expected, strict=True))
    assert other.result(0).values.shape == (3, 3, 8, 8)


@pytest.mark.parametrize(
    ("sampler", "evaluations"),
    [("ddim", 20), ("heun", 39), ("repaint", 200)],
)
def test_a_request_is_refused_before_it_takes_more_evaluations_than_it_may(model, sampler, evaluations):
    changes = {"steps": 20, "sampler": sampler}
    for most, status in ((evaluations - 1, "failed"), (evaluations, "done")):
        serving = engine()
        ticket = submit(serving, model, A, changes=changes, most=most)
        drain(serving)
        assert ticket.status == status
    assert serving.ticks == evaluations


def test_every_tile_counts(model):
    def plan():
        x = yield Draw(shape=(3, 16, 12), seeds=torch.arange(1), sampling=sampling, condition=bars(1), tile=8)
        return Samples(modality=model.modality, values=model.modality.decode(x))

    sampling = replace(model.sampling, steps=3, guidance=(), sampler=DDIM())
    for most, status in ((17, "failed"), (18, "done")):  # 3 x 2 tiles in each of 3 steps
        serving = engine()
        ticket = serving.submit(plan(), model, most=most)
        drain(serving)
        assert ticket.status == status


# ------------------------------------------------------------------------------------------------------------- policies


def finished(serving, tickets):
    """The names of tickets in the order in which they end, and the steps after which they did."""
    order = []
    for name, ticket in tickets.items():
        ticket.when_ended(lambda _, name=name: order.append((name, serving.ticks)))
    drain(serving)
    return dict(order)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.kind)
def test_a_short_request_after_a_long_one(model, policy):
    """One sample a call: the policies differ in who waits."""
    serving = engine(policy=policy, max_batch=1)
    tickets = {"long": submit(serving, model, A, changes={"steps": 20, "sampler": "ddim"})}
    for _ in range(5):
        serving.tick()
    tickets["short"] = submit(serving, model, A, changes={"steps": 3, "sampler": "ddim"})
    ends = finished(serving, tickets)
    overtakes = isinstance(policy, ShortestRemaining)
    assert ends == ({"short": 8, "long": 23} if overtakes else {"long": 20, "short": 23})


def test_whole_requests_start_together_or_not_at_all(model):
    serving = engine(policy=WholeRequests())
    first = submit(serving, model, A, changes={"steps": 4, "sampler": "ddim"})
    serving.tick()
    late = {str(i): submit(serving, model, A, seed=i, changes={"steps": 4, "sampler": "ddim"}) for i in range(3)}
    other = submit(serving, model, A, changes={"steps": 5, "sampler": "ddim"})
    ends = finished(serving, {"first": first, **late, "other": other})
    assert ends == {"first": 4, "0": 8, "1": 8, "2": 8, "other": 13}


def test_step_batching_takes_equal_samplers_and_weights_and_no_others(model, monkeypatch):
    monkeypatch.setattr(Cost, "batch_size", lambda cost, size: cost.most)  # however long calls take on this machine
    serving = engine(policy=StepBatching())
    tickets = {"first": submit(serving, model, A, changes={"steps": 6, "sampler": "ddim"})}
    serving.tick()
    tickets["joins"] = submit(serving, model, B, changes={"steps": 3, "sampler": "ddim"})
    tickets["waits"] = submit(serving, model, A, changes={"steps": 2, "sampler": "dpm2m"})
    tickets["behind"] = submit(serving, model, A, changes={"steps": 2, "sampler": "ddim"})
    assert finished(serving, tickets) == {"joins": 4, "first": 6, "waits": 8, "behind": 10}


def test_age_makes_up_for_length_and_priority_comes_first(model):
    serving = engine(policy=ShortestRemaining(ageing=1e9), max_batch=1)
    old = submit(serving, model, A, changes={"steps": 9, "sampler": "ddim"})
    serving.clock.now = 1.0
    young = submit(serving, model, A, changes={"steps": 2, "sampler": "ddim"})
    urgent = submit(serving, model, A, changes={"steps": 5, "sampler": "ddim"}, priority=1)
    assert finished(serving, {"old": old, "young": young, "urgent": urgent}) == {"urgent": 5, "old": 14, "young": 16}


# -------------------------------------------------------------------------------------------- cancel, pause, deadlines


def test_a_cancelled_request_makes_no_further_step(model):
    serving = engine()
    one, other = (submit(serving, model, A, seed=seed, changes={"steps": 9, "sampler": "ddim"}) for seed in (0, 1))
    serving.tick()
    one.cancel()
    drain(serving)
    assert (one.status, one.evaluations, other.evaluations) == ("cancelled", 1, 9)
    with pytest.raises(Cancelled):
        one.result(0)
    near(other.result(0).values, alone(model, A, seed=1, changes={"steps": 9, "sampler": "ddim"}).values)


def test_a_paused_request_waits_and_then_ends_the_same(model):
    serving = engine()
    one = submit(serving, model, A, changes={"steps": 9})
    serving.tick()
    one.pause()
    assert not serving.tick()
    other = submit(serving, model, B)
    drain(serving)
    assert (other.status, one.status) == ("done", "running")
    one.unpause()
    drain(serving)
    near(one.result(0).values, alone(model, A, changes={"steps": 9}).values)


def test_a_deadline_ends_a_request_and_a_hopeless_one_is_refused(model):
    serving = engine(max_batch=1)
    late = submit(serving, model, A, changes={"steps": 9}, timeout=1.0)
    serving.tick()
    serving.clock.now = 2.0
    assert not serving.tick()
    with pytest.raises(DeadlineExceeded):
        late.result(0)
    for seed in range(5):
        submit(serving, model, A, seed=seed, changes={"steps": 1000, "sampler": "ddim"})
    serving.tick()
    serving.tick()
    with pytest.raises(QueueFull, match="s of work are waiting"):
        submit(serving, model, A, timeout=1e-4)
    assert submit(serving, model, A, timeout=1e-4, priority=1).status == "queued"  # it need not wait for the others


def test_a_full_queue_refuses_and_says_when_to_come_back(model):
    serving = engine(pending=2)
    first = submit(serving, model, A)
    submit(serving, model, A)
    with pytest.raises(QueueFull) as refused:
        submit(serving, model, A)
    assert refused.value.retry_after > 0
    first.cancel()
    serving.tick()
    submit(serving, model, A)


# ------------------------------------------------------------------------------------------------------------- failures


def test_a_sample_that_is_not_finite_fails_its_request_alone(model):
    serving = engine()

    def plan(x):
        x = yield Draw(shape=(3, 8, 8), seeds=torch.arange(2), sampling=model.sampling, x=x, condition=bars(2))
        return Samples(modality=model.modality, values=model.modality.decode(x))

    x = torch.randn(2, 3, 8, 8)
    bad = x.clone()
    bad[1, 0, 0, 0] = torch.nan
    broken, sound = serving.submit(plan(bad), model), serving.submit(plan(x), model)
    drain(serving)
    near(sound.result(0).values, model.run(plan(x)).values)
    with pytest.raises(ValueError, match="not finite"):
        broken.result(0)


def test_an_error_in_a_call_fails_the_request_that_causes_it(model):
    def plan(label):
        condition = encode(torch.tensor([label]), None, None)
        x = yield Draw(shape=(3, 8, 8), seeds=torch.arange(1), sampling=model.sampling, condition=condition)
        return Samples(modality=model.modality, values=model.modality.decode(x))

    serving = engine()
    wrong, right = serving.submit(plan(1000), model), serving.submit(plan(1), model)
    drain(serving)
    assert right.status == "done"
    assert wrong.status == "failed"
    assert "class labels must lie in" in str(wrong.error)


def test_an_error_of_a_plan_or_of_its_sampler_is_its_own(model, writer):
    serving = engine()

    def raises():
        yield Draw(shape=(3, 8, 8), seeds=torch.arange(1), sampling=model.sampling, condition=bars(1))
        raise ValueError("no")

    first = serving.submit(raises(), model)
    with pytest.raises(ValueError, match="no class is called 'zebra'"):
        submit(serving, model, Images(condition=("zebra",)))
    wrong = replace(model.sampling, sampler=writer.sampling.sampler)

    def other():
        yield Draw(shape=(3, 8, 8), seeds=torch.arange(1), sampling=wrong)

    second = serving.submit(other(), model)
    drain(serving)
    for ticket, message in ((first, "no"), (second, "is not for a gaussian process")):
        with pytest.raises(ValueError, match=message):
            ticket.result(0)
    assert not serving.tickets


# --------------------------------------------------------------------------------------------------------------- events


def test_progress_and_previews_are_told(model):
    serving, heard = engine(), Heard()
    ticket = submit(serving, model, A, count=2, changes={"steps": 8}, previews=3, listen=heard)
    drain(serving)
    progress = [(event.done, event.total) for event in heard.of(Progress)]
    assert progress == [(2 * i, 16) for i in range(1, 9)]
    previews = heard.of(Preview)
    assert [(event.index, event.number) for event in previews] == [(i, k) for k in range(3) for i in range(2)]
    assert all(event.samples.values.shape == (1, 3, 8, 8) for event in previews)
    last = [event.samples.values for event in previews if event.number == 2]
    first = [event.samples.values for event in previews if event.number == 0]

    def distance(values):
        return float((torch.cat(values).int() - ticket.result(0).values.int()).abs().double().mean())

    assert distance(last) < distance(first)


# -------------------------------------------------------------------------------------------------------------- threads


def test_many_threads_submit_cancel_and_wait(model):
    serving = Engine(pending=1000).start()
    wanted = mixed(model)

    def ask(i):
        one = wanted[i % len(wanted)]
        ticket = submit(serving, model, **one)
        if i % 7 == 3:
            ticket.cancel()
            return i, None
        return i, ticket.result(60)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(60)))
    assert serving.stop(grace=10) == {}
    for i, samples in found:
        if samples is not None:
            near(samples.values, alone(model, **wanted[i % len(wanted)]).values)
    assert not serving.items
    assert threading.active_count() < 40
    with pytest.raises(QueueFull):
        submit(serving, model, A)
