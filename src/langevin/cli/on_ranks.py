"""`langevin train` and `langevin resume` with `--ranks`: the same command in several processes, under a supervisor."""

import sys
from pathlib import Path

from langevin.cli.show import LiveLine
from langevin.cli.verbs import Resume, Train
from langevin.run.ranks import Ranks, supervise


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
    words = ["train", args.target, *args.overrides]
    for name in ("minutes", "out", "seed", "data"):
        if (value := getattr(args, name)) is not None:
            words.append(f"--{name}={value}")
    words += ["--serve"] if args.serve else []
    _carry_out(words, args)


def resume(args: Resume) -> None:
    """Resume on several ranks.

    Raises:
        SystemExit: the run did not come to its end."""
    _carry_out(["resume", str(args.run)], args)


def _carry_out(words: list[str], args: Train | Resume) -> None:
    ranks = Ranks(count=args.ranks, restarts=3 if args.restarts is None else args.restarts, patience=args.patience)
    flags = [f"--{name.replace('_', '-')}" for name in ("allow_code", "webhook_insecure") if getattr(args, name)]
    flags += [f"--{name}={value}" for name in ("track", "webhook") if (value := getattr(args, name))]

    def again(run: Path) -> list[str]:
        there = (run / "recipe.yaml").is_file()
        return ["resume", str(run), *flags] if there else [*words, *flags]

    status = supervise([*words, *flags], ranks, again=again, say=LiveLine().say)
    if status:
        sys.exit(status)
