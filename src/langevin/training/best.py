"""The weights of a run's evaluation with the least held-out loss, RUN/checkpoints/best/: a checkpoint without an optimizer.

Little data is learned by heart, and the held-out loss rises again before the run ends. What is kept is a function of the
evaluations alone, so a run that was stopped and resumed keeps the same.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from langevin.files import own_folder
from langevin.training import checkpoint
from langevin.training.checkpoint import BEST
from langevin.training.distributed import ALONE, World
from langevin.training.loop import TrainingState

LOSS = "held_out_loss"


@dataclass(frozen=True, kw_only=True)
class Best:
    """The evaluation whose weights are kept: its step, and its held-out loss in the units of the method's loss."""

    step: int
    loss: float

    def line(self, step: int, loss: float) -> str:
        """The choice in a sentence; `step` and `loss` are those of the last evaluation."""
        if step == self.step:
            return f"the held-out loss is least after the last step, {step}: {loss:.4g}"
        return (
            f"weights of step {self.step} kept, where the held-out loss is least, {self.loss:.4g}: after the last step, "
            f"{step}, it is {loss:.4g}"
        )


def read_best(root: Path) -> Best | None:
    """What is kept under the checkpoints `root`; None if nothing is, or it is damaged."""
    saved, _ = checkpoint.load_latest(root / BEST, only=())
    loss = None if saved is None else saved.state.get(LOSS)
    if saved is None or not isinstance(loss, int | float) or not math.isfinite(loss):
        return None
    return Best(step=int(saved.state["step"]), loss=float(loss))


def keep_if_best(root: Path, state: TrainingState, loss: float, world: World = ALONE) -> None:
    """Keep the state's weights and EMAs under the checkpoints `root` if no held-out loss so far is as low. The first rank
    writes, and all that share parts of the weights must call.

    Raises:
        OSError: the disk is full or not writable; what was kept stays."""
    before = read_best(root)
    better = math.isfinite(loss) and (before is None or before.loss > loss)
    if not state.placement.decided(world, better):
        return
    groups = state.whole_groups(only=state.groups().keys() - {"optimizer"}, keep=world.first)
    if not world.first:
        return
    checkpoint.save(own_folder(root, BEST), state.step, groups, {**state.counters(), LOSS: loss})
    checkpoint.remove_after(root / BEST, state.step)  # of a branch that the run was rolled back from
    checkpoint.prune(root / BEST, keep=1, step=state.step)
