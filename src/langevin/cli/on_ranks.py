"""`langevin train` and `langevin resume` with `--ranks`: the same command in several processes, under a supervisor."""

import sys
from pathlib import Path

from langevin.cli.show import LiveLine
from langevin.cli.verbs import Resume, Train
from langevin.run.directory import open_run
from langevin.run.plan import require_no_run, require_target
from langevin.run.ranks import Ranks, supervise
from langevin.run.reporting import Reporting


def reporting_of(args: Train | Resume) -> Reporting:
    """The trackers and webhooks of a command."""
    track, webhook = (tuple(filter(None, given.split(","))) for given in (args.track, args.webhook))
    return Reporting(track=track, webhook=webhook, webhook_insecure=args.webhook_insecure)


def train(args: Train) -> None:
    """Train on several ranks.

    Raises:
        ValueError: options that do not go together.
        SystemExit: the run did not come to its end."""
    if args.latent:
        raise ValueError(
            "--latent trains two runs one after the other, and --ranks starts one again: train the autoencoder with "
            "--ranks first, then the run in its latents (data.codec)"
        )
    if args.push:
        raise ValueError(f"--push is not for --ranks: `langevin push RUN {args.push}` when the run is complete")
    ranks = _ranks(args)
    require_target(args.target)
    if args.out is not None:
        require_no_run(args.out)
    words = ["train", args.target, *args.overrides]
    for name in ("minutes", "out", "seed", "data"):
        if (value := getattr(args, name)) is not None:
            words.append(f"--{name}={value}")
    words += ["--serve"] if args.serve else []
    _carry_out(words, args, ranks)


def resume(args: Resume) -> None:
    """Resume on several ranks.

    Raises:
        ValueError: there is no run, or options do not go together.
        SystemExit: the run did not come to its end."""
    ranks = _ranks(args)
    open_run(args.run)
    _carry_out(["resume", str(args.run)], args, ranks)


def _ranks(args: Train | Resume) -> Ranks:
    given = {name: value for name in ("restarts", "patience") if (value := getattr(args, name)) is not None}
    return Ranks(count=args.ranks, **given)


def _carry_out(words: list[str], args: Train | Resume, ranks: Ranks) -> None:
    reporting_of(args).check()
    line = LiveLine()
    flags = [f"--{name.replace('_', '-')}" for name in ("allow_code", "webhook_insecure") if getattr(args, name)]
    flags += [f"--{name}={value}" for name in ("track", "webhook") if (value := getattr(args, name))]

    def again(run: Path) -> list[str]:
        if not (run / "recipe.yaml").is_file():
            return [*words, *flags]
        if "--serve" in words:
            line.say(f"the page has ended with the lost ranks: `langevin serve {run.parent}` shows the run")
        return ["resume", str(run), *flags]

    status = supervise([*words, *flags], ranks, again=again, say=line.say)
    if status:
        sys.exit(status)
