"""The command line: `langevin VERB`. `verbs` declares the verbs and options, `parse` reads them, a file per verb runs it.

Nothing imports torch before a verb needs it, so that help is instant.
"""

import os
import signal
import sys
from importlib import import_module

INTERRUPTED = {  # what is left of a verb that was interrupted
    "train": " before training began: nothing was kept",
    "resume": " before the first step: the run is as it was",
    "sample": ": no samples were written",
    "generate": "; shards that were finished are kept: the same command goes on",
    "edit": "; files that were finished are kept: the same command goes on",
    "explain": ": no explanation was written",
    "attribute": ": no ranking was written; gradients that were all taken are kept",
    "chat": ": replies that were printed are whole",
    "apply": ": no results were written",
    "classify": ": no results were written",
    "density": ": no draws were written",
    "evaluate": ": no report was written",
    "compare": ": no table was written; previews of finished cells are in the output folder",
    "distil": ": a student whose training began is kept, and `langevin resume` goes on with it",
    "refine": ": the run is as it was",
    "reward": ": the run is as it was, and the same command starts again",
    "forget": ": the run is as it was",
    "stress": ": the run is as it was",
    "intervene": ": nothing was written",
    "adapt": ": an adapted run whose training began is kept, and `langevin resume` goes on with it",
    "continue_": ": a run whose training began is kept, and `langevin resume` goes on with it",
    "merge": ": nothing was written",
    "push": ": nothing was committed, and the same command goes on from what was uploaded",
    "pull": ": no run was written, and the same command goes on from what was downloaded",
    "export": ": nothing was written",
    "import_": ": nothing was written",
    "detect": "; files whose lines were printed are tested",
    "pack": ": no shards were written",
    "fit_solver": "; solvers that were finished are kept",
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 success, 1 failure, 2 usage error, 130 interrupted, 143 terminated."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    before = os.environ.get("LANGEVIN_DEBUG")
    debug = "--debug" in words or bool(before)
    if debug:
        os.environ["LANGEVIN_DEBUG"] = "1"  # also for processes that the command starts
    try:
        return _carry_out([word for word in words if word != "--debug"], debug)
    finally:
        if before is None:
            os.environ.pop("LANGEVIN_DEBUG", None)


def _carry_out(words: list[str], debug: bool) -> int:
    from langevin.cli.parse import module_of, parse
    from langevin.cli.show import finish_output, printable

    command = None
    try:
        if words[:1] not in (["push"], ["pull"]) and any(
            word.removeprefix("init_from=").startswith("hub:") for word in words
        ):
            from langevin.cli.hub_names import at_hand

            words = at_hand(words)
        if words[:1] == ["train"]:
            from langevin.cli.aliases import translated

            words, renamed = translated(words)
            for line in renamed:
                print(printable(line), file=sys.stderr)
        command = parse(words)
        import_module(f"langevin.cli.{module_of(command)}").run(command.args)
        finish_output()
    except SystemExit as stop:  # tyro has printed help or a usage error
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BrokenPipeError:  # the reader of our output has closed it; discard what is flushed at exit
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return 0
    except KeyboardInterrupt as stop:
        verb = module_of(command) if command else ""
        print(
            f"\n{printable(str(stop))}" if str(stop) else f"\ninterrupted{INTERRUPTED.get(verb, '')}", file=sys.stderr
        )
        return 128 + getattr(stop, "signal", 2)
    except Exception as error:
        text = _noted(error) if "LANGEVIN_RANKS" in os.environ else message_of(error)
        if debug:
            raise
        print(f"langevin: {printable(text)}", file=sys.stderr)
        return 1
    return 0


def _noted(error: Exception) -> str:
    """The message of an error of a rank, after its supervisor was told."""
    from langevin.cli import expected
    from langevin.run.supervised import broken_by_another, note_error

    note_error(error, expected.message(error))
    return "another rank was lost" if broken_by_another(error) else message_of(error)


def message_of(error: Exception) -> str:
    """The message of an error; an unexpected one (a bug) also says how to see its traceback."""
    from langevin.cli import expected

    message = expected.message(error)
    if message is not None:
        return message
    return f"{type(error).__name__}: {error}\n(this was not foreseen: repeat with --debug to see where it happened)"


def entry() -> None:
    """Entry point of the `langevin` script. SIGTERM interrupts like Ctrl-C, so that nothing half-written is left."""

    def terminate(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        interrupt = KeyboardInterrupt()
        interrupt.signal = number  # type: ignore[attr-defined]
        raise interrupt

    from langevin.cli.show import prepare_streams

    prepare_streams()
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, terminate)
    sys.exit(main())
