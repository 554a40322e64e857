"""/v1/images/edits, which is always multipart: every field but the files is text."""

import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from langevin.server.errors import Refused
from langevin.server.openai.common import options_for, refuse, service_of
from langevin.server.openai.images import Generation, encoded, require_size, streamed
from langevin.server.service import Service
from langevin.server.streams import Events, events

router = APIRouter()
ENDPOINT = "images/edits"
FILES = ("image", "mask")
SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": {
            "type": "object", "required": ["image", "prompt"],
            "properties": {
                "image": {"type": "string", "format": "binary"}, "mask": {"type": "string", "format": "binary"},
                "prompt": {"type": "string"}, "model": {"type": "string"}, "n": {"type": "string"},
            },
        }}},
    }
}  # fmt: skip


@router.post("/v1/images/edits", openapi_extra=SCHEMA)
async def edits(request: Request, service: Annotated[Service, Depends(service_of)]) -> Any:
    """The masked part of an image, drawn anew; without a mask, the part in which the image is transparent."""
    form = await read(request)
    body, files = fields_of(form), {name: file for name in FILES if (file := file_of(form, name)) is not None}
    refuse({"response_format": (body.response_format, "b64_json"), "background": (body.background, "auto")})
    if body.stream and (body.n or 1) != 1:
        raise Refused("a stream is of one image: leave n out", code="unsupported_value", param="n")
    job = body.job(service, ENDPOINT, count=body.n or 1, previews=body.partial_images or 0 if body.stream else 0)
    folder = Path(tempfile.mkdtemp(prefix="langevin-edit-"))
    heard = Events()
    try:
        paths: dict[str, Any] = {"mask": None}
        for name, file in files.items():
            paths[name] = str(folder / name)
            (folder / name).write_bytes(await file.read())
        options = await asyncio.to_thread(options_for, service, job, ENDPOINT, prompt=body.prompt, **paths)
        require_size(service, job.model, body.size)
        ticket = await asyncio.to_thread(service.submit, job, options=options, listen=heard)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # the plan has read them
    form_, quality = body.output_format or "png", body.output_compression
    if body.stream:
        return events(streamed(service, ticket, heard, request, form_, quality, kind="image_edit"))
    samples = await service.finished(ticket, request.is_disconnected)
    content = await asyncio.to_thread(encoded, service, samples, form_, quality)
    return {"created": int(time.time()), "output_format": form_, "data": [{"b64_json": image} for image in content]}


async def read(request: Request) -> FormData:
    """The form of a request. Raises `Refused` if it is none."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Refused("edits are sent as multipart/form-data", code="invalid_value")
    return await request.form(max_files=20, max_fields=100)


def fields_of(form: FormData) -> Generation:
    """The fields that are text, as the body of a generation. Raises `Refused` for one that is wrong."""
    texts = {name: value for name, value in form.multi_items() if isinstance(value, str) and value != ""}
    try:
        return Generation.model_validate(texts, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Refused(f"{where}: {first['msg']}", code="invalid_value", param=where) from error


def file_of(form: FormData, name: str) -> UploadFile | None:
    """The file of a field, or the only one of a list, NAME[]; None without a mask. Raises `Refused` if there is not one."""
    found = [value for key in (name, f"{name}[]") for value in form.getlist(key) if isinstance(value, UploadFile)]
    if not found and name == "mask":
        return None
    if len(found) != 1:
        raise Refused(f"{name}: give one file, got {len(found)}", code="invalid_value", param=name)
    return found[0]
