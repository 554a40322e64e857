"""A user's own function, by its name `module:function`.

Importing a module runs its code, so a name in a file is not enough: it is imported only if the command at hand names it
too, or says --allow-code. That is what makes a run directory or a recipe from elsewhere safe to look at."""

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class Code:
    """Which entries this command may import: those it names, or all."""

    named: frozenset[str] = frozenset()
    everything: bool = False

    @classmethod
    def of(cls, words: Iterable[str], *, allow: bool) -> "Code":
        """What a command's words (overrides, targets) name, and whether it said --allow-code."""
        return cls(named=frozenset(name for word in words for name in NAME.findall(word)), everything=allow)


NO_CODE = Code()


def load_entry(name: str, code: Code) -> Callable[..., Any]:
    """The function that `module:function` names; the working directory is looked in first.

    Raises:
        ValueError: the command does not allow it, or there is no such function: what to do."""
    if not code.everything and name not in code.named:
        raise ValueError(
            f"the recipe asks for the function {name}, which is code that would be run. If you know and trust it, repeat "
            "the command with --allow-code; a recipe or run from elsewhere should be read first"
        )
    module, _, function = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"there is no module {error.name} for {name}: it is looked for in {here} and where Python looks (PYTHONPATH)"
        ) from error
    except AttributeError as error:
        raise ValueError(f"{module} has no function {function}: {error}") from error
    except Exception as error:
        raise ValueError(f"importing {module} failed: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ValueError(f"{name} is a {type(found).__name__}; a function is asked for")
    return found
