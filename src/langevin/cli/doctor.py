"""`langevin doctor`: what this machine can do, what is wrong with its setup, and how to correct it."""

import json
import os
import shutil
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

import torch
from packaging.requirements import Requirement

from langevin.cli.show import output
from langevin.cli.verbs import Doctor
from langevin.training import machine


def run(args: Doctor) -> None:
    """Print facts about the machine, and advice."""
    facts, advice = examine()
    if args.json:
        print(json.dumps({"facts": facts, "advice": advice}, indent=1))
        return
    for name, value in facts.items():
        output(f"{name:26} {value}")
    output("\n" + ("\n".join(f"- {line}" for line in advice) if advice else "Nothing is wrong."))


def examine() -> tuple[dict[str, str], list[str]]:
    """Facts by name, and a line of advice for each problem."""
    facts = {name: str(value) for name, value in machine.describe().items()}
    advice: list[str] = []
    cpu = machine.device().type == "cpu"  # without bf16 hardware a large product takes minutes
    single = machine.matrix_rate(torch.float32, size=1024 if cpu else None)
    half = machine.matrix_rate(torch.bfloat16, size=192 if cpu else None)
    facts["float32 matrix products"] = f"{single / 1e9:,.0f} GFLOP/s"
    facts["bf16 matrix products"] = f"{half / 1e9:,.1f} GFLOP/s{' (small)' if cpu else ''}"
    facts["precision chosen"] = machine.precision("auto")
    if facts["precision chosen"] == "float32":
        advice.append(
            "no fast bf16 here: training uses float32. A CPU with AMX or AVX-512 BF16, or a GPU, trains faster"
        )
    advice += _others(facts)
    free = shutil.disk_usage(Path.cwd()).free
    facts["free disk here"] = f"{free / 1e9:.1f} GB"
    if free < 2e9:
        advice.append("less than 2 GB of disk space are free here: checkpoints may not fit; use --out on another disk")
    have, wrong = packages()
    return facts | have | extras(), advice + wrong


def packages() -> tuple[dict[str, str], list[str]]:
    """Versions of the required packages, and advice for each that is missing or of an unsupported version."""
    facts: dict[str, str] = {}
    advice: list[str] = []
    for need in _needs(""):
        have = _version(need.name) or "missing"
        facts[f"package {need.name}"] = have
        if have == "missing" or not need.specifier.contains(have, prereleases=True):
            advice.append(
                f"{need.name} is {have} and {need.specifier} is required: pip install '{need.name}{need.specifier}'"
            )
    return facts, advice


def _others(facts: dict[str, str]) -> list[str]:
    """Add other busy processes and the waiting policy of threads to `facts`; returns advice."""
    if hasattr(os, "getloadavg"):
        facts["load"] = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    facts["threads wait by"] = f"OMP_WAIT_POLICY={policy}" if policy else "spinning for a while, then sleeping"
    busy = machine.neighbours()
    texts = [
        f"{other.name} {other.pid}: {other.cores:.1f} cores{', niced' if other.nice > 0 else ''}" for other in busy
    ]
    facts["busy neighbours"] = "; ".join(texts[:5]) or "none"
    advice: list[str] = []
    spinning = [str(other.pid) for other in busy if other.spins and other.nice <= 0]
    if spinning:
        advice.append(
            f"other busy jobs have threads that wait by spinning (process {', '.join(spinning[:5])}): training will use "
            "fewer threads and be slower. Stop these jobs, divide the cores by OMP_NUM_THREADS, or start the less "
            "urgent job by `nice -n 19`"
        )
    elif sum(other.cores for other in busy if other.nice <= 0) > 0.5 * (os.cpu_count() or 1):
        advice.append("other processes use more than half of the cores: training will be correspondingly slower")
    if policy.lower() == "active":
        advice.append(
            "OMP_WAIT_POLICY=active makes waiting threads spin forever: unset it if other jobs run on this machine"
        )
    return advice


def extras() -> dict[str, str]:
    """For each extra the installed packages, and the command that installs the missing ones."""
    try:
        names = metadata("langevin").get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return {}
    facts: dict[str, str] = {}
    for extra in names:
        versions = {need.name: _version(need.name) for need in _needs(extra)}
        missing = [name for name, have in versions.items() if have is None]
        parts = [f"{name} {have}" for name, have in versions.items() if have is not None]
        parts += [f"missing {', '.join(missing)}: pip install 'langevin[{extra}]'"] if missing else []
        facts[f"extra {extra}"] = "; ".join(parts)
    return facts


def _needs(extra: str) -> list[Requirement]:
    """The packages of an extra, or for "" the required ones; none if the source runs without being installed."""
    try:
        every = [Requirement(text) for text in requires("langevin") or []]
    except PackageNotFoundError:
        return []
    always = [n for n in every if n.marker is None or n.marker.evaluate({"extra": ""})]
    if not extra:
        return always
    own = [n for n in every if n not in always and n.marker is not None and n.marker.evaluate({"extra": extra})]
    return [need for n in own for need in ([x for e in n.extras for x in _needs(e)] if n.name == "langevin" else [n])]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
