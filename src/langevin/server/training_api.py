"""/v1/training: what can be trained here; and requests to the process that trains a run."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from langevin.run.directory import is_being_written
from langevin.run.requests import Action, request
from langevin.server.errors import Refused
from langevin.server.jobs_api import TheClient, TheJobs
from langevin.server.openai.common import service_of
from langevin.server.service import Service

router = APIRouter()


class TrainingAction(BaseModel):
    """A request to the process that trains a run."""

    model_config = ConfigDict(extra="forbid")

    action: Annotated[
        Action, Field(description="save: write a checkpoint; sample: draw a preview; stop: save, and end the training.")
    ]


@router.get("/v1/training")
async def offered(jobs: TheJobs) -> dict[str, Any]:
    """The recipes, and the names of the data, that POST /v1/jobs with the verb `train` takes."""
    return {"object": "training", **await asyncio.to_thread(jobs.processes.training.offered)}


@router.post("/v1/runs/{name}/requests", status_code=202)
async def act(
    name: str, body: TrainingAction, client: TheClient, service: Annotated[Service, Depends(service_of)]
) -> dict[str, Any]:
    """Ask for a checkpoint, a preview or the end of the training that is under way, after the step that it is at.

    It need not have been started here."""
    client.require("trainer")
    run = await asyncio.to_thread(service.runs.open, name)
    if not await asyncio.to_thread(is_being_written, run.path):
        raise Refused(f"'{name}' is not being trained", status=409, code="not_training")
    await asyncio.to_thread(request, run.path, body.action)
    return {"id": name, "object": "run.request", "action": body.action}
