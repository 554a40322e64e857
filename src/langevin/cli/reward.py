"""`langevin reward`: tune a trained run by a reward, watched by a second judge."""

import json
import math
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, assert_never

from torch import Tensor

from langevin.cli.out import unused
from langevin.cli.show import LiveLine
from langevin.cli.verbs import Reward
from langevin.diffusion.sampler.grid import AnyGrid, KarrasGrid, LogSNR
from langevin.diffusion.transitions import transitions_of
from langevin.files import own_folder, write_atomic
from langevin.methods import AdamW, Method
from langevin.modalities.modality import Measuring
from langevin.modalities.rating import AnyRating, Rating, parse, rating_of, second
from langevin.run.directory import Run, load_model, open_run
from langevin.run.generate import RunModel
from langevin.run.plan import require_no_run
from langevin.run.refine import weights_of
from langevin.run.reward import Measure, State, Verdict, scale_of, verdict
from langevin.run.rollouts import Ranked, Rollouts, Source, policy_gradient, preferences
from langevin.run.tuned import require_one_shape, written
from langevin.training import checkpoint, machine
from langevin.training.distributed import World
from langevin.training.loop import BatchFn, TrainingConfig, TrainingState, fit
from langevin.training.optimizer import LRSchedule
from langevin.user_function import CodePermission

STATES = 6  # that are measured, after the run itself
CONDITIONS = 1024  # of the data, from which those of the samples are drawn
ENDLESS = 10**9  # steps
LEASH = {"policy_gradient": 0.01, "dpo": 0.1}


def run(args: Reward) -> Run:
    """Tune the run, measure it along the way, and write the state that is taken.

    Raises:
        ValueError: options out of range, a run or a reward that cannot be used, or no state that is better for its second
            judge too, with the figures."""
    require_options(args)
    if args.out is not None:
        require_no_run(args.out)
    line, original = LiveLine(), open_run(args.run)
    require_tunable(original)
    sha256 = checkpoint.identity(original.checkpoints)
    code = CodePermission.of((args.reward, args.judge or ""), allow=args.allow_code)
    sampled: Any = {"sampler": args.sampler, "steps": args.steps}
    model, _ = load_model(original, device=machine.device(), code=code, say=line.say, **sampled)
    model = replace(model, sampling=replace(model.sampling, guidance=(), grid=raised(model.sampling.grid, args.low)))
    transitions = transitions_of(model.sampling.sampler, model.parts.process)
    configs = ratings_named(args, model)
    train, val = original.open_data(progress=line.progress("reading data"))
    require_one_shape(original, model.batches(train))
    measuring = Measuring(
        model=model, train=train, val=val, folder=own_folder(original.path, "evaluation", create=False),
        facts=original.facts, load=lambda path: load_model(open_run(path), code=code)[0], say=line.say,
        progress=line.progress, run=original.path,
    )  # fmt: skip
    reward, judge = (None if config is None else rating_of(config, measuring, code) for config in configs)
    assert reward is not None, "a reward is required"
    count = min(CONDITIONS, len(model.batches(train)))
    source = Source.of(model, train, transitions, group=args.group, count=count, seed=3_000_000 + args.seed)
    measure = Measure(
        source=source, reward=reward, judge=judge, val=val, count=args.count, seed=4_000_000 + args.seed
    )  # fmt: skip
    line.say(f"reward: {reward.name}; {judged(reward, judge)}")
    states, weights, found = tuned(args, source, measure, line)
    return taken(args, original, model, (states, weights, found), sha256, line)


def require_options(args: Reward) -> None:
    """Check the options that need no run. Raises `ValueError`."""
    if not 0 < args.minutes < math.inf or (args.train_steps is not None and args.train_steps < 1):
        raise ValueError(
            f"--minutes is positive, and --train-steps 1 or more, got {args.minutes} and {args.train_steps}"
        )
    if args.group < 2 or args.chains < 1 or args.chains % args.group or args.count < 16 or args.count % args.group:
        raise ValueError(
            f"--group is 2 or more, and --chains and --count (16 or more) are multiples of it, got {args.group}, "
            f"{args.chains} and {args.count}"
        )
    if args.leash is not None and not (0 <= args.leash < math.inf and (args.leash or args.by != "dpo")):
        raise ValueError(f"--leash is at least 0 and finite, and above 0 for dpo, got {args.leash}")
    if not 0 <= args.low < math.inf or not 0 < args.lr < 100:
        raise ValueError(
            f"--low is at least 0 and finite, and --lr positive and below 100, got {args.low} and {args.lr}"
        )
    if args.steps < 2 or not 1 <= args.updates <= args.chains or args.pairs < 1 or args.batch < 1:
        raise ValueError(
            f"--steps is 2 or more, --updates 1 to --chains, --pairs and --batch 1 or more, got {args.steps}, "
            f"{args.updates}, {args.pairs} and {args.batch}"
        )


def raised(grid: AnyGrid, low: float) -> AnyGrid:
    """A grid whose last knot has at least so much noise, if that is a number of the grid.

    Raises:
        ValueError: it is no noise level of the grid."""
    return replace(grid, low=max(grid.low, low)) if isinstance(grid, KarrasGrid | LogSNR) else grid


def require_tunable(run: Run) -> None:
    """Check that a run can be tuned. Raises `ValueError`."""
    method = run.recipe.method
    if run.recipe.adapter is not None:
        raise ValueError(f"{run.path} is an adapted run: `langevin merge {run.path}`, and tune what that writes")
    if method.kind != "diffusion" or getattr(method, "coupling", None) is not None:
        what = "a coupling" if method.kind == "diffusion" else f"method.kind {method.kind}"
        raise ValueError(
            f"{run.path} was trained with {what}, so its sampler has no steps with a density: take a run of diffusion "
            "without a coupling"
        )


def ratings_named(args: Reward, model: RunModel) -> tuple[AnyRating, AnyRating | None]:
    """The reward and the second judge, if there is one.

    Raises:
        ValueError: a name that the modality does not have, or one twice."""
    modality = model.modality
    reward = parse(args.reward, modality, "--reward")
    judge = second(reward, modality) if args.judge is None else parse(args.judge, modality, "--judge")
    if reward == judge:
        raise ValueError(f"--judge {args.judge} is the reward itself: a second judge is another one")
    for config in (reward, judge):
        if config is not None and config.kind in ("classifier", "recogniser") and not model.conditional:
            raise ValueError(
                f"{config.kind} reads the class that a sample is conditioned on, and this run has no classes"
            )
    return reward, judge


def judged(reward: Rating, judge: Rating | None) -> str:
    """What is said of the second judge."""
    if judge is None:
        return "there is no second judge (--judge), so nothing tells whether samples are better or only please this one"
    return f"second judge: {judge.name}, which has to {'rise too' if same(reward, judge) else 'keep its level'}"


def same(reward: Rating, judge: Rating | None) -> bool:
    """Whether the two measure the same quantity."""
    return judge is not None and reward.quantity == judge.quantity


Weights = dict[str, Tensor]


def tuned(
    args: Reward, source: Source, measure: Measure, line: LiveLine
) -> tuple[list[State], dict[int, Weights], Verdict]:  # fmt: skip
    """The measured states, the weights of those that may be taken by index, and the verdict."""
    states = [measure(0, 0.0)]
    scale = scale_of(states[0].reward, args.group, measure.reward.name)
    line.say(shown(states[0]))
    alike, weights = same(measure.reward, measure.judge), dict[int, Weights]()
    found = verdict(states, same=alike)
    for step, seconds, method in trained(args, source, measure.reward, scale, line):
        states.append(measure(step, seconds))
        found, last = verdict(states, same=alike), len(states) - 1
        weights = {last: weights_of(method)} if found.taken == last or args.keep == "last" else weights
        line.say(shown(states[-1]))
    return states, weights, found


def trained(
    args: Reward, source: Source, reward: Rating, scale: float, line: LiveLine
) -> Iterator[tuple[int, float, Method]]:  # fmt: skip
    """Train, and yield step, seconds and method at each state that is to be measured."""
    begun, leash = time.perf_counter(), LEASH[args.by] if args.leash is None else args.leash
    recipe = source.model.built.recipe.training
    config = replace(
        recipe, steps=args.train_steps or ENDLESS, batch=args.batch, micro_batch=None, optimizer=AdamW(lr=args.lr),
        lr_schedule=LRSchedule(warmup=0, cooldown=0), seed=args.seed, ema_lengths=(), snapshots=0, compile=False,
    )  # fmt: skip
    method: Method
    batches: BatchFn
    match args.by:
        case "policy_gradient":
            method = policy_gradient(source, leash)
            batches = rollouts = Rollouts(
                source=source, reward=reward, chains=args.chains, updates=args.updates, scale=scale, leash=leash,
                seed=5_000_000 + 1_000_003 * args.seed,  # sets are numbered from here
            )  # fmt: skip
            config = replace(config, batch=rollouts.batch)
        case "dpo":
            method = preferences(source, leash)
            line.say(f"drawing {args.pairs} pairs")
            batches = Ranked.of(source, reward, args.pairs, config)
        case _:
            assert_never(args.by)
    yield from measured_along(args, config, method, batches, begun, line)


def measured_along(
    args: Reward, config: TrainingConfig, method: Method, batches: BatchFn, begun: float, line: LiveLine
) -> Iterator[tuple[int, float, Method]]:  # fmt: skip
    """Train to the end of the budget, and yield at equal parts of it."""
    state, due = TrainingState.new(method, config), 1
    for report in fit(state, batches, method, config, world=World()):
        elapsed = time.perf_counter() - begun
        share = elapsed / (60 * args.minutes) if args.train_steps is None else report.step / args.train_steps
        if args.by == "policy_gradient" and report.step % args.updates and share < 1:
            continue  # within a set of chains
        line.update(f"update {report.step}, loss {report.loss:.4f}")
        if share * STATES >= due:
            yield report.step, elapsed, method
            due = math.floor(share * STATES) + 1
        if share >= 1:
            return


def shown(state: State) -> str:
    """A state as a line of the terminal."""
    figures = state.figures()
    judge = "" if state.judge is None else f"  judge {figures['judge']:.4g} +- {figures['judge_error']:.1g}"
    coverage = "" if state.coverage is None else f"  coverage {state.coverage:.3f}"
    return (
        f"step {state.step:<5d} {state.seconds:4.0f} s  reward {figures['reward']:.4g} +- {figures['reward_error']:.1g}"
        f"{judge}  spread {state.spread:.3f}{coverage}  held-out loss {figures['held_out_loss']:.4f}  "
        f"divergence {figures['divergence']:.3g} +- {figures['divergence_error']:.1g} nats"
    )


def taken(
    args: Reward, original: Run, model: RunModel, made: tuple[list[State], dict[int, Weights], Verdict], sha256: str,
    line: LiveLine,
) -> Run:  # fmt: skip
    """Write the state that is taken.

    Raises:
        ValueError: none is."""
    states, weights, found = made
    line.close()
    for text in found.lines:
        line.say(text)
    if not weights:
        raise ValueError(
            f"no state of {args.run} is better by {args.reward}: {'; '.join(found.lines)}. The run stays as it is; "
            "--keep last writes the last state nevertheless"
        )
    ((index, best),) = weights.items()
    state, name = states[index], re.sub(r"\W+", "-", args.reward).strip("-")
    out: Path = args.out or unused(original.path.with_name(f"{original.path.name}-{name}"))
    whole = {**weights_of(model.parts.method), **best}
    sampling = replace(
        original.recipe.sampling, sampler=model.sampling.sampler, steps=model.sampling.steps, grid=model.sampling.grid,
        guidance=(),
    )  # fmt: skip
    base = {"path": str(original.path.absolute()), "sha256": sha256}
    description = f"{original.path.name}, tuned by {args.reward}"
    new = written(original, model, whole, out, description, sampling=sampling, base=base)
    content = {
        "reward": args.reward, "by": args.by, "judge": args.judge, "base": base, "taken": state.step,
        "leash": LEASH[args.by] if args.leash is None else args.leash, "only_pleases": list(found.only_pleases),
        "states": [one.figures() for one in states],
    }  # fmt: skip
    write_atomic(new.path / "rewarded.json", json.dumps(content, indent=1).encode())
    write_atomic(new.path / "metrics.jsonl", "".join(json.dumps(s.figures()) + "\n" for s in states).encode())
    line.say(f"state of step {state.step} taken, which draws by {args.sampler} in {args.steps} steps: {new.path}")
    return new
