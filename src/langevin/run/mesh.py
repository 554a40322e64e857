"""The layout of a run over the ranks that train it."""

import os

import torch

from langevin.methods.method import Method, Player
from langevin.methods.optimizer import Muon
from langevin.recipe.tree import Recipe
from langevin.training import machine
from langevin.training.distributed import World
from langevin.training.loop import TrainingConfig
from langevin.training.parallel import Mesh, bytes_per_weight, mesh_again, mesh_of, size_of


def laid_out(recipe: Recipe, method: Method, world: World, *, again: bool) -> Mesh:
    """How a run's weights are laid out over the ranks of this world; the first rank decides.

    Args:
        again: whether the run has checkpoints, of any number of ranks.

    Raises:
        ValueError: `training.parallel` does not fit the number of ranks, or what is trained."""
    needed = sum(_needed(player, recipe.training) for player in method.players.values())
    decide = mesh_again if again else mesh_of
    where = decide(recipe.training.parallel, size=world.size, needed=needed, memory=_memory(world))
    where = world.broadcast(where)
    if where.shard > 1:
        parts = {
            "an adapter": recipe.adapter, "continual": recipe.continual,
            "training.compile": recipe.training.compile or None,
            f"method.kind={recipe.method.kind}": None if recipe.method.kind == "diffusion" else recipe.method,
        }  # fmt: skip
        if held := [name for name, part in parts.items() if part is not None]:
            raise ValueError(
                f"weights in {where.shard} parts do not go with {held[0]}: set training.parallel.shard=1, or leave it out"
            )
    return where


def require_ranks(recipe: Recipe, world: World) -> None:
    """Check, before there is anything of a run, that it can have so many ranks.

    Raises:
        ValueError: see `mesh_of`; or a batch has fewer samples than there are ranks."""
    batch = recipe.training.batch
    if batch < world.size:
        raise ValueError(
            f"training.batch {batch} is less than the {world.size} ranks: each needs a sample of every batch"
        )
    mesh_of(recipe.training.parallel, size=world.size, needed=0.0, memory=None)


def _needed(player: Player, training: TrainingConfig) -> int:
    moments = 1 if isinstance(player.optimizer or training.optimizer, Muon) else 2
    emas = len(training.ema_lengths) if player.ema else 0
    return size_of(player.weights) * bytes_per_weight(moments=moments, emas=emas)


def _memory(world: World) -> float | None:
    """Bytes of this rank's device, or its share of main memory."""
    if machine.device().type == "cuda":
        return float(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
    total = machine.total_memory()
    return None if total is None else total / int(os.environ.get("LOCAL_WORLD_SIZE", world.size))
