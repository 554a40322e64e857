"""The application: every endpoint over one service, with readiness and draining."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, cast

from fastapi import FastAPI, Request, Response

from langevin.server import errors, jobs_api, page, reviews_api, runs_api
from langevin.server.errors import Refused
from langevin.server.jobs import Jobs
from langevin.server.keys import Keys
from langevin.server.metrics import Measures
from langevin.server.middleware import App, Gate
from langevin.server.openai import audio, edits, images, models, moderations, provenance, text
from langevin.server.service import Service
from langevin.server.store import Store

PARTS = (images, edits, audio, text, models, moderations, provenance, jobs_api, reviews_api, runs_api, page)


def create(service: Service, store: Store, *, keys: Keys | None = None, grace: float = 20.0) -> App:
    """The server as an ASGI application.

    Args:
        service: its engine is started and stopped with the application.
        keys: that are accepted; None accepts everybody.
        grace: seconds that requests get to end when it stops."""
    measures, jobs = Measures.of(service.engine), Jobs(service=service, store=store)

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

    return Gate(app=cast(App, app), keys=keys or Keys(), measures=measures, body=service.limits.body)


def stop(service: Service, jobs: Jobs, grace: float) -> None:
    """Let requests end, and keep what is left of jobs."""
    jobs.close()
    suspended = service.engine.stop(grace)
    jobs.stop(suspended)
    service.engine.executor.shutdown(wait=True, cancel_futures=False)
