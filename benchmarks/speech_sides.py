"""The two sides of `speech`: the recipe `speech/digits` under the real trainer, and `speech_peer` on the same examples."""

import dataclasses
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import speech_peer
from langevin.diffusion.batch import step_randomness
from langevin.modalities.modality import RequestContext
from langevin.modalities.sound import wav
from langevin.modalities.speech import plans, requests
from langevin.modalities.speech.data import Clips
from langevin.modalities.speech.metrics.judges import Classes, few, targets_of
from langevin.modalities.speech.metrics.listener import ListenerConfig, train_classifiers
from langevin.modalities.speech.modality import Speech
from langevin.modalities.speech.plans import Utterance
from langevin.recipe.build import build
from langevin.recipe.complete import complete
from langevin.recipe.read import check, merge, read_tree
from langevin.recipe.tree import Recipe
from langevin.run.generate import RunModel
from langevin.training.distributed import World
from langevin.training.loop import TrainingState, fit
from langevin.training.order import DataOrder
from langevin.training.plan import StepPlan

STEPS, WARM_UP = 10**6, 50  # a run that never ends; steps of both sides in which the rate rises
EMA = 0.05
QUICK = {"network": {"width": 32, "depth": 2, "head_dim": 16}, "training": {"batch": 8}}


@dataclasses.dataclass(kw_only=True)
class Work:
    """The completed recipe, the real recordings, and what is to be said."""

    recipe: Recipe
    train: Clips
    val: Clips
    seed: int

    @classmethod
    def of(cls, path: str, asked: Namespace) -> "Work":
        changes = {
            "data": {"path": path},
            "training": {
                "steps": STEPS, "seed": asked.seed, "ema_lengths": [EMA], "precision": asked.precision,
                "lr_schedule": {"warmup": WARM_UP / STEPS, "cooldown": 0.0},
            },
            "sampling": {"ema": EMA},
        }  # fmt: skip
        tree = merge(read_tree("speech/digits"), changes)
        recipe = check(merge(tree, QUICK) if asked.quick else tree)
        train, val = recipe.data.open()
        return cls(recipe=complete(recipe, train), train=train, val=val, seed=asked.seed)

    @property
    def speech(self) -> Speech:
        return self.recipe.data

    def wanted(self, count: int) -> list[Utterance]:
        """Texts and speakers as in the held-out part, in a random order."""
        drawn = requests.like(self.speech, self.val, count, seed=self.seed)
        return [drawn[i] for i in torch.randperm(count, generator=torch.Generator().manual_seed(self.seed)).tolist()]

    def judge(self, epochs: int) -> Classes:
        signals, texts = [self.train.signal(i) for i in range(len(self.train))], few(self.train.texts)
        targets = targets_of(self.train, range(len(self.train)), texts)
        config = ListenerConfig(rate=self.train.rate, texts=len(texts))
        return Classes(listener=train_classifiers(signals, targets, config, epochs=epochs), texts=texts)

    def errors(self, judge: Classes) -> dict[str, float]:
        """The judge's errors on held-out recordings, and on copies of them through the codec."""
        signals, texts = [self.val.signal(i) for i in range(len(self.val))], self.val.texts
        copies = self.speech.decoded(self.speech.encoder.signals(signals), torch.arange(len(signals)))
        return {"real": 1 - judge.score(signals, texts), "copies": 1 - judge.score(copies, texts)}

    def batches(self, speech: Speech) -> Callable[[int, Tensor], tuple[Any, Tensor]]:
        """(step, samples) -> batch and items: the same examples in the same order, as `speech` conditions them."""
        read, training = speech.batches(self.train, device=torch.device("cpu")), self.recipe.training
        order = DataOrder(count=len(read), batch=training.batch, seed=self.seed, lengths=read.lengths)

        def batch(step: int, samples: Tensor) -> tuple[Any, Tensor]:
            noise = step_randomness(seed=self.seed, step=step, samples=samples, count=training.batch).noise
            items = order.items(step, samples)
            return read(items, noise), items

        return batch


class Ours:
    """The real trainer, and sampling by the run's own plan."""

    def __init__(self, work: Work) -> None:
        self.work, self.config = work, work.recipe.training
        self.built, self.shown = build(work.recipe), build(work.recipe)
        self.network, self.frames = self.built.model.network, 0
        self.state = TrainingState.new(self.built.model.method, self.config)
        self.state.plan = StepPlan.of(STEPS)
        self.read = work.batches(work.speech)

    def batches(self, step: int, samples: Tensor) -> Any:
        batch, _ = self.read(step, samples)
        self.frames = int(batch.condition.data_mask.sum())
        return batch

    def step(self) -> int:
        """A step; returns the number of its frames."""
        method = self.built.model.method
        for _ in fit(self.state, self.batches, method, self.config, until=self.state.step + 1, world=World()):
            pass
        return self.frames

    @torch.no_grad()
    def draw(self, wanted: Sequence[Utterance], seed: int, steps: int | None = None) -> list[Tensor]:
        """Signals of utterances, with averaged weights."""
        parameters = dict(self.shown.model.method.players["denoiser"].module.named_parameters())
        for name, value in self.state.ema["denoiser"].tensors(EMA).items():
            parameters[name].copy_(value)
        sampling = self.work.recipe.sampling
        sampling = dataclasses.replace(sampling, steps=steps or sampling.steps)
        model = RunModel(built=self.shown, sampling=sampling)
        context = RequestContext(model=model, data=lambda: (self.work.train, self.work.val), seed=seed)
        return list(model.run(plans.draw(self.work.speech, wanted, context)).values)


class Peer:
    """The re-statement, on the same examples."""

    def __init__(self, work: Work, weights: int) -> None:
        self.work, network, speech = work, work.recipe.network, work.speech
        torch.manual_seed(work.seed)
        made = speech_peer.of_weights(
            weights, speech.codec.channels, len(speech.units.inventory), max(1, len(speech.speakers)),
            width=network.width, depth=network.depth, heads=network.width // network.head_dim,
        )  # fmt: skip
        self.dtype = work.recipe.training.dtype
        self.trainer = speech_peer.Trainer(made, warm_up=WARM_UP, seed=work.seed, dtype=self.dtype)
        self.network = made
        self.units = {text: speech.units_in(text) for text in dict.fromkeys(work.train.texts)}
        self.read = work.batches(dataclasses.replace(speech, texts=False))
        self.samples = torch.arange(work.recipe.training.batch)

    def step(self) -> int:
        """A step; returns the number of its frames."""
        batch, items = self.read(self.trainer.steps, self.samples)
        units = speech_peer.packed([self.units[self.work.train.texts[i]] for i in items.tolist()], batch.x.shape[2])
        self.trainer.step(batch, units)
        return int(batch.condition.data_mask.sum())

    def draw(self, wanted: Sequence[Utterance], seed: int, steps: int | None = None) -> list[Tensor]:
        """Signals of utterances, with averaged weights."""
        x = speech_peer.sample(
            self.trainer.average, [self.work.speech.units_in(one.text) for one in wanted],
            torch.tensor([one.speaker for one in wanted]), torch.tensor([one.frames for one in wanted]),
            seed=seed, dtype=self.dtype, steps=steps or speech_peer.STEPS,
        )  # fmt: skip
        return self.work.speech.decoded(x, seed + torch.arange(len(x)))


def tones(folder: Path) -> str:
    """Recordings of two speakers who say four words as rising or falling tones, for a quick run."""
    rows, draw = ["file_name,text,speaker"], torch.Generator().manual_seed(0)
    for number, (word, speaker) in enumerate((w, s) for w in range(4) for s in range(2) for _ in range(16)):
        length = 2400 + int(1600 * torch.rand(1, generator=draw))
        at = torch.arange(length) / length
        pitch = (300 + 250 * word) * (1 + 0.2 * speaker) * (1 + 0.5 * at * (1 if word % 2 else -1))
        signal = (2 * torch.pi * pitch.cumsum(0) / 8000).sin() + 0.02 * torch.randn(length, generator=draw)
        (folder / f"{number}.wav").write_bytes(wav(0.5 * signal, 8000))
        rows.append(f"{number}.wav,{('zero', 'one', 'two', 'three')[word]},{('low', 'high')[speaker]}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return str(folder)
