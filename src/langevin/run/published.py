"""The files of a run as they are published: what draws, how it was made and how good it is, and nothing of its data.

The layout is that of the Hub: README.md with a header, config.json and model.safetensors, which has the weights that the
run draws with, of one EMA length. langevin.json has the hash of every file. No training data is among them, and no path of
the machine or name of its user: paths in the recipe become names.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NoReturn

import torch
import yaml
from safetensors.torch import save
from torch import Tensor

from langevin.evaluation.report import MetricRow
from langevin.evaluation.statistics import Interval
from langevin.files import read_regular
from langevin.modalities.modality import RequestContext
from langevin.recipe.read import check, dump_checked
from langevin.recipe.tree import Recipe
from langevin.run import counts
from langevin.run.card import card_text
from langevin.run.directory import Run, load_model, open_run
from langevin.training.references import named_references, with_published
from langevin.user_function import NO_CODE, CodePermission

MANIFEST, FORMAT = "langevin.json", 1
WEIGHTS, FIGURES, LINK = "model.safetensors", "figures.json", "hub.json"
PREVIEW = "samples/preview"
FACTS = ("version", "data", "items", "shape", "machine")  # of environment.json; names of broken files are left out
NAMES = re.compile(
    r"README\.md|config\.json|recipe\.yaml|environment\.json|figures\.json|model\.safetensors|counts\.safetensors|"
    r"ema/choice\.json|solvers/[A-Za-z0-9._-]{1,100}\.json|samples/preview\.[a-z0-9]{1,5}"
)
PATHS = {"path", "teacher", "init_from", "labels", "run", "soundfont"}  # keys of paths in a recipe
HELD_OUT = {"held_out_captions", "held_out_pairs"}  # keys of texts of the data
_URL = re.compile(r"([a-z][a-z0-9+.-]*://)(?:[^/@]*@)?([^?#]*).*", re.DOTALL)
_MOST = 2**26  # bytes of a JSON file


@dataclass(frozen=True, kw_only=True)
class Published:
    """The files of a run by their names, and what a person who publishes them should know."""

    files: dict[str, bytes]
    remarks: tuple[str, ...] = ()


class _OfData(ValueError):
    """A preview that would show, or be conditioned on, data."""


def published(
    run: Run, *, repository: str, licence: str = "unknown", device: torch.device | None = None,
    code: CodePermission = NO_CODE,
) -> Published:  # fmt: skip
    """The files of a trained run.

    Args:
        repository: OWNER/NAME, which the README names.
        licence: an identifier of the Hub, such as apache-2.0.

    Raises:
        ValueError: the run has no complete checkpoint, or a file would name the machine."""
    built, step, lines = run.load(device=device, code=code, merged=False)
    recipe = without_paths(run.recipe, partial(_uploaded_weights, device, code))
    metrics = measured(run)
    text = card_text(run, step=step, metrics=metrics, name=f"runs/{PurePosixPath(repository).name}", again=False)
    files = {
        "recipe.yaml": dump_checked(recipe).encode(),
        "environment.json": _json({name: run.facts[name] for name in FACTS if name in run.facts}),
        WEIGHTS: save(_weights(built)),
        "config.json": _json(_config(recipe, run)),
        FIGURES: _json([asdict(row) for row in metrics]),
        "README.md": (_header(run, recipe, metrics, repository, licence) + _use(recipe, repository) + text).encode(),
        **_beside(run), **_preview(run, device, code),
    }  # fmt: skip
    about = {"format": FORMAT, "step": step, "ema": run.ema_length(None)}
    hashes = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    files[MANIFEST] = _json(about | {"files": hashes})
    require_anonymous(files, run.path)
    counted = "counts.safetensors has n-grams of the training data, which the network reads"
    return Published(files=files, remarks=(*lines, *[counted] * (counts.FILE in files)))


def without_paths(recipe: Recipe, weights: Callable[[str], str] | None = None) -> Recipe:
    """The recipe, in which a path has only its last part: runs that it refers to are found beside it, by their hash. Texts
    of the data that were held out by name are left out.

    Args:
        weights: the SHA-256 of the weights that a push of the run at a path uploads, which its references get."""
    tree = asdict(recipe) if weights is None else with_published(asdict(recipe), weights)
    return check(strip_paths(tree), where="the recipe without paths")


def strip_paths(tree: Any) -> Any:
    """A recipe's tree without folders and held-out texts; an address loses its user, password and query."""
    if isinstance(tree, list | tuple):
        return [strip_paths(part) for part in tree]
    if not isinstance(tree, Mapping):
        return tree
    return {
        key: ()
        if key in HELD_OUT
        else _name_of(value)
        if key in PATHS and isinstance(value, str)
        else strip_paths(value)
        for key, value in tree.items()
    }


def _name_of(path: str) -> str:
    """The last part of a path, or an address."""
    if url := _URL.fullmatch(path):
        return url[1] + url[2]
    return PureWindowsPath(path).name if "\\" in path else PurePosixPath(path).name


def _uploaded_weights(device: torch.device | None, code: CodePermission, path: str) -> str:
    """The SHA-256 of the weights that a push of the run at a path uploads."""
    built, _, _ = open_run(Path(path)).load(device=device, code=code, merged=False)
    return hashlib.sha256(save(_weights(built))).hexdigest()


def require_anonymous(files: Mapping[str, bytes], run: Path) -> None:
    """Check that no text among the files names a folder of this machine.

    Raises:
        ValueError: one does; the message names it."""
    private = {str(path) for path in (Path.home(), run.absolute().parent) if len(path.parts) > 2}  # /root says nothing
    forms = {form: path for path in private for form in (path.encode(), *_escaped(path))}
    for name, data in files.items():
        found = [path for form, path in forms.items() if not name.endswith(".safetensors") and form in data]
        if found:
            raise ValueError(
                f"{name} names {found[0]}, a folder of this machine: take it out of the run's notes or recipe"
            )


def _escaped(path: str) -> tuple[bytes, bytes]:
    """A path as JSON and YAML write it."""
    yaml_form = "".join(c if c.isascii() else f"\\x{ord(c):02X}" if ord(c) < 256 else f"\\u{ord(c):04X}" for c in path)
    return json.dumps(path)[1:-1].encode(), yaml_form.encode()


def _weights(built: Any) -> dict[str, Tensor]:
    """The trained weights as they are loaded, by player.parameter, each with storage of its own."""
    return {
        f"{name}.{n}": p.detach().cpu().clone().contiguous()
        for name, player in built.model.method.players.items()
        for n, p in player.weights.items()
    }


def measured(run: Run) -> list[MetricRow]:
    """The metrics of the run's last evaluation, or those that it was published with; none if there are none."""
    for file, path in ((run.path / "report.json", "sections"), (run.path / FIGURES, None)):
        try:
            tree: Any = json.loads(read_regular(file, most=_MOST))
            sections = tree[path] if path else [{"kind": "metrics", "rows": tree}]
            rows = [row for section in sections if section.get("kind") == "metrics" for row in section["rows"]]
            found = [MetricRow(**{**row, "generated": Interval(**row["generated"])}) for row in rows]
            return [row for row in found if math.isfinite(row.generated.estimate)]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue
    return []


def _beside(run: Run) -> dict[str, bytes]:
    """What drawing reads beside the weights: counts, the choice of an EMA, fitted solvers."""
    names = [counts.FILE, "ema/choice.json", *(f"solvers/{p.name}" for p in (run.path / "solvers").glob("*.json"))]
    found = {name: run.path / name for name in sorted(names) if (run.path / name).is_file()}
    return {name: read_regular(path, most=counts.LARGEST) for name, path in found.items() if NAMES.fullmatch(name)}


def _preview(run: Run, device: torch.device | None, code: CodePermission) -> dict[str, bytes]:
    """Samples drawn for the page; none of a modality whose previews show or repeat data."""

    def refuse() -> NoReturn:
        raise _OfData

    model = load_model(run, device=device, code=code)[0]
    try:
        samples = model.run(run.recipe.data.preview_plan(RequestContext(model=model, data=refuse)))
    except _OfData:
        return {}
    preview = samples.preview()
    return {f"{PREVIEW}{preview.suffix}": preview.content}


def _config(recipe: Recipe, run: Run) -> dict[str, Any]:
    """config.json: what a tool that lists models shows."""
    network = {k: v for k, v in asdict(recipe.network).items() if isinstance(v, int | float | str | bool | None)}
    return {
        "model_type": "langevin", "architectures": [recipe.network.kind], "data": recipe.data.kind,
        "process": recipe.process.kind, "method": recipe.method.kind, "network": network,
        "sample_shape": run.facts["shape"], "torch_dtype": "float32",
    }  # fmt: skip


def _header(run: Run, recipe: Recipe, metrics: Sequence[MetricRow], repository: str, licence: str) -> str:
    """The YAML header of the README: what the Hub searches by."""
    task = getattr(recipe.data, "pipeline_tag", None)
    head: dict[str, Any] = {"library_name": "langevin", "license": licence}
    head |= {"pipeline_tag": task} if task else {}
    kinds = (recipe.data.kind, recipe.process.kind, recipe.network.kind, recipe.method.kind)
    head["tags"] = list(dict.fromkeys(("langevin", "diffusion", *kinds)))
    if base := base_of(run):
        head |= {"base_model": base, "base_model_relation": "adapter"} if recipe.adapter else {"base_model": base}
    if metrics:
        figures = [{"type": row.name, "name": row.name, "value": row.generated.estimate} for row in metrics]
        data = {"type": recipe.data.kind, "name": f"held-out data of {recipe.name}"}
        result = {"task": {"type": task or "other"}, "dataset": data, "metrics": figures}
        head["model-index"] = [{"name": repository.rpartition("/")[2], "results": [result]}]
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n"


def _use(recipe: Recipe, repository: str) -> str:
    """How it is used, and which other runs it needs beside it."""
    name = repository.rpartition("/")[2]
    needs = [
        f"\nIt needs the run `{run}` (weights `{sha[:12]}`) beside it." for run, sha in named_references(asdict(recipe))
    ]
    return (
        f"```sh\nlangevin pull {repository} --out runs/{name}\nlangevin sample runs/{name}\n```\n{''.join(needs)}\n\n"
    )


def base_of(run: Run) -> str | None:
    """Where the base of an adapter, or the teacher of a student, is on the Hub, if this machine knows."""
    adapter = run.recipe.adapter
    path = adapter.path if adapter else getattr(run.recipe.method, "teacher", "")
    linked = link_of(Path(path)) if path else None
    return linked["repository"] if linked else None


def link_of(run: Path) -> dict[str, str] | None:
    """Where a run was pushed to or pulled from: repository and commit; None if nowhere."""
    try:
        tree = json.loads(read_regular(run / LINK, most=_MOST))
        return {"repository": str(tree["repository"]), "commit": str(tree["commit"])}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _json(tree: Any) -> bytes:
    return json.dumps(tree, indent=1).encode()


__all__ = ["Published", "link_of", "measured", "published", "without_paths"]
