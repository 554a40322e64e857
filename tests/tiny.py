"""Small whole things for tests: images, networks of a few thousand weights, methods, and training states on them."""

from dataclasses import replace

import torch

from langevin.cli import main
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.objective import LogNormal, WeightedMSE
from langevin.diffusion.process import Gaussian
from langevin.methods import AdamW, Diffusion, Muon
from langevin.modalities.image.batches import ImageBatches
from langevin.modalities.image.codec import Pixels
from langevin.modalities.image.conditions import encode
from langevin.modalities.image.data import DataReport, Images, InMemory
from langevin.modalities.plans import one_draw
from langevin.networks import DiT, UNet
from langevin.networks.embedding import ConditioningConfig
from langevin.run.generate import changed
from langevin.training.counters import CLOCKED
from langevin.training.distributed import World
from langevin.training.loop import TrainingConfig, TrainingState, fit
from langevin.training.order import DataOrder

ALONE = World()
CLASSES = ("cross", "dot", "ring")
NETWORKS = {
    "dit": DiT.Config(width=32, depth=1, head_dim=16, patch=4, channels=1, conditioning=ConditioningConfig(classes=3)),
    "unet": UNet.Config(
        width=8,
        channel_mult=(1, 2),
        blocks=1,
        attention=(1,),
        head_dim=8,
        channels=1,
        conditioning=ConditioningConfig(classes=3),
    ),
}
SMALL = (
    "network.width=32", "network.depth=1", "network.head_dim=16", "training.batch=8", "training.ema_lengths=[0.1]",
    "sampling.ema=0.1", "sampling.steps=3",
)  # fmt: skip
OPTIMIZERS = {"adamw": AdamW(lr=3e-3), "muon": Muon(lr=0.02, adamw_lr=3e-3)}


def images(count=23, *, side=8, channels=1, labelled=True, captions=None):
    """Random images that are in memory."""
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)
    return Images(
        shape=(channels, side, side),
        classes=CLASSES if labelled else (),
        labels=torch.arange(count) % 3 if labelled else None,
        captions=captions,
        names=tuple(f"{i}.png" for i in range(count)),
        notes=DataReport(),
        store=InMemory(pixels=pixels),
        rows=tuple(range(count)),
    )


def method(network="dit", *, dropout=0.0, uncertainty=False, condition_dropout=0.1, seed=0, precision=torch.float32):
    """Diffusion with a network whose last layer is not zero, so that every weight has a gradient at once."""
    config = NETWORKS[network] if isinstance(network, str) else network
    torch.manual_seed(seed)
    built = replace(config, dropout=dropout).build()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    if built.config.kind == "unet":
        built = built.to(memory_format=torch.channels_last)
    process = Gaussian(sigma_data=0.6)
    return Diffusion(
        process=process,
        denoiser=GaussianDenoiser(network=built, process=process, precision=precision),
        network=built,
        objective=WeightedMSE(process=process),
        times=LogNormal(),
        schedule=process.schedule,
        condition_dropout=condition_dropout,
        uncertainty=uncertainty,
        non_hidden=built.non_hidden,
    )


def config(**changes):
    """12 steps of 8 rows, of two averages."""
    defaults = {
        "steps": 12,
        "batch": 8,
        "optimizer": OPTIMIZERS["muon"],
        "max_bad_steps": 3,
        "snapshots": 3,
        "seed": 11,
    }
    return TrainingConfig(**{**defaults, **changes})


def batches(training, data=None, *, flip=False):
    """(step, rows, randomness) -> batch."""
    data = data or images()
    read = ImageBatches(dataset=data, codec=Pixels(), labelled=data.labels is not None, flip=flip)
    order = DataOrder(count=len(data), batch=training.batch, seed=training.seed)

    def batch(step, rows, draw):
        return read(order.items(step, rows), draw.noise)

    return batch


def state_of(made, training):
    return TrainingState.new(made, training)


def advance(state, made, training, *, until, read=None, world=ALONE):
    """Train up to a step; returns the reports."""
    return list(fit(state, read or batches(training), made, training, until=until, world=world))


def everything(state):
    """A copy of all tensors and counters of a training state, but for the clock."""
    groups = {g: {n: t.detach().clone() for n, t in tensors.items()} for g, tensors in state.groups().items()}
    return groups, without_clock(state.counters())


def without_clock(counters):
    return {name: value for name, value in counters.items() if name not in CLOCKED}


DIT = "network={kind: dit, width: 32, depth: 2, head_dim: 16}"  # in place of the U-Net that is chosen for an enlarger


def run_of(data, out, *changes, steps=4):
    """The directory of a run on a folder, trained by the command line."""
    assert main(["train", str(data), "--out", str(out), f"training.steps={steps}", *SMALL, *changes]) == 0
    return out


def drawn(model, seeds, labels=None, *, batch=256, frames=False, progress=None, **changes):
    """Images of given seeds and classes (all of class 0 where none is given), from the model of a run of 8x8 pictures."""
    seeds = torch.as_tensor(seeds)
    labels = torch.zeros(len(seeds), dtype=torch.int64) if labels is None else labels
    drawing = changed(model, **changes)
    plan = one_draw(
        model.modality, shape=(3, 8, 8), seeds=seeds, sampling=drawing.sampling, condition=encode(labels, None, None)
    )
    return drawing.run(plan, batch=batch, frames=frames, progress=progress)


def assert_same(first, second):
    """Two results of `everything` are bitwise the same."""
    assert first[1] == second[1]
    assert first[0].keys() == second[0].keys()
    for group, tensors in first[0].items():
        assert tensors.keys() == second[0][group].keys()
        for name, tensor in tensors.items():
            assert torch.equal(tensor, second[0][group][name]), f"{group}: {name} differs"
