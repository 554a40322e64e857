"""`langevin resume`: go on with a run."""

from contextlib import nullcontext

from langevin.cli.show import LiveLine, counting
from langevin.cli.train import carry_on
from langevin.cli.verbs import Resume
from langevin.recipe.build import build, open_data
from langevin.recipe.entry import Code
from langevin.run.directory import Run, open_run, writing
from langevin.training import machine
from langevin.training.distributed import join_world


def run(asked: Resume) -> Run:
    """Train a stopped run to its end.

    Raises:
        ValueError: the data is not what it was."""
    world, line = join_world(), LiveLine()
    made = open_run(asked.run)
    with counting("reading data") as progress:
        data, held_out = open_data(made.recipe, progress=progress)
    made.require_same(data.fingerprint, len(data))
    with writing(asked.run) if world.first else nullcontext():
        built = build(made.recipe, device=machine.device(), code=Code.of((), allow=asked.allow_code))
        carry_on(made, built, data, held_out, world, tensorboard=asked.tensorboard, line=line)
    return made
