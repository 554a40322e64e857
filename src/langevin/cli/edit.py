"""`langevin edit`: repair or change files with a trained run, one after the other; what is done is not done again."""

import hashlib
import json
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from langevin.cli.out import require_writable
from langevin.cli.sample import MOST, check_drawing, check_seed, chosen, loaded, other_loaded
from langevin.cli.show import LiveLine
from langevin.files import remove, sweep, write_atomic
from langevin.modalities.files import file_name
from langevin.modalities.inputs import files_named
from langevin.modalities.modality import RequestContext, Samples, require_form
from langevin.modalities.paths import list_entries
from langevin.run.directory import Run, open_run
from langevin.run.display import duration
from langevin.run.generate import RunModel, with_others
from langevin.run.provenance import facts_of, words_of

SETTINGS = "edit.json"  # in the output folder: the command that its answers are of


def run(args: Any) -> Path:
    """Edit the input, or each file of a folder; returns where the answers are.

    Raises:
        ValueError: options out of range, an input that cannot be edited, or an output folder of another command."""
    if args.count is not None and not 1 <= args.count <= MOST:
        raise ValueError(f"--count must be 1 to {MOST:,}, got {args.count}")
    check_drawing(args)
    check_seed(args.seed)
    line, begin = LiveLine(), time.perf_counter()
    run, files = open_run(args.run), inputs(Path(args.options.input))
    out = Path(f"{Path(args.options.input).absolute().stem}-edited") if args.out is None else args.out
    single = args.out is not None and bool(out.suffix)
    if single and len(files) > 1:
        raise ValueError(f"--out {out} is a file, and there are {len(files)} inputs: name a folder")
    if single:
        require_form(run.recipe.data, out.suffix, f"--out {out}")
    require_apart(out, [*files, *files_named(args.options)], folder=not single)
    model, step = loaded(args, run, line)
    model = with_others(model, args.options, other_loaded(args, line))
    editing = Editing(args, run, model, step, line)
    if single:
        out = require_writable(out, folder=False)
        editing.one(files[0], line.progress("sampling")).save(out)
        line.say(f"{files[0].name} in {duration(time.perf_counter() - begin)}: {out}")
        return out
    out = editing.free(out, files) if args.out is None else out
    failed = editing.all(files, out)
    line.close()
    done = len(files) - len(failed)
    line.say(f"{done} of {len(files)} edited in {duration(time.perf_counter() - begin)}: {out}")
    if failed:
        raise ValueError(
            f"{len(failed)} could not be edited: " + "; ".join(failed[:5]) + (" ..." if failed[5:] else "")
        )
    return out


def inputs(path: Path) -> list[Path]:
    """The file, or the files of a folder by name. Raises `ValueError` if there is none."""
    if not path.exists():
        raise ValueError(f"there is no file or folder {path}")
    if not path.is_dir():
        return [path]
    found = sorted(one for one in list_entries(path) if one.is_file() and not one.name.startswith("."))
    if not found:
        raise ValueError(f"the folder {path} holds no files")
    return found


def require_apart(out: Path, files: list[Path], *, folder: bool) -> None:
    """Check that no input is overwritten, and that answers do not become inputs. Raises `ValueError` if they would."""
    for file in files:
        if out.resolve() == file.resolve() and file.is_file():
            raise ValueError(f"--out {out} is an input itself: choose another name")
    if folder and out.resolve() == files[0].resolve().parent:
        raise ValueError(f"--out {out} is the folder of the input: choose another, so that the inputs stay as they are")


class Editing:
    """The edits of one command."""

    def __init__(self, args: Any, run: Run, model: RunModel, step: int, line: LiveLine) -> None:
        self.args, self.run, self.model, self.step, self.line = args, run, model, step, line

    def one(self, file: Path, progress: Any) -> Samples:
        """The answers to one input."""
        args = self.args
        options = replace(args.options, input=str(file))
        context = RequestContext(
            model=self.model, data=self.run.open_data, count=args.count, seed=args.seed, say=self.line.say,
            batch=args.batch, progress=progress, guided=args.guidance not in (None, 1), chosen=chosen(args),
        )  # fmt: skip
        plan = self.run.recipe.data.plan(options, context)
        animated = args.out is not None and args.out.suffix == ".gif"
        samples = self.model.run(plan, batch=args.batch, frames=animated, progress=progress)
        facts = facts_of(
            samples, self.model, run=str(args.run), step=self.step, options=options, seed=args.seed, count=args.count,
            verb="edit", ema=args.ema,
        )  # fmt: skip
        return replace(samples, facts=facts)

    def all(self, files: list[Path], out: Path) -> list[str]:
        """Edit every file into a folder: all answers in a file, in a picture, and each in a folder. Returns what failed.

        Raises:
            ValueError: the folder holds something else."""
        settings = self.settings()
        done = require_own(out, settings, files)
        names, failed = names_of(files), list[str]()
        form = next(form for form in self.run.recipe.data.forms if form.startswith("."))
        for i, (file, name) in enumerate(zip(files, names, strict=True)):
            picture = out / f"{name}{form}"
            if name in done and picture.is_file():
                self.line.say(f"{file.name} is done already")
                continue
            shown = self.line.progress(f"{file.name} ({i + 1} of {len(files)})")
            try:
                samples = self.one(file, shown)
            except (ValueError, OSError) as error:
                if len(files) == 1:
                    raise
                failed.append(f"{file.name}: {error}")
                self.line.say(failed[-1])
                continue
            out.mkdir(parents=True, exist_ok=True)
            sweep(out)
            if "" in self.run.recipe.data.forms:
                remove(out / name)
                samples.save(out / name)
            samples.save(picture)
            if (shown := samples.preview()).suffix != form:
                write_atomic(out / f"{name}{shown.suffix}", shown.content)
            done[name] = digest(file)  # last, so that what was stopped is done again
            write_atomic(out / SETTINGS, json.dumps({**settings, "done": done}, indent=1).encode())
        return failed

    def free(self, out: Path, files: list[Path]) -> Path:
        """The folder, or the first of NAME-2, NAME-3, ... that is new or of this command."""
        free, number = out, 2
        while True:
            try:
                require_own(free, self.settings(), files)
            except Taken:
                free, number = out.with_name(f"{out.name}-{number}"), number + 1
            else:
                return free

    def settings(self) -> dict[str, Any]:
        """What the answers depend on, besides the input."""
        own = {
            f.name: getattr(self.args, f.name) for f in fields(self.args) if f.name not in ("options", "out", "batch")
        }
        rest = replace(self.args.options, input="")
        words = words_of(rest)
        contents = {str(path): digest(path) for path in files_named(rest) if path.is_file()}
        return {
            "step": self.step,
            **{name: str(value) for name, value in own.items()},
            "options": words,
            "files": contents,
        }


class Taken(ValueError):
    """A folder that holds something else."""


def digest(path: Path) -> str:
    """SHA-256 of a file that the options name."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def require_own(out: Path, settings: dict[str, Any], files: list[Path]) -> dict[str, str]:
    """Check that a folder is new, empty, or of the same command and inputs; returns the digests of inputs that are done.

    Raises:
        ValueError: it holds something else."""
    if not (out / SETTINGS).is_file():
        if out.is_file() or (out.is_dir() and any(out.iterdir())):
            raise Taken(f"{out} is a file, or holds other files: choose another --out, so that nothing is replaced")
        require_writable(out, folder=True)
        return {}
    try:
        before = json.loads((out / SETTINGS).read_text(encoding="utf-8"))
        done: dict[str, str] = dict(before.pop("done"))
    except (ValueError, KeyError, TypeError, AttributeError):
        before, done = {}, {}
    if before != settings:
        changed = [name for name in settings if before.get(name) != settings[name]]
        raise Taken(f"{out} holds answers of another command ({', '.join(changed)} differ): choose another --out")
    for file, name in zip(files, names_of(files), strict=True):
        if name in done and done[name] != digest(file):
            raise Taken(f"{out} holds answers to another {file.name}: choose another --out")
    return done


def names_of(files: list[Path]) -> list[str]:
    """A name for each file, unlike all others: its stem, with its suffix where stems are equal, and a number if need be."""
    stems, found = [file.stem for file in files], dict[str, None]()
    for stem, file in zip(stems, files, strict=True):
        plain = name = file_name(stem if stems.count(stem) == 1 else file.name.replace(".", "-"))
        number = 2
        while name in found:
            name, number = f"{plain}-{number}", number + 1
        found[name] = None
    return list(found)
