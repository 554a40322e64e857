"""`langevin distil`: train a student of a run that draws in a few steps, and measure it beside the run."""

import json
import math
from typing import Any, assert_never

from langevin.cli.out import unused
from langevin.cli.sample import MOST
from langevin.cli.show import LiveLine
from langevin.cli.table import show_groups
from langevin.cli.verbs import Distil
from langevin.diffusion.objective import LogNormal, ShiftedTimes
from langevin.files import own_folder, write_atomic
from langevin.methods import Diffusion
from langevin.modalities.modality import Measuring
from langevin.run.directory import Run, load_model, open_run
from langevin.run.generate import RunModel, changed
from langevin.run.plan import Wanted
from langevin.run.ranking import Ranking
from langevin.run.train import train_run
from langevin.training import machine
from langevin.training.distributed import join_world
from langevin.user_function import CodePermission

SLOWER = 0.25  # of the run's learning rates
HIGHEST = 40.0  # sigma / alpha from which a student draws; it is trained beyond


def run(args: Distil) -> Run:
    """Train the student, and print how far from real data both are.

    Raises:
        ValueError: a run that has no flow to be learned, or steps out of range."""
    if not args.steps or not all(1 <= steps <= 64 for steps in args.steps):
        raise ValueError(
            f"--steps are one or more numbers from 1 to 64, got {' '.join(map(str, args.steps)) or 'none'}"
        )
    if not 10 <= args.count <= MOST:
        raise ValueError(f"--count must be 10 to {MOST:,}, got {args.count}")
    line, teacher = LiveLine(), open_run(args.run)
    method, process = teacher.recipe.method, teacher.recipe.process
    learned = isinstance(method, Diffusion.Config) and method.prediction in ("edm", "velocity")
    if process.kind != "gaussian" or not isinstance(method, Diffusion.Config) or not learned:
        what = (
            f"prediction={method.prediction}" if isinstance(method, Diffusion.Config) else f"method.kind {method.kind}"
        )
        raise ValueError(
            f"{args.run} was trained with process.kind {process.kind} and {what}: a student learns the flow of a run of "
            "gaussian diffusion whose prediction is edm or velocity"
        )
    world, scorer = join_world(), Scoring(teacher, args, line)  # before any training
    if teacher.recipe.sampling.guidance:
        matched = args.method == "distribution_matching"
        guided = "with its guidance (method.guidance=false: without)"
        learns = f"matches the run {guided}" if matched else "learns the run's flow without guidance"
        line.say(f"the student {learns}, and draws without it")
    changes = (
        *of_student(args, method, teacher),
        f"init_from={json.dumps(str(teacher.path))}", f"training.init_lr_factor={SLOWER}", "adapter=null", "continual=null",
        f"description={json.dumps(f'a student of {teacher.path.name}')}", 'measured=""', *args.overrides,
    )  # fmt: skip
    student = train_run(
        Wanted(
            target=str(teacher.path / "recipe.yaml"), overrides=changes, minutes=args.minutes, seed=args.seed,
            out=args.out or unused(teacher.path.with_name(f"{teacher.path.name}-student")), allow_code=args.allow_code,
        ),
        line.display(),
    )  # fmt: skip
    world.barrier()  # what is measured has been written
    if world.first:
        scorer.measure(student)
    return student


def of_student(args: Distil, method: Diffusion.Config, teacher: Run) -> tuple[str, ...]:
    """The changes of a run's recipe to the method of its student, and to how the student draws."""
    shifted = method.times if isinstance(method.times, ShiftedTimes) else ShiftedTimes(times=method.times, factor=1.0)
    mean = (shifted.times.mean if isinstance(shifted.times, LogNormal) else LogNormal.mean) + math.log(shifted.factor)
    options, sampler, network = f"prediction: {method.prediction}", "consistency", ()
    match args.method:
        case "consistency":
            options += f", times: {{kind: log_normal, mean: {mean:g}, std: 2}}"
        case "meanflow":
            options += f", times: {{kind: log_normal, mean: {mean:g}, std: 2}}"
            sampler, network = "flow_map", ("network.conditioning.span=true",)
        case "distribution_matching":
            options += f", times: {{kind: log_normal, mean: {mean:g}, std: {LogNormal.std:g}}}"
            options += f", teacher: {json.dumps(str(teacher.path))}, steps: {max(args.steps)}"
            options += f", condition_dropout: {method.condition_dropout:g}"  # that of the run
        case _:
            assert_never(args.method)
    return (
        f"method={{kind: {args.method}, {options}}}", *network,
        f"sampling={{sampler: {{kind: {sampler}}}, steps: {min(args.steps)}, grid: {{kind: uniform, high: {HIGHEST:g}}}, "
        "guidance: [], scheduling: {kind: full_sequence}}",
    )  # fmt: skip


class Scoring:
    """Measures a run and its student by the distance of their samples from real data.

    Raises:
        ValueError: the run's data has changed, or is too little to measure against."""

    def __init__(self, teacher: Run, args: Distil, line: LiveLine) -> None:
        self.code = CodePermission.of((), allow=args.allow_code)
        self.teacher, self.args, self.line = teacher, args, line
        self.model = self.loaded(teacher)
        train, val = teacher.open_data(progress=line.progress("reading data"))
        self.measuring = Measuring(
            model=self.model, train=train, val=val, folder=own_folder(teacher.path, "evaluation", create=False),
            facts=teacher.facts, load=lambda path: self.loaded(open_run(path)), count=args.count, say=line.say,
            progress=line.progress, run=teacher.path,
        )  # fmt: skip
        self.ranking = Ranking.of(self.measuring)

    def loaded(self, run: Run) -> RunModel:
        """The model of a run on this machine."""
        return load_model(run, device=machine.device(), code=self.code, say=self.line.say)[0]

    def measure(self, student: Run) -> None:
        """Print and write the distances: of the student at each number of steps, of the run at these and as it draws."""
        model, cells = self.loaded(student), list[dict[str, Any]]()
        cases = [("student", model, steps) for steps in self.args.steps]
        cases += [("run", self.model, steps) for steps in dict.fromkeys((*self.args.steps, self.model.sampling.steps))]
        for name, one, steps in cases:
            cells.append({"of": name} | self.ranking.rank(changed(one, steps=steps)).figures)
            self.line.update(f"{name}, NFE {cells[-1]['nfe']}: {cells[-1]['score']:.3f}", last=not self.line.terminal)
        self.line.close()
        floor, measure = self.ranking.scorer.floor, self.ranking.scorer.name
        content = {"measure": measure, "count": self.args.count, "real_against_real": floor, "cells": cells}
        write_atomic(student.path / "distilled.json", json.dumps(content, indent=1).encode())
        rows = [(c["of"], str(c["nfe"]), f"{c['score']:.3f}", f"{c['seconds']:.2g}", "") for c in cells]
        real = ("real data", "", f"{floor:.3f}", "", "")
        show_groups(("", "NFE", measure, "seconds a sample", ""), {"": [*rows, real]})
