"""Data larger than memory: training that reads packed shards beside training in memory, and reading beside webdataset.

The images are smooth random fields as JPEG files, 128 pixels wide, packed by `langevin pack`. Two parts, each in turns:

    training   the steps of one network on the images at 32 pixels, all of them decoded in memory, or read from the shards,
               in shuffle windows, and decoded ahead. `stream_ratio` is samples per second of the second over the first
    reading    images per second from shards to uint8 tensors of 32 pixels in a shuffled order, with one thread and with as
               many as there are cores: ours (any order, resumable), and `webdataset` (shuffle buffer of the same size,
               Pillow, the same resizing), in this process and in worker processes of a DataLoader
"""

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import harness
from langevin.modalities.image.data import Images, load_parts, quiet
from langevin.modalities.image.sources import Folder
from langevin.modalities.image.store import Streaming
from langevin.recipe.build import build, training_batches
from langevin.recipe.complete import complete
from langevin.recipe.read import check
from langevin.run.pack import pack
from langevin.training.distributed import World
from langevin.training.loop import TrainingState, fit
from langevin.training.machine import describe
from langevin.training.order import DataOrder

SIDE, BATCH, WINDOW = 32, 64, 512
CORES = os.cpu_count() or 1


def made(folder: Path, *, count: int, side: int, seed: int) -> Path:
    """JPEG files of smooth random fields."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for i in range(count):
        coarse = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{i:06}.jpg", quality=90)
    return folder


class Training:
    """A network of a recipe under the real trainer."""

    def __init__(self, path: Path, *, memory_limit: int, width: int, seed: int) -> None:
        tree = {
            "data": {"kind": "image", "path": str(path), "size": SIDE, "memory_limit": memory_limit},
            "network": {"kind": "dit", "width": width, "depth": 4, "head_dim": 32, "patch": 4},
            "training": {"steps": 100_000, "batch": BATCH, "seed": seed, "shuffle_window": WINDOW},
        }
        recipe = check(tree)
        data, _ = recipe.data.open()
        built = build(complete(recipe, data))
        self.data = data
        state = TrainingState.new(built.model.method, built.recipe.training)
        batches = training_batches(built.recipe, built.batches(data))
        self.reports: Iterator[Any] = fit(state, batches, built.model.method, built.recipe.training, world=World())

    def rate(self, steps: int) -> float:
        """Samples per second of the next steps, everything between two of them included."""
        start = time.perf_counter()
        for _ in range(steps):
            next(self.reports)
        return steps * BATCH / (time.perf_counter() - start)


def ours(part: Images, *, workers: int, seed: int) -> Callable[[], float]:
    """Images per second of one epoch, read batch by batch, the next two ahead."""
    store = part.store
    assert isinstance(store, Streaming)
    assert part.shards is not None
    epoch = 0

    def run() -> float:
        nonlocal epoch
        epoch += 1
        fresh = Streaming(table=store.table, shapes=store.shapes, sizes=store.sizes, workers=workers)
        order = DataOrder(count=len(part), batch=BATCH, seed=seed + epoch, shards=part.shards, window=WINDOW)
        rows = torch.arange(BATCH)
        start, steps = time.perf_counter(), len(part) // BATCH
        for step in range(steps):
            items = [order.items(step + k, rows) for k in range(3)]
            fresh.expect([part.rows[i] for i in torch.cat(items).tolist()])
            fresh.read([part.rows[i] for i in items[0].tolist()])
        return steps * BATCH / (time.perf_counter() - start)

    return run


def decoded(content: bytes) -> Tensor:
    """A picture, its shorter side resized and its middle cut out, as ours are."""
    with Image.open(io.BytesIO(content)) as image:
        image = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def theirs(shards: list[str], count: int, *, workers: int) -> Callable[[], float]:
    """Images per second of one epoch by webdataset: in this process, or by so many others."""
    import webdataset

    def run() -> float:
        data = webdataset.WebDataset(
            shards, shardshuffle=100, nodesplitter=webdataset.split_by_node, workersplitter=webdataset.split_by_worker,
            empty_check=False,
        )  # fmt: skip
        data = data.shuffle(WINDOW).map(lambda sample: (decoded(sample["jpg"]),)).batched(BATCH, partial=False)
        loader = data if workers == 0 else torch.utils.data.DataLoader(data, batch_size=None, num_workers=workers)
        start, seen = time.perf_counter(), 0
        for batch in loader:
            seen += len(batch[0])
        return seen / (time.perf_counter() - start)

    return run


def measure(*, pairs: int = 5, seed: int = 0, quick: bool = False) -> dict[str, Any]:
    """`stream_ratio` and the rates of training and of reading, medians of `pairs` turns."""
    count, steps, side, width = (256, 2, 32, 32) if quick else (2048, 12, 128, 128)
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = made(Path(name) / "images", count=count, side=side, seed=seed)
        packed = pack(folder, Path(name) / "shards", shard_size=2**20 if not quick else 2**16)
        shards = [str(Path(name) / "shards" / file) for file, _ in packed.shards]
        sides = {
            limit: Training(Path(name) / "shards", memory_limit=limit, width=width, seed=seed) for limit in (2**40, 0)
        }
        rates = harness.interleave({str(limit): lambda s=s: s.rate(steps) for limit, s in sides.items()}, pairs=pairs)
        memory, stream = rates[str(2**40)], rates["0"]
        with quiet():
            part, _ = load_parts(Folder(path=str(Path(name) / "shards"), size=SIDE), memory_limit=0)
        readers = {
            "ours, 1 thread": ours(part, workers=1, seed=seed),
            "webdataset, this process": theirs(shards, count, workers=0),
            f"ours, {CORES} threads": ours(part, workers=CORES, seed=seed),
            f"webdataset, {CORES} processes": theirs(shards, count, workers=CORES),
        }
        reading = harness.interleave(readers, pairs=pairs)
    return {
        "stream_ratio": harness.ratio(stream, memory),
        "samples_per_second": {"memory": round(statistics.median(memory)), "shards": round(statistics.median(stream))},
        "images_per_second": {key: round(statistics.median(values)) for key, values in reading.items()},
        "images": count, "shards": len(shards), "network": f"dit {width} x 4", "cores": CORES,
    }  # fmt: skip


def main() -> None:
    """Print both parts, and one line of JSON."""
    asked = harness.parse(harness.options(__doc__ or ""))
    torch.set_num_threads(1)  # the other cores decode
    figures = harness.introduce(describe(), asked)
    found = measure(pairs=asked.pairs, seed=asked.seed, quick=asked.quick)
    harness.show("Reading alone", ["side", "images/s"], list(found["images_per_second"].items()))
    print(f"\nTraining from shards over training in memory: {found['stream_ratio']}")
    harness.conclude({**figures, **found})


if __name__ == "__main__":
    main()
