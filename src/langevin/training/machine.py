"""What this machine can do, measured: device, precision, speed."""

import os
import platform
import time
from typing import Literal

import torch


def device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def matrix_rate(
    dtype: torch.dtype, *, size: int | None = None, seconds: float = 0.2, where: torch.device | None = None
) -> float:
    """Measured FLOP/s of square matrix products of one type: the median of what fits into `seconds`.

    An accelerator is asked for products of 4,096 by default: smaller ones measure how long it takes to start one."""
    where = where or device()
    size = size or (512 if where.type == "cpu" else 4096)
    a = torch.randn(size, size, device=where).to(dtype)
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - begin < seconds and len(times) < 200):
        start = time.perf_counter()
        _ = a @ a
        if where.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / sorted(times)[len(times) // 2]


def has_bf16_units() -> bool:
    """Whether this machine multiplies bf16 in hardware (AMX or AVX-512 BF16 on a CPU, tensor cores on a GPU)."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_capability()[0] >= 8
    has = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(has.get("amx_tile") or has.get("avx512_bf16"))


def precision(wish: Literal["auto", "float32", "bfloat16"]) -> Literal["float32", "bfloat16"]:
    """The type of matrix products: the wish, or bf16 where it is measured at least half as fast again as float32.

    Without the units bf16 can be hundreds of times slower, so a small product decides, not a name."""
    if wish != "auto":
        return wish
    if not has_bf16_units():
        return "float32"
    size = 256 if device().type == "cpu" else None
    faster = matrix_rate(torch.bfloat16, size=size) > 1.5 * matrix_rate(torch.float32, size=size)
    return "bfloat16" if faster else "float32"


def describe() -> dict[str, str | int | float]:
    """What to write beside a result: machine, versions, threads."""
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
    return facts


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
