"""`langevin doctor`: what this machine can do, what is wrong, and how to mend it."""

import json
import os
import shutil
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

import torch
from packaging.requirements import Requirement

from langevin.cli.verbs import Doctor
from langevin.training import machine


def run(asked: Doctor) -> None:
    """Print facts and advice."""
    facts, advice = examine()
    if asked.json:
        print(json.dumps({"facts": facts, "advice": advice}, indent=1))
        return
    for name, value in facts.items():
        print(f"{name:26} {value}")
    print("\n" + ("\n".join(f"- {line}" for line in advice) if advice else "Nothing is wrong."))


def examine() -> tuple[dict[str, str], list[str]]:
    """Facts by name, and a line of advice for each thing that is wrong."""
    facts = {name: str(value) for name, value in machine.describe().items()}
    advice: list[str] = []
    cpu = machine.device().type == "cpu"  # without units a large product in bf16 takes minutes
    single = machine.matrix_rate(torch.float32, size=1024 if cpu else None)
    half = machine.matrix_rate(torch.bfloat16, size=192 if cpu else None)
    facts["float32 matrix products"] = f"{single / 1e9:,.0f} GFLOP/s"
    facts["bf16 matrix products"] = f"{half / 1e9:,.1f} GFLOP/s{' (small)' if cpu else ''}"
    facts["precision chosen"] = machine.precision("auto")
    if facts["precision chosen"] == "float32":
        advice.append(
            "no fast bf16 here: training uses float32. A CPU with AMX or AVX-512 BF16, or a GPU, trains faster"
        )
    facts["load"] = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    if os.getloadavg()[0] > 0.5 * (os.cpu_count() or 1):
        advice.append(
            "other processes are busy: two threads of one step wait for each other, so expect several times less"
        )
    free = shutil.disk_usage(Path.cwd()).free
    facts["free disk here"] = f"{free / 1e9:.1f} GB"
    if free < 2e9:
        advice.append("less than 2 GB of disk are free here: checkpoints may not fit; use --out on another disk")
    for text in _needs():
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            have = version(need.name)
        except PackageNotFoundError:
            have = "missing"
        facts[f"package {need.name}"] = have
        if have == "missing" or not need.specifier.contains(have, prereleases=True):
            advice.append(
                f"{need.name} is {have}, {need.specifier} is needed: pip install '{need.name}{need.specifier}'"
            )
    for module, extra in (("pyarrow", "data"), ("sklearn", "data"), ("tensorboard", "track")):
        if find_spec(module) is None:
            advice.append(f"{module} is not installed: pip install 'langevin[{extra}]' if you need it")
    return facts, advice


def _needs() -> list[str]:
    """What this package needs; nothing is known where it runs from its source without being installed."""
    try:
        return requires("langevin") or []
    except PackageNotFoundError:
        return []
