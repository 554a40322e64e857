"""Errors in the form of OpenAI's API: {"error": {"message", "type", "param", "code"}}."""

import logging
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from langevin.serving.ticket import Cancelled, DeadlineExceeded, QueueFull

LOG = logging.getLogger("langevin.server")
TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class Refused(Exception):
    """A request that is answered by an error.

    Args:
        message: what is wrong, and what to do.
        status: of the HTTP response.
        code: for programs, such as "model_not_found".
        param: the field of the request that it is about.
        headers: further headers of the response.
    """

    def __init__(
        self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.message, self.status, self.code, self.param, self.headers = message, status, code, param, headers or {}


def body(message: str, *, status: int, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """The JSON of an error."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def response(
    message: str, *, status: int, code: str | None = None, param: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:  # fmt: skip
    """The response of an error."""
    return JSONResponse(body(message, status=status, code=code, param=param), status_code=status, headers=headers)


def refusal(error: BaseException) -> Refused:
    """An error of the engine, of a plan or of a run as a refusal; what is not foreseen is the server's own error."""
    match error:
        case Refused():
            return error
        case QueueFull():
            headers = {"Retry-After": str(max(1, round(error.retry_after)))}
            return Refused(str(error), status=429, code="queue_full", headers=headers)
        case DeadlineExceeded():
            return Refused(str(error), status=408, code="deadline_exceeded", headers={"x-should-retry": "false"})
        case Cancelled():
            return Refused(str(error), status=409, code="cancelled", headers={"x-should-retry": "false"})
        case SQLAlchemyError():
            return Refused("the database does not answer", status=503, code="database_unavailable")
        case ValueError():
            return Refused(str(error), status=400, code="invalid_value")
        case _:
            LOG.error("not foreseen", exc_info=error)
            return Refused(f"internal error ({type(error).__name__})", status=500, code="internal_error")


def in_words(error: Mapping[str, Any], names: Iterable[str] = ()) -> str:
    """What is wrong with a value, for who wrote it.

    Args:
        error: of pydantic.
        names: that are known in place of one that is not."""
    match error["type"]:
        case "extra_forbidden":
            name, known = str(error["loc"][-1]), list(names)
            near = get_close_matches(name, known, n=1)
            return "there is no such field" + (
                f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}" if known else ""
            )
        case "tuple_type" | "list_type":
            return 'give a list, as ["one"]'
        case "missing":
            return "is missing"
        case "model_attributes_type" | "model_type" | "dict_type":
            return "give a JSON object, with the header Content-Type: application/json"
        case "value_error":
            return str(error["ctx"]["error"])
        case "json_invalid":
            return f"the body is not JSON: {error.get('ctx', {}).get('error', error['msg'])}"
        case _:
            return str(error["msg"])


def install(app: FastAPI) -> None:
    """Answer every error of an app in this form."""

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return response(
            error.message, status=error.status, code=error.code, param=error.param, headers=error.headers
        )  # fmt: skip

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body" and str(part)[:1] != "(") or None
        message = f"{where}: {in_words(first)}" if where else in_words(first)
        return response(message, status=400, code="invalid_value", param=where)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return response(str(error.detail), status=error.status_code, headers=dict(error.headers or {}))

    @app.exception_handler(SQLAlchemyError)
    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        one = refusal(error)
        return response(one.message, status=one.status, code=one.code, headers=one.headers)


__all__ = ["Refused", "body", "install", "refusal", "response"]
