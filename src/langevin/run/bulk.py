"""Many samples of a run: what is asked for.

A shard of b samples from index i on is what `langevin sample RUN --count b --seed SEED+i` draws, in the same batches. So a
shard does not depend on who makes it, nor on how many samples there are in all.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from langevin.files import read_regular
from langevin.modalities.inputs import files_named, runs_named
from langevin.modalities.modality import require_form
from langevin.run.adapters import read_adapter
from langevin.run.directory import Run, open_run
from langevin.run.provenance import words_of
from langevin.run.shards import Shard, ShardFolder, WorkList
from langevin.safety.watermark import name_of, read_key
from langevin.training import checkpoint

PREFERRED = ("", ".jsonl", ".npz", ".csv")  # forms that hold each sample by itself, the first that there is
SPELT = {"folder": "", "webdataset": ".tar"}
_LONGEST = 2**28  # bytes of a file of conditions


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
    others = {
        name: (checkpoint.identity(other.checkpoints), _sha256(other.path / "recipe.yaml"))
        for name, other in ((name, open_run(Path(path))) for name, path in runs_named(bulk.options).items())
    }
    text = json.dumps(
        {
            "run": run.path.absolute().name, "weights": checkpoint.identity(run.checkpoints),
            "recipe": hashlib.sha256((run.path / "recipe.yaml").read_bytes()).hexdigest(), "ema": run.ema_length(bulk.ema),
            "steps": bulk.steps, "sampler": bulk.sampler, "guidance": bulk.guidance, "light": bulk.light,
            "adapter": [(_sha256(read_adapter(path).path), weight) for path, weight in bulk.adapter],
            "options": words_of(bulk.options), "files": [_sha256(f) for f in files_named(bulk.options) if f.is_file()],
            "each": bulk.each and (bulk.each[0], _sha256(bulk.each[1])),
            "seed": bulk.seed, "count": bulk.count, "shard_size": bulk.shard_size, "batch": bulk.batch,
            "threads": bulk.threads, "form": bulk.form,
            "watermark": None if bulk.watermark is None else name_of(read_key(bulk.watermark)),
            **({"others": others} if others else {}),
        }
    )  # fmt: skip
    return dict(json.loads(text))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def conditions_of(each: tuple[str, Path] | None) -> tuple[str, ...]:
    """The lines of the file of conditions.

    Raises:
        ValueError: it holds none, or a blank one, or is no text."""
    if each is None:
        return ()
    if each[1].is_dir():
        raise ValueError(f"--each {each[1]} is a folder, and a file of lines is read")
    try:
        text = read_regular(each[1], most=_LONGEST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"--each {each[1]} is not text in UTF-8: {error}") from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if not lines[-1].strip():
        lines.pop()
    if not lines:
        raise ValueError(f"--each {each[1]} holds no lines")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise ValueError(f"line {number} of --each {each[1]} is blank, and each line is a condition: remove it")
    return tuple(lines)


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
