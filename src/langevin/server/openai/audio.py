"""/v1/audio/speech."""

import asyncio
import io
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from langevin.extras import require
from langevin.modalities.modality import Samples
from langevin.server.errors import Refused
from langevin.server.openai.common import OurFields, options_for, refuse, service_of
from langevin.server.service import Service, files_of

router = APIRouter()
ENDPOINT = "audio/speech"
MEDIA = {
    "mp3": "audio/mpeg", "opus": "audio/ogg", "flac": "audio/flac", "wav": "audio/wav", "pcm": "audio/pcm",
}  # fmt: skip
OPUS_RATES = (8000, 12_000, 16_000, 24_000, 48_000)
CODERS = {"mp3": ("MP3", "MPEG_LAYER_III"), "opus": ("OGG", "OPUS"), "flac": ("FLAC", "PCM_16")}


class VoiceId(BaseModel):
    """A voice by its id."""

    id: str


class Speech(OurFields):
    """The body of /v1/audio/speech."""

    model: Annotated[str, Field(max_length=64)]  # type: ignore[assignment]
    input: Annotated[str, Field(min_length=1, max_length=4096, description="What to say.")]
    voice: Annotated[str | VoiceId, Field(description="A speaker of the run, or default.")]
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: float | None = None
    instructions: str | None = None
    stream_format: str | None = None


@router.post("/v1/audio/speech")
async def speech(body: Speech, request: Request, service: Annotated[Service, Depends(service_of)]) -> Any:
    """Text said by a speaker."""
    refuse({"speed": (body.speed, 1.0), "stream_format": (body.stream_format, "audio"),
            "instructions": (body.instructions, "")})  # fmt: skip
    if body.response_format not in MEDIA:
        known = ", ".join(MEDIA)
        raise Refused(f"response_format: this server writes {known}", code="unsupported_value", param="response_format")
    job = body.job(service, ENDPOINT)
    voice = body.voice if isinstance(body.voice, str) else body.voice.id
    options = await asyncio.to_thread(options_for, service, job, ENDPOINT, input=body.input, voice=voice)
    ticket = await asyncio.to_thread(service.submit, job, options=options)
    samples = await service.finished(ticket, request.is_disconnected)
    content = await asyncio.to_thread(encoded, samples, body.response_format)
    content = await asyncio.to_thread(service.signed, content, MEDIA[body.response_format], samples)
    return Response(content, media_type=MEDIA[body.response_format])


def encoded(samples: Samples, form: str) -> bytes:
    """A sound in a form of `MEDIA`; pcm is 16 bit, little-endian, mono, at the run's own rate."""
    (wav,) = files_of(samples)
    if form == "wav":
        return wav.content
    soundfile = require("soundfile", "sound")
    values, rate = soundfile.read(io.BytesIO(wav.content), dtype="int16")
    if form == "pcm":
        return values.astype("<i2").tobytes()
    if form == "opus" and rate not in OPUS_RATES:
        values, rate = require("soxr", "sound at another rate").resample(values, rate, 48_000), 48_000
    out, (container, subtype) = io.BytesIO(), CODERS[form]
    soundfile.write(out, values, rate, format=container, subtype=subtype)
    return out.getvalue()
