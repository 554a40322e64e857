"""`langevin pack`: a folder of data as tar shards."""

import re
from pathlib import Path

from langevin.cli.show import LiveLine, output
from langevin.cli.verbs import Pack
from langevin.run.pack import pack

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def run(args: Pack) -> None:
    """Write the shards.

    Raises:
        ValueError: no folder, nothing in it, a size that is none, or something at the place of the shards."""
    data = Path(args.data)
    out = args.out or data.resolve().with_name(f"{data.resolve().name}-shards")
    line = LiveLine()
    try:
        packed = pack(data, out, shard_size=size_of(args.shard_size), progress=line.progress("packing"))
    finally:
        line.close()
    for text in packed.lines():
        output(text)
    output(f"next: langevin train {out}")


def size_of(text: str) -> int:
    """A number of bytes, such as 256MB. Raises `ValueError` for anything else."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*(KB|MB|GB|)", text.strip().upper())
    if match is None:
        raise ValueError(f"--shard-size is a number of bytes, such as 256MB, got {text!r}")
    return int(float(match[1]) * _UNITS[match[2]])
