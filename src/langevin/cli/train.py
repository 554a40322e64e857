"""`langevin train`: train a run on data or by a recipe."""

from contextlib import nullcontext

from langevin.cli.page import Page
from langevin.cli.sample import check_seed
from langevin.cli.show import LiveLine
from langevin.cli.verbs import Train
from langevin.run.directory import Run
from langevin.run.latent import train_in_latents
from langevin.run.plan import Wanted
from langevin.run.train import train_run


def run(args: Train) -> Run:
    """Train, and return the finished run; with --serve only after the page was closed."""
    if args.seed is not None:
        check_seed(args.seed)
    line, wanted = LiveLine(), {name: value for name, value in vars(args).items() if name not in ("serve", "latent")}
    train = train_in_latents if args.latent else train_run
    with Page(say=line.say) if args.serve else nullcontext() as page:
        run = train(Wanted(**wanted), line.display(), created=page.show if page else lambda path: None)
        if page:
            page.wait()
    return run
