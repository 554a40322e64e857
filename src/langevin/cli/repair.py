"""`langevin repair`: a file or standard input, repaired; what was changed is said on the error stream."""

import difflib
import sys

from langevin.cli.show import LiveLine, counting
from langevin.cli.texts import loaded, read_text
from langevin.cli.verbs import Repair
from langevin.modalities.text.layout import Mend
from langevin.run.directory import open_run
from langevin.run.generate import with_options
from langevin.run.mend import mend
from langevin.training.checkpoint import write_atomic


def run(asked: Repair) -> None:
    """See the module.

    Raises:
        ValueError: a run of another task, or a file that is no text."""
    line = LiveLine()
    made = open_run(asked.run)
    if not isinstance(made.recipe.layout, Mend):
        raise ValueError(f"{asked.run} was not trained to repair (layout.kind mend)")
    if asked.reluctance is not None and not asked.reluctance >= 0:
        raise ValueError(f"--reluctance is at least 0 (nats), got {asked.reluctance}")
    text = read_text(asked.file)
    if not text.strip():
        raise ValueError(f"{asked.file} holds no text")
    built, sampling = loaded(made, None, line)
    reluctance = made.recipe.layout.reluctance if asked.reluctance is None else asked.reluctance
    lines = text.splitlines(keepends=True)
    with counting("repaired") as progress:
        repaired = mend(
            built, with_options(sampling, steps=asked.steps), lines, reluctance=reluctance, progress=progress
        )
    for number, (before, after) in enumerate(zip(lines, repaired, strict=True), start=1):
        for old, new in changes(before.split(), after.split()):
            line.say(f"line {number}: {old or '(nothing)'} -> {new or '(nothing)'}")
    content = "".join(repaired)
    if asked.out is None:
        sys.stdout.write(content)
    else:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(asked.out, content.encode())


def changes(before: list[str], after: list[str]) -> list[tuple[str, str]]:
    """What was changed, word by word."""
    steps = difflib.SequenceMatcher(a=before, b=after, autojunk=False).get_opcodes()
    return [(" ".join(before[a:b]), " ".join(after[c:d])) for kind, a, b, c, d in steps if kind != "equal"]
