"""`langevin demo`: train, sample and evaluate on data that comes with a dependency, timed."""

import shlex
import shutil
import time
from importlib import resources

from langevin.cli import main
from langevin.cli.verbs import Demo
from langevin.run.directory import writing

MARK = ".demo"  # the file by which the demo knows its own directory


def run(args: Demo) -> None:
    """Run the commands of `recipes/demo.txt`; print where the results are and how long each command took.

    Raises:
        ValueError: `--out` holds files that are not of an earlier demo."""
    if args.minutes is not None and not 0 < args.minutes < 1e6:
        raise ValueError(f"--minutes must be positive, got {args.minutes}")
    if args.out.is_file():
        raise ValueError(f"--out {args.out} is a file, and the demo writes a folder: choose another")
    mark = args.out / MARK
    if args.out.exists() and any(args.out.iterdir()):
        if not mark.exists():
            raise ValueError(
                f"{args.out} holds files that are not of an earlier demo: choose another --out, or remove it yourself"
            )
        with writing(args.out):
            for path in args.out.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != ".lock":  # open until the lock is released
                    path.unlink()
    args.out.mkdir(parents=True, exist_ok=True)
    mark.write_text("made by `langevin demo`, which may replace this directory\n")
    seconds: dict[str, float] = {}
    for verb, *rest in commands(str(args.out)):
        begin = time.perf_counter()
        step(verb, *rest, *(("--minutes", f"{args.minutes:g}") if verb == "train" and args.minutes else ()))
        seconds[verb] = time.perf_counter() - begin
    print("\nDone. Look at:")
    for path in (*sorted((args.out / "samples").glob("demo.*")), args.out / "report.html"):
        print(f"  {path}")
    print("Seconds:")
    for verb, taken in (*seconds.items(), ("all", sum(seconds.values()))):
        print(f"  {verb:10} {taken:6.1f}")


def commands(out: str) -> list[list[str]]:
    """The demo's commands, as lists of words, for the directory `out`."""
    text = resources.files("langevin").joinpath("recipes", "demo.txt").read_text(encoding="utf-8")
    words = [shlex.split(paragraph, comments=True) for paragraph in text.split("\n\n")]
    return [[word.replace("RUN", out) for word in command] for command in words if command]


def step(*arguments: str) -> None:
    """Print and run one command; a failure ends the demo."""
    print("\n$ langevin " + " ".join(shlex.quote(a) for a in arguments), flush=True)
    status = main(list(arguments))
    if status:
        raise SystemExit(status)
