"""`langevin generate`: many samples of a run, by any number of processes and machines that share a folder."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from langevin.cli.merge import named
from langevin.cli.sample import check_drawing, check_seed
from langevin.cli.show import LiveLine
from langevin.cli.workers import range_of
from langevin.modalities.inputs import values_of
from langevin.run.bulk import Bulk, conditions_of, form_of, request_of
from langevin.run.directory import Run, open_run
from langevin.run.drawer import Drawer
from langevin.run.shards import MANIFEST, Shard, WorkList
from langevin.run.workers import usual_workers, work_here

INDEX = "JOB_COMPLETION_INDEX"  # which Kubernetes sets in the pods of an indexed job


def run(args: Any) -> Path:
    """Make the samples of a request, or a share of them; returns their folder.

    Raises:
        ValueError: options out of range, or that do not fit the run; or the folder is that of another request."""
    line, trained = LiveLine(), open_run(args.run)
    check(args)
    bulk = bulk_of(args, trained)
    conditions_of(bulk.each)
    request = request_of(bulk, trained)
    if args.out is None:
        bulk = _at_default(bulk, request)
    index, of = share_of(args)
    shards = bulk.work_list.share(index, of)
    bulk.folder.check(request)
    missing, drawer = bulk.folder.missing(shards), None
    if missing:
        alone = args.on != "ray" and workers_of(args, shards) == 1
        drawer = Drawer.of(bulk, line.say, device=None if alone else torch.device("cpu"))
        drawer.check(missing[0])  # once, before there are workers, and before there is a folder
        drawer = drawer if alone else None
    bulk.folder.prepare(request)
    if missing:
        make(args, bulk, shards, drawer, line)
    line.close()
    everything = list(bulk.work_list)
    if bulk.folder.finish(everything):
        manifest = bulk.out / MANIFEST
        listed = f"listed in {manifest}" if manifest.is_file() else "of which more are being made"
        line.say(f"{bulk.count:,} samples in {len(everything):,} shards: {bulk.out}, {listed}")
    else:
        missing = len(bulk.folder.missing(everything))
        line.say(
            f"share {index} of {of} is done; {missing:,} of {len(everything):,} shards are not there yet: {bulk.out}"
        )
    return bulk.out


def make(args: Any, bulk: Bulk, shards: list[Shard], drawer: Drawer | None, line: LiveLine) -> None:
    """Make the shards where the command says."""
    if args.on == "ray":
        from langevin.run.ray import generate_on_ray

        wanted = None if args.workers is None else range_of(args.workers)[1]
        generate_on_ray(bulk, shards, workers=wanted, address=args.address, say=line.say, update=line.update)
        return
    work_here(bulk, shards, workers=workers_of(args, shards), drawer=drawer, say=line.say, update=line.update)


def workers_of(args: Any, shards: list[Shard]) -> int:
    """The number of processes of this machine."""
    return min(usual_workers(args.threads) if args.workers is None else range_of(args.workers)[1], len(shards))


def check(args: Any) -> None:
    """Check the options before any work. Raises `ValueError` for one out of range, or without effect."""
    if args.count is None:
        raise ValueError("--count says how many samples to make: give it")
    WorkList(count=args.count, size=args.shard_size)
    check_drawing(args)
    check_seed(args.seed)
    check_seed(args.seed + args.count)
    if not 1 <= args.threads <= 1024:
        raise ValueError(f"--threads must be 1 to 1024, got {args.threads}")
    if args.address is not None and args.on != "ray":
        raise ValueError("--address is that of a Ray cluster: add --on ray, or leave it out")
    least, most = (1, 1) if args.workers is None else range_of(args.workers)
    if least != most and args.on != "ray":
        raise ValueError(f"--workers {args.workers} is a range of a Ray cluster: add --on ray, or give one number")
    if any(value == "-" for name in vars(args.options) for value in values_of(getattr(args.options, name))):
        raise ValueError("- reads standard input, and several processes draw: give the text itself, or --each FILE")


def share_of(args: Any) -> tuple[int, int]:
    """Which share of the shards this command makes: (index, number of shares).

    Raises:
        ValueError: an index without the number of shares, or the other way round."""
    index = args.index
    if args.of is None:
        if index is not None:
            raise ValueError("--index says which share of the samples is made: say of how many by --of")
        return 0, 1
    if index is None:
        text = os.environ.get(INDEX, "")
        if not text.isdecimal():
            raise ValueError(f"--of {args.of} makes one share of the samples: say which by --index, or by {INDEX}")
        index = int(text)
    return index, args.of


def bulk_of(args: Any, run: Run) -> Bulk:
    """The request of a command; its folder is the run's, until there is a name for it.

    Raises:
        ValueError: a form that the modality does not write, or no option that takes conditions."""
    return Bulk(
        run=args.run.absolute(), out=(args.out or run.path).absolute(), count=args.count, options=args.options,
        form=form_of(run, args.form), shard_size=args.shard_size, seed=args.seed, each=each_of(args, run),
        steps=args.steps, sampler=args.sampler, guidance=args.guidance, ema=args.ema, light=args.light,
        adapter=tuple((path.absolute(), weight) for path, weight in map(named, args.adapter)), batch=args.batch,
        threads=args.threads, allow_code=args.allow_code,
        watermark=None if args.watermark is None else args.watermark.absolute(),
    )  # fmt: skip


def each_of(args: Any, run: Run) -> tuple[str, Path] | None:
    """The option that takes the lines of a file, and the file, from FILE or OPTION=FILE.

    Raises:
        ValueError: the modality has no such option, or it is given too."""
    if args.each is None:
        return None
    known = getattr(args.options, "EACH", ())
    if not known:
        raise ValueError(f"--each gives each sample its own condition, and runs of {run.recipe.data.kind} have none")
    name, assigned, file = args.each.partition("=")
    option, path = (name, Path(file)) if assigned and name in known else (known[0], Path(args.each))
    if getattr(args.options, option):
        raise ValueError(f"--each gives the values of --{option}: leave --{option} out")
    return option, path.absolute()


def _at_default(bulk: Bulk, request: dict[str, Any]) -> Bulk:
    """The request with a folder in its run, named after all but its count: the same command finds it again."""
    about = {key: value for key, value in request.items() if key != "count"}
    name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
    return replace(bulk, out=bulk.run / "generated" / name)
