"""Reading batches ahead of their steps, in a thread: while an accelerator computes a step, the next are read and copied.

What is read is a function of step, samples and randomness, so reading ahead changes no bit. Where the plan of the run
changes, and with it the randomness, what was read is dropped, and the batch is read anew.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch, StepRandomness

DEPTH = 2  # steps ahead on an accelerator


Reading = tuple[int, Tensor, StepRandomness]  # step, indices into its global batch, their randomness


class Ahead:
    """Batches, read in the order in which they are expected.

    Args:
        batches: (step, samples, their randomness) -> batch.
        device: of the batches; on CUDA they are copied in a stream of their own.
    """

    def __init__(self, batches: Callable[[int, Tensor, StepRandomness], Batch], device: torch.device) -> None:
        self._batches = batches
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1)
        self._reading = threading.Lock()
        self._expected: dict[tuple[Any, ...], Future[tuple[Batch, Any]]] = {}

    def expect(self, readings: Sequence[Reading]) -> None:
        """Read these next; what was expected before and is not among them is dropped."""
        keyed = {_key(*reading): reading for reading in readings}
        for key in self._expected.keys() - keyed.keys():
            self._expected.pop(key).cancel()
        for key, reading in keyed.items():
            if key not in self._expected:
                self._expected[key] = self._thread.submit(self._read, *reading)

    def __call__(self, step: int, samples: Tensor, draw: StepRandomness) -> Batch:
        expected = self._expected.pop(_key(step, samples, draw), None)
        if expected is None:
            with self._reading:
                return self._batches(step, samples, draw)
        batch, ready = expected.result()
        if ready is not None:
            stream = torch.cuda.current_stream()
            stream.wait_event(ready)
            for tensor in _tensors(batch):
                tensor.record_stream(stream)
        return batch

    def _read(self, step: int, samples: Tensor, draw: StepRandomness) -> tuple[Batch, Any]:
        with self._reading, torch.cuda.stream(self._stream):
            batch = self._batches(step, samples, draw)
            return batch, None if self._stream is None else self._stream.record_event()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Read nothing meanwhile: the caller may read the same data."""
        with self._reading:
            yield

    def close(self) -> None:
        """Stop reading."""
        for expected in self._expected.values():
            expected.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)


def _key(step: int, samples: Tensor, draw: StepRandomness) -> tuple[Any, ...]:
    """Equal for equal readings: the seeds are a function of the run's seed and the samples."""
    return step, tuple(samples.tolist()), draw.progress, draw.restarts, int(draw.noise.seeds[0])


def copied(tensor: Tensor, device: torch.device | None) -> Tensor:
    """A tensor on a device; from main memory to CUDA by way of pinned memory, so that the copy waits for nothing."""
    if device is not None and device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _tensors(thing: Any) -> Iterator[Tensor]:
    """All tensors on an accelerator in nested dataclasses, mappings and sequences."""
    if isinstance(thing, Tensor):
        yield from [thing] if thing.is_cuda else []
    elif isinstance(thing, Mapping):
        for part in thing.values():
            yield from _tensors(part)
    elif isinstance(thing, list | tuple):
        for part in thing:
            yield from _tensors(part)
    elif is_dataclass(thing):
        for field in fields(thing):
            yield from _tensors(getattr(thing, field.name))
