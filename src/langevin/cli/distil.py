"""`langevin distil`: train a student of a run that draws in a few steps, and measure it beside the run."""

import json
import time
from typing import Any

from langevin.cli.compare import show_groups
from langevin.cli.out import unused
from langevin.cli.show import LiveLine
from langevin.cli.verbs import Distil
from langevin.files import own_folder, write_atomic
from langevin.methods import Diffusion
from langevin.modalities.modality import Measuring, RequestContext
from langevin.run.directory import Run, load_model, open_run
from langevin.run.generate import RunModel, changed
from langevin.run.train import Wanted, train_run
from langevin.training import machine
from langevin.user_function import CodePermission


def run(args: Distil) -> Run:
    """Train the student, and print how far from real data both are.

    Raises:
        ValueError: a run that has no flow to be learned, or steps out of range."""
    if not args.steps or not all(1 <= steps <= 64 for steps in args.steps):
        raise ValueError(
            f"--steps are one or more numbers from 1 to 64, got {' '.join(map(str, args.steps)) or 'none'}"
        )
    if args.count < 10:
        raise ValueError(f"--count must be 10 or more, got {args.count}")
    line, teacher = LiveLine(), open_run(args.run)
    method, process = teacher.recipe.method, teacher.recipe.process
    if process.kind != "gaussian" or not isinstance(method, Diffusion.Config) or method.prediction == "clean":
        what = (
            f"prediction={method.prediction}" if isinstance(method, Diffusion.Config) else f"method.kind {method.kind}"
        )
        raise ValueError(
            f"{args.run} was trained with process.kind {process.kind} and {what}: a student learns the flow of a run of "
            "gaussian diffusion whose prediction is edm, velocity or noise"
        )
    if teacher.recipe.sampling.guidance:
        line.say("the student learns the run's flow without guidance, and draws without it")
    steps = min(args.steps)
    changes = (
        f"method={{kind: consistency, prediction: {method.prediction}}}", f"init_from={json.dumps(str(args.run))}",
        f"sampling={{sampler: {{kind: consistency}}, steps: {steps}, grid: {{kind: uniform}}, "
        f"ema: {teacher.recipe.sampling.ema:g}}}",
        f"description={json.dumps(f'a student of {args.run.name}')}", 'measured=""', *args.overrides,
    )  # fmt: skip
    student = train_run(
        Wanted(
            target=str(teacher.path / "recipe.yaml"), overrides=changes, minutes=args.minutes, seed=args.seed,
            out=args.out or unused(args.run.with_name(f"{args.run.name}-student")), allow_code=args.allow_code,
        ),
        line.display(),
    )  # fmt: skip
    measured(teacher, student, args, line)
    return student


def measured(teacher: Run, student: Run, args: Distil, line: LiveLine) -> list[dict[str, Any]]:
    """Print and write the distance of both from real data: the student at each number of steps, the run as it draws and at
    these numbers."""
    code = CodePermission.of((), allow=args.allow_code)
    models = [load_model(one, device=machine.device(), code=code, say=line.say)[0] for one in (student, teacher)]
    train, val = student.open_data()
    m = Measuring(
        model=models[0], train=train, val=val, folder=own_folder(teacher.path, "evaluation", create=False),
        facts=student.facts, load=lambda path: load_model(open_run(path), code=code)[0], count=args.count, say=line.say,
        progress=line.progress,
    )  # fmt: skip
    scorer = student.recipe.data.scorer(m)
    cells = list[dict[str, Any]]()
    cases = [("student", models[0], steps) for steps in args.steps]
    cases += [("run", models[1], steps) for steps in (*args.steps, models[1].sampling.steps)]
    for name, model, steps in cases:
        cells.append({"of": name} | scored(changed(model, steps=steps), student, m, scorer))
        line.update(f"{name}, {cells[-1]['nfe']} calls: {cells[-1]['score']:.3f}", last=not line.terminal)
    line.close()
    content = {"measure": scorer.name, "count": args.count, "real_against_real": scorer.floor, "cells": cells}
    write_atomic(student.path / "distilled.json", json.dumps(content, indent=1).encode())
    rows = [(c["of"], str(c["nfe"]), f"{c['score']:.3f}", f"{c['seconds']:.2g}", "") for c in cells]
    real = ("real data", "", f"{scorer.floor:.3f}", "", "")
    show_groups(("", "calls", scorer.name, "seconds a sample", ""), {"": [*rows, real]})
    return cells


def scored(model: RunModel, run: Run, m: Measuring, scorer: Any) -> dict[str, Any]:
    """The score of a model's samples, and what they cost."""
    context = RequestContext(model=model, data=lambda: (m.train, m.val), count=m.count, seed=1_000_000)
    begun = time.perf_counter()
    samples = model.run(run.recipe.data.plan_like(m.train, context))
    spent = time.perf_counter() - begun
    return {"nfe": samples.nfe, "score": scorer.score(samples), "seconds": spent / len(samples)}
