"""`langevin import`: a run of a model that diffusers saved."""

from pathlib import Path

from langevin.cli.out import unused
from langevin.cli.show import LiveLine
from langevin.cli.verbs import Import
from langevin.exchange.load import read_pipeline
from langevin.run.directory import Run
from langevin.run.plan import require_no_run


def run(args: Import) -> Run:
    """Write the run, and return it.

    Raises:
        ValueError: the folder is no such model, or has parts that have no counterpart, or a run is at --out."""
    line = LiveLine()
    if not args.folder.is_dir():
        raise ValueError(f"there is no folder {args.folder}: give one that diffusers' save_pretrained wrote")
    out = args.out or unused(Path("runs") / args.folder.resolve().name)
    require_no_run(out)
    imported, remarks = read_pipeline(args.folder, out)
    for remark in remarks:
        line.say(remark)
    line.say(f"imported: {imported.path}    next: langevin sample {imported.path}")
    return imported
