"""User functions, by their name `module:function`.

Importing a module runs its code. So a function that a recipe names is imported only if the command names it too, or has
--allow-code. A run directory or a recipe from elsewhere is therefore safe to open."""

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class CodePermission:
    """The user functions that the current command may import: those it names, or all."""

    named: frozenset[str] = frozenset()
    everything: bool = False

    @classmethod
    def of(cls, words: Iterable[str], *, allow: bool) -> "CodePermission":
        """The permission of a command with these words (overrides, target), and with --allow-code or not."""
        return cls(named=frozenset(name for word in words for name in NAME.findall(word)), everything=allow)


NO_CODE = CodePermission()


def load_function(name: str, code: CodePermission, *, takes: tuple[str, ...]) -> Callable[..., Any]:
    """Import the function that `module:function` names, first from the working directory.

    Args:
        takes: the names of the arguments that it will be called with.

    Raises:
        ValueError: the command does not allow it, it cannot be imported, or it takes other arguments."""
    if not code.everything and name not in code.named:
        raise ValueError(
            f"the recipe needs the function {name}, whose code would be run. If you trust it, repeat the command with "
            "--allow-code; read a recipe or run from elsewhere first"
        )
    module, _, function = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        loaded = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"there is no module {error.name} for {name}, neither in {here} nor on Python's path (PYTHONPATH)"
        ) from error
    except AttributeError as error:
        raise ValueError(f"{module} has no function {function}: {error}") from error
    except Exception as error:
        raise ValueError(f"importing {module} failed: {type(error).__name__}: {error}") from error
    if not callable(loaded):
        raise ValueError(f"{name} is a {type(loaded).__name__} and not a function")
    try:
        signature(loaded).bind(*takes)
    except TypeError as error:
        raise ValueError(f"{name} cannot be called as f({', '.join(takes)}): {error}") from error
    except ValueError:
        pass  # a function of C, which does not tell what it takes
    return named(loaded, name)


def named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The user function, whose failures are a `ValueError` with its name; it keeps its `energy`."""

    def called(*args: Any) -> Any:
        try:
            return function(*args)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError) as error:
            shapes = " and ".join(str(tuple(a.shape)) for a in args if hasattr(a, "shape"))
            raise ValueError(f"{name} failed on {shapes}: {type(error).__name__}: {error}") from error

    if hasattr(function, "energy"):
        called.energy = function.energy  # type: ignore[attr-defined]
    return called
