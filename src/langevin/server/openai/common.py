"""What OpenAI's endpoints share: their own fields beside ours, and the options of the run that answers."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from langevin.modalities.options import options_of
from langevin.server.errors import Refused
from langevin.server.options import sound
from langevin.server.service import JobRequest, Service

OWN = ("num_inference_steps", "guidance_scale", "sampler", "light", "reproducible", "priority")


class OurFields(BaseModel):
    """Fields beyond OpenAI's, which its client sends by `extra_body`; names are those of diffusion servers."""

    model_config = ConfigDict(extra="ignore")
    _sound = model_validator(mode="before")(sound)

    model: Annotated[str | None, Field(max_length=64)] = None
    seed: Annotated[int | None, Field(ge=-(2**62), le=2**62)] = None
    num_inference_steps: Annotated[int | None, Field(ge=1, le=10_000)] = None
    guidance_scale: Annotated[float | None, Field(ge=-1e4, le=1e4)] = None
    sampler: Annotated[str | None, Field(max_length=200)] = None
    light: Annotated[list[Annotated[str, Field(max_length=100)]] | None, Field(max_length=4)] = None
    reproducible: bool = False
    priority: Annotated[int, Field(ge=-10, le=10)] = 0
    timeout: Annotated[float | None, Field(gt=0)] = None

    @model_validator(mode="before")
    @classmethod
    def _spelled(cls, value: Any) -> Any:
        """OpenAI's fields that have no meaning here are left out, but a misspelt one of ours would be missed."""
        for name in value if isinstance(value, dict) else ():
            near = get_close_matches(str(name), OWN, n=1, cutoff=0.85)
            if near and name not in cls.model_fields:
                raise ValueError(f"there is no field '{name}'; did you mean '{near[0]}'?")
        return value

    def job(self, service: Service, endpoint: str, *, count: int = 1, previews: int = 0) -> JobRequest:
        """The request in our form, for the run that is named, or the first one that answers the endpoint."""
        return JobRequest(
            model=self.model or first_with(service, endpoint), count=count,
            seed=self.seed, steps=self.num_inference_steps,
            guidance=self.guidance_scale, sampler=self.sampler, light=self.light,
            reproducible=self.reproducible, previews=previews,
            priority=self.priority, timeout=self.timeout,
        )  # fmt: skip


def first_with(service: Service, endpoint: str) -> str:
    """Name of the first run that answers an endpoint. Raises `Refused` if none does."""
    for name in service.runs.paths():
        if endpoint in endpoints_of(service.runs.open(name).recipe.data.kind):
            return name
    raise Refused(f"no model here answers /v1/{endpoint}", status=404, code="model_not_found", param="model")


def endpoints_of(kind: str) -> dict[str, Callable[..., Any]]:
    """The endpoints that runs of a modality answer."""
    return getattr(options_of(kind), "ENDPOINTS", {})


def options_for(service: Service, job: JobRequest, endpoint: str, **fields: Any) -> Any:
    """The options of the run's modality for the fields of a request.

    Raises:
        Refused: it does not answer the endpoint."""
    kind = service.runs.open(job.model).recipe.data.kind
    answers = endpoints_of(kind)
    if endpoint not in answers:
        known = ", ".join(f"/v1/{name}" for name in answers) or "none of OpenAI's endpoints"
        raise Refused(
            f"'{job.model}' is a run of {kind}, which answers {known}, and /v1/jobs", code="unsupported_value",
            param="model",
        )  # fmt: skip
    return answers[endpoint](**fields)


def refuse(fields: dict[str, tuple[Any, Any]]) -> None:
    """Raise `Refused` for a field, name -> (value, the only value that has a meaning here), that has another value."""
    for name, (value, only) in fields.items():
        if value is not None and value != only:
            raise Refused(f"{name}={value!r} has no meaning here", code="unsupported_value", param=name)


def service_of(request: Request) -> Service:
    """The service of the app that got a request."""
    return request.app.state.service
