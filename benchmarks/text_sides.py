"""The sides of the text benchmark: ours, the MDLM recipe, and the autoregressive peer with rates and dropout of its own."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import text_peer
from langevin.diffusion.batch import step_randomness
from langevin.diffusion.likelihood.tokens import whole
from langevin.recipe.build import Built, build, training_batches
from langevin.recipe.read import check
from langevin.training.distributed import World
from langevin.training.loop import TrainingState, fit
from langevin.training.plan import StepPlan

SHARE = 0.1  # of its minutes, that each candidate of the autoregressive peer's search trains
LOOKS, HELD_OUT = 10, 64  # held-out losses on the way, and the windows of each
AVERAGE = 0.05  # the length of all averages of weights


@dataclass
class Side:
    """One of the models that train in turns: its step, which returns a number of tokens; seconds and tokens so far."""

    step: Callable[[], int]
    seconds: float = 0.0
    tokens: int = 0

    def turn(self, seconds: float) -> None:
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            self.tokens += self.step()
        self.seconds += time.perf_counter() - begin


def recipe(data: Path, args: Any, **changes: Any) -> Any:
    small = args.quick
    tree = {
        "name": "text/benchmark",
        "data": {"kind": "text", "path": str(data),
                 "codec": {"kind": "letter_pairs", "size": 400 if small else 4096},
                 "task": {"kind": "language_model", "context_length": 64 if small else 128, "document_separator": " "}},
        "network": {"kind": "transformer", "width": 64 if small else 192, "depth": 2,
                    "head_dim": 32 if small else 48, "ngram_window": 2, **changes.pop("network", {})},
        "process": {"kind": "masked", "loss": "cross_entropy"},
        "training": {"steps": 10**6, "batch": 8 if small else 32, "ema_lengths": [AVERAGE], "precision": "float32",
                     "optimizer": {"kind": "muon", "lr": 0.02, "adamw_lr": 0.002, "embedding_lr": 0.008},
                     "seed": args.seed},
        "sampling": {"sampler": {"kind": "unmask"}, "grid": {"kind": "unmask", "shape": "linear"}, "ema": AVERAGE},
        **changes,
    }  # fmt: skip
    return check(tree)


def ours(
    config: Any, data: Any, total: Callable[[], int], *, lr_factor: float = 1.0
) -> tuple[Built, TrainingState, Callable[[], int]]:
    """A step of the real trainer; the learning rate schedule is that of `total` steps, the number foreseen."""
    built = build(config)
    state = TrainingState.new(built.model.method, config.training, lr_factor=lr_factor)
    batches = training_batches(config, built.batches(data))
    size = config.training.batch * config.data.task.context_length

    def step() -> int:
        state.plan = StepPlan.of(max(total(), state.step + 1))
        for _ in fit(state, batches, built.model.method, config.training, until=state.step + 1, world=World()):
            pass
        return size

    return built, state, step


def bits(nats: Tensor, sequences: list[Tensor], built: Built) -> float:
    characters = sum(len(built.recipe.data.codec.decode(ids)) for ids in sequences)
    return float(nats.sum()) / 0.6931471805599453 / characters


def weights(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def peer_network(config: Any, width: int) -> text_peer.MDLM:
    network = config.network
    heads = network.width // network.head_dim
    return text_peer.MDLM(config.process.vocab_size, width=width, depth=network.depth, heads=heads)


def of_equal_weights(config: Any, wanted: int) -> int:
    """The width at which the peer's number of weights is nearest to `wanted`."""
    heads = config.network.width // config.network.head_dim
    widths = range(2 * heads, 4 * config.network.width, 2 * heads)
    return min(widths, key=lambda w: abs(weights(peer_network(config, w)) - wanted))


def peer_side(config: Any, train: Any, network: text_peer.MDLM, seed: int) -> tuple[text_peer.Trainer, Side]:
    peer, batches = text_peer.Trainer(network, seed=seed), training_batches(config, build(config).batches(train))

    def step() -> int:
        rows = torch.arange(config.training.batch)
        draw = step_randomness(seed=seed, step=peer.steps, samples=rows, count=len(rows))
        x = batches(peer.steps, rows, draw).x
        peer.step(x)
        return x.numel()

    return peer, Side(step)


def in_turns(
    sides: dict[str, Side], steps: dict[str, Callable[[], int]], foreseen: dict[str, int], minutes: float,
    looks: Sequence[Callable[[], None]] = (),
) -> None:  # fmt: skip
    """Train until each has had its minutes; `foreseen` is updated to the number of steps that this will be.

    Args:
        looks: called `LOOKS` times on the way, beside the minutes."""
    slice_, rounds = max(1.0, 60 * minutes / 40), 0
    while min(side.seconds for side in sides.values()) < 60 * minutes:
        for name, side in sides.items():
            side.turn(slice_)
            if name in foreseen:
                foreseen[name] = max(steps[name]() + 1, int(steps[name]() * 60 * minutes / side.seconds))
        rounds += 1
        if rounds % (40 // LOOKS) == 0 or min(side.seconds for side in sides.values()) >= 60 * minutes:
            for look in looks:
                look()
        print(" ".join(f"{n} {s.tokens / s.seconds:.0f} tokens/s" for n, s in sides.items()), flush=True)


@dataclass(frozen=True, kw_only=True)
class Autoregressive:
    """The autoregressive peer: its network, a step of it, and the weights of its least held-out loss."""

    built: Built
    state: TrainingState
    step: Callable[[], int]
    stop: text_peer.EarlyStop

    @classmethod
    def of(
        cls, config: Any, train: Any, val: Any, total: Callable[[], int], *, lr_factor: float, dropout: float, seed: int
    ) -> "Autoregressive":
        """Args:
        config: of the causal network; `total`: the number of steps that is foreseen."""
        config = replace(
            config, network=replace(config.network, dropout=dropout), training=replace(config.training, seed=seed)
        )
        built, state, step = ours(config, train, total, lr_factor=lr_factor)
        read, network = built.batches(val), built.model.network
        held_out = read(torch.arange(HELD_OUT) * len(read) // HELD_OUT)
        measure = partial(_mean_nats, built, held_out)
        stop = text_peer.EarlyStop(state=state, network=network, length=AVERAGE, measure=measure)
        return cls(built=built, state=state, step=step, stop=stop)


def _mean_nats(built: Built, batch: Any) -> float:
    return float(whole(built.model.denoiser, batch).mean())


def searched(config: Any, train: Any, val: Any, minutes: float) -> dict[tuple[float, float], float]:
    """The least held-out loss of each candidate of `text_peer.SEARCH` after the same minutes."""
    found = dict[tuple[float, float], float]()
    for lr_factor, dropout in text_peer.SEARCH:
        foreseen = {"candidate": 10**6}
        peer = Autoregressive.of(
            config, train, val, lambda known=foreseen: known["candidate"], lr_factor=lr_factor, dropout=dropout,
            seed=config.training.seed,
        )  # fmt: skip
        in_turns({"candidate": Side(peer.step)}, {"candidate": lambda one=peer: one.state.step}, foreseen, minutes)
        peer.stop.look()
        found[lr_factor, dropout] = peer.stop.loss
        print(f"autoregressive, {lr_factor:g} times the rates, dropout {dropout:g}: {peer.stop.loss:.2f} nats a window")
    return found
