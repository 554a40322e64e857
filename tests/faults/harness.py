"""Runs commands with a fault at one of their calls to the system. Started with faults.c preloaded; see `run`.

Each case is carried out in a fork of this process, so that everything is imported once.
"""

import ctypes
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CHANGES, READS, ALL = 1, 2, 3  # kinds of calls


def build(folder):
    """The shared library; None without a C compiler."""
    library = folder / "faults.so"
    source = Path(__file__).with_name("faults.c")
    try:
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True, capture_output=True
        )
    except FileNotFoundError:
        return None
    return library


def run(library, cases, *, timeout=1800):
    """Results of the cases, in order: {status, seen, said} of each; `status` is negative for a signal.

    A case has `arguments` of the command line, and optionally `under` (a directory), `kinds`, `at`, `what` (an errno, 0 to
    kill) and `stays`."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(cases, file)
        file.flush()
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.harness", file.name],
            env=os.environ | {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "FAULTS": str(library)},
            check=True, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
    return json.loads(done.stdout)


def weights(run):
    """A digest of the newest checkpoint's tensors."""
    from langevin.training import checkpoint

    newest, complaints = checkpoint.load_latest(Path(run) / "checkpoints")
    assert newest is not None, complaints
    digest = hashlib.sha256()
    for group, tensors in sorted(newest.groups.items()):
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{group}/{name}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
    return newest.state["step"], digest.hexdigest()


def carry_out(case):
    faults = ctypes.CDLL(os.environ["FAULTS"])
    faults.faults_seen.restype = ctypes.c_long
    faults.faults_arm.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int]
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as seen:
        child = os.fork()
        if child == 0:
            from langevin.cli import main

            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            faults.faults_arm(
                case.get("under", "").encode(), case.get("kinds", 0), case.get("at", 0), case.get("what", 0),
                case.get("stays", 0),
            )  # fmt: skip
            status = main(case["arguments"])
            seen.write(str(faults.faults_seen()))
            seen.flush()
            sys.stdout.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for file in (said, seen):
            file.seek(0)
        return {"status": status, "said": said.read(), "seen": int(seen.read() or 0)}


if __name__ == "__main__":
    import langevin.cli.evaluate
    import langevin.cli.sample
    import langevin.cli.train  # noqa: F401

    json.dump([carry_out(case) for case in json.loads(Path(sys.argv[1]).read_text())], sys.stdout)
