"""Engines that tests drive step by step, and requests to small runs."""

from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

from langevin.modalities.modality import RequestContext
from langevin.run.generate import changed
from langevin.serving.engine import Engine


class Inline(Executor):
    """Runs at once what it is given, on the thread that gives it."""

    def submit(self, function, /, *args, **kwargs):
        done = Future()
        done.set_result(function(*args, **kwargs))
        return done


@dataclass
class Clock:
    """A clock that stands still unless it is moved."""

    now: float = 0.0

    def __call__(self):
        return self.now


@dataclass
class Heard:
    """What a ticket told."""

    events: list = field(default_factory=list)

    def __call__(self, event):
        self.events.append(event)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


def engine(**options):
    """An engine without threads."""
    return Engine(executor=Inline(), **{"clock": Clock(), **options})


def plan_of(model, options, *, count=1, seed=0, **changes):
    """The plan of a request, and the model with its sampling."""
    drawing = changed(model, **changes)
    context = RequestContext(model=drawing, data=lambda: (None, None), count=count, seed=seed)
    return drawing.modality.plan(options, context), drawing


def submit(serving, model, options, *, count=1, seed=0, changes=None, **rest):
    """Submit a request; its ticket."""
    plan, drawing = plan_of(model, options, count=count, seed=seed, **(changes or {}))
    return serving.submit(plan, drawing, **rest)


def alone(model, options, *, count=1, seed=0, changes=None):
    """What the same request gives without an engine."""
    plan, drawing = plan_of(model, options, count=count, seed=seed, **(changes or {}))
    return drawing.run(plan)


def drain(serving, *, limit=10_000):
    """Step until nothing is left; the number of steps."""
    for step in range(limit):
        if not serving.tick():
            return step
    raise AssertionError(f"not done after {limit} steps")
