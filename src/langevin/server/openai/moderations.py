"""/v1/moderations: what the server's own rules say of a text."""

import asyncio
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from langevin.safety.policy import texts_of
from langevin.server.openai.common import service_of
from langevin.server.service import Service

router = APIRouter()
CATEGORIES = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip


class Moderation(BaseModel):
    """The body of /v1/moderations."""

    model_config = ConfigDict(extra="ignore")

    input: str | list[str] | list[dict[str, Any]]
    model: str | None = None


@router.post("/v1/moderations")
async def moderations(body: Moderation, service: Annotated[Service, Depends(service_of)]) -> dict[str, Any]:
    """Whether the rules of this server flag a text. They are phrases, not a model: the fixed categories stay empty."""
    policy = service.safeguards.rules.policy()
    inputs = [body.input] if isinstance(body.input, str) else body.input
    results = list[dict[str, Any]]()
    for one in inputs:
        decision = await asyncio.to_thread(policy.request, texts_of(one))
        results.append({
            "flagged": decision.verdict != "allow", "categories": dict.fromkeys(CATEGORIES, False),
            "category_scores": dict.fromkeys(CATEGORIES, 0.0),
            "category_applied_input_types": {name: [] for name in CATEGORIES},
            "verdict": decision.verdict, "reason": decision.reason,
        })  # fmt: skip
    return {"id": f"modr-{uuid.uuid4().hex}", "model": "langevin-rules", "results": results}
