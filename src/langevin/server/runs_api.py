"""/v1/runs: what is served, what can be requested of it, how its training went, and what its data is."""

import asyncio
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from langevin.diffusion.guidance import weight_of
from langevin.diffusion.sampler.choice import kinds_for
from langevin.files import read_regular
from langevin.modalities.modality import MEDIA_TYPES
from langevin.recipe.sampling import describe
from langevin.run.card import NAME
from langevin.run.directory import Run, is_being_written, open_run
from langevin.server.errors import Refused
from langevin.server.openai.common import endpoints_of, service_of
from langevin.server.options import schema_of, verbs_of
from langevin.server.processes import progress_of
from langevin.server.service import Service
from langevin.training.metrics import read_metrics

router = APIRouter()
TheService = Annotated[Service, Depends(service_of)]
POINTS = 400  # of a curve
STEP = re.compile(r"step-(\d+)\.\w+")
MOST = 64 << 20  # bytes of a report or preview
# reports hold all that they show
SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"


@router.get("/v1/runs")
async def listed(service: TheService) -> dict[str, Any]:
    """The runs, those that are being trained included."""
    names = await asyncio.to_thread(service.runs.paths)
    return {"object": "list", "data": [await asyncio.to_thread(summary, service, name) for name in names]}


@router.get("/v1/runs/{name}")
async def run(name: str, service: TheService) -> dict[str, Any]:
    """What can be requested of a run: verbs with the schemas of their options, samplers, defaults."""
    return await asyncio.to_thread(described, service, name)


@router.get("/v1/runs/{name}/metrics")
async def metrics(name: str, service: TheService) -> dict[str, Any]:
    """Curves of the training: losses by step, and losses of the training and the validation part at evaluations."""
    run = await asyncio.to_thread(service.runs.open, name)
    return await asyncio.to_thread(curves, run)


@router.get("/v1/runs/{name}/previews")
async def previews(name: str, service: TheService) -> dict[str, Any]:
    """The previews that training has made, by step."""
    run = await asyncio.to_thread(service.runs.open, name)
    found = [
        {"step": step, "name": path.name, "media_type": MEDIA_TYPES.get(path.suffix, "application/octet-stream"),
         "url": f"/v1/runs/{name}/previews/{path.name}"}
        for step, path in previews_of(run)
    ]  # fmt: skip
    return {"object": "list", "data": found}


@router.get("/v1/runs/{name}/previews/{file}")
async def preview(name: str, file: str, service: TheService) -> Response:
    """One of them."""
    run = await asyncio.to_thread(service.runs.open, name)
    path = next((path for _, path in previews_of(run) if path.name == file), None)
    if path is None:
        raise Refused(f"'{name}' has no preview of this name", status=404, code="not_found")
    content = await asyncio.to_thread(read_regular, path, most=MOST)
    return Response(content, media_type=MEDIA_TYPES.get(path.suffix, "application/octet-stream"))


@router.get("/v1/runs/{name}/report")
async def report(name: str, service: TheService) -> Response:
    """The report of its evaluation."""
    path = (await asyncio.to_thread(service.runs.open, name)).path / "report.html"
    if not path.is_file() or path.is_symlink():
        raise Refused(f"'{name}' has no report: `langevin evaluate` writes one", status=404, code="not_found")
    content = await asyncio.to_thread(read_regular, path, most=MOST)
    return Response(content, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": SANDBOX})


@router.get("/v1/runs/{name}/card")
async def card(name: str, service: TheService) -> Response:
    """Its model card, in Markdown."""
    path = (await asyncio.to_thread(service.runs.open, name)).path / NAME
    if not path.is_file() or path.is_symlink():
        raise Refused(f"'{name}' has no card: it is written at the end of training", status=404, code="not_found")
    return Response(await asyncio.to_thread(read_regular, path, most=MOST), media_type="text/markdown; charset=utf-8")


@router.get("/v1/runs/{name}/data")
async def data(name: str, service: TheService) -> dict[str, Any]:
    """What `langevin inspect` says of its training data; slow the first time."""
    run = await asyncio.to_thread(service.runs.open, name)
    try:
        return await asyncio.to_thread(inspected, run.path, str(run.facts.get("data")))
    except (ValueError, OSError) as error:
        raise Refused(f"the data of '{name}' cannot be read: {error}", status=404, code="not_found") from error


def summary(service: Service, name: str) -> dict[str, Any]:
    """A run in a line; one that cannot be read says why."""
    try:
        run = service.runs.open(name)
    except Refused as error:
        return {"id": name, "object": "run", "error": error.message}
    step, planned = progress_of(run.path)
    shown = [f"/v1/runs/{name}/previews/{path.name}" for _, path in previews_of(run)]
    return {
        "id": name, "object": "run", "kind": run.recipe.data.kind, "description": run.recipe.description,
        "step": step, "steps": run.recipe.training.steps or planned or None,
        "training": is_being_written(run.path), "preview": shown[-1] if shown else None,
        "report": (run.path / "report.html").is_file(),
        "endpoints": sorted(f"/v1/{endpoint}" for endpoint in endpoints_of(run.recipe.data.kind)),
    }  # fmt: skip


def described(service: Service, name: str) -> dict[str, Any]:
    """See `run`."""
    run = service.runs.open(name)
    recipe = run.recipe
    sampling, verbs = recipe.sampling, verbs_of(recipe.data.kind)
    process = service.runs.load(name).model.parts.process
    return {
        **summary(service, name), "forms": list(recipe.data.forms),
        "sampling": {"sampler": describe(sampling.sampler), "steps": sampling.steps, "ema": run.ema_length(None),
                     "guidance": weight_of(sampling.guidance)},
        "samplers": list(kinds_for(process)), "choices": getattr(recipe.data, "choices", {}),
        "verbs": {verb: schema_of(options, options.__name__).model_json_schema() for verb, options in verbs.items()},
    }  # fmt: skip


def curves(run: Run) -> dict[str, Any]:
    """See `metrics`; a curve has at most `POINTS` points."""
    lines = read_metrics(run.path / "metrics.jsonl")
    steps = [line for line in lines if "loss" in line]
    every = max(1, -(-len(steps) // POINTS))
    kept = [line for i, line in enumerate(steps) if i % every == 0 or line is steps[-1]]
    names = ("step", "loss", "smooth_loss", "samples_per_second", "seconds")
    evaluations = [
        {"step": line["step"], "train": mean(line["train_loss"]), "validation": mean(line["val_loss"])}
        for line in lines if line.get("train_loss") and line.get("val_loss")
    ]  # fmt: skip
    return {"steps": [{name: line.get(name) for name in names} for line in kept], "evaluations": evaluations}


def mean(values: list[float]) -> float:
    """The mean of losses at several noise levels."""
    return sum(values) / len(values)


def previews_of(run: Run) -> list[tuple[int, Path]]:
    """(step, file) of the previews of training, in order; links are left out."""
    folder = run.path / "samples"
    paths = [] if folder.is_symlink() or not folder.is_dir() else sorted(folder.iterdir())
    found = [(match, path) for path in paths if (match := STEP.fullmatch(path.name)) and not path.is_symlink()]
    return sorted((int(match[1]), path) for match, path in found)


@lru_cache(maxsize=16)
def inspected(path: Path, fingerprint: str) -> dict[str, Any]:
    """See `data`."""
    found = open_run(path).recipe.data.inspect()
    return {"lines": found.lines(), "facts": found.as_dict()}
