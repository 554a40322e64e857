"""The application: every endpoint over one service, with readiness and draining."""

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI, Request, Response

from langevin.server import errors, jobs_api, loras_api, page, reviews_api, runs_api, training_api
from langevin.server.errors import Refused
from langevin.server.jobs import Jobs
from langevin.server.keys import Keys
from langevin.server.metrics import Measures
from langevin.server.middleware import App, Gate
from langevin.server.openai import audio, edits, images, models, moderations, provenance, text, videos
from langevin.server.processes import Processes
from langevin.server.service import Service
from langevin.server.store import Store
from langevin.server.training import Training

PARTS = (
    images,
    edits,
    audio,
    text,
    models,
    moderations,
    provenance,
    videos,
    jobs_api,
    loras_api,
    reviews_api,
    runs_api,
    training_api,
    page,
)


def create(
    service: Service, store: Store, *, keys: Keys | None = None, data: Path | None = None, grace: float = 20.0
) -> App:
    """The server as an ASGI application.

    Args:
        service: its engine is started and stopped with the application.
        keys: that are accepted; None accepts everybody.
        data: folder of data that can be trained on.
        grace: seconds that requests get to end when it stops."""
    processes = Processes(training=Training(runs=service.runs, data=data), store=store)
    measures, jobs = Measures.of(service.engine), Jobs(service=service, store=store, processes=processes)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(32))  # loading a model holds one for long
        service.engine.start()
        jobs.start()
        app.state.ready = True
        yield
        app.state.ready = False
        await asyncio.to_thread(stop, service, jobs, grace)
        store.close()

    app = FastAPI(
        title="langevin",
        version=version("langevin"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service, app.state.jobs, app.state.ready = service, jobs, False
    app.state.keys = keys = keys or Keys()
    errors.install(app)
    for part in PARTS:
        app.include_router(part.router)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the process answers and its engine runs."""
        if app.state.ready and not service.engine.alive:
            raise Refused("the engine has stopped", status=503, code="engine_stopped")
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz(request: Request) -> dict[str, Any]:
        """Whether requests are taken in."""
        if not request.app.state.ready or len(service.engine.tickets) >= service.engine.pending:
            raise Refused("not ready", status=503, code="not_ready")
        return {"status": "ready", "warm": service.runs.warm}

    @app.get("/metrics")
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(measures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return Gate(app=cast(App, app), keys=keys, measures=measures, body=service.limits.body)


def stop(service: Service, jobs: Jobs, grace: float) -> None:
    """Let requests end, and keep what is left of jobs."""
    jobs.close()
    begun = time.monotonic()
    suspended = service.engine.stop(grace)
    jobs.stop(suspended, grace=max(5.0, grace - (time.monotonic() - begun)))
    service.engine.executor.shutdown(wait=True, cancel_futures=False)
