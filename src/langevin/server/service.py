"""What the endpoints share: from a request in JSON to a ticket of the engine, and from its samples to files."""

import asyncio
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from langevin.diffusion.light import FeatureCache
from langevin.files import own_folder
from langevin.modalities.modality import File, Plan, RequestContext, Samples
from langevin.recipe.sampling import describe
from langevin.run.directory import Run
from langevin.run.generate import RunModel, changed, with_others
from langevin.run.provenance import facts_of
from langevin.run.watermark import require_room
from langevin.safety.manifest import Signing
from langevin.safety.policy import Decision
from langevin.server.errors import Refused, refusal
from langevin.server.options import checked, options_from, sound, verbs_of, without_folders
from langevin.server.runs import Loaded, Runs, data_of
from langevin.server.safeguards import Safeguards
from langevin.server.watermark import Watermark, fresh_seed
from langevin.serving.engine import Engine
from langevin.serving.suspend import Suspended
from langevin.serving.ticket import Event, Ticket

TEXT = "-"  # the form of samples that are text


class Limits(BaseModel):
    """What a single request may take.

    Args:
        count: samples.
        evaluations: function evaluations, samples times steps.
        body: bytes of a request.
        timeout: seconds.
    """

    count: int = 64
    evaluations: int = 20_000
    body: int = 32 << 20
    timeout: float = 600.0


class JobRequest(BaseModel):
    """A request of any modality."""

    model_config = ConfigDict(extra="forbid")
    _sound = model_validator(mode="before")(sound)

    model: Annotated[str, Field(description="Name of the run.", max_length=64)]
    verb: Annotated[str, Field(description="sample, or a verb that the run's modality brings.", max_length=32)] = (
        "sample"
    )
    count: Annotated[int | None, Field(ge=1, description="Number of samples; default what the modality shows.")] = None
    seed: Annotated[
        int | None, Field(ge=-(2**62), le=2**62, description="Sample i has the seed SEED + i; default a fresh one.")
    ] = None
    steps: Annotated[int | None, Field(ge=1, le=10_000, description="Sampling steps; default the run's.")] = None
    sampler: Annotated[str | None, Field(max_length=200, description="As on the command line, 'heun'.")] = None
    guidance: Annotated[float | None, Field(ge=-1e4, le=1e4, description="Weight; 1 is no guidance.")] = None
    ema: Annotated[float | None, Field(ge=0, le=0.28, description="EMA length; default the run's.")] = None
    light: Annotated[
        list[Annotated[str, Field(max_length=100)]] | None,
        Field(max_length=4, description="What makes it cheaper: int8, bf16, 'cache interval=3', guidance, or none."),
    ] = None
    previews: Annotated[int, Field(ge=0, le=10, description="Previews of each sample while it is made.")] = 0
    reproducible: Annotated[bool, Field(description="Make bytes that do not depend on what else is served.")] = False
    priority: Annotated[int, Field(ge=-10, le=10, description="Requests of a higher one go first.")] = 0
    timeout: Annotated[float | None, Field(gt=0, description="Seconds after which the request fails.")] = None
    options: Annotated[dict[str, Any], Field(description="Options of the run's modality: GET /v1/runs/{name}.")] = {}

    def seeded(self) -> "JobRequest":
        """The request with a fresh seed, if it has none."""
        return self if self.seed is not None else self.model_copy(update={"seed": fresh_seed()})


@dataclass(frozen=True, kw_only=True)
class Service:
    """Runs, the engine that serves them, what requests are allowed, and how samples are marked and signed, if they are."""

    runs: Runs
    engine: Engine
    limits: Limits = field(default_factory=Limits)
    safeguards: Safeguards = field(default_factory=Safeguards)
    watermark: Watermark | None = None
    signing: Signing | None = None

    def signed(self, content: bytes, media_type: str, samples: Samples) -> bytes:
        """The content of a file of samples, with a signed manifest if the server signs."""
        return content if self.signing is None else self.signing.signed(content, media_type, samples.facts)

    def submit(
        self, job: JobRequest, *, options: Any = None, folder: Path | None = None, id: str | None = None,
        listen: Callable[[Event], None] = lambda event: None, stream: Callable[[str], None] | None = None,
        state: Callable[[str], Suspended | None] | None = None, durable: bool = False,
    ) -> Ticket:  # fmt: skip
        """Hand a request to the engine. Slow when its model is not in memory.

        Args:
            options: of the modality, in place of `job.options`.
            folder: where the files of the request are written; None for requests without files.
            stream: called with text as soon as it is final; not if a person may have to look at it first.
            state: from the weights' name, what was made of the request by them before.
            durable: nobody waits, so that only its own timeout counts.

        Raises:
            Refused: the request cannot be fulfilled."""
        held = self.runs.load(job.model, ema=None if job.ema is None else round(job.ema, 2), light=job.light)
        light = self.runs.light(held.run, job.light)
        if job.reproducible and any(isinstance(one, FeatureCache) for one in light):
            message = "light cache keeps what a step before computed, which a suspended request has not: leave one out"
            raise Refused(message, code="invalid_value", param="reproducible")
        self._require_room(held.run)
        try:
            model = changed(held.model, steps=job.steps, sampler=job.sampler, guidance=job.guidance)
            self._require_within(job, model.sampling.steps)
            if options is None:
                assert folder is not None, "options may hold files"
                options = options_from(self._verb(job, model.modality.kind), job.options, folder)
            id = id or uuid.uuid4().hex
            seed = fresh_seed() if job.seed is None else job.seed
            before = self.safeguards.request(id, job.model, options)
            if before.verdict == "hold" and not durable:
                message = f"a person has to look at this: {before.reason}. Send it to /v1/jobs, where it waits for that"
                raise Refused(message, code="needs_review", headers={"x-should-retry": "false"})
            options, model = self.safeguards.steered(options, model)
            model = held.lightened(model, light)  # for the weight of guidance that is served
            others = list[Loaded]()
            model = with_others(model, options, partial(self._other, others))
            open_ = before.verdict == "allow" and not self.safeguards.rules.judges_samples
            plan = self._plan(job, seed, options, held, model, stream if open_ else None)
            cheaper = map(describe, model.sampling.light)
            weights = " ".join([held.name, str(job.ema), *cheaper, *(one.name for one in others)])
            limit = job.timeout if durable else min(job.timeout or self.limits.timeout, self.limits.timeout)
            facts = partial(
                facts_of, model=model, run=job.model if held.adapted is None else held.adapted.model, step=held.step,
                options=without_folders(options), seed=seed, count=job.count, verb=self._name(options,
                model.modality.kind), ema=job.ema,
            )  # fmt: skip
            if self.watermark is not None:
                self.watermark.note(job.model, seed, job.count or self.limits.count, model.sampling.steps)
            ticket = self.engine.submit(
                plan, model, facts=facts, id=id, priority=job.priority,
                timeout=limit, reproducible=job.reproducible, previews=job.previews if open_ else 0,
                resume=None if state is None else state(weights), most=self.limits.evaluations, listen=listen,
            )  # fmt: skip
            ticket.weights = weights
            ticket.decide = partial(self._decided, id, (held, *others), before)
            return ticket
        except Exception as error:
            raise refusal(error) from error

    def _other(self, others: list[Loaded], name: str) -> RunModel:
        """The model of another run that a request names, added to its `others`."""
        held = self.runs.load(name)
        others.append(held)
        return held.lightened(held.model, held.run.recipe.sampling.light)

    def _decided(self, id: str, runs: Sequence[Loaded], before: Decision, samples: Samples) -> Decision:
        """The decision on samples, which are compared with the data of the run that drew them."""
        held = next((one for one in runs if one.model.modality == samples.modality), runs[0])
        return self.safeguards.samples(
            id, samples, run=held.run.path, fingerprint=held.model.data_fingerprint, before=before,
            adapted=() if held.adapted is None else held.adapted.data,
        )  # fmt: skip

    def check(self, job: JobRequest) -> None:
        """Check a request without a model, before it is written down.

        Raises:
            Refused: there is no such run, verb or option, or it is too much."""
        run = self.runs.open(job.model)
        self._require_room(run)
        recipe = run.recipe
        options = self._verb(job, recipe.data.kind)
        checked(options, job.options)
        self._require_within(job, job.steps or recipe.sampling.steps)

    def _require_room(self, run: Run) -> None:
        """Check that samples of a run can be marked, if the server marks them. Raises `Refused`."""
        try:
            if self.runs.key is not None:
                require_room(run)
        except ValueError as error:
            raise refusal(error) from error

    @staticmethod
    def _verb(job: JobRequest, kind: str) -> type[Any]:
        verbs = verbs_of(kind)
        if job.verb not in verbs:
            raise Refused(f"a run of {kind} has no verb '{job.verb}'; it has {', '.join(verbs)}", param="verb")
        return verbs[job.verb]

    @staticmethod
    def _name(options: Any, kind: str) -> str:
        """The verb that options are of."""
        return next(verb for verb, known in verbs_of(kind).items() if isinstance(options, known))

    def _require_within(self, job: JobRequest, steps: int) -> None:
        count = job.count or 1
        if count > self.limits.count or count * steps > self.limits.evaluations:
            raise Refused(
                f"{count} samples of {steps} steps are too much for one request: at most "
                f"{self.limits.count} samples and {self.limits.evaluations} steps in all",
                code="too_large", param="count",
            )  # fmt: skip

    @staticmethod
    def _plan(
        job: JobRequest, seed: int, options: Any, held: Loaded, model: RunModel, stream: Callable[[str], None] | None
    ) -> Plan:
        context = RequestContext(
            model=model, data=partial(data_of, held.run.path, held.model.data_fingerprint), count=job.count,
            seed=seed, stream=stream, guided=job.guidance not in (None, 1),
            chosen=frozenset(n for n in ("steps", "sampler", "guidance") if getattr(job, n) is not None),
            folder=own_folder(held.run.path, "cache", create=False),
        )  # fmt: skip
        return model.modality.plan(options, context)

    @staticmethod
    def released(ticket: Ticket) -> Samples:
        """The samples of a ticket that has ended, if they may be given out.

        Raises:
            Refused: they are held or denied; whatever the ticket raises."""
        samples = ticket.result(0)
        decision = ticket.decide(samples)
        if decision.verdict == "allow":
            return samples
        hint = ". Send the request to /v1/jobs, where a person can look at them" if decision.verdict == "hold" else ""
        code = "needs_review" if decision.verdict == "hold" else "content_policy_violation"
        message = f"the samples are not given out: {decision.reason}{hint}"
        raise Refused(message, status=400, code=code, headers={"x-should-retry": "false"})

    async def finished(self, ticket: Ticket, gone: Callable[[], Any]) -> Samples:
        """Wait for a ticket; if `gone` (async) says that nobody waits any more, it is cancelled.

        Raises:
            Refused: it ended without samples."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        ticket.when_ended(lambda _: loop.call_soon_threadsafe(ended.set))
        try:
            while not ended.is_set():
                try:
                    await asyncio.wait_for(ended.wait(), 0.25)
                except TimeoutError:
                    if await gone():
                        ticket.cancel()
            return await asyncio.to_thread(self.released, ticket)
        except asyncio.CancelledError:
            ticket.cancel()
            raise
        except Exception as error:
            raise refusal(error) from error


def files_of(samples: Samples) -> list[File]:
    """One file a sample where the modality writes such, or of a text; else one of all: as they are stored and sent."""
    forms = samples.modality.forms
    if TEXT in forms and all(isinstance(value, str) for value in samples.values):
        return [File(suffix=".txt", content=text.encode()) for text in samples.values]
    with tempfile.TemporaryDirectory(prefix="langevin-") as folder:
        if "" not in forms:
            path = samples.save(Path(folder) / f"samples{next(form for form in forms if form != TEXT)}")
            return [File(suffix=path.suffix, content=path.read_bytes())]
        out = samples.save(Path(folder) / "samples")
        return [File(suffix=p.suffix, content=p.read_bytes(), name=p.name) for p in sorted(out.iterdir())]


__all__ = ["TEXT", "JobRequest", "Limits", "Service", "files_of"]
