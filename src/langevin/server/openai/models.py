"""/v1/models."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from langevin.server.openai.common import service_of
from langevin.server.service import Service

router = APIRouter()


@router.get("/v1/models")
async def listed(service: Annotated[Service, Depends(service_of)]) -> dict[str, Any]:
    """The runs that are served."""
    names = await asyncio.to_thread(service.runs.paths)
    return {"object": "list", "data": [await asyncio.to_thread(described, service, name) for name in names]}


@router.get("/v1/models/{name}")
async def retrieve(name: str, service: Annotated[Service, Depends(service_of)]) -> dict[str, Any]:
    """One of them."""
    return await asyncio.to_thread(described, service, name)


def described(service: Service, name: str) -> dict[str, Any]:
    """A run as a model object."""
    path, adapted = service.runs.find(name)
    created = int((path / "recipe.yaml").stat().st_mtime)
    parent = {} if adapted is None else {"parent": adapted.model}
    return {"id": name, "object": "model", "created": created, "owned_by": "langevin", **parent}
