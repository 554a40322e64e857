"""`langevin train`: train a run on data or by a recipe."""

import os
from contextlib import nullcontext
from typing import Any

from langevin.cli import on_ranks
from langevin.cli.page import Page
from langevin.cli.sample import check_seed
from langevin.cli.show import LiveLine
from langevin.cli.verbs import Resume, Train
from langevin.run.directory import Run
from langevin.run.hub import Hub, push
from langevin.run.latent import train_in_latents
from langevin.run.plan import Wanted
from langevin.run.reporting import Reporting
from langevin.run.train import train_run
from langevin.user_function import CodePermission

ELSEWHERE = (  # options that are not of the run itself
    "serve", "latent", "ranks", "restarts", "patience", "push", "track", "webhook", "webhook_insecure",
)  # fmt: skip


def run(args: Train) -> Run | None:
    """Train, and return the finished run; with --serve only after the page was closed. None with --ranks."""
    if args.seed is not None:
        check_seed(args.seed)
    if args.ranks != 1:
        on_ranks.train(args)
        return None
    line = LiveLine()
    wanted: dict[str, Any] = {name: value for name, value in vars(args).items() if name not in ELSEWHERE}
    wanted["reporting"] = reporting_of(args)
    if args.push:
        Hub(repository=args.push).require_token()
    train = train_in_latents if args.latent else train_run
    with Page(say=line.say) if args.serve else nullcontext() as page:
        run = train(Wanted(**wanted), line.display(), created=page.show if page else lambda path: None)
        if page:
            page.wait()
    if args.push and os.environ.get("RANK", "0") == "0":  # of several processes the first
        published(run, args, line)
    return run


def reporting_of(args: Train | Resume) -> Reporting:
    """The trackers and webhooks of a command."""
    track, webhook = (tuple(filter(None, given.split(","))) for given in (args.track, args.webhook))
    return Reporting(track=track, webhook=webhook, webhook_insecure=args.webhook_insecure)


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
