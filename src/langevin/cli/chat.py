"""`langevin chat`: a dialogue with a run, on a terminal or line by line through a pipe.

Replies go to standard output, all else to standard error. On a terminal a mistake is told and the chat goes on; in a pipe
it ends the command, so that no script goes on with turns that it did not mean.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langevin.cli import expected
from langevin.cli.sample import check_drawing, check_seed, chosen, loaded
from langevin.cli.show import LiveLine, write
from langevin.files import write_atomic
from langevin.modalities.modality import Plan, RequestContext
from langevin.run.directory import Run, open_run
from langevin.run.generate import RunModel

RECORDS = (".jsonl", ".ndjson")
HELP = """\
/undo        take back the last message and its reply
/reset       begin again, without the turns so far
/seed N      draw the next reply with the seed N, the one after it with N + 1
/save FILE   write the turns as a line of JSON that can be trained on, to a new .jsonl file
/help        show these commands
/quit        end, as Ctrl-D does
A message that begins with / is written with //."""


def run(args: Any) -> None:
    """Reply to the lines of standard input until it ends.

    Raises:
        ValueError: a run that does not reply, or options out of range; in a pipe also a command that cannot be done."""
    check_seed(args.seed)
    check_drawing(args)
    line = LiveLine()
    run = open_run(args.run)
    data: Any = run.recipe.data  # of a modality that converses, as it has options of this verb
    data.require_replies()
    model, _ = loaded(args, run, line)
    chat = Chat(args=args, run=run, model=model, line=line, seed=args.seed)
    chat.plan([("user", "hello")]).close()  # what does not fit the run is refused before anything is said
    terminal = sys.stdin.isatty()
    if terminal:
        line.say(f"talking with {args.run}: /help shows the commands, Ctrl-D ends")
    try:
        for text in lines(terminal):
            try:
                if not chat.hear(text):
                    break
            except (ValueError, OSError) as error:
                if not terminal or isinstance(error, BrokenPipeError):
                    raise
                line.say(str(expected.message(error)))
    except KeyboardInterrupt as stop:
        if not terminal or hasattr(stop, "signal"):  # a terminal's Ctrl-C is a way to end
            raise
        line.say("")


def lines(terminal: bool) -> Iterator[str]:
    """The lines of standard input, with a prompt and editing on a terminal. Raises `ValueError` if they are not text."""
    if terminal:
        with suppress(ImportError):
            import readline  # noqa: F401  # `input` edits lines with it
    first = True
    while True:
        try:
            text = input("> ") if terminal and sys.stdout.isatty() else next(sys.stdin)
        except (EOFError, StopIteration):
            if terminal:
                print(file=sys.stderr)
            return
        except UnicodeDecodeError as error:
            raise ValueError(f"standard input is not {error.encoding} text: {error.reason}") from error
        yield text.removeprefix("\ufeff").strip() if first else text.strip()
        first = False


@dataclass(kw_only=True)
class Chat:
    """A dialogue with a run.

    Args:
        seed: of the next reply.
        turns: (user or assistant, text) so far.
    """

    args: Any
    run: Run
    model: RunModel
    line: LiveLine
    seed: int
    turns: list[tuple[str, str]] = field(default_factory=list)

    def hear(self, text: str) -> bool:
        """Reply to a message, or obey a command; whether the chat goes on. A blank line is nothing.

        Raises:
            ValueError: there is no such command, or it cannot be done."""
        if text.startswith("/") and not text.startswith("//"):
            return self.obey(*text[1:].split(maxsplit=1))
        if text:
            self.reply(text.removeprefix("/"))
        return True

    def reply(self, text: str) -> None:
        """Print the reply to a message, and keep both. A message whose reply was interrupted is not kept."""
        turns = [*self.turns, ("user", text)]
        samples = self.model.run(self.plan(turns), batch=self.args.batch)
        said = " ".join(str(samples.values[0]).split())
        self.turns, self.seed = [*turns, ("assistant", said)], self.seed + 1
        write(said + "\n")

    def plan(self, turns: list[tuple[str, str]]) -> Plan:
        """The request for the next turn."""
        args = self.args
        return self.model.modality.plan(
            args.options.request(turns),
            RequestContext(
                model=self.model, data=self.run.open_data, count=1, seed=self.seed, say=self.line.say,
                batch=args.batch, guided=args.guidance not in (None, 1), chosen=chosen(args),
            ),
        )  # fmt: skip

    def obey(self, command: str = "", value: str = "") -> bool:
        """Do a command; whether the chat goes on."""
        if value and command in ("undo", "reset", "help", "quit"):
            raise ValueError(f"/{command} takes nothing after it: a message that begins with / is written with //")
        match command:
            case "quit":
                return False
            case "help":
                self.line.say(HELP)
            case "reset":
                self.turns = []
            case "undo":
                if not self.turns:
                    raise ValueError("/undo: nothing was said yet")
                self.turns = self.turns[:-2]
            case "seed":
                self.seed = seed_of(value)
            case "save":
                self.save(value)
            case _:
                raise ValueError(f"there is no command /{command}: /help shows those that there are")
        return True

    def save(self, name: str) -> None:
        """Write the turns to a new file as a record of the run's data."""
        path = Path(name)
        if path.suffix not in RECORDS:
            raise ValueError(f"/save FILE writes JSON lines: name a file that ends in {' or '.join(RECORDS)}")
        if not self.turns:
            raise ValueError("/save: nothing was said yet")
        if path.exists() or path.is_symlink():
            raise ValueError(f"/save {name}: there is such a file, which is kept as it is: choose another name")
        record = json.dumps(self.model.modality.record(self.turns), ensure_ascii=False)
        write_atomic(path, f"{record}\n".encode())
        self.line.say(f"{len(self.turns)} turns: {path}")


def seed_of(value: str) -> int:
    """The number after /seed. Raises `ValueError` if it is none."""
    try:
        seed = int(value)
    except ValueError as error:
        raise ValueError(f"/seed N takes a whole number, got '{value}'") from error
    check_seed(seed)
    return seed
