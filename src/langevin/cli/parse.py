"""From words to a verb and its arguments, with the options of the run's modality. Nothing here imports torch."""

import math
import re
from dataclasses import field, fields, is_dataclass, make_dataclass
from difflib import get_close_matches
from keyword import iskeyword
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

import tyro
from tyro.conf import subcommand

from langevin.cli import verbs
from langevin.modalities.options import kinds, options_of, requests
from langevin.run.version import read_environment

VERBS: dict[str, type[Any]] = {
    "train": verbs.Train, "resume": verbs.Resume, "sample": verbs.Sample, "generate": verbs.Generate, "edit": verbs.Edit,
    "explain": verbs.Explain, "attribute": verbs.Attribute,
    "chat": verbs.Chat, "classify": verbs.Classify, "evaluate": verbs.Evaluate, "compare": verbs.Compare,
    "distil": verbs.Distil, "adapt": verbs.Adapt, "continue": verbs.Continue, "merge": verbs.Merge, "refine": verbs.Refine,
    "reward": verbs.Reward, "forget": verbs.Forget, "stress": verbs.Stress, "intervene": verbs.Intervene,
    "export": verbs.Export, "import": verbs.Import,
    "fit-solver": verbs.FitSolver, "inspect": verbs.Inspect, "doctor": verbs.Doctor, "demo": verbs.Demo,
    "serve": verbs.Serve, "audit": verbs.Audit, "detect": verbs.Detect, "pack": verbs.Pack,
    "push": verbs.Push, "pull": verbs.Pull,
}  # fmt: skip
OF_KIND = {
    "sample": "Sample",
    "generate": "Sample",
    "evaluate": "Evaluate",
    "edit": "Edit",
    "explain": "Explain",
    "attribute": "Sample",
    "chat": "Chat",
    "classify": "Classify",
}  # verb -> class of its options

SECTIONS = (  # fields of a recipe, which overrides may set as a whole
    "name", "description", "measured", "data", "init_from", "network", "process", "method", "training", "sampling",
    "adapter", "continual", "smoke_test",
)  # fmt: skip
_ASSIGNMENT = re.compile(rf"([A-Za-z_]\w*(\.\w+)+|{'|'.join(SECTIONS)})=")
_KIND = re.compile(r"^data:\n(?: .*\n)*?  kind: (\w+)$", re.MULTILINE)


class Parsed(NamedTuple):
    """A verb, its arguments, and the modality whose options these include, if any."""

    verb: str
    args: Any
    kind: str | None = None


def parse(arguments: list[str]) -> Parsed:
    """Parse the words of a command line.

    Overrides (`key.key=value`) may stand anywhere among the arguments of `train`, `distil`, `adapt` and `continue`.

    Raises:
        SystemExit: help or a usage error was printed.
        ValueError: an option of another modality or without a value, or a run of an unknown modality."""
    verb = arguments[0] if arguments else ""
    if verb in ("train", "distil", "adapt", "continue"):
        arguments = with_overrides_last(arguments)
    known, kind = dict(VERBS), None
    for name, (owner, options) in requests().items():
        known[name] = with_options(verbs.Apply, options, owner)
        kind = owner if name == verb else kind
    if verb == "sample" and is_density(arguments[1:]):
        known[verb] = verbs.SampleDensity
        require_own(arguments[1:], verb, known[verb], target_of(arguments[1:]), "a density")
    elif verb in OF_KIND:
        run = run_among(arguments[1:])
        if run is not None:
            kind = kind_of(run)
            known[verb] = with_options(known[verb], own_options(kind, verb), kind)
            require_own(arguments[1:], verb, known[verb], str(run), f"a run of {kind}")
        else:
            require_run(arguments[1:], verb)
    if verb in known:
        require_once(arguments[1:])
        require_values(arguments[1:], types_of(known[verb]))
    choices = tuple(Annotated[member, subcommand(name)] for name, member in known.items())
    args = tyro.cli(
        Union[choices],  # type: ignore[arg-type]  # noqa: UP007
        prog="langevin",
        description="Diffusion models of your own data: trained, sampled and measured. Add --debug to see tracebacks.",
        args=arguments or ["--help"],
        config=(tyro.conf.OmitArgPrefixes,),
    )
    return Parsed(verb=verb, args=args, kind=kind)


def require_once(arguments: list[str]) -> None:
    """Raises `ValueError` for an option that is given twice, of which the last would hold."""
    names = [word.partition("=")[0] for word in arguments if word.startswith("--") and len(word) > 2]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is given twice: give it once, with all of its values after it")


def with_overrides_last(arguments: list[str]) -> list[str]:
    """The arguments of a verb with the overrides among its positional arguments moved behind the last other one, so that no
    option with several values takes them."""
    found = positions(arguments, [VERBS[arguments[0]]])
    at = [i for i in found if _ASSIGNMENT.match(arguments[i])]
    last = max((i for i in found if i not in at), default=0)
    rest = [(i, a) for i, a in enumerate(arguments) if i not in at]
    before, after = [a for i, a in rest if i <= last], [a for i, a in rest if i > last]
    return [*before, *(arguments[i] for i in at), *after]


def module_of(command: Parsed) -> str:
    """Name of the module of `langevin.cli` that runs a command."""
    if command.verb not in VERBS:
        return "apply"
    if isinstance(command.args, verbs.SampleDensity):
        return "density"
    return command.verb.replace("-", "_") + "_" * iskeyword(command.verb)


def with_options(verb: type[Any], options: type[Any], kind: str) -> type[Any]:
    """A dataclass with the verb's own arguments, and a modality's as its field `options`."""
    required = any(f.default is f.default_factory for f in fields(options))  # both are MISSING
    # the name is the heading of the group in the help; an option without a default is a positional argument
    named: Any = Annotated[options, tyro.conf.arg(name=kind), tyro.conf.PositionalRequiredArgs]
    nested = ("options", named) if required else ("options", named, field(default_factory=options))
    combined = make_dataclass(verb.__name__, [nested], bases=(verb,), frozen=True, kw_only=True)
    combined.__doc__ = options.__doc__ if issubclass(verb, verbs.Apply) else verb.__doc__
    return combined


def own_options(kind: str, verb: str) -> type[Any]:
    """The options of a verb for runs of a modality. Raises `ValueError` if it has none."""
    options = getattr(options_of(kind), OF_KIND[verb], None)
    if options is None:
        having = ", ".join(other for other in kinds() if hasattr(options_of(other), OF_KIND[verb]))
        raise ValueError(
            f"`{verb}` is for runs of {having}, and this is one of {kind}: see `langevin sample RUN --help`"
        )
    return options


def run_among(arguments: list[str]) -> Path | None:
    """The first positional argument that is the directory of a run, if any."""
    return next((Path(a) for a in positionals(arguments) if (Path(a) / "recipe.yaml").is_file()), None)


def kind_of(run: Path) -> str:
    """The modality of a run: `data.kind` of its recipe, found without parsing YAML.

    Raises:
        ValueError: the recipe cannot be read, or has no data.kind, or the run is of another version."""
    if (run / "environment.json").is_file():
        read_environment(run)
    try:
        match = _KIND.search((run / "recipe.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{run}/recipe.yaml cannot be read: {error}") from error
    if match is None:
        raise ValueError(f"{run}/recipe.yaml is damaged: it does not say of what data the run is (data.kind)")
    return match[1]


def require_own(arguments: list[str], verb: str, accepted: type[Any], target: str, what: str) -> None:
    """Check that no option belongs to another modality or to densities.

    Args:
        accepted: the dataclass of the arguments that `verb` takes for this target.
        target: the run or density.
        what: the kind of target, for the message: "a density", "a run of KIND".

    Raises:
        ValueError: an option does; the message names its owner."""
    own, others = names_of(accepted), {"runs": names_of(VERBS[verb])}
    others |= {"densities": names_of(verbs.SampleDensity)} if verb == "sample" else {}
    of_kinds = {
        kind: names_of(getattr(options_of(kind), OF_KIND[verb]))
        for kind in kinds()
        if hasattr(options_of(kind), OF_KIND[verb])
    }
    given = [a.split("=", 1)[0].removeprefix("--").replace("-", "_") for a in arguments if a.startswith("--")]
    for name in (name for name in given if name not in own):
        owners = [kind for kind, names in of_kinds.items() if name in names]
        listed = " and ".join(filter(None, (", ".join(owners[:-1]), owners[-1]))) if owners else ""
        owner = f"runs of {listed}" if owners else next((o for o, n in others.items() if name in n), None)
        if owner is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} is an option of {owner}, and {target} is {what}: "
                f"see `langevin {verb} {target} --help`"
            )


def require_run(arguments: list[str], verb: str) -> None:
    """Check that options of a modality come with a run. Raises `ValueError` if the target is none, and they are unknown."""
    target = target_of(arguments)
    given = [a.split("=", 1)[0].removeprefix("--").replace("-", "_") for a in arguments if a.startswith("--")]
    known = all(name in names_of(VERBS[verb]) or name in ("help", "h") for name in given)
    if not target or (known and verb not in ("edit", "classify")):  # these have inputs, which only a modality knows
        return
    runs = [
        path.parent for folder in (Path(target).parent, Path("runs")) for path in sorted(folder.glob("*/recipe.yaml"))
    ]
    near = get_close_matches(Path(target).name, [run.name for run in runs], n=1)
    hint = next((f"; did you mean {run}?" for run in runs if near and run.name == near[0]), "")
    raise ValueError(f"there is no run at {target}{hint}")


def names_of(options: type[Any]) -> set[str]:
    """Names of the fields of a dataclass; of a nested one its fields."""
    return set(types_of(options))


def types_of(options: type[Any]) -> dict[str, Any]:
    """The fields of a dataclass, by name, with their types; of a nested one its fields."""
    types: dict[str, Any] = {}
    for f in fields(options):
        inner = get_args(f.type)[0] if get_origin(f.type) is Annotated else f.type
        types |= types_of(inner) if isinstance(inner, type) and is_dataclass(inner) else {word_of(f.name): inner}
    return types


def word_of(name: str) -> str:
    """The word of an option: its field's name, which ends in _ where it would be a keyword of Python."""
    return name.removesuffix("_")


def require_values(arguments: list[str], types: dict[str, Any]) -> None:
    """Check that options which take a list got one: without, they would silently have no effect. Options that can be
    absent too mean something by themselves.

    Raises:
        ValueError: one got nothing."""
    for word, following in zip(arguments, [*arguments, "--"][1:], strict=True):
        kind = types.get(word[2:].replace("-", "_")) if word.startswith("--") else None
        listed = kind is not None and values_of(kind) == math.inf and NoneType not in get_args(kind)
        if listed and following.startswith("--"):
            raise ValueError(f"{word} needs one value or more: give some, or leave it out")


def target_of(arguments: list[str]) -> str:
    """The first positional argument; "" if there is none."""
    return next(iter(positionals(arguments)), "")


def positionals(arguments: list[str]) -> list[str]:
    """The arguments of `sample` and `evaluate` that are neither options nor values of options."""
    options = [VERBS[verb] for verb in OF_KIND] + [verbs.SampleDensity]
    options += [
        getattr(options_of(k), name) for k in kinds() for name in OF_KIND.values() if hasattr(options_of(k), name)
    ]
    return [arguments[i] for i in positions(arguments, options)]


def positions(arguments: list[str], options: list[type[Any]]) -> list[int]:
    """Where the arguments are that are neither options nor values of options, by the dataclasses of these."""
    takes = {name: values_of(kind) for option in options for name, kind in types_of(option).items()}
    found, left = list[int](), 0.0  # values that the last option still takes
    for i, word in enumerate(arguments):
        if word.startswith("--"):
            name, assigned, _ = word[2:].partition("=")
            left = 0 if assigned else takes.get(name.replace("-", "_"), 0)
        elif left:
            left -= 1
        else:
            found.append(i)
    return found


def values_of(annotation: Any) -> float:
    """The number of values that an option of this type takes: infinite for a tuple of any length."""
    kept = [member for member in get_args(annotation) or (annotation,) if member is not NoneType]
    if get_origin(annotation) is tuple:
        return math.inf if ... in kept else len(kept)
    return values_of(kept[0]) if isinstance(annotation, UnionType) else 0 if annotation is bool else 1


def is_density(arguments: list[str]) -> bool:
    """Whether the target of `sample` is module:function or the recipe of a density, and not a run."""
    target = target_of(arguments)
    if Path(target).is_dir():
        return False
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", target):
        return True
    shipped = Path(__file__).parent.parent / "recipes" / f"{target}.yaml"
    path = shipped if shipped.is_file() else Path(target)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return False
    return re.search(r"^density:", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE) is not None
