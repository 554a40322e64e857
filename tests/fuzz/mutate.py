"""Edits of bytes, drawn by hypothesis or by a seed, and a run of many of them that is measured."""

import faulthandler
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
MEMORY, SECONDS = 1500, 10  # MB and seconds that one file may cost
_NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 4096, 65535, 65536, 2**20, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_OPERATIONS = ("bit", "byte", "number<", "number>", "short<", "short>", "cut", "drop", "double", "zero", "insert")
Edit = tuple[str, float, int]  # an operation, where (a fraction of the length), and a number
Edits = list[Edit]

edits = st.lists(
    st.tuples(st.sampled_from(_OPERATIONS), st.floats(0, 1, exclude_max=True), st.integers(0, 2**32 - 1)),
    min_size=1, max_size=6,
)  # fmt: skip


def drawn(draw: random.Random) -> Edits:
    """One to six edits; half of all places are among the first 64 bytes or near them, where headers are."""
    return [
        (draw.choice(_OPERATIONS), draw.random() ** draw.choice((1, 1, 3)), draw.getrandbits(32))
        for _ in range(draw.choice((1, 1, 1, 2, 3, 6)))
    ]


def edited(data: bytes, changes: Edits) -> bytes:
    """The bytes after these edits."""
    out = bytearray(data)
    for operation, where, number in changes:
        at = int(where * len(out))
        chosen = _NUMBERS[number % len(_NUMBERS)] if number % 3 else number
        match operation:
            case "bit" if out:
                out[at] ^= 1 << number % 8
            case "byte" if out:
                out[at] = number % 256
            case "number<" | "number>":
                out[at : at + 4] = struct.pack(f"{operation[-1]}I", chosen)
            case "short<" | "short>":
                out[at : at + 2] = struct.pack(f"{operation[-1]}H", chosen % 65536)
            case "cut":
                del out[at:]
            case "drop":
                del out[at : at + 1 + number % 64]
            case "double":
                out[at:at] = out[at : at + 1 + number % 256]
            case "zero":
                length = len(out[at : at + 1 + number % 64])
                out[at : at + length] = bytes(length)
            case "insert":
                out[at:at] = struct.pack("<I", number)[: 1 + number % 4]
    return bytes(out)


def memory() -> float:
    """The most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def many(count: int, seed: int, forms: dict[str, bytes], read: Callable[[bytes], str]) -> None:
    """Read `count` mutated files; print what came of them, and the costliest. Ends at the first that breaks the law."""
    draw, found = random.Random(seed), Counter[str]()
    faulthandler.enable()
    last = os.open(sys.argv[3] if len(sys.argv) > 3 else os.devnull, os.O_WRONLY)  # outlives a crash
    names = list(forms)
    for name in names:
        read(forms[name])
    begin, least, slowest, hungriest = time.perf_counter(), memory(), (0.0, ""), (0.0, "")
    for i in range(count):
        name, changes = draw.choice(names), drawn(draw)
        os.pwrite(last, f"example {i} of seed {seed}: {name} {changes}".ljust(1000).encode(), 0)
        faulthandler.dump_traceback_later(10 * SECONDS, exit=True)
        before, start = memory(), time.perf_counter()
        try:
            found[read(edited(forms[name], changes))] += 1
        except Exception:
            print(f"example {i} of seed {seed}: {name} {changes}", flush=True)
            raise
        took, grown = time.perf_counter() - start, memory() - before
        slowest, hungriest = max(slowest, (took, f"{name} {changes}")), max(hungriest, (grown, f"{name} {changes}"))
        if took > SECONDS or memory() - least > MEMORY:
            raise SystemExit(f"example {i} of seed {seed}: {took:.1f} s, {memory() - least:.0f} MB: {name} {changes}")
    faulthandler.cancel_dump_traceback_later()
    spent = time.perf_counter() - begin
    print(f"tried {count:,} files in {spent:.0f} s, {count / max(spent, 1e-9):.0f} a second: {dict(found)}")
    print(f"memory grew by {memory() - least:.0f} MB, most by {hungriest}; the slowest took {slowest}")


def in_a_process(module: str, *, count: int, seed: int = 0) -> str:
    """What `python -m module count seed` prints: a crash or a hang ends that process, and not the tests."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    with tempfile.NamedTemporaryFile("r") as last:
        command = [sys.executable, "-W", "ignore", "-m", module, str(count), str(seed), last.name]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        told = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert done.returncode == 0, f"exit {done.returncode} at {last.read().strip()}\n{told}"
    return done.stdout + done.stderr
