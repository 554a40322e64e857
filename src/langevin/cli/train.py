"""`langevin train`: train a run on data or by a recipe."""

import os
from contextlib import nullcontext
from typing import Any

from langevin.cli import on_ranks
from langevin.cli.on_ranks import reporting_of
from langevin.cli.page import Page
from langevin.cli.sample import check_seed
from langevin.cli.show import LiveLine
from langevin.cli.verbs import Train
from langevin.cli.workers import range_of
from langevin.run.directory import Run
from langevin.run.hub import Hub, push
from langevin.run.latent import train_in_latents
from langevin.run.plan import Wanted
from langevin.run.train import train_run
from langevin.user_function import CodePermission

ELSEWHERE = (  # options that are not of the run itself
    "serve", "latent", "ranks", "restarts", "patience", "on", "workers", "address",
    "push", "track", "webhook", "webhook_insecure",
)  # fmt: skip

ON_RAY = ("workers", "address", "restarts")  # options of --on ray


def run(args: Train) -> Run | None:
    """Train, and return the finished run; with --serve only after the page was closed. None with --ranks."""
    if args.seed is not None:
        check_seed(args.seed)
    where = launch_of(args)
    if where is not None and args.latent:
        raise ValueError("--latent trains two runs one after the other, here: leave it or --on ray out")
    if args.ranks != 1:
        on_ranks.train(args)
        return None
    line = LiveLine()
    wanted = Wanted(
        **{name: value for name, value in vars(args).items() if name not in ELSEWHERE}, reporting=reporting_of(args)
    )
    if args.push:
        Hub(repository=args.push).require_token()
    with Page(say=line.say) if args.serve else nullcontext() as page:
        created = page.show if page else lambda path: None
        if where is not None:
            from langevin.run.ray_train import train_on_ray

            run = train_on_ray(wanted, where, line.display(), created=created)
        else:
            run = (train_in_latents if args.latent else train_run)(wanted, line.display(), created=created)
        if page:
            page.wait()
    if args.push and os.environ.get("RANK", "0") == "0":  # of several processes the first
        published(run, args, line)
    return run


def published(run: Run, args: Train, line: LiveLine) -> None:
    """Push a run that is trained.

    Raises:
        ValueError: it was not pushed; the run is complete all the same."""
    code = CodePermission.of(args.overrides, allow=args.allow_code)
    try:
        line.say(f"pushed: {push(run.path, args.push, code=code, say=line.say)}")
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{run.path} is trained, and was not pushed: {error} (`langevin push {run.path} {args.push}`)"
        ) from error


def launch_of(args: Any) -> Any:
    """Where and how often ranks are started, `run.ray_train.OnRay`; None for this process.

    Raises:
        ValueError: options of --on ray without it, or out of range."""
    given = {name: getattr(args, name) for name in ON_RAY if getattr(args, name) is not None}
    if args.ranks == 1 and args.patience is not None:
        raise ValueError("--patience is an option of --ranks: add it, or leave the option out")
    if args.on != "ray":
        if args.ranks == 1 and "restarts" in given:
            raise ValueError("--restarts is an option of --ranks and of --on ray: add one, or leave it out")
        if other := next((name for name in given if name != "restarts"), None):
            raise ValueError(f"--{other} is an option of --on ray: add it, or leave the option out")
        return None
    if args.ranks != 1:
        raise ValueError("--ranks are processes of this machine, and --on ray has --workers: leave one out")
    from langevin.run.ray_train import OnRay

    least, most = range_of(given.pop("workers", "2"))
    return OnRay(least=least, most=most, **given)
