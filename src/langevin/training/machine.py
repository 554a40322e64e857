"""The capabilities of this machine, measured: device, precision, speed, and other busy processes."""

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch


def device() -> torch.device:
    """The accelerator if there is one, CUDA before Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def matrix_rate(
    dtype: torch.dtype, *, size: int | None = None, seconds: float = 0.2, where: torch.device | None = None
) -> float:
    """Measured FLOP/s of square matrix products: the median over the products that fit into `seconds`.

    Args:
        size: rows and columns; default 512 on a CPU, 4,096 on an accelerator, where smaller ones measure launch overhead.
        where: the device; default `device()`.
    """
    where = where or device()
    size = size or (512 if where.type == "cpu" else 4096)
    a = torch.randn(size, size, device=where).to(dtype)
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - begin < seconds and len(times) < 200):
        start = time.perf_counter()
        _ = a @ a
        if where.type != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / sorted(times)[len(times) // 2]


def has_bf16_units() -> bool:
    """Whether the hardware multiplies bf16: AMX or AVX-512 BF16 on a CPU, tensor cores on a GPU."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_capability()[0] >= 8
    if device().type == "mps":
        return False  # untested
    has = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(has.get("amx_tile") or has.get("avx512_bf16"))


def precision(wish: Literal["auto", "float32", "bfloat16"]) -> Literal["float32", "bfloat16"]:
    """The dtype of matrix products: `wish`, or for auto bf16 if it is measured to be 1.5 times as fast as float32.

    It is measured on small products, as bf16 without hardware support can be hundreds of times slower."""
    if wish != "auto":
        return wish
    if not has_bf16_units():
        return "float32"
    size = 256 if device().type == "cpu" else None
    bf16_is_faster = matrix_rate(torch.bfloat16, size=size) > 1.5 * matrix_rate(torch.float32, size=size)
    return "bfloat16" if bf16_is_faster else "float32"


def total_memory() -> int | None:
    """Bytes of main memory; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def out_of_memory(error: Exception) -> bool:
    """Whether memory of the machine or of the GPU ran out; torch has no exception of its own for the first."""
    if isinstance(error, MemoryError):
        return True
    known = ("DefaultCPUAllocator", "out of memory", "Storage size calculation overflowed")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in known)


def describe() -> dict[str, str | int | float]:
    """Machine, versions and threads, to record with a result."""
    facts: dict[str, str | int | float] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "vector_units": torch.backends.cpu.get_cpu_capability(),
        "bf16_units": str(has_bf16_units()).lower(),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    elif device().type == "mps":
        facts["gpu"] = "Apple"
    return facts


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """Another busy process on this machine.

    Args:
        cores: how many it uses.
        nice: its niceness; above 0 it yields to others.
        spins: whether it has loaded torch or OpenMP, whose threads wait by spinning.
    """

    pid: int
    name: str
    cores: float
    nice: int
    spins: bool


def neighbours(*, seconds: float = 0.3, least: float = 0.3, proc: Path = Path("/proc")) -> list[Neighbour]:
    """The other processes that use at least `least` of a core, measured over `seconds`, busiest first.

    Empty on systems without /proc."""
    before, begin = _ticks(proc), time.monotonic()
    time.sleep(seconds)
    after, passed = _ticks(proc), time.monotonic() - begin
    hertz = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
    busy: list[Neighbour] = []
    for pid, (name, ticks, nice) in after.items():
        cores = (ticks - before[pid][1]) / hertz / max(passed, 1e-9) if pid in before else 0.0
        if pid != os.getpid() and cores >= least:
            busy.append(Neighbour(pid=pid, name=name, cores=cores, nice=nice, spins=_spins(proc / str(pid))))
    return sorted(busy, key=lambda process: -process.cores)


def _ticks(proc: Path) -> dict[int, tuple[str, int, int]]:
    """pid -> (name, CPU time in clock ticks, niceness) of every process."""
    processes: dict[int, tuple[str, int, int]] = {}
    for folder in proc.glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text(errors="replace")
        except OSError:  # the process has just ended
            continue
        name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
        processes[int(folder.name)] = (
            name,
            int(rest[11]) + int(rest[12]),
            int(rest[16]),
        )  # proc(5): fields 14, 15 and 19
    return processes


def _spins(folder: Path) -> bool:
    try:
        maps = (folder / "maps").read_text(errors="replace")
    except OSError:  # a process of another user
        return False
    return any(library in maps for library in ("libtorch_cpu", "libgomp", "libiomp", "libomp"))


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
