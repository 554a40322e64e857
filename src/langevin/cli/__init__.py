"""The command line: `langevin VERB`. `verbs` holds what can be asked, one file a verb does it.

Nothing here imports torch before a verb needs it, so that help is instant.
"""

import os
import sys
from importlib import import_module


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status (0 fine, 1 could not be done, 2 asked wrongly, 130 interrupted)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or bool(os.environ.get("LANGEVIN_DEBUG"))
    given = [g for g in given if g != "--debug"]
    from langevin.cli import verbs

    try:
        asked = verbs.parse(given)
        module = import_module(f"langevin.cli.{type(asked).__name__.lower()}")
        module.run(asked)
    except SystemExit as stop:  # help, or a usage error that has been printed
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BrokenPipeError:  # who reads our output has seen enough; what is flushed at exit goes nowhere
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
    """What went wrong in words; an error that nobody foresaw says how to see its traceback."""
    from langevin.cli import expected

    if isinstance(error, expected.errors()):
        return str(error)
    return f"{type(error).__name__}: {error}\n(this was not foreseen: repeat with --debug to see where it happened)"


def entry() -> None:
    """The console script."""
    sys.exit(main())
