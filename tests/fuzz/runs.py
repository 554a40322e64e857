"""Run directories with a file mutated, and what reading one may do."""

import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch

from langevin.cli import main
from langevin.cli.inspect import of_run
from langevin.run.directory import open_run
from langevin.run.ema_choice import EMAChoice, write_choice
from langevin.run.evaluate import history
from langevin.run.solvers import read as read_solver
from langevin.run.train import resume_run
from langevin.training.checkpoint import steps
from tests import pictures, tiny
from tests.fuzz.mutate import many

MARK = b"\x00FILE\x00"  # between the name of a file and its content, so that an edit may hit both


def make(folder: Path) -> Path:
    """A finished run of two steps with a solver."""
    data, run = pictures.classes(folder / "data", count=12), folder / "run"
    arguments = ["training.steps=2", "training.snapshots=2", "training.precision=float32", *tiny.SMALL]
    assert main(["train", str(data), "--out", str(run), *arguments]) == 0
    assert main(["fit-solver", str(run), "--steps", "2", "--count", "2", "--fine", "2"]) == 0
    values = {0.1: [1.0, 1.2], 0.2: [1.1, 1.2]}
    write_choice(run, EMAChoice(step=2, length=0.1, standard=0.1, figure="loss", count=8, values=values))
    shutil.rmtree(run / "samples")
    for old in steps(run / "checkpoints")[1:]:
        shutil.rmtree(old)
    return run


def forms(run: Path) -> dict[str, bytes]:
    """Name of a file in the run -> its name and content, to be edited together."""
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(f.relative_to(run)): str(f.relative_to(run)).encode() + MARK + f.read_bytes() for f in files}


def read(data: bytes, run: Path) -> str:
    """Put one mutated file into a run, read everything, and restore it. The law: it is read, or a `ValueError` or `OSError`
    says what is wrong."""
    name, _, content = data.partition(MARK)
    path = run / name.decode(errors="replace")[:200].replace("\x00", "")
    if not path.is_file():
        return "elsewhere"
    before, manifest = path.read_bytes(), None
    path.write_bytes(content)
    if path.parent.parent.name == "checkpoints" and path.name != "manifest.json":
        manifest = path.parent / "manifest.json"  # made to agree, as whoever made the run would
        stated = manifest.read_bytes()
        facts = json.loads(stated)
        facts["files"][path.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest.write_text(json.dumps(facts))
    refused = 0
    try:
        for use in USES:
            try:
                use(run)
            except (ValueError, OSError) as error:
                assert str(error).strip()
                refused += 1
    finally:
        path.write_bytes(before)
        if manifest:
            manifest.write_bytes(stated)
        for old in steps(run / "checkpoints")[1:]:
            shutil.rmtree(old)
    return f"{refused} of {len(USES)} refused"


def _weights(run: Path) -> None:
    for ema in (None, 0.08):  # from the checkpoint, from snapshots
        built, _, _ = open_run(run).load(ema=ema)
        assert all(torch.is_tensor(p) for p in built.model.network.parameters())


def _solvers(run: Path) -> None:
    for path in (run / "solvers").iterdir():
        read_solver(path)


USES = (_weights, of_run, lambda run: history(open_run(run)), _solvers, resume_run)

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        run = make(Path(folder))
        many(int(sys.argv[1]), int(sys.argv[2]), forms(run), lambda data: read(data, run))
