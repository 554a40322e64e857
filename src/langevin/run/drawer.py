"""The work of one process on many samples: it takes a shard that nobody else has, draws it, and writes it."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from langevin.files import remove, temporary_of, write_atomic
from langevin.modalities.modality import Plan, RequestContext, Samples
from langevin.run.adapters import load_with, read_adapter
from langevin.run.bulk import Bulk, conditions_of, taken_in_turn
from langevin.run.directory import Run, open_run
from langevin.run.generate import RunModel, with_others
from langevin.run.leases import Leases
from langevin.run.light import light_of, lightened
from langevin.run.provenance import facts_of
from langevin.run.shards import Shard, digest
from langevin.run.tar import tarred
from langevin.run.watermark import marked, require_room
from langevin.safety.watermark import read_key
from langevin.training import machine
from langevin.user_function import CodePermission

WAIT = 1.0  # seconds between two looks at shards that others make
LISTED = 1e5  # shards for which a look at a folder costs as much as a second allows

Say = Callable[[str], None]


@dataclass(kw_only=True, eq=False)
class Drawer:
    """A loaded run that draws shards."""

    bulk: Bulk
    run: Run
    model: RunModel
    step: int
    say: Say
    conditions: dict[str, tuple[str, ...]]
    said: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, bulk: Bulk, say: Say, *, device: torch.device | None = None) -> "Drawer":
        """Load the run of a request, by default on the accelerator if there is one.

        Raises:
            ValueError: options do not fit it."""
        run = open_run(bulk.run)
        key = None if bulk.watermark is None else read_key(bulk.watermark)
        if key is not None:
            require_room(run)
        device = device or machine.device()
        model, step = _loaded(bulk, run, say, device)
        others = with_others(
            marked(model, run, key),
            bulk.options,
            lambda name: _loaded(_plain(bulk), open_run(Path(name)), say, device)[0],
        )
        conditions = {bulk.each[0]: conditions_of(bulk.each)} if bulk.each else {}
        return cls(bulk=bulk, run=run, model=others, step=step, say=say, conditions=conditions)

    def check(self, shard: Shard) -> None:
        """Begin the request of a shard, without drawing. Raises `ValueError` for options that do not fit the run."""
        plan = self._plan(shard, taken_in_turn(self.bulk.options, self.conditions, shard), lambda done, total: None)
        next(plan, None)
        plan.close()

    def _plan(self, shard: Shard, options: Any, progress: Callable[[int, int], None]) -> Plan:
        bulk = self.bulk
        chosen = frozenset(name for name in ("steps", "sampler", "guidance") if getattr(bulk, name) is not None)
        context = RequestContext(
            model=self.model, data=self.run.open_data, count=len(shard), seed=bulk.seed + shard.start, say=self._once,
            batch=bulk.batch, progress=progress, guided=bulk.guidance not in (None, 1), chosen=chosen,
        )  # fmt: skip
        return self.model.modality.plan(options, context)

    def draw(self, shard: Shard, progress: Callable[[int, int], None]) -> Samples:
        """The samples of a shard.

        Raises:
            ValueError: the options do not fit the run, or the request is no set of so many samples."""
        bulk, seed = self.bulk, self.bulk.seed + shard.start
        options = taken_in_turn(bulk.options, self.conditions, shard)
        samples = self.model.run(self._plan(shard, options, progress), batch=bulk.batch, progress=progress).drawn
        if len(samples) != len(shard):
            raise ValueError(
                f"this request gives {len(samples)} samples where {len(shard)} are asked for, so it cannot be split into "
                "shards: use `langevin sample`"
            )
        facts = facts_of(
            samples, self.model, run=self.run.path.absolute().name, step=self.step, options=options, seed=seed,
            count=len(shard), ema=bulk.ema,
        )  # fmt: skip
        if self.conditions:  # which no command line names
            facts.pop("command")
        return replace(samples, facts=facts)

    def write(self, shard: Shard, progress: Callable[[int, int], None]) -> None:
        """Draw a shard and write it: its samples, then its record. If another has done it meanwhile, its files stay.

        Raises:
            OSError: they could not be written."""
        samples, folder = self.draw(shard, progress), self.bulk.folder
        names = samples.names or [""] * len(shard)
        lines = [
            {"index": i, "seed": self.bulk.seed + i, **({"condition": name} if name else {}), "sha256": digest(value)}
            for i, name, value in zip(range(shard.start, shard.stop), names, samples.values, strict=True)
        ]
        out = folder.samples(shard)
        temporary = temporary_of(out)
        try:
            if folder.suffix in ("", ".tar"):
                temporary.mkdir()
            match folder.suffix:
                case ".tar":
                    write_atomic(out, tarred(samples, temporary / "files", lines))
                case "":
                    samples.save(temporary / "files")
                    self._place(shard, temporary / "files")
                case _:
                    samples.save(out)
            folder.write_record(shard, [{**line, "shard": out.name} for line in lines])
        except OSError:
            if not folder.done(shard):  # else this process was suspended, and its lease and temporary files were lost
                raise
        finally:
            remove(temporary)

    def _place(self, shard: Shard, made: Path) -> None:
        """Rename a folder of samples, whole at any time: in the place of what is there, unless the shard is done."""
        folder, out = self.bulk.folder, self.bulk.folder.samples(shard)
        for again in (True, False):
            try:
                return os.replace(made, out)
            except OSError:
                if not out.is_dir():
                    raise
            if folder.done(shard) or not again:
                return None
            with suppress(OSError):  # of a process that was killed before it wrote the record
                os.replace(out, made.with_name("before"))

    def _once(self, line: str) -> None:
        if line not in self.said:
            self.said.add(line)
            self.say(line)


def _loaded(bulk: Bulk, run: Run, say: Say, device: torch.device) -> tuple[RunModel, int]:
    model, step = load_with(
        run, [(read_adapter(path), weight) for path, weight in bulk.adapter], ema=bulk.ema, device=device,
        code=CodePermission.of((), allow=bulk.allow_code), say=say, steps=bulk.steps, sampler=bulk.sampler,
        guidance=bulk.guidance,
    )  # fmt: skip
    return lightened(model, light_of(bulk.light, model.sampling), run, keep=False, say=say), step


def _plain(bulk: Bulk) -> Bulk:
    """The request with other runs drawn by their own settings."""
    kept = {f.name: f.default for f in fields(bulk) if f.name in ("steps", "sampler", "guidance", "adapter", "light")}
    return replace(bulk, **kept)


def work(
    bulk: Bulk, shards: Sequence[Shard], *, first: float = 0.0, drawer: Drawer | None = None, say: Say = lambda line: None,
    progress: Callable[[int], None] = lambda done: None, stop: Callable[[], bool] = lambda: False,
) -> int:  # fmt: skip
    """Make those of the shards that nobody else makes, until all are done; returns how many samples were drawn here.

    Args:
        first: where in the list to begin, in [0, 1), so that processes seldom want the same shard.
        drawer: the loaded run; by default it is loaded for the first shard.
        progress: called with the samples that this process has drawn.
        stop: whether to return before the end.

    Raises:
        ValueError: the options do not fit the run.
        OSError: a shard could not be written."""
    folder, leases, drawn = bulk.folder, Leases(folder=bulk.folder.leases), 0
    with _threads(bulk.threads):
        while missing := folder.missing(shards):
            before, begin = drawn, int(first * len(missing))
            for shard in (*missing[begin:], *missing[:begin]):
                if stop():
                    return drawn
                with leases.held(shard.name) as held:
                    if not held or folder.done(shard):
                        continue
                    drawer = drawer or Drawer.of(bulk, say)
                    drawer.write(shard, lambda done, total, before=drawn: progress(before + done))
                drawn += len(shard)
                progress(drawn)
            if drawn == before:
                time.sleep(max(WAIT, len(shards) / LISTED))
    return drawn


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
