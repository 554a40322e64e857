"""`langevin pull`: make a run of one that is published on the Hub."""

from pathlib import Path

from langevin.cli.show import LiveLine
from langevin.cli.verbs import Pull
from langevin.run.directory import Run
from langevin.run.hub import pull
from langevin.run.plan import require_no_run
from langevin.user_function import CodePermission


def run(args: Pull) -> Run:
    """Pull the run, and return it.

    Raises:
        ValueError: see `langevin.run.hub.pull`."""
    line, out = LiveLine(), args.out or Path("runs") / args.repository.rpartition("/")[2]
    require_no_run(out)
    code = CodePermission.of((), allow=args.allow_code)
    pulled = pull(args.repository, out, revision=args.revision, code=code, say=line.say)
    line.say(f"pulled {args.repository}: {pulled.path}")
    line.say(f"next: langevin sample {pulled.path}")
    return pulled
