"""/v1/loras: adapters beside the runs that they change. Each is served under a name of its own, which requests name as
model."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, model_validator

from langevin.server.jobs_api import TheClient
from langevin.server.openai.common import service_of
from langevin.server.options import sound
from langevin.server.runs import Adapted
from langevin.server.service import Service

router = APIRouter()
TheService = Annotated[Service, Depends(service_of)]


class OneAdapter(BaseModel):
    """An adapter and its weight."""

    model_config = ConfigDict(extra="forbid")

    path: Annotated[
        str, Field(max_length=1000, description="Adapted run, or its file, in the folders that are served.")
    ]
    weight: Annotated[float, Field(ge=-100, le=100, description="0 is the run alone.")] = 1.0


class Adapters(BaseModel):
    """A run with adapters."""

    model_config = ConfigDict(extra="forbid")
    _sound = model_validator(mode="before")(sound)

    id: Annotated[
        str, Field(max_length=64, description="Name that it is served under; one that is loaded is replaced.")
    ]
    model: Annotated[str, Field(max_length=64, description="Name of the run that the adapters change.")]
    adapters: Annotated[list[OneAdapter], Field(min_length=1, max_length=16, description="They are added up.")]


@router.get("/v1/loras")
async def listed(service: TheService) -> dict[str, Any]:
    """The adapters that are loaded."""
    return {"object": "list", "data": [described(name, one) for name, one in sorted(service.runs.adapted.items())]}


@router.post("/v1/loras", status_code=201)
async def load(body: Adapters, client: TheClient, service: TheService) -> dict[str, Any]:
    """Load adapters beside their run, or in place of those that have the name, for the requests that come in from now
    on."""
    client.require("trainer")
    given = [(one.path, one.weight) for one in body.adapters]
    return described(body.id, await asyncio.to_thread(service.runs.adapt, body.id, body.model, given))


@router.delete("/v1/loras/{name}")
async def unload(name: str, client: TheClient, service: TheService) -> dict[str, Any]:
    """Forget adapters; requests that are under way end."""
    client.require("trainer")
    await asyncio.to_thread(service.runs.unload, name)
    return {"id": name, "object": "lora", "deleted": True}


def described(name: str, adapted: Adapted) -> dict[str, Any]:
    """A run with adapters."""
    adapters = [
        {"name": file.path.parent.name, "weight": weight, "kind": file.adapter.kind, "rank": file.adapter.rank,
         "weights": sum(t.numel() for t in file.weights.values()), "sha256": file.sha256}
        for file, weight in adapted.adapters
    ]  # fmt: skip
    return {"id": name, "object": "lora", "model": adapted.model, "adapters": adapters}
