"""The command line: `langevin VERB`. `verbs` declares the verbs and options, `parse` reads them, a file per verb runs it.

Nothing imports torch before a verb needs it, so that help is instant.
"""

import os
import sys
from importlib import import_module


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 success, 1 failure, 2 usage error, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or bool(os.environ.get("LANGEVIN_DEBUG"))
    words = [word for word in words if word != "--debug"]
    from langevin.cli.parse import module_of, parse

    try:
        command = parse(words)
        import_module(f"langevin.cli.{module_of(command)}").run(command.args)
    except SystemExit as stop:  # tyro has printed help or a usage error
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BrokenPipeError:  # the reader of our output has closed it; discard what is flushed at exit
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return 0
    except KeyboardInterrupt:
        print("\ninterrupted; what was saved can be resumed", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            raise
        print(f"langevin: {explain(error)}", file=sys.stderr)
        return 1
    return 0


def explain(error: Exception) -> str:
    """The message of an error; an unexpected one (a bug) also says how to see its traceback."""
    from langevin.cli import expected

    if isinstance(error, expected.errors()):
        return str(error)
    return f"{type(error).__name__}: {error}\n(this was not foreseen: repeat with --debug to see where it happened)"


def entry() -> None:
    """Entry point of the `langevin` script."""
    sys.exit(main())
