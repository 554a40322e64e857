"""`langevin push`: publish a run on the Hub."""

from langevin.cli.show import LiveLine, output
from langevin.cli.verbs import Push
from langevin.run.hub import push
from langevin.user_function import CodePermission


def run(args: Push) -> None:
    """Push the run, and print where it is.

    Raises:
        ValueError: see `langevin.run.hub.push`."""
    code = CodePermission.of((), allow=args.allow_code)
    output(
        push(
            args.run, args.repository, private=args.private, message=args.message, licence=args.license, code=code,
            say=LiveLine().say,
        )
    )  # fmt: skip
