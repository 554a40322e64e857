"""/v1/videos: jobs of runs that make clips, in OpenAI's form. They are those of /v1/jobs."""

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field, ValidationError
from starlette.datastructures import UploadFile

from langevin.server.errors import Refused
from langevin.server.jobs_api import Key, TheClient, TheJobs, content, delete, got
from langevin.server.openai.common import OurFields, endpoints_of, options_for, service_of
from langevin.server.service import Service
from langevin.server.store import Job

router = APIRouter()
ENDPOINT = "videos"
STATUS = {"held": "in_progress", "cancelled": "failed", "denied": "failed"}  # in OpenAI's words; others are the same


class Video(OurFields):
    """The body of /v1/videos, as JSON or as a form."""

    prompt: Annotated[str, Field(min_length=1, max_length=32_000, description="What is to be seen.")]
    seconds: Annotated[float | None, Field(gt=0, le=3600, description="Length of the clip.")] = None
    size: Annotated[str | None, Field(max_length=20)] = None


SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": Video.model_json_schema()} for kind in ("application/json", "multipart/form-data")
        },
    }
}


@router.post("/v1/videos", openapi_extra=SCHEMA)
async def create(
    request: Request, jobs: TheJobs, client: TheClient, service: Annotated[Service, Depends(service_of)],
    idempotency: Key = None,
) -> dict[str, Any]:  # fmt: skip
    """A clip after a prompt, and after a first picture, if one is sent."""
    body, reference = await read(request)
    job = await asyncio.to_thread(body.job, service, ENDPOINT)
    options = await asyncio.to_thread(
        options_for, service, job, ENDPOINT, prompt=body.prompt, seconds=body.seconds, reference=reference
    )
    given = {one.name.removesuffix("_"): getattr(options, one.name) for one in fields(options)
             if getattr(options, one.name) != one.default}  # fmt: skip
    job = job.model_copy(update={"options": given}).seeded()
    await asyncio.to_thread(service.check, job)
    await asyncio.to_thread(jobs.require_room)
    added = partial(jobs.store.add, job.model_dump(mode="json"), client=client.name, idempotency=idempotency)
    row, _ = await asyncio.to_thread(added)
    jobs.look()
    return shown(row, jobs.progress(row))


@router.get("/v1/videos")
async def listed(
    jobs: TheJobs, client: TheClient, service: Annotated[Service, Depends(service_of)], after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> dict[str, Any]:  # fmt: skip
    """The clips, newest first."""

    def some() -> Sequence[Job]:
        models = [name for name in service.runs.paths() if makes_clips(service, name)]
        return jobs.store.list(after=after, limit=limit + 1, client=client.name or None, models=models)

    found = await asyncio.to_thread(some)
    clips = [shown(job, jobs.progress(job)) for job in found[:limit]]
    return {"object": "list", "data": clips, "has_more": len(found) > limit}


@router.get("/v1/videos/{id}")
async def retrieve(id: str, jobs: TheJobs, client: TheClient) -> dict[str, Any]:
    """A clip, and how far it is."""
    job = await got(jobs, id, client)
    return shown(job, jobs.progress(job))


@router.get("/v1/videos/{id}/content")
async def download(id: str, jobs: TheJobs, client: TheClient) -> Response:
    """The file of a clip."""
    return await content(id, jobs, client, 0)


@router.delete("/v1/videos/{id}")
async def remove(id: str, jobs: TheJobs, client: TheClient) -> dict[str, Any]:
    """Cancel a clip, or forget one that is done."""
    await delete(id, jobs, client)
    return {"id": id, "object": "video.deleted", "deleted": True}


async def read(request: Request) -> tuple[Video, str | None]:
    """The fields of a request, and its picture as a data: URL, if any. Raises `Refused` for a field that is wrong."""
    reference = None
    try:
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            form = await request.form(max_files=2, max_fields=100)
            texts = {name: value for name, value in form.multi_items() if isinstance(value, str) and value != ""}
            body = Video.model_validate(texts, strict=False)
            if isinstance(file := form.get("input_reference"), UploadFile):
                reference = "data:;base64," + base64.b64encode(await file.read()).decode()
        else:
            body = Video.model_validate_json(await request.body())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or None
        raise Refused(f"{where or 'body'}: {first['msg']}", code="invalid_value", param=where) from error
    return body, reference


def makes_clips(service: Service, model: str) -> bool:
    """Whether a model makes clips; of one that is gone not."""
    try:
        return ENDPOINT in endpoints_of(service.runs.open(model).recipe.data.kind)
    except Refused:
        return False


def shown(job: Job, progress: tuple[int, int]) -> dict[str, Any]:
    """A job as OpenAI shows a video."""
    done, total = progress
    share = 100 if job.status == "completed" else min(99, 100 * done // total) if total else 0
    options = job.body.get("options", {})
    return {
        "id": job.id, "object": "video", "model": job.model, "status": STATUS.get(job.status, job.status),
        "progress": share, "created_at": int(job.created), "completed_at": job.ended and int(job.ended),
        "expires_at": None, "prompt": options.get("prompt") or options.get("text"), "size": "", "error": job.error,
        "seconds": str(options.get("seconds", "")), "remixed_from_video_id": None,
    }  # fmt: skip


__all__ = ["router"]
