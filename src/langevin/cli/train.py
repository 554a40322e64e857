"""`langevin train`: train a run on data or by a recipe."""

from contextlib import nullcontext

from langevin.cli import on_ranks
from langevin.cli.page import Page
from langevin.cli.sample import check_seed
from langevin.cli.show import LiveLine
from langevin.cli.verbs import Train
from langevin.run.directory import Run
from langevin.run.latent import train_in_latents
from langevin.run.plan import Wanted
from langevin.run.train import train_run

ELSEWHERE = ("serve", "latent", "ranks", "restarts", "patience")  # options that are not of the run itself


def run(args: Train) -> Run | None:
    """Train, and return the finished run; with --serve only after the page was closed. None with --ranks."""
    if args.seed is not None:
        check_seed(args.seed)
    if args.ranks != 1:
        on_ranks.train(args)
        return None
    line, wanted = LiveLine(), {name: value for name, value in vars(args).items() if name not in ELSEWHERE}
    train = train_in_latents if args.latent else train_run
    with Page(say=line.say) if args.serve else nullcontext() as page:
        run = train(Wanted(**wanted), line.display(), created=page.show if page else lambda path: None)
        if page:
            page.wait()
    return run
