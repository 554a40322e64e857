"""`langevin train`: train a run on data or by a recipe."""

from contextlib import nullcontext
from typing import Any

from langevin.cli.page import Page
from langevin.cli.sample import check_seed
from langevin.cli.show import LiveLine
from langevin.cli.verbs import Train
from langevin.cli.workers import range_of
from langevin.run.directory import Run
from langevin.run.latent import train_in_latents
from langevin.run.plan import Wanted
from langevin.run.train import train_run

ELSEWHERE = ("workers", "address", "restarts")  # options of --on ray


def run(args: Train) -> Run:
    """Train, and return the finished run; with --serve only after the page was closed."""
    if args.seed is not None:
        check_seed(args.seed)
    where = launch_of(args)
    if where is not None and args.latent:
        raise ValueError("--latent trains two runs one after the other, here: leave it or --on ray out")
    line = LiveLine()
    wanted = Wanted(
        **{k: v for k, v in vars(args).items() if k not in ("serve", "latent", "on", *ELSEWHERE)},
    )
    with Page(say=line.say) if args.serve else nullcontext() as page:
        created = page.show if page else lambda path: None
        if where is not None:
            from langevin.run.ray_train import train_on_ray

            run = train_on_ray(wanted, where, line.display(), created=created)
        else:
            run = (train_in_latents if args.latent else train_run)(wanted, line.display(), created=created)
        if page:
            page.wait()
    return run


def launch_of(args: Any) -> Any:
    """Where and how often ranks are started, `run.ray_train.OnRay`; None for this process.

    Raises:
        ValueError: options of --on ray without it, or out of range."""
    given = {name: getattr(args, name) for name in ELSEWHERE if getattr(args, name) is not None}
    if args.on != "ray":
        if given:
            raise ValueError(f"--{next(iter(given))} is an option of --on ray: add it, or leave the option out")
        return None
    from langevin.run.ray_train import OnRay

    least, most = range_of(given.pop("workers", "2"))
    return OnRay(least=least, most=most, **given)
