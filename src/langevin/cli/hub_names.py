"""Runs that a command names hub:OWNER/NAME: they are pulled to runs/NAME, and the command goes on with these."""

from dataclasses import fields, is_dataclass

from langevin.cli import verbs
from langevin.cli.show import LiveLine
from langevin.run.hub import PREFIX
from langevin.run.hub import at_hand as pulled
from langevin.user_function import CodePermission

INIT_FROM = "init_from="
FLAGS = {one.name for verb in vars(verbs).values() if is_dataclass(verb) for one in fields(verb) if one.type is bool}


def at_hand(words: list[str]) -> list[str]:
    """The words of a command with the directories of the runs, which are arguments or the value of init_from.

    Raises:
        ValueError: see `langevin.run.hub.at_hand`."""
    code = CodePermission.of((), allow="--allow-code" in words)
    found, of_option = list[str](), False
    for word in words:
        run = word.removeprefix(INIT_FROM)
        if run.startswith(PREFIX) and not of_option:
            found.append(word[: len(word) - len(run)] + str(pulled(run, code=code, say=LiveLine().say)))
        else:
            found.append(word)
        of_option = word.startswith("--") and "=" not in word and word[2:].replace("-", "_") not in FLAGS
    return found
