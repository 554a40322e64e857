"""/v1/content_provenance_checks."""

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, UploadFile
from fastapi.params import File

from langevin.embed import extract

router = APIRouter()


@router.post("/v1/content_provenance_checks")
async def check(file: Annotated[UploadFile, File(description="An image, a sound or a score.")]) -> dict[str, Any]:
    """What a file says it was made from. Anyone can write such text into a file, and anyone can remove it."""
    facts = await asyncio.to_thread(extract, await file.read())
    found = {"type": "embedded_recipe", "outcome": "not_detected" if facts is None else "detected", "recipe": facts}
    return {"object": "content_provenance_check", "created_at": int(time.time()), "results": [found]}
