"""`langevin detect`: test whether files were sampled from a run with a key."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from langevin.cli.sample import check_seed
from langevin.cli.show import LiveLine, output
from langevin.cli.verbs import Detect
from langevin.embed import CARRYING, extract
from langevin.files import read_regular
from langevin.run.directory import load_model, open_run
from langevin.run.watermark import detect, marked
from langevin.safety.watermark import FOUND, Detection, name_of, read_key
from langevin.training import machine

MOST = 1 << 28  # bytes of a file


def run(args: Detect) -> None:
    """Print a line for each file.

    Raises:
        ValueError: a file that cannot be read, a run of which nothing can be found, or seeds out of range."""
    first, last = args.seeds
    check_seed(first)
    check_seed(last)
    if last < first:
        raise ValueError(f"--seeds are the first and the last seed to try, got {first} and {last}")
    key, found = read_key(args.watermark), list[dict[str, Any]]()
    run = open_run(args.run)
    model = marked(load_model(run, device=machine.device(), say=LiveLine().say, steps=args.steps)[0], run, key)
    encode = getattr(model.modality, "encode_file", None)
    if encode is None:
        raise ValueError(f"samples of {model.modality.kind} cannot be tested yet")
    for path in args.files:
        if path.is_dir():
            raise ValueError(f"{path} is a folder: name its files, as {path}/*")
        named = seed_in(path, model.built.key or b"")
        seeds = [*([] if named is None or first <= named <= last else [named]), *range(first, last + 1)]
        detection = detect(model, encode(path), seeds)
        if args.json:
            found.append({"file": str(path), **asdict(detection), "p_value": detection.p_value})
        else:
            output(f"{path}: {said(detection)}")
            if named is not None and detection.log10_p > FOUND:
                output(
                    f"{path}: its text names this key. Of a sheet of many samples nothing is found: sample --out FOLDER"
                )
    if args.json:
        print(json.dumps(found, indent=1))


def said(detection: Detection) -> str:
    """A detection in words."""
    chance = f"p = {detection.p_value:.2g}" if detection.log10_p > -300 else f"p = 1e{detection.log10_p:.0f}"
    if detection.log10_p > FOUND:
        return f"no watermark found ({chance})"
    return f"watermark of seed {detection.seed} ({chance}, with {detection.tried:,} tries)"


def seed_in(path: Path, key: bytes) -> int | None:
    """The seed that a file says it was made with, if it also names this key."""
    if path.suffix.lower() not in CARRYING or not path.is_file():
        return None
    facts = extract(read_regular(path, most=MOST)) or {}
    seed = facts.get("seed")
    return seed if facts.get("watermark") == name_of(key) and type(seed) is int and abs(seed) < 2**62 else None
