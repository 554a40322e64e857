"""/v1/images/generations."""

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from PIL import Image
from pydantic import Field

from langevin.modalities.modality import File, Samples
from langevin.server import errors
from langevin.server.errors import Refused
from langevin.server.openai.common import OurFields, options_for, refuse, service_of
from langevin.server.service import Service, files_of
from langevin.server.streams import Events, events
from langevin.serving.ticket import Preview, Ticket

router = APIRouter()
ENDPOINT = "images/generations"


class Generation(OurFields):
    """The body of /v1/images/generations."""

    prompt: Annotated[str, Field(max_length=32_000, description="A class or a caption; blank leaves it to the run.")]
    n: Annotated[int | None, Field(ge=1, le=10)] = None
    size: Annotated[str | None, Field(max_length=20, description="auto, or a size of the run's images.")] = None
    output_format: Literal["png", "webp", "jpeg"] | None = None
    output_compression: Annotated[int | None, Field(ge=0, le=100)] = None
    response_format: Literal["b64_json", "url"] | None = None
    background: str | None = None
    partial_images: Annotated[int | None, Field(ge=0, le=3)] = None
    stream: bool | None = None


@router.post("/v1/images/generations")
async def generations(body: Generation, request: Request, service: Annotated[Service, Depends(service_of)]) -> Any:
    """Images of a class or a caption; with `stream`, previews of them on the way."""
    refuse({"response_format": (body.response_format, "b64_json"), "background": (body.background, "auto")})
    if body.partial_images and not body.stream:
        raise Refused("partial_images needs stream=true", param="partial_images")
    if body.stream and (body.n or 1) != 1:
        raise Refused("a stream is of one image: leave n out", code="unsupported_value", param="n")
    job = body.job(service, ENDPOINT, count=body.n or 1, previews=body.partial_images or 0)
    size = None if body.size == "auto" else body.size
    options = await asyncio.to_thread(options_for, service, job, ENDPOINT, prompt=body.prompt, size=size)
    require_size(service, job.model, size, known=known_sizes(service, job.model))
    heard = Events()
    ticket = await asyncio.to_thread(service.submit, job, options=options, listen=heard)
    form, quality = body.output_format or "png", body.output_compression
    if body.stream:
        return events(streamed(service, ticket, heard, request, form, quality))
    samples = await service.finished(ticket, request.is_disconnected)
    content = await asyncio.to_thread(encoded, service, samples, form, quality)
    return {"created": int(time.time()), "output_format": form, "data": [{"b64_json": image} for image in content]}


async def streamed(
    service: Service,
    ticket: Ticket,
    heard: Events,
    request: Request,
    form: str,
    quality: int | None,
    *,
    kind: str = "image_generation",
) -> AsyncIterator[str]:
    """The events of one image."""
    async for event in heard.until(ticket, request.is_disconnected):
        match event:
            case None:
                yield ": keep-alive\n\n"
            case Preview():
                (image,) = await asyncio.to_thread(encoded, service, event.samples, form, quality)
                yield sse(f"{kind}.partial_image", image, form, partial_image_index=event.number)
            case Ticket():
                try:
                    samples = await asyncio.to_thread(Service.released, ticket)
                    (image,) = await asyncio.to_thread(encoded, service, samples, form, quality)
                    yield sse(f"{kind}.completed", image, form)
                except Exception as error:
                    refused = errors.refusal(error)
                    yield f"data: {json.dumps(errors.body(refused.message, status=refused.status, code=refused.code))}\n\n"
            case _:
                pass


def sse(kind: str, image: str, form: str, **more: Any) -> str:
    """One event with an image."""
    fields = {"background": "opaque", "output_format": form, "quality": "auto", "size": "auto"}
    data = {"type": kind, "b64_json": image, "created_at": int(time.time()), **fields, **more}
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


def encoded(service: Service, samples: Samples, form: str, quality: int | None) -> list[str]:
    """Each sample as an image file in base64."""
    contents = [
        service.signed(as_form(file, form, quality), f"image/{form}", samples) for file in files_of(samples.drawn)
    ]
    return [base64.b64encode(content).decode() for content in contents]


def as_form(file: File, form: str, quality: int | None) -> bytes:
    """The content of a PNG file in another form."""
    if form == "png":
        return file.content
    image, out = Image.open(io.BytesIO(file.content), formats=["PNG"]), io.BytesIO()
    image.convert("RGB").save(out, form.upper(), quality=95 if quality is None else max(1, quality))
    return out.getvalue()


def known_sizes(service: Service, model: str) -> tuple[str, ...]:
    """The sizes that a run draws, where these are several; else empty."""
    return getattr(service.runs.open(model).recipe.data, "choices", {}).get("size", ())


def require_size(service: Service, model: str, size: str | None, *, known: tuple[str, ...] = ()) -> None:
    """Check a size, "64x64". Raises `Refused` if it is neither one of those known, nor else that of the run."""
    if size in (None, "auto"):
        return
    shape = service.runs.open(model).facts["shape"]
    own = known or (f"{shape[-1]}x{shape[-2]}" if len(shape) == 3 else "auto",)
    if size not in own:
        raise Refused(
            f"size={size!r}: the images of '{model}' are {' or '.join(own)}", code="unsupported_value", param="size"
        )
