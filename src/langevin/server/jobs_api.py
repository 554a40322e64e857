"""/v1/jobs: durable requests of any modality, with progress as server-sent events."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import Discriminator, Tag
from sqlalchemy.exc import SQLAlchemyError

from langevin.embed import extract
from langevin.modalities.modality import MEDIA_TYPES
from langevin.server.errors import Refused
from langevin.server.jobs import Jobs
from langevin.server.keys import Client, client_of
from langevin.server.service import JobRequest, files_of
from langevin.server.store import Job
from langevin.server.streams import Events, events
from langevin.server.training import OF_VERB, EvaluateRequest, ResumeRequest, TrainRequest
from langevin.serving.ticket import Preview, Progress

router = APIRouter()
LONG = 4000  # characters of a text in a list


def jobs_of(request: Request) -> Jobs:
    """The jobs of the app that got a request."""
    return request.app.state.jobs


def tag_of(body: Any) -> str:
    """The tag of the form that a request has, by its verb."""
    verb = body.get("verb") if isinstance(body, dict) else getattr(body, "verb", None)
    return f"({verb})" if verb in OF_VERB else "(sample)"


TheJobs = Annotated[Jobs, Depends(jobs_of)]
TheClient = Annotated[Client, Depends(client_of)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]
AnyJob = Annotated[
    Annotated[JobRequest, Tag("(sample)")]
    | Annotated[TrainRequest, Tag("(train)")]
    | Annotated[ResumeRequest, Tag("(resume)")]
    | Annotated[EvaluateRequest, Tag("(evaluate)")],
    Discriminator(tag_of),
]


@router.post("/v1/jobs", status_code=202)
async def create(body: AnyJob, jobs: TheJobs, client: TheClient, idempotency: Key = None) -> dict[str, Any]:
    """Write a request down and queue it; from the response on it is not lost. Repeated with the same Idempotency-Key it is
    made once. Besides samples: the verbs `train`, `resume` and `evaluate`, which run one at a time."""
    if isinstance(body, JobRequest):
        await asyncio.to_thread(jobs.service.check, body)
        await asyncio.to_thread(jobs.require_room)
        add = partial(jobs.store.add, body.seeded().model_dump(mode="json"))
    else:
        client.require("trainer")
        add = partial(jobs.processes.add, body)
    job, _ = await asyncio.to_thread(add, idempotency=idempotency, client=client.name)
    asked = body.model_dump(mode="json")
    chosen = {name: job.body[name] for name in ("model", "seed") if name in asked and asked[name] is None}
    if job.body != asked | chosen:
        raise Refused("this Idempotency-Key was used for another request", status=409, code="idempotency_conflict",
                      headers={"x-should-retry": "false"})  # fmt: skip
    jobs.look()
    return await asyncio.to_thread(shown, jobs, job)


@router.get("/v1/jobs")
async def listed(
    jobs: TheJobs, client: TheClient, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: str = "desc", status: Annotated[str | None, Query(max_length=16)] = None,
) -> dict[str, Any]:  # fmt: skip
    """Jobs, newest first, or oldest first with order=asc; of one status, or of all. With keys, those of this key, and those
    that train or evaluate."""
    some = await asyncio.to_thread(
        jobs.store.list,
        after=after,
        limit=limit + 1,
        newest_first=order != "asc",
        status=status,
        client=client.name or None,
    )
    data = await asyncio.to_thread(lambda: [shown(jobs, job, whole=False) for job in some[:limit]])
    return {"object": "list", "data": data, "has_more": len(some) > limit}


@router.get("/v1/jobs/{id}")
async def retrieve(id: str, jobs: TheJobs, client: TheClient) -> dict[str, Any]:
    """A job, with the command that makes its files again; one that trains or evaluates with what it has printed."""
    job = await got(jobs, id, client)
    first = await asyncio.to_thread(jobs.store.file, id, 0) if job.status == "completed" else None
    facts = None if first is None else extract(first.content)
    lines = await asyncio.to_thread(jobs.processes.lines_of, id) if job.queue == "process" else []
    return await asyncio.to_thread(shown, jobs, job) | {"command": facts and facts.get("command"), "lines": lines}


@router.delete("/v1/jobs/{id}")
async def delete(id: str, jobs: TheJobs, client: TheClient) -> dict[str, Any]:
    """Cancel a job, or forget one that has ended. Training that is cancelled saves its state first."""
    job = await got(jobs, id, client)
    if job.queue == "process":
        client.require("trainer")
    if job.status == "held":
        raise Refused(f"job {id} is held for review and cannot be deleted", status=409, code="held")
    if job.open and await asyncio.to_thread(jobs.store.cancel, id):
        jobs.cancel(id)
        return {"id": id, "object": "job", "status": "cancelled"}
    await asyncio.to_thread(jobs.store.delete, id)
    return {"id": id, "object": "job.deleted", "deleted": True}


@router.get("/v1/jobs/{id}/content")
async def content(id: str, jobs: TheJobs, client: TheClient, number: Annotated[int, Query(ge=0)] = 0) -> Response:
    """A file that a job has made."""
    job = await got(jobs, id, client)
    if job.status in ("held", "denied"):
        reason = (job.review or {}).get("reason", "")
        raise Refused(f"the files of job {id} are {job.status}: {reason}", status=403, code=job.status)
    file = await asyncio.to_thread(jobs.store.file, id, number)
    if file is None:
        count = len(await asyncio.to_thread(jobs.store.files, id))
        what = f"it is {job.status}" if job.status != "completed" else f"it has {count} files"
        raise Refused(f"job {id} has no file {number}: {what}", status=404, code="not_found")
    headers = {"Content-Disposition": f'inline; filename="{id}-{number:03d}{file.suffix}"'}
    return Response(file.content, media_type=file.media_type, headers=headers)


@router.get("/v1/jobs/{id}/events")
async def progress(id: str, request: Request, jobs: TheJobs, client: TheClient) -> Any:
    """Progress and previews of a job as server-sent events, and in the end the job; of one that trains or evaluates also
    what it prints."""
    await got(jobs, id, client)
    return events(told(jobs, id, request))


async def told(jobs: Jobs, id: str, request: Request) -> AsyncIterator[str]:
    """The events of a job. One that another server runs is looked up every second."""
    heard = Events()
    jobs.listeners.setdefault(id, []).append(heard)
    try:
        last = None
        while not await request.is_disconnected():
            job = await found(jobs, id)
            if not job.open:
                async for one in heard.take(seconds=0.0):  # what it did before its end
                    if isinstance(one, str):
                        yield event("output", {"lines": one})
                yield event("job", await asyncio.to_thread(shown, jobs, job))
                return
            if id not in jobs.running and jobs.progress(job) != last:
                last = jobs.progress(job)
                yield event("progress", {"done": last[0], "total": last[1]})
            silent = True
            async for one in heard.take(seconds=1.0):
                silent = False
                match one:
                    case Progress():
                        yield event("progress", {"done": one.done, "total": one.total})
                    case str():
                        yield event("output", {"lines": one})
                    case Preview():
                        file = (await asyncio.to_thread(files_of, one.samples))[0]
                        data = base64.b64encode(file.content).decode()
                        fields = {"index": one.index, "number": one.number, "media_type": file.media_type}
                        yield event("preview", {**fields, "data": data})
                    case _:
                        break
            if silent:
                yield ": keep-alive\n\n"
    finally:
        jobs.listeners[id].remove(heard)
        if not jobs.listeners[id]:
            del jobs.listeners[id]


def event(kind: str, data: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


async def got(jobs: Jobs, id: str, client: Client) -> Job:
    """A job of a client, or one that trains or evaluates. Raises `Refused` if there is none."""
    job = await found(jobs, id)
    if job.queue == "engine" and client.name and job.client != client.name:
        raise unknown(id)
    return job


async def found(jobs: Jobs, id: str) -> Job:
    """A job. Raises `Refused` if there is none."""
    try:
        job = await asyncio.to_thread(jobs.store.get, id[:64])
    except SQLAlchemyError as error:
        raise Refused("the database does not answer", status=503, code="database_unavailable") from error
    if job is None:
        raise unknown(id)
    return job


def unknown(id: str) -> Refused:
    """The error of a job that is not there."""
    return Refused(f"there is no job {id[:64]}", status=404, code="not_found")


def shortened(value: Any) -> Any:
    """JSON without long texts, such as files."""
    if isinstance(value, str):
        return value if len(value) <= LONG else f"({len(value):,} characters)"
    if isinstance(value, dict):
        return {name: shortened(part) for name, part in value.items()}
    return [shortened(part) for part in value] if isinstance(value, list) else value


def shown(jobs: Jobs, job: Job, *, whole: bool = True) -> dict[str, Any]:
    """A job as JSON; if not `whole`, without long texts of the request."""
    done, total = jobs.progress(job)
    files = [
        {"number": i, "name": name, "media_type": MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream"),
         "url": f"/v1/jobs/{job.id}/content?number={i}"}
        for i, name in enumerate(jobs.store.files(job.id) if job.status == "completed" else ())
    ]  # fmt: skip
    return {
        "id": job.id, "object": "job", "status": job.status, "model": job.model, "created_at": job.created,
        "ended_at": job.ended, "progress": {"done": done, "total": total}, "error": job.error, "review": job.review,
        "files": files, "request": job.body if whole else shortened(job.body),
    }  # fmt: skip


__all__ = ["router"]
