"""The runs that are served: their names, and their models, loaded when they are needed and kept within a memory cap."""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from langevin.diffusion.light import AnyLight, BF16Weights, FeatureCache, GuidanceInterval, Int8Weights, Storage
from langevin.networks.stored import require_cpu
from langevin.recipe.sampling import describe
from langevin.run.adapters import AdapterFile, load_with, read_adapter, recipe_with, require_base
from langevin.run.directory import Run, open_run
from langevin.run.generate import RunModel
from langevin.run.light import light_of, lightened
from langevin.run.memory import weight_bytes
from langevin.run.watermark import marked
from langevin.safety.watermark import name_of
from langevin.server.errors import Refused
from langevin.training import machine
from langevin.training.checkpoint import BEST, steps

Key = tuple[str, float | None, Storage | None]  # of a model: its name, the EMA length, how its weights are stored
REMEMBERED = 64  # caches and intervals of guidance of a model that requests share
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapted:
    """A run with adapters, which is served under a name of its own.

    Args:
        model: name of the run.
        adapters: each with its weight.
    """

    model: str
    adapters: tuple[tuple[AdapterFile, float], ...]

    @property
    def name(self) -> str:
        """A name of what the adapters change."""
        return " ".join(f"{file.sha256[:16]}:{weight!r}" for file, weight in self.adapters)

    @cached_property
    def data(self) -> tuple[tuple[Path, str], ...]:
        """The runs of the adapters, with the fingerprints of the data that they were trained on. A file that is not in
        its run's directory stands for itself, which nothing can be read from."""

        def run_of(file: AdapterFile) -> Path:
            with suppress(ValueError, OSError):
                if open_run(file.path.parent).facts.get("data") == file.facts["data"]:
                    return file.path.parent
            return file.path

        return tuple((run_of(file), file.facts["data"]) for file, _ in self.adapters)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model in memory.

    Args:
        step: training step of its weights.
        size: bytes of its weights.
        checkpoint: the newest checkpoint when it was loaded, and the one of the least held-out loss.
        adapted: the run with adapters that it is; None for a run alone.
        shared: what requests share that ask for the same cache, or interval of guidance.
    """

    run: Run
    model: RunModel
    step: int
    size: int
    checkpoint: str
    adapted: Adapted | None = None
    shared: "Shared" = field(default_factory=lambda: Shared())

    @property
    def name(self) -> str:
        """A name of what its samples follow from, by which a half-made one is known again."""
        key, adapters = self.model.built.key, "" if self.adapted is None else f" {self.adapted.name}"
        mark = "" if key is None else name_of(key)
        light = "".join(f" {describe(one)}" for one in self.model.sampling.light)
        return f"{self.run.path.name} {self.checkpoint} {self.model.data_fingerprint} {mark}{adapters}{light}"

    def lightened(self, model: RunModel, light: Sequence[AnyLight]) -> RunModel:
        """This model with the sampling of a request, `model`, and with what makes it cheaper besides its weights. Slow when
        an interval of guidance is measured.

        Raises:
            Refused: it does not fit the run, or the sampling."""
        try:
            for one in light:
                if isinstance(one, GuidanceInterval):
                    guidance = self.shared.once((one, repr(model.sampling)), partial(self._guidance, model, one))
                    model = replace(model, sampling=replace(model.sampling, guidance=guidance))
            for one in light:
                if isinstance(one, FeatureCache):
                    cheaper = lightened(model, (one,), self.run, keep=False)
                    same = self.shared.once(one, partial(getattr, cheaper, "built"))  # so that requests share a batch
                    model = replace(cheaper, built=same)
        except (ValueError, OSError) as error:
            raise Refused(str(error), code="invalid_value", param="light") from error
        return replace(model, sampling=replace(model.sampling, light=tuple(light)))

    def _guidance(self, model: RunModel, one: GuidanceInterval) -> Any:
        return lightened(model, (one,), self.run, keep=False).sampling.guidance


@dataclass(eq=False)
class Shared:
    """Values that are made once, of which those that were used last are kept."""

    _held: "OrderedDict[Any, Any]" = field(default_factory=lambda: OrderedDict())
    _lock: Any = field(default_factory=threading.Lock)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """The value of a key, made if it is not held."""
        with self._lock:
            if key not in self._held:
                self._held[key] = make()
            self._held.move_to_end(key)
            while len(self._held) > REMEMBERED:
                self._held.popitem(last=False)
            return self._held[key]


@dataclass(eq=False, kw_only=True)
class Runs:
    """Runs by name.

    Args:
        folders: run directories, and folders of these; a run that appears in a folder later is served too.
        memory: bytes of weights to keep loaded; the model of a request is loaded in any case.
        key: of the watermark in all samples; None for none.
        adapted: runs with adapters, by the names that they are served under.
    """

    folders: Sequence[Path]
    memory: int = 4 << 30
    key: bytes | None = None
    adapted: dict[str, Adapted] = field(default_factory=dict)
    _loaded: "OrderedDict[Key, Loaded]" = field(default_factory=lambda: OrderedDict())
    _loading: dict[Key, list[Any]] = field(default_factory=dict[Key, list[Any]])  # a lock, and who is there
    _lock: Any = field(default_factory=threading.Lock)

    def paths(self) -> dict[str, Path]:
        """The run directories by name, in alphabetical order; with adapters, that of the run that they change.

        A run that appears under the name of one with adapters takes that name."""
        own = self._own()
        found = {name: own[one.model] for name, one in list(self.adapted.items()) if one.model in own}
        return dict(sorted((found | own).items()))

    def _own(self) -> dict[str, Path]:
        """The run directories in the folders, by name."""
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
        return found

    def path(self, name: str) -> Path:
        """The directory of a run. Raises `Refused` if no run has this name."""
        return self.find(name)[0]

    def find(self, name: str) -> tuple[Path, Adapted | None]:
        """The directory of a run, and the run with adapters that has the name; None for a run alone. They are looked up
        together, as adapters can be unloaded meanwhile.

        Raises:
            Refused: no run has this name."""
        adapted, own = self.adapted.get(name), self._own()
        if name in own:
            return own[name], None
        if adapted is not None and adapted.model in own:
            return own[adapted.model], adapted
        known = ", ".join(list(self.paths())[:20]) or "none"
        raise Refused(
            f"there is no model '{name[:64]}'; there are {known}", status=404, code="model_not_found", param="model"
        )

    def open(self, name: str) -> Run:
        """A run, with the recipe that its adapters make. Raises `Refused` if there is none of this name, or it is
        damaged."""
        return self._opened(name, *self.find(name))

    @staticmethod
    def _opened(name: str, path: Path, adapted: Adapted | None) -> Run:
        try:
            run = open_run(path)
            return (
                run
                if adapted is None
                else replace(run, recipe=recipe_with(run, [file for file, _ in adapted.adapters]))
            )
        except (ValueError, OSError) as error:
            raise Refused(f"the run '{name}' cannot be read: {error}", status=503, code="model_unavailable") from error

    def load(self, name: str, *, ema: float | None = None, light: Sequence[str] | None = None) -> Loaded:
        """The model of a run, at its newest checkpoint, its weights stored as asked for. Slow when it is not in memory.

        Args:
            light: what makes it cheaper, as on the command line; None is the run's. All but the form of the weights is for
                `Loaded.lightened`.

        Raises:
            Refused: there is no such run, or it is damaged, or it has no checkpoint yet; or what makes it cheaper does not
                fit it."""
        path, adapted = self.find(name)
        run = self._opened(name, path, adapted)
        storage = next((one for one in self.light(run, light) if isinstance(one, BF16Weights | Int8Weights)), None)
        if storage is not None:
            try:
                require_cpu(machine.device())
            except ValueError as error:
                raise Refused(str(error), code="invalid_value", param="light") from error
        key = (name, ema, storage)
        with self._alone(key):  # others are served meanwhile
            newest = " ".join(str(next(iter(steps(at)), None)) for at in (run.checkpoints, run.checkpoints / BEST))
            held = self._loaded.get(key)
            if held is None or held.checkpoint != newest or held.run.path != run.path or held.adapted is not adapted:
                held = self._read(run, key, newest, adapted)
            with self._lock:
                self._loaded[key] = held
                self._loaded.move_to_end(key)
                self._evict()
            return held

    @staticmethod
    def light(run: Run, given: Sequence[str] | None) -> tuple[AnyLight, ...]:
        """What makes a run cheaper, as on the command line; None is the run's. Raises `Refused` for an unknown kind."""
        try:
            return light_of(given, run.recipe.sampling)
        except ValueError as error:
            raise Refused(str(error), code="invalid_value", param="light") from error

    @contextmanager
    def _alone(self, key: Key) -> Iterator[None]:
        """Only one request at a time loads a model; the lock is forgotten with the last one."""
        with self._lock:
            entry = self._loading.setdefault(key, [threading.Lock(), 0])
            entry[1] += 1
        try:
            with entry[0]:
                yield
        finally:
            with self._lock:
                entry[1] -= 1
                if not entry[1]:
                    del self._loading[key]

    def _read(self, run: Run, key: Key, newest: str, adapted: Adapted | None) -> Loaded:
        name, ema, storage = key
        try:
            given = () if adapted is None else adapted.adapters
            model, step = load_with(open_run(run.path), given, ema=ema, device=machine.device())
        except (ValueError, OSError) as error:
            raise Refused(
                f"the model '{name}' cannot be loaded: {error}", status=503, code="model_unavailable"
            ) from error
        try:
            model = lightened(model, () if storage is None else (storage,), run, keep=False)
        except (ValueError, OSError) as error:
            raise Refused(str(error), code="invalid_value", param="light") from error
        model = marked(model, run, self.key)
        torch.clear_autocast_cache()  # casts of weights that were replaced
        size = weight_bytes(model)
        return Loaded(run=run, model=model, step=step, size=size, checkpoint=newest, adapted=adapted)

    def adapt(self, name: str, model: str, adapters: Sequence[tuple[str, float]]) -> Adapted:
        """Serve a run with adapters under a name, in place of what had that name before.

        Args:
            adapters: paths of adapted runs or their files within the folders that are served, each with its weight.

        Raises:
            Refused: a name that a run has, a path outside of the folders, an adapter that is damaged or of another base."""
        own = self._own()
        if not NAME.fullmatch(name) or name in own:
            raise Refused(f"'{name[:64]}' is the name of a run, or none: take another", status=409, code="name_taken")
        if model in self.adapted and model not in own:
            raise Refused(f"'{model}' has adapters already: name the run that they change", code="unsupported_value")
        run = self.open(model)
        try:
            given = tuple((read_adapter(self._within(path)), weight) for path, weight in adapters)
            for file, _ in given:
                require_base(run, file)
            recipe_with(run, [file for file, _ in given])
        except (ValueError, OSError) as error:
            raise Refused(str(error), code="invalid_adapter", param="adapters") from error
        self.adapted[name] = Adapted(model=model, adapters=given)
        return self.adapted[name]

    def unload(self, name: str) -> None:
        """Serve a run with adapters no more; requests that are under way end. Raises `Refused` if there is none."""
        if self.adapted.pop(name, None) is None:
            raise Refused(f"there are no adapters loaded as '{name[:64]}'", status=404, code="model_not_found")
        with self._lock:
            for key in [key for key in self._loaded if key[0] == name]:
                del self._loaded[key]
        torch.clear_autocast_cache()

    def _within(self, path: str) -> Path:
        """A path in one of the folders that are served. Raises `ValueError` for one outside."""
        for folder in self.folders:
            outer = (folder.parent if (folder / "recipe.yaml").is_file() else folder).resolve()
            found = (outer / path).resolve()
            inside = found.is_relative_to(folder.resolve()) and found.exists()
            if inside:
                return found
        raise ValueError(f"there is no adapter '{path[:200]}' in the folders that are served")

    def _evict(self) -> None:
        """Forget the models that were used least recently, but for the newest, until the rest fits."""
        while len(self._loaded) > 1 and sum(one.size for one in self._loaded.values()) > self.memory:
            self._loaded.popitem(last=False)
            torch.clear_autocast_cache()

    @property
    def warm(self) -> list[str]:
        """Names of the runs whose models are in memory."""
        return sorted({key[0] for key in self._loaded})


@lru_cache(maxsize=2)
def data_of(path: Path, fingerprint: str) -> tuple[Any, Any]:
    """The training and the validation data of a run, kept, as plans may take conditions from it."""
    return open_run(path).open_data()
