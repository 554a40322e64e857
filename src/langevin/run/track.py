"""Trackers: where a run's figures and previews go while it trains, beside metrics.jsonl, which is always written.

Names are trackio (local first, extra `trackio`), wandb, tensorboard (extra `track`; events in RUN/tensorboard), or a
module of the user's with wandb's functions: `init(project, name, config)`, `log(values, step=)`, `finish()`, and `Image` if
it has one. A tracker that fails is said once and left out from then on: no training ends by it.
"""

import importlib
import inspect
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from langevin.extras import EXTRAS, require
from langevin.files import own_folder
from langevin.run.directory import Run
from langevin.run.published import without_paths

PROJECT, PREVIEW = "langevin", "preview"
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class Tracker(Protocol):
    """Takes the figures of a run, by name and training step, and previews as pixels (h, w, 3) of uint8."""

    def log(self, values: Mapping[str, float], step: int) -> None: ...

    def image(self, pixels: np.ndarray, step: int) -> None: ...

    def finish(self) -> None: ...


class TensorBoard:
    """Writes TensorBoard events into RUN/tensorboard."""

    def __init__(self, run: Run) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(own_folder(run.path, "tensorboard")))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def image(self, pixels: np.ndarray, step: int) -> None:
        self.writer.add_image(PREVIEW, torch.from_numpy(pixels), step, dataformats="HWC")

    def finish(self) -> None:
        self.writer.close()


class Shaped:
    """A module with the functions of wandb. A resumed run goes on under its name where the module can."""

    def __init__(self, module: ModuleType, run: Run) -> None:
        self.module = module
        given = {"project": PROJECT, "name": run.path.name, "config": _config(run), "resume": "allow"}
        takes = inspect.signature(module.init).parameters.values()
        anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes)
        names = {parameter.name for parameter in takes}
        module.init(**{name: value for name, value in given.items() if anything or name in names})

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.module.log(dict(values), step=step)

    def image(self, pixels: np.ndarray, step: int) -> None:
        if hasattr(self.module, "Image"):
            self.module.log({PREVIEW: self.module.Image(pixels)}, step=step)

    def finish(self) -> None:
        self.module.finish()


class Trackers:
    """The trackers of a run that trains, none of which can stop it."""

    def __init__(self, names: Sequence[str], run: Run, say: Callable[[str], None]) -> None:
        self.say, self.open = say, dict[str, Tracker]()
        for name in names:
            self._try(name, "begin", lambda name=name: self.open.update({name: opened(name, run)}))

    def log(self, line: Mapping[str, Any]) -> None:
        """Log a line of metrics.jsonl: its numbers, and the means of losses by noise level."""
        values = figures(line)
        if values:
            self._each("log", lambda tracker: tracker.log(values, int(line["step"])))

    def preview(self, step: int, content: bytes) -> None:
        """Log a preview, if it is a picture."""
        if not self.open:
            return
        try:
            pixels = np.array(Image.open(io.BytesIO(content)).convert("RGB"))
        except OSError:
            return
        self._each("log", lambda tracker: tracker.image(pixels, step))

    def close(self) -> None:
        self._each("finish", lambda tracker: tracker.finish())

    def _each(self, what: str, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.open.items()):
            self._try(name, what, lambda tracker=tracker: call(tracker))

    def _try(self, name: str, what: str, call: Callable[[], None]) -> None:
        try:
            with redirect_stdout(sys.stderr):  # standard output is for results
                call()
        except Exception as error:
            self.open.pop(name, None)
            self.say(f"{name} could not {what} ({type(error).__name__}: {error}): the run goes on without it")


def opened(name: str, run: Run) -> Tracker:
    """The tracker of a name, begun."""
    return TensorBoard(run) if name == "tensorboard" else Shaped(module_of(name), run)


def module_of(name: str) -> ModuleType:
    """The module of a tracker, of those in the working directory too.

    Raises:
        ValueError: there is none of this name, or it has not the functions of wandb."""
    if name in EXTRAS:
        module = require(name, f"--track {name}")
    elif not _MODULE.fullmatch(name):
        raise ValueError(
            f"--track {name} is no module: name trackio, wandb, tensorboard, or one with wandb's functions"
        )
    else:
        here = str(Path.cwd())
        sys.path[:0] = [] if here in sys.path else [here]
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise ValueError(
                f"--track {name} cannot be imported ({error}): pip install it, or name trackio or tensorboard"
            ) from error
    missing = [f for f in ("init", "log", "finish") if not callable(getattr(module, f, None))]
    if missing and name != "tensorboard":
        raise ValueError(
            f"--track {name} has no function {missing[0]}: a tracker has init, log and finish, as wandb has"
        )
    return module


def figures(line: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a line of metrics.jsonl by the names that trackers show: loss/train and loss/val are means over noise
    levels."""
    values = {k: float(v) for k, v in line.items() if isinstance(v, int | float) and k not in ("step", "steps")}
    values |= {f"terms/{k}": float(v) for k, v in (line.get("terms") or {}).items() if v is not None}
    for name in ("train", "val"):
        with suppress(TypeError, ValueError, KeyError):
            values[f"loss/{name}"] = fmean(line[f"{name}_loss"])
    return values


def _config(run: Run) -> dict[str, Any]:
    """The sections of the recipe that say how it trains, without paths."""
    tree = asdict(without_paths(run.recipe))
    kept = {name: tree[name] for name in ("name", "network", "process", "method", "training", "sampling")}
    return {**kept, "data": run.recipe.data.kind, "items": run.facts["items"]}
