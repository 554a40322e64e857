"""/v1/reviews: what is held for a person to look at, and what the person says."""

import asyncio
import base64
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from langevin.server.errors import Refused
from langevin.server.jobs_api import TheClient, TheJobs, found, shown


def reviewer(client: TheClient) -> None:
    """Lets reviewers through."""
    client.require("reviewer")


router = APIRouter(dependencies=[Depends(reviewer)])


class Review(BaseModel):
    """A decision on a held job."""

    model_config = ConfigDict(extra="forbid")

    verdict: Literal["approve", "reject"]
    reviewer: Annotated[
        str | None, Field(min_length=1, max_length=100, description="Who decides; with keys it is the name of the key.")
    ] = None
    reason: Annotated[str, Field(min_length=1, max_length=1000, description="Why.")]


@router.get("/v1/reviews")
async def listed(jobs: TheJobs) -> dict[str, Any]:
    """The jobs that are held, oldest first."""
    held = await asyncio.to_thread(jobs.store.list, limit=100, newest_first=False, status="held")
    return {"object": "list", "data": await asyncio.to_thread(lambda: [shown(jobs, job) for job in held])}


@router.get("/v1/reviews/{id}")
async def retrieve(id: str, jobs: TheJobs) -> dict[str, Any]:
    """A held job with its files, which are given to nobody else."""
    job = await found(jobs, id)
    if job.status != "held":
        raise Refused(f"job {id} is {job.status}, and not held", status=409, code="not_held")
    count = len(await asyncio.to_thread(jobs.store.files, id))
    files = [await asyncio.to_thread(jobs.store.file, id, number) for number in range(count)]
    content = [
        {"media_type": file.media_type, "data": base64.b64encode(file.content).decode()}
        for file in files
        if file is not None
    ]
    return shown(jobs, job) | {"content": content}


@router.post("/v1/reviews/{id}")
async def decide(id: str, body: Review, jobs: TheJobs, client: TheClient) -> dict[str, Any]:
    """Release or reject a held job; the decision is written down first, with the name of the key that made it."""
    who = client.name or body.reviewer
    if who is None:
        raise Refused("reviewer: say who decides, as there are no keys", code="invalid_value", param="reviewer")
    job = await found(jobs, id)
    if job.status != "held":
        raise Refused(f"job {id} is {job.status}, and not held", status=409, code="not_held")
    facts = {"id": id, **body.model_dump(), "reviewer": who}
    await asyncio.to_thread(jobs.service.safeguards.note, "review", facts)
    status = "completed" if body.verdict == "approve" else "denied"
    review = (job.review or {}) | {"decision": body.verdict, "reviewer": who, "said": body.reason}
    if not await asyncio.to_thread(jobs.store.decide, id, status, review):
        raise Refused(f"job {id} was decided by somebody else", status=409, code="not_held")
    return shown(jobs, await found(jobs, id))
