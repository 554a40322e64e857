"""The runs that are served: their names, and their models, loaded when they are needed and kept within a memory cap."""

import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from langevin.run.directory import Run, load_model, open_run
from langevin.run.generate import RunModel
from langevin.run.watermark import marked
from langevin.safety.watermark import name_of
from langevin.server.errors import Refused
from langevin.training import machine
from langevin.training.checkpoint import steps

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model in memory.

    Args:
        step: training step of its weights.
        size: bytes of its weights.
        checkpoint: the checkpoint that it was loaded from.
    """

    run: Run
    model: RunModel
    step: int
    size: int
    checkpoint: str

    @property
    def name(self) -> str:
        """A name of what its samples follow from, by which a half-made one is known again."""
        key = self.model.built.key
        return f"{self.run.path.name} {self.checkpoint} {self.model.data_fingerprint} {'' if key is None else name_of(key)}"


@dataclass(eq=False, kw_only=True)
class Runs:
    """Runs by name.

    Args:
        folders: run directories, and folders of these; a run that appears in a folder later is served too.
        memory: bytes of weights to keep loaded; the model of a request is loaded in any case.
        key: of the watermark in all samples; None for none.
    """

    folders: Sequence[Path]
    memory: int = 4 << 30
    key: bytes | None = None
    _loaded: "OrderedDict[tuple[str, float | None], Loaded]" = field(default_factory=lambda: OrderedDict())
    _loading: dict[tuple[str, float | None], Any] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.Lock)

    def paths(self) -> dict[str, Path]:
        """The run directories by name, in alphabetical order."""
        found = dict[str, Path]()
        for folder in self.folders:
            inside = (
                [folder] if (folder / "recipe.yaml").is_file() else sorted(folder.iterdir()) if folder.is_dir() else []
            )
            for path in inside:
                name = path.name or path.resolve().name
                if (
                    NAME.fullmatch(name)
                    and (path / "recipe.yaml").is_file()
                    and (path == folder or not path.is_symlink())
                ):
                    found.setdefault(name, path)
        return dict(sorted(found.items()))

    def path(self, name: str) -> Path:
        """The directory of a run. Raises `Refused` if no run has this name."""
        paths = self.paths()
        if name not in paths:
            known = ", ".join(list(paths)[:20]) or "none"
            raise Refused(
                f"there is no model '{name[:64]}'; there are {known}", status=404, code="model_not_found", param="model"
            )
        return paths[name]

    def open(self, name: str) -> Run:
        """A run. Raises `Refused` if there is none of this name, or it is damaged."""
        try:
            return open_run(self.path(name))
        except (ValueError, OSError) as error:
            raise Refused(f"the run '{name}' cannot be read: {error}", status=503, code="model_unavailable") from error

    def load(self, name: str, *, ema: float | None = None) -> Loaded:
        """The model of a run, at its newest checkpoint. Slow when it is not in memory.

        Raises:
            Refused: there is no such run, or it is damaged, or it has no checkpoint yet."""
        run, key = self.open(name), (name, ema)
        with self._lock:
            loading = self._loading.setdefault(key, threading.Lock())
        with loading:  # others are served meanwhile
            newest = str(next(iter(steps(run.checkpoints)), None))
            held = self._loaded.get(key)
            if held is None or held.checkpoint != newest or held.run.path != run.path:
                held = self._read(run, name, ema, newest)
            with self._lock:
                self._loaded[key] = held
                self._loaded.move_to_end(key)
                self._evict()
            return held

    def _read(self, run: Run, name: str, ema: float | None, newest: str) -> Loaded:
        try:
            model, step = load_model(run, ema=ema, device=machine.device())
        except (ValueError, OSError) as error:
            raise Refused(
                f"the model '{name}' cannot be loaded: {error}", status=503, code="model_unavailable"
            ) from error
        model = marked(model, run, self.key)
        torch.clear_autocast_cache()  # casts of weights that were replaced
        size = sum(p.numel() * p.element_size() for p in model.parts.network.parameters())
        return Loaded(run=run, model=model, step=step, size=size, checkpoint=newest)

    def _evict(self) -> None:
        """Forget the models that were used least recently, but for the newest, until the rest fits."""
        while len(self._loaded) > 1 and sum(one.size for one in self._loaded.values()) > self.memory:
            self._loaded.popitem(last=False)
            torch.clear_autocast_cache()

    @property
    def warm(self) -> list[str]:
        """Names of the runs whose models are in memory."""
        return sorted({name for name, _ in self._loaded})


@lru_cache(maxsize=2)
def data_of(path: Path, fingerprint: str) -> tuple[Any, Any]:
    """The training and the validation data of a run, kept, as plans may take conditions from it."""
    return open_run(path).open_data()
