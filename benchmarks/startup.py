"""How long it takes to begin: importing langevin beside diffusers, and the command line's help.

Every figure is of a fresh process with warm files. An import is timed inside the process, after `import torch`, so it is
what the package adds. `langevin` alone holds nothing; `parts` brings a U-Net, a sampler, a process and the training
method, the counterpart of what is asked of diffusers; `everything` is the room that knows all others.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import harness
from langevin.training import machine

IMPORTS = {
    "langevin": "import langevin",
    "parts": "from langevin.networks import UNet; from langevin.diffusion.process import Gaussian; "
    "from langevin.diffusion.sampler import DDIM; from langevin.methods import Diffusion",
    "everything": "import langevin.recipe.build",
    "diffusers": "import diffusers; from diffusers import UNet2DModel, DDPMScheduler",
}
TIMED = """
import sys, time, torch
begin = time.perf_counter()
{statement}
print(time.perf_counter() - begin)
print(*sorted({{"torchvision", "torchaudio"}} & set(sys.modules)))
"""
HELP = """
import sys
from langevin.cli import main
status = main(["--help"])
print(f"torch imported: {'torch' in sys.modules}, status {status}", file=sys.stderr)
"""
# with the compiled files that an installed package has, where this shell forbids to write them
OFFLINE = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"HF_HUB_OFFLINE": "1"}


def run(*command: str) -> subprocess.CompletedProcess:
    """A fresh process; its output is kept.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    done = subprocess.run(command, capture_output=True, text=True, env=OFFLINE)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)[:100]} failed:\n{done.stderr[-2000:]}")
    return done


def imported(statement: str) -> float:
    """Seconds that a statement takes after `import torch`."""
    seconds, found = run(sys.executable, "-c", TIMED.format(statement=statement)).stdout.splitlines()
    if found.strip():
        print(f"note: '{statement}' also imported {found}")
    return float(seconds)


def wall(*command: str) -> float:
    """Seconds from start to end of a process."""
    begin = time.perf_counter()
    run(*command)
    return time.perf_counter() - begin


def main() -> None:
    asked = harness.parse(harness.options(__doc__, pairs=7))
    figures = harness.introduce(machine.describe(), asked)
    script = str(Path(sys.executable).with_name("langevin"))
    runs = {f"import {name}": lambda s=statement: imported(s) for name, statement in IMPORTS.items()}
    runs["langevin --help"] = lambda: wall(script, "--help")
    runs["python -c pass"] = lambda: wall(sys.executable, "-c", "pass")
    seconds = harness.interleave(runs, pairs=asked.pairs)
    torch_imported = "torch imported: True" in run(sys.executable, "-c", HELP).stderr
    harness.show(
        "seconds (imports: beyond torch)",
        ["what", "median", "least", "greatest", "spread"],
        [[n, statistics.median(s), min(s), max(s), f"{harness.spread(s):.0%}"] for n, s in seconds.items()],
    )
    beside = harness.ratio(seconds["import parts"], seconds["import diffusers"])
    print(f"\nimport of the parts / import of diffusers: {beside}")
    print(f"langevin --help {'IMPORTS' if torch_imported else 'does not import'} torch")
    median = {name: statistics.median(s) for name, s in seconds.items()}
    harness.conclude(
        {
            "benchmark": "startup", **figures,
            "import_langevin_s": median["import langevin"], "import_parts_s": median["import parts"],
            "import_everything_s": median["import everything"], "import_diffusers_s": median["import diffusers"],
            "help_s": median["langevin --help"], "python_s": median["python -c pass"],
            "help_imports_torch": torch_imported, "parts_over_diffusers": beside,
            "spread": {name: harness.spread(s) for name, s in seconds.items()},
        }
    )  # fmt: skip


if __name__ == "__main__":
    main()
