"""What no file of the package may contain: pickle, forbidden libraries, code run from strings; what each must: a docstring.

The syntax tree is walked and nothing is imported.
"""

import ast
from pathlib import Path

import pytest

import langevin

SOURCE = Path(langevin.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN = PICKLES | {"torchvision", "torchaudio", "torchcodec"}
ONE_SYSTEM = {"fcntl", "resource", "termios", "pwd", "grp", "msvcrt", "winreg"}
EVERY = pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(SOURCE)) for path in FILES])


def name_of(call: ast.Call) -> str:
    """The dotted name that is called: `torch.load`, `eval`; empty for anything else."""
    return ast.unparse(call.func) if isinstance(call.func, ast.Name | ast.Attribute) else ""


def imports(tree: ast.AST):
    """(line, top-level package) of everything imported, by statement or by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.split(".")[0]
        elif isinstance(node, ast.Call) and name_of(node) in {"__import__", "importlib.import_module", "import_module"}:
            texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            yield from ((node.lineno, text.split(".")[0]) for text in texts)


def unsafe_calls(tree: ast.AST):
    """(line, why) of calls that run code from a string or read a pickle."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name, given = name_of(node), {k.arg: k.value for k in node.keywords}
        if name in {"eval", "exec", "builtins.eval", "builtins.exec"}:
            yield node.lineno, f"{name} runs code from a string"
        weights_only = given.get("weights_only")
        if name == "torch.load" and not (isinstance(weights_only, ast.Constant) and weights_only.value is True):
            yield node.lineno, "torch.load without weights_only=True unpickles"
        allow = given.get("allow_pickle")
        if allow is not None and not (isinstance(allow, ast.Constant) and allow.value is False):
            yield node.lineno, f"{name} with allow_pickle unpickles"
        if name == "torch.save":
            yield node.lineno, "torch.save pickles: weights are safetensors"


@EVERY
def test_nothing_forbidden_is_imported(path):
    found = [f"line {line}: {name}" for line, name in imports(ast.parse(path.read_text())) if name in FORBIDDEN]
    assert not found


@EVERY
def test_nothing_that_one_system_alone_has_is_imported(path):
    found = [f"line {line}: {name}" for line, name in imports(ast.parse(path.read_text())) if name in ONE_SYSTEM]
    assert not found


@EVERY
def test_no_code_is_run_from_strings_or_pickles(path):
    assert not [f"line {line}: {why}" for line, why in unsafe_calls(ast.parse(path.read_text()))]


@EVERY
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path.relative_to(SOURCE)} has no docstring"


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import torchvision.transforms as T",
        "from torchaudio import load",
        "def f():\n    from pickle import loads",
        "import importlib\nimportlib.import_module('pickle')",
        "__import__('torchcodec.decoders')",
    ],
)
def test_the_walk_finds_forbidden_imports(code):
    assert FORBIDDEN & {name for _, name in imports(ast.parse(code))}


@pytest.mark.parametrize(
    "code",
    [
        "eval('1')",
        "exec(text)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "torch.load(f, weights_only=flag)",
        "np.load(f, allow_pickle=True)",
        "torch.save(x, f)",
    ],
)
def test_the_walk_finds_unsafe_calls(code):
    assert list(unsafe_calls(ast.parse(code)))


@pytest.mark.parametrize("code", ["model.eval()", "torch.load(f, weights_only=True)", "np.load(f, allow_pickle=False)"])
def test_the_walk_lets_safe_calls_pass(code):
    assert not list(unsafe_calls(ast.parse(code)))
