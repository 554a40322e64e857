"""/v1/completions and /v1/chat/completions."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from langevin.server import errors
from langevin.server.errors import Refused
from langevin.server.openai.common import OurFields, options_for, refuse, service_of
from langevin.server.service import Service
from langevin.server.streams import Events, events
from langevin.serving.ticket import Ticket

router = APIRouter()


class Tokens(OurFields):
    """How tokens are drawn."""

    model: Annotated[str, Field(max_length=64)]  # type: ignore[assignment]
    max_tokens: Annotated[int | None, Field(ge=1, le=100_000)] = None
    temperature: Annotated[float | None, Field(ge=0, le=10)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    n: Annotated[int | None, Field(ge=1, le=64)] = None
    stream: bool | None = None
    stop: Any = None
    logprobs: Any = None
    logit_bias: Any = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None

    def refuse_what_has_no_meaning(self) -> None:
        """Raise `Refused` for what a diffusion model does not do."""
        refuse({"stop": (self.stop or None, None), "logprobs": (self.logprobs or None, None),
                "logit_bias": (self.logit_bias or None, None), "frequency_penalty": (self.frequency_penalty, 0),
                "presence_penalty": (self.presence_penalty, 0)})  # fmt: skip
        if self.stream and (self.n or 1) != 1:
            raise Refused("a stream is of one text: leave n out", code="unsupported_value", param="n")


class Completion(Tokens):
    """The body of /v1/completions."""

    prompt: Annotated[str | list[str], Field(description="The beginning of the text.")]
    suffix: Annotated[str | None, Field(max_length=1_000_000, description="The end; the gap before it is filled.")] = (
        None
    )
    best_of: Annotated[int | None, Field(ge=1, le=64)] = None
    echo: bool | None = None


class Message(BaseModel):
    """A turn of a dialogue."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["user", "assistant", "system", "developer", "tool"]
    content: str | list[dict[str, Any]]

    def text(self) -> str:
        """Its text. Raises `Refused` for parts that are not text."""
        if isinstance(self.content, str):
            return self.content
        if any(part.get("type") != "text" or not isinstance(part.get("text"), str) for part in self.content):
            raise Refused("messages hold text only", code="unsupported_value", param="messages")
        return " ".join(part["text"] for part in self.content)


class Chat(Tokens):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    max_completion_tokens: Annotated[int | None, Field(ge=1, le=100_000)] = None
    best_of: Annotated[int | None, Field(ge=1, le=64, description="Replies drawn, of which the best is given.")] = None
    reverse_weight: Annotated[
        float | None, Field(ge=0, le=1e4, description="Weight of the history given the reply in that choice.")
    ] = None


@router.post("/v1/completions")
async def completions(body: Completion, request: Request, service: Annotated[Service, Depends(service_of)]) -> Any:
    """Texts that go on from a prompt, or fill the gap before a suffix."""
    body.refuse_what_has_no_meaning()
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if len(prompts) != 1:
        raise Refused("prompt: give one text for each request", code="unsupported_value", param="prompt")
    fields = {
        "prompt": prompts[0], "suffix": body.suffix, "max_tokens": body.max_tokens, "temperature": body.temperature,
        "top_p": body.top_p, "best_of": body.best_of,
    }  # fmt: skip

    def part(text: str) -> str:
        return text if body.echo else between(text, prompts[0], body.suffix or "")

    head = {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": body.model,
    }

    def choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
        return {"index": index, "text": text, "finish_reason": finish, "logprobs": None}

    return await answered(body, "completions", fields, request, service, head, part, choice)


@router.post("/v1/chat/completions")
async def chat(body: Chat, request: Request, service: Annotated[Service, Depends(service_of)]) -> Any:
    """The next turn of a dialogue."""
    body.refuse_what_has_no_meaning()
    turns = tuple((message.role, message.text()) for message in body.messages)
    if other := next((role for role, _ in turns if role not in ("user", "assistant")), None):
        raise Refused(f"the run takes no messages of role {other}", code="unsupported_value", param="messages")
    fields = {
        "turns": turns, "max_tokens": body.max_completion_tokens or body.max_tokens, "temperature": body.temperature,
        "top_p": body.top_p, "best_of": body.best_of, "reverse_weight": body.reverse_weight,
    }  # fmt: skip
    await asyncio.to_thread(require_replies, service, body.model)
    kind = "chat.completion.chunk" if body.stream else "chat.completion"
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": body.model}

    def choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
        said = {"role": "assistant", "content": text}
        return {"index": index, "delta" if body.stream else "message": said, "finish_reason": finish, "logprobs": None}

    return await answered(body, "chat/completions", fields, request, service, head, str.strip, choice)


def require_replies(service: Service, model: str) -> None:
    """Raise `Refused` for a run that could answer, but was trained for something else than dialogues."""
    check = getattr(service.runs.open(model).recipe.data, "require_replies", None)
    try:
        if check is not None:
            check()
    except ValueError as error:
        raise Refused(f"'{model}' takes no messages: {error}", code="unsupported_value", param="model") from error


async def answered(
    body: Tokens, endpoint: str, fields: dict[str, Any], request: Request, service: Service, head: dict[str, Any],
    part: Any, choice: Any,
) -> Any:  # fmt: skip
    """The response, whole or as a stream.

    Args:
        head: fields of the response, or of every event.
        part: the answer within a whole text.
        choice: (index, text, finish reason) -> a choice."""
    job = body.job(service, endpoint, count=body.n or 1)
    try:
        options = await asyncio.to_thread(options_for, service, job, endpoint, **fields)
    except ValueError as error:
        raise errors.refusal(error) from error
    heard = Events()
    ticket = await asyncio.to_thread(service.submit, job, options=options, stream=heard if body.stream else None)
    if body.stream:
        return events(pieces(ticket, heard, request, head, part, choice))
    samples = await service.finished(ticket, request.is_disconnected)
    return head | {"choices": [choice(i, part(str(text)), "length") for i, text in enumerate(samples.values)]}


async def pieces(
    ticket: Ticket, heard: Events, request: Request, head: dict[str, Any], part: Any, choice: Any
) -> AsyncIterator[str]:
    """The events of one text: pieces that are final, or all at the end where positions are not made from left to right."""
    text, sent = "", 0
    async for event in heard.until(ticket, request.is_disconnected):
        match event:
            case None:
                yield ": keep-alive\n\n"
            case str():
                text += event
                piece = part(text)[sent:]
                sent += len(piece)
                if piece:
                    yield f"data: {json.dumps(head | {'choices': [choice(0, piece, None)]})}\n\n"
            case Ticket():
                try:
                    samples = await asyncio.to_thread(Service.released, ticket)
                    rest = part(str(samples.values[0]))[sent:]
                    yield f"data: {json.dumps(head | {'choices': [choice(0, rest, 'length')]})}\n\n"
                    yield "data: [DONE]\n\n"
                except Exception as error:
                    refused = errors.refusal(error)
                    yield f"data: {json.dumps(errors.body(refused.message, status=refused.status, code=refused.code))}\n\n"
            case _:
                pass


def between(text: str, prompt: str, suffix: str) -> str:
    """The text after a prompt and before a suffix; nothing as long as not all of the prompt is there. A run may drop the
    spaces at their ends, as its tokens do not hold them."""
    if prompt.rstrip().startswith(text):
        return ""
    before = prompt if text.startswith(prompt) else prompt.rstrip()
    after = suffix if text.endswith(suffix) else suffix.lstrip()
    return text.removeprefix(before).removesuffix(after)
