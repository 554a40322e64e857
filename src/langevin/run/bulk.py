"""Many samples of a run: what is asked for, and the work of one process on it.

A shard of b samples from index i on is what `langevin sample RUN --count b --seed SEED+i` draws, in the same batches. So a
shard does not depend on who makes it, nor on how many samples there are in all.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from langevin.files import read_regular, remove, temporary_of, write_atomic
from langevin.modalities.modality import RequestContext, Samples, require_form
from langevin.run.adapters import load_with, read_adapter
from langevin.run.directory import Run, open_run
from langevin.run.generate import RunModel, with_others
from langevin.run.leases import Leases
from langevin.run.light import light_of, lightened
from langevin.run.provenance import facts_of, words_of
from langevin.run.shards import Shard, ShardFolder, WorkList, digest
from langevin.run.tar import tarred
from langevin.run.watermark import marked, require_room
from langevin.safety.watermark import name_of, read_key
from langevin.training import checkpoint, machine
from langevin.user_function import CodePermission

PREFERRED = ("", ".jsonl", ".npz", ".csv")  # forms that hold each sample by itself, the first that there is
SPELT = {"folder": "", "webdataset": ".tar"}
WAIT = 1.0  # seconds between two looks at shards that others make
_LONGEST = 2**28  # bytes of a file of conditions

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Bulk:
    """A request for many samples.

    Args:
        run: directory of the run.
        out: the folder that is filled.
        count, shard_size: of the work list; sample i has the seed `seed + i`.
        options: of the run's modality.
        form: suffix of the file of a shard that the modality writes, "" for a folder with a file per sample, ".tar" for
            those in a tar file.
        each: an option of the modality and a file, a value per line: sample i has the value of line i, in turn.
        steps, sampler, guidance, ema, light: changes of the run's sampling; None keeps a setting.
        adapter: files of adapters and their weights.
        batch: samples per batch.
        threads: of the CPU, for each process. Results of matrix products depend on it.
        watermark: the file of a key.
    """

    run: Path
    out: Path
    count: int
    options: Any
    form: str
    shard_size: int = 1000
    seed: int = 0
    each: tuple[str, Path] | None = None
    steps: int | None = None
    sampler: str | None = None
    guidance: float | None = None
    ema: float | None = None
    light: tuple[str, ...] | None = None
    adapter: tuple[tuple[Path, float], ...] = ()
    batch: int = 256
    threads: int = 1
    allow_code: bool = False
    watermark: Path | None = None

    @property
    def work_list(self) -> WorkList:
        return WorkList(count=self.count, size=self.shard_size)

    @property
    def folder(self) -> ShardFolder:
        return ShardFolder(path=self.out, suffix=self.form)


def form_of(run: Run, spelt: str | None) -> str:
    """The suffix of the files of shards, from what a command names: a suffix without its dot, folder or webdataset.

    Raises:
        ValueError: the modality does not write it, or it holds few samples."""
    modality = run.recipe.data
    usable = [f for f in modality.forms if f != "-" and f not in getattr(modality, "capacity", {})]
    named = next((f for f in PREFERRED if f in usable), None) if spelt is None else SPELT.get(spelt, f".{spelt}")
    if named is None or (named not in usable and not (named == ".tar" and "" in usable)):
        known = [f.removeprefix(".") or "folder" for f in usable] + ["webdataset"] * ("" in usable)
        raise ValueError(f"many samples of {modality.kind} are written as --form {', '.join(known)}; got {spelt}")
    require_form(modality, "" if named == ".tar" else named, f"--form {spelt}")
    return named


def request_of(bulk: Bulk, run: Run) -> dict[str, Any]:
    """What the samples are made from, of JSON types: equal requests give equal bytes, on machines of one kind.

    Raises:
        ValueError: there are no weights, or a file that is named cannot be read."""
    text = json.dumps(
        {
            "run": run.path.absolute().name, "weights": checkpoint.identity(run.checkpoints),
            "recipe": hashlib.sha256((run.path / "recipe.yaml").read_bytes()).hexdigest(), "ema": run.ema_length(bulk.ema),
            "steps": bulk.steps, "sampler": bulk.sampler, "guidance": bulk.guidance, "light": bulk.light,
            "adapter": [(_sha256(read_adapter(path).path), weight) for path, weight in bulk.adapter],
            "options": words_of(bulk.options), "each": bulk.each and (bulk.each[0], _sha256(bulk.each[1])),
            "seed": bulk.seed, "count": bulk.count, "shard_size": bulk.shard_size, "batch": bulk.batch,
            "threads": bulk.threads, "form": bulk.form,
            "watermark": None if bulk.watermark is None else name_of(read_key(bulk.watermark)),
        }
    )  # fmt: skip
    return dict(json.loads(text))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def conditions_of(each: tuple[str, Path] | None) -> tuple[str, ...]:
    """The lines of the file of conditions, without blank ones.

    Raises:
        ValueError: it holds none, or is no text."""
    if each is None:
        return ()
    try:
        text = read_regular(each[1], most=_LONGEST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"--each {each[1]} is not text in UTF-8: {error}") from error
    lines = tuple(line for line in text.splitlines() if line.strip())
    if not lines:
        raise ValueError(f"--each {each[1]} holds no lines")
    return lines


def taken_in_turn(options: Any, conditions: dict[str, tuple[str, ...]], shard: Shard) -> Any:
    """The options of a shard: of a list that samples take in turn, the values of its samples.

    Args:
        conditions: such lists that are not in the options, by option."""
    changes = dict[str, Any]()
    for name in getattr(options, "EACH", ()):
        given = conditions.get(name) or getattr(options, name)
        if given:
            count = min(len(given), len(shard))
            changes[name] = tuple(given[(shard.start + i) % len(given)] for i in range(count))
    return replace(options, **changes) if changes else options


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
    def of(cls, bulk: Bulk, say: Say) -> "Drawer":
        """Load the run of a request. Raises `ValueError` for options that do not fit it."""
        run = open_run(bulk.run)
        key = None if bulk.watermark is None else read_key(bulk.watermark)
        if key is not None:
            require_room(run)
        model, step = _loaded(bulk, run, say)
        others = with_others(
            marked(model, run, key), bulk.options, lambda name: _loaded(_plain(bulk), open_run(Path(name)), say)[0]
        )
        conditions = {bulk.each[0]: conditions_of(bulk.each)} if bulk.each else {}
        return cls(bulk=bulk, run=run, model=others, step=step, say=say, conditions=conditions)

    def draw(self, shard: Shard, progress: Callable[[int, int], None]) -> Samples:
        """The samples of a shard.

        Raises:
            ValueError: the options do not fit the run, or the request is no set of so many samples."""
        bulk, seed = self.bulk, self.bulk.seed + shard.start
        options = taken_in_turn(bulk.options, self.conditions, shard)
        chosen = frozenset(name for name in ("steps", "sampler", "guidance") if getattr(bulk, name) is not None)
        context = RequestContext(
            model=self.model, data=self.run.open_data, count=len(shard), seed=seed, say=self._once, batch=bulk.batch,
            progress=progress, guided=bulk.guidance not in (None, 1), chosen=chosen,
        )  # fmt: skip
        samples = self.model.run(self.model.modality.plan(options, context), batch=bulk.batch, progress=progress).drawn
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
        """Draw a shard and write it: its samples, then its record."""
        samples, folder = self.draw(shard, progress), self.bulk.folder
        names = samples.names or [""] * len(shard)
        lines = [
            {"index": i, "seed": self.bulk.seed + i, **({"condition": name} if name else {}), "sha256": digest(value)}
            for i, name, value in zip(range(shard.start, shard.stop), names, samples.values, strict=True)
        ]
        out = folder.samples(shard)
        if folder.suffix == ".tar":
            temporary = temporary_of(out)
            try:
                temporary.mkdir()
                write_atomic(out, tarred(samples, temporary / "files", lines))
            finally:
                remove(temporary)
        else:
            if not folder.suffix and not folder.done(shard):
                remove(out)  # of a process that was killed before it wrote the record
            samples.save(out)
        folder.write_record(shard, [{**line, "shard": out.name} for line in lines])

    def _once(self, line: str) -> None:
        if line not in self.said:
            self.said.add(line)
            self.say(line)


def _loaded(bulk: Bulk, run: Run, say: Say) -> tuple[RunModel, int]:
    model, step = load_with(
        run, [(read_adapter(path), weight) for path, weight in bulk.adapter], ema=bulk.ema, device=machine.device(),
        code=CodePermission.of((), allow=bulk.allow_code), say=say, steps=bulk.steps, sampler=bulk.sampler,
        guidance=bulk.guidance,
    )  # fmt: skip
    return lightened(model, light_of(bulk.light, model.sampling), run, keep=False, say=say), step


def _plain(bulk: Bulk) -> Bulk:
    """The request with other runs drawn by their own settings."""
    kept = {f.name: f.default for f in fields(bulk) if f.name in ("steps", "sampler", "guidance", "adapter", "light")}
    return replace(bulk, **kept)


def work(
    bulk: Bulk, shards: Sequence[Shard], *, first: float = 0.0, say: Say = lambda line: None,
    progress: Callable[[int], None] = lambda done: None, stop: Callable[[], bool] = lambda: False,
) -> int:  # fmt: skip
    """Make those of the shards that nobody else makes, until all are done; returns how many samples were drawn here.

    Args:
        first: where in the list to begin, in [0, 1), so that processes seldom want the same shard.
        progress: called with the samples that this process has drawn.
        stop: whether to return before the end.

    Raises:
        ValueError: the options do not fit the run.
        OSError: a shard could not be written."""
    folder, leases, drawn = bulk.folder, Leases(folder=bulk.folder.leases), 0
    drawer: Drawer | None = None
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
                time.sleep(WAIT)
    return drawn


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
