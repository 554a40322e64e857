"""/v1/content_provenance_checks."""

import asyncio
import time
from itertools import islice
from pathlib import PurePath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, UploadFile
from fastapi.params import File

from langevin.embed import extract
from langevin.safety.manifest import MEDIA_TYPES, manifest_in
from langevin.server.openai.common import service_of
from langevin.server.service import Service
from langevin.server.watermark import TRIED, can_test, result_of

router = APIRouter()


@router.post("/v1/content_provenance_checks")
async def check(
    file: Annotated[UploadFile, File(description="An image, a sound, a score or a text.")],
    service: Annotated[Service, Depends(service_of)],
    model: Annotated[
        str | None, Form(max_length=64, description="Whose watermark is looked for; default the first eight.")
    ] = None,
) -> dict[str, Any]:
    """What a file says it was made from, which anyone can write into a file and remove. On a server with a key, also
    whether its noise is that of samples of this server; `p_value` is the probability of a match as good by chance."""
    content, suffix = await file.read(), PurePath(file.filename or "").suffix.lower()[:8]
    facts = await asyncio.to_thread(extract, content)
    found = {"type": "embedded_recipe", "outcome": "not_detected" if facts is None else "detected", "recipe": facts}
    found_in = await asyncio.to_thread(manifests, content, file.content_type or "")
    marks = await asyncio.to_thread(watermarks, service, content, suffix, model)
    return {"object": "content_provenance_check", "created_at": int(time.time()), "results": [found, *found_in, *marks]}


def manifests(content: bytes, media_type: str) -> list[dict[str, Any]]:
    """The result on a signed manifest, of kinds of files that can hold one; none without the extra for it."""
    if media_type not in MEDIA_TYPES:
        return []
    try:
        return [{"type": "c2pa", **manifest_in(content, media_type)}]
    except ValueError:
        return []


def watermarks(service: Service, content: bytes, suffix: str, model: str | None) -> list[dict[str, Any]]:
    """The results of the test for each model, or for the one that is named."""
    mark = service.watermark
    if mark is None:
        return []
    if model is not None:
        service.runs.open(model)  # raises if there is none
    testable = (name for name in service.runs.paths() if can_test(service.runs, name))
    names = list(islice(testable, TRIED)) if model is None else [model]
    tested = ((name, mark.test(service.runs, name, content, suffix)) for name in names)
    return [result_of(name, detection) for name, detection in tested if detection is not None]
