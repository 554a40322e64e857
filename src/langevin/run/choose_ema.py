"""Choosing the length of the EMA of the weights at the end of a run: all draw the same samples, and the best one stays.

Lengths are ranked by the modality's score of samples, where there is one that needs no training of its own; else by the
held-out loss, if a method's loss ranks what it draws. Held-out loss tends to prefer longer EMAs than sample quality does.
What is compared, and on how many samples, follows from the number of the run's evaluations of the network, of which the
choice may take a share, and not from a clock: so equal runs choose alike.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from langevin.diffusion.shape import first_leaf
from langevin.files import own_folder
from langevin.modalities.modality import Batches, Measuring, RequestContext, spread
from langevin.run.directory import Run, load_model, open_run
from langevin.run.display import Display, duration
from langevin.run.ema_choice import EMAChoice, best_length, read_choice, write_choice
from langevin.run.generate import RunModel
from langevin.run.ranking import SEED, Ranking
from langevin.training import machine
from langevin.training.ema import standard_length
from langevin.training.snapshots import reconstructible, store
from langevin.user_function import NO_CODE, CodePermission

SHARE = 0.05  # of the run's evaluations of the network
SECONDS = (
    10.0,
    600.0,
)  # between which twice SHARE of the run's seconds is the longest choice; a slower one is given up
LENGTHS = (0.025, 0.035, 0.05, 0.07, 0.1, 0.14, 0.2)  # that are tried if the snapshots give them
SETS = 5
SAMPLES = (80, 400)  # of a set, at least and at most
EXAMPLES = (16, 64)  # the same for the held-out loss
PROBE = 4  # samples whose evaluations are counted


@dataclass(frozen=True, kw_only=True)
class Judge:
    """How lengths are ranked.

    Args:
        figure: its name; lower is better.
        count: samples or examples of a set.
        lengths: that are compared.
        measure: (model, number of the set) -> the figure.
    """

    figure: str
    count: int
    lengths: tuple[float, ...]
    measure: Callable[[RunModel, int], float]


def choose_ema(
    run: Run, train: Any, val: Any, *, step: int, evaluations: float, seconds: float, code: CodePermission = NO_CODE,
    display: Display, stop: Callable[[], bool] = lambda: False,
) -> EMAChoice | None:  # fmt: skip
    """Choose the EMA length of a finished run whose recipe leaves it open, and record it; None if nothing was chosen.

    Without a choice the run draws with the standard length. A failure is a message: the run is complete without it.

    Args:
        train, val: the run's data.
        step: of the run's weights.
        evaluations: of the network per example, in the run.
        seconds: that its steps took.
        stop: whether to give up, asked after every set.
    """
    if run.recipe.sampling.ema != "auto" or SHARE * evaluations < 2 * SETS * EXAMPLES[0]:
        return None
    try:
        before = read_choice(run.path)
        if before is not None and before.step == step:
            return None
        choice = _choice(run, train, val, step, SHARE * evaluations, seconds, code, display, stop)
        if choice is not None:
            if choice.length not in run.recipe.training.ema_lengths:
                store(run.path, choice.length)
            write_choice(run.path, choice)
            display.say(choice.line())
        return choice
    except (ValueError, OSError, RuntimeError) as error:  # such as too little memory
        display.say(f"EMA lengths could not be compared, so the standard one stays: {error}")
        return None
    finally:
        display.close()


def _choice(
    run: Run, train: Any, val: Any, step: int, budget: float, seconds: float, code: CodePermission, display: Display,
    stop: Callable[[], bool],
) -> EMAChoice | None:  # fmt: skip
    kept = run.recipe.training.ema_lengths
    standard = standard_length(kept)
    load = lambda length: load_model(run, ema=length, device=machine.device(), code=code)[0]  # noqa: E731
    model, loaded = load_model(run, ema=standard, device=machine.device(), code=code)
    measuring = Measuring(
        model=model, train=train, val=val, folder=own_folder(run.path, "evaluation", create=False), facts=run.facts,
        load=lambda path: load_model(open_run(path), device=machine.device(), code=code)[0], run=run.path,
        train_judges=False,
    )  # fmt: skip
    found = reconstructible(run.path, LENGTHS, kept=kept) if loaded == step else []  # snapshots are of the last weights
    more = [length for length in found if length not in kept]
    judge = by_samples(measuring, model, kept, more, budget) or by_loss(measuring, model, kept, more, budget)
    if judge is None:
        return None
    limit = min(SECONDS[1], max(SECONDS[0], 2 * SHARE * seconds))
    begun, progress = time.perf_counter(), display.progress("choosing the EMA length")
    values = dict[float, list[float]]()
    for i, length in enumerate(judge.lengths):
        model = load(length)
        for number in range(1, SETS + 1):
            values.setdefault(length, []).append(judge.measure(model, number))
            progress(SETS * i + number, SETS * len(judge.lengths))
            if stop():
                return None
        expected = (time.perf_counter() - begun) * len(judge.lengths) / (i + 1)
        if expected > limit:
            display.say(f"EMA length {standard:g} stays: comparing others would take {duration(expected)}")
            return None
    length = best_length(values, standard)
    return EMAChoice(step=step, length=length, standard=standard, figure=judge.figure, count=judge.count, values=values)


def by_samples(
    measuring: Measuring, model: RunModel, kept: Sequence[float], more: Sequence[float], budget: float
) -> Judge | None:
    """The modality's score of samples; None if it has none that needs no training, or the budget is too small."""
    if affordable(kept, more, budget=budget, each=1, sizes=SAMPLES) is None:
        return None  # before anything is drawn
    counted = list[int]()
    context = RequestContext(model=model, data=lambda: (measuring.train, measuring.val), count=PROBE, seed=SEED)
    try:
        with calls(model.parts.network, counted):
            model.run(model.modality.plan_like(measuring.train, context))
        found = affordable(kept, more, budget=budget, each=sum(counted) / PROBE, sizes=SAMPLES)
        if found is None:
            return None
        lengths, count = found
        ranking = Ranking.of(replace(measuring, count=count))
    except ValueError:  # a kind of data, or a task, that has no such score
        return None
    return Judge(
        figure=ranking.scorer.name, count=count, lengths=lengths,
        measure=lambda model, number: ranking.rank(model, number=number).score,
    )  # fmt: skip


def by_loss(
    measuring: Measuring, model: RunModel, kept: Sequence[float], more: Sequence[float], budget: float
) -> Judge | None:
    """The loss on held-out examples; None if it does not rank what the method draws, or there are too few."""
    batches = model.batches(measuring.val)
    if not model.built.recipe.method.ranked_by_loss:
        return None
    sizes = (EXAMPLES[0], min(EXAMPLES[1], len(batches) // SETS))
    found = affordable(kept, more, budget=budget, each=len(model.parts.levels[1]), sizes=sizes)
    if found is None:
        return None
    lengths, count = found
    return Judge(figure="held-out loss", count=count, lengths=lengths, measure=partial(_loss, batches, count))


def _loss(batches: Batches, count: int, model: RunModel, number: int) -> float:
    """The mean loss of one set of held-out examples."""
    items = spread(len(batches), SETS * count)[number - 1 :: SETS]
    return float(model.parts.losses(batches(items), items).double().mean())


def affordable(
    kept: Sequence[float], more: Sequence[float], *, budget: float, each: float, sizes: tuple[int, int]
) -> tuple[tuple[float, ...], int] | None:
    """The lengths that can be compared, and the size of their sets: with further lengths, else those that are kept.

    Args:
        budget: evaluations of the network.
        each: evaluations of a sample or example.
        sizes: of a set, the least and the most.
    """
    for lengths in ((*kept, *more), tuple(kept)):
        count = min(sizes[1], int(budget / (max(1.0, each) * SETS * len(lengths))))
        if len(lengths) > 1 and count >= sizes[0]:
            return tuple(sorted(lengths)), count
    return None


@contextmanager
def calls(network: nn.Module, counted: list[int]) -> Iterator[None]:
    """Append the number of examples of every call of the network to `counted`."""
    handle = network.register_forward_pre_hook(lambda module, inputs: counted.append(len(first_leaf(inputs[0]))))
    try:
        yield
    finally:
        handle.remove()
