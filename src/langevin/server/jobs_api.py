"""/v1/jobs: durable requests of any modality, with progress as server-sent events."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from sqlalchemy.exc import SQLAlchemyError

from langevin.embed import extract
from langevin.modalities.modality import MEDIA_TYPES
from langevin.server.errors import Refused
from langevin.server.jobs import Jobs
from langevin.server.openai.common import events
from langevin.server.service import JobRequest, files_of
from langevin.server.store import Job
from langevin.server.streams import Events
from langevin.serving.ticket import Preview, Progress

router = APIRouter()
LONG = 4000  # characters of a text in a list


def jobs_of(request: Request) -> Jobs:
    """The jobs of the app that got a request."""
    return request.app.state.jobs


TheJobs = Annotated[Jobs, Depends(jobs_of)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]


@router.post("/v1/jobs", status_code=202)
async def create(body: JobRequest, jobs: TheJobs, idempotency: Key = None) -> dict[str, Any]:
    """Write a request down and queue it; from the response on it is not lost. Repeated with the same Idempotency-Key it is
    made once."""
    await asyncio.to_thread(jobs.service.check, body)
    if await asyncio.to_thread(jobs.store.count_open) >= jobs.service.engine.pending * 4:
        raise Refused(
            "the queue is full: try again later", status=429, code="queue_full", headers={"Retry-After": "10"}
        )
    job, _ = await asyncio.to_thread(jobs.store.add, body.model_dump(mode="json"), idempotency=idempotency)
    if job.body != body.model_dump(mode="json"):
        raise Refused("this Idempotency-Key was used for another request", status=409, code="idempotency_conflict",
                      headers={"x-should-retry": "false"})  # fmt: skip
    jobs.look()
    return await asyncio.to_thread(shown, jobs, job)


@router.get("/v1/jobs")
async def listed(
    jobs: TheJobs, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20, order: str = "desc",
    status: Annotated[str | None, Query(max_length=16)] = None,
) -> dict[str, Any]:  # fmt: skip
    """Jobs, newest first, or oldest first with order=asc; of one status, or of all."""
    found = await asyncio.to_thread(
        jobs.store.list, after=after, limit=limit + 1, newest_first=order != "asc", status=status
    )
    data = await asyncio.to_thread(lambda: [shown(jobs, job, whole=False) for job in found[:limit]])
    return {"object": "list", "data": data, "has_more": len(found) > limit}


@router.get("/v1/jobs/{id}")
async def retrieve(id: str, jobs: TheJobs) -> dict[str, Any]:
    """A job, with the command that makes its files again."""
    job = await got(jobs, id)
    first = await asyncio.to_thread(jobs.store.file, id, 0) if job.status == "completed" else None
    facts = None if first is None else extract(first.content)
    return await asyncio.to_thread(shown, jobs, job) | {"command": facts and facts.get("command")}


@router.delete("/v1/jobs/{id}")
async def delete(id: str, jobs: TheJobs) -> dict[str, Any]:
    """Cancel a job, or forget one that has ended."""
    job = await got(jobs, id)
    if job.status == "held":
        raise Refused(f"job {id} is held for review and cannot be deleted", status=409, code="held")
    if job.open:
        await asyncio.to_thread(jobs.store.cancel, id)
        jobs.cancel(id)
        return {"id": id, "object": "job", "status": "cancelled"}
    await asyncio.to_thread(jobs.store.delete, id)
    return {"id": id, "object": "job.deleted", "deleted": True}


@router.get("/v1/jobs/{id}/content")
async def content(id: str, jobs: TheJobs, number: Annotated[int, Query(ge=0)] = 0) -> Response:
    """A file that a job has made."""
    job = await got(jobs, id)
    if job.status in ("held", "denied"):
        reason = (job.review or {}).get("reason", "")
        raise Refused(f"the files of job {id} are {job.status}: {reason}", status=403, code=job.status)
    file = await asyncio.to_thread(jobs.store.file, id, number)
    if file is None:
        what = f"it is {job.status}" if job.status != "completed" else f"it has {len(jobs.store.files(id))} files"
        raise Refused(f"job {id} has no file {number}: {what}", status=404, code="not_found")
    headers = {"Content-Disposition": f'inline; filename="{id}-{number:03d}{file.suffix}"'}
    return Response(file.content, media_type=file.media_type, headers=headers)


@router.get("/v1/jobs/{id}/events")
async def progress(id: str, request: Request, jobs: TheJobs) -> Any:
    """Progress and previews of a job as server-sent events, and in the end the job."""
    await got(jobs, id)
    return events(told(jobs, id, request))


async def told(jobs: Jobs, id: str, request: Request) -> AsyncIterator[str]:
    """The events of a job. One that another server runs is looked up every second."""
    heard = Events()
    jobs.listeners.setdefault(id, []).append(heard)
    try:
        last = None
        while not await request.is_disconnected():
            job = await got(jobs, id)
            if not job.open:
                yield event("job", await asyncio.to_thread(shown, jobs, job))
                return
            if id not in jobs.running and (job.done, job.total) != last:
                last = (job.done, job.total)
                yield event("progress", {"done": job.done, "total": job.total})
            async for one in heard.take(seconds=1.0):
                match one:
                    case Progress():
                        yield event("progress", {"done": one.done, "total": one.total})
                    case Preview():
                        file = (await asyncio.to_thread(files_of, one.samples))[0]
                        data = base64.b64encode(file.content).decode()
                        fields = {"index": one.index, "number": one.number, "media_type": file.media_type}
                        yield event("preview", {**fields, "data": data})
                    case _:
                        break
            yield ": keep-alive\n\n"
    finally:
        jobs.listeners[id].remove(heard)
        if not jobs.listeners[id]:
            del jobs.listeners[id]


def event(kind: str, data: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


async def got(jobs: Jobs, id: str) -> Job:
    """A job. Raises `Refused` if there is none."""
    try:
        job = await asyncio.to_thread(jobs.store.get, id[:64])
    except SQLAlchemyError as error:
        raise Refused("the database does not answer", status=503, code="database_unavailable") from error
    if job is None:
        raise Refused(f"there is no job {id[:64]}", status=404, code="not_found")
    return job


def shortened(value: Any) -> Any:
    """JSON without long texts, such as files."""
    if isinstance(value, str):
        return value if len(value) <= LONG else f"({len(value):,} characters)"
    if isinstance(value, dict):
        return {name: shortened(part) for name, part in value.items()}
    return [shortened(part) for part in value] if isinstance(value, list) else value


def shown(jobs: Jobs, job: Job, *, whole: bool = True) -> dict[str, Any]:
    """A job as JSON; if not `whole`, without long texts of the request."""
    one = jobs.running.get(job.id)
    done, total = (job.done, job.total) if one is None else (one.ticket.evaluations, one.ticket.expected)
    files = [
        {"number": i, "media_type": MEDIA_TYPES.get(suffix, "application/octet-stream"),
         "url": f"/v1/jobs/{job.id}/content?number={i}"}
        for i, suffix in enumerate(jobs.store.files(job.id) if job.status == "completed" else ())
    ]  # fmt: skip
    return {
        "id": job.id, "object": "job", "status": job.status, "model": job.model, "created_at": job.created,
        "ended_at": job.ended, "progress": {"done": done, "total": total}, "error": job.error, "review": job.review,
        "files": files, "request": job.body if whole else shortened(job.body),
    }  # fmt: skip


__all__ = ["router"]
