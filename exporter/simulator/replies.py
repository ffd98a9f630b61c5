"""Answers as they go over the wire: JSON, the API's error envelope, and bodies that misbehave on purpose."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from starlette.responses import Response, StreamingResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

JSON_TYPE = "application/json"

_ERROR_TYPES = (
    (400, "invalid_request_error"),
    (401, "authentication_error"),
    (403, "permission_error"),
    (404, "not_found_error"),
    (409, "conflict_error"),
    (410, "not_found_error"),
    (412, "precondition_failed_error"),
    (413, "request_too_large"),
    (429, "rate_limit_error"),
    (504, "timeout_error"),
    (529, "overloaded_error"),
)


def error_type(status: int) -> str:
    fallback = "invalid_request_error" if status < 500 else "api_error"  # noqa: PLR2004 - where server errors begin
    return dict(_ERROR_TYPES).get(status, fallback)


def answer(body: object, status: int = 200) -> Response:
    # Escapes keep lone surrogates legal JSON; NaN passes, because some servers send it.
    return Response(json.dumps(body), status, media_type=JSON_TYPE)


def failure(status: int, message: str, request_id: str, details: dict[str, object] | None = None) -> Response:
    error: dict[str, object] = {"type": error_type(status), "message": message}
    if details is not None:
        error["details"] = details
    return answer({"type": "error", "error": error, "request_id": request_id}, status)


async def gone(receive: Receive) -> None:
    """Return once the caller has hung up. The request's body must have been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Silence(Response):
    """Accepts the request and never answers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await gone(receive)


def stalled(start: bytes) -> Response:
    """Answer the first half of a body, then nothing."""

    async def body() -> AsyncIterator[bytes]:
        yield start
        await anyio.sleep_forever()

    return StreamingResponse(body(), media_type=JSON_TYPE)


def dripping(content: bytes, pause_s: float) -> Response:
    """Answer one byte at a time: no single read ever waits long, the whole takes for ever."""

    async def body() -> AsyncIterator[bytes]:
        for byte in content:
            yield bytes([byte])
            await anyio.sleep(pause_s)

    return StreamingResponse(body(), media_type=JSON_TYPE)


def endless(chunk: bytes, repeated: bytes) -> Response:
    async def body() -> AsyncIterator[bytes]:
        yield chunk
        while True:
            yield repeated
            await anyio.lowlevel.checkpoint()  # a fast reader would keep the loop from everybody else

    return StreamingResponse(body(), media_type=JSON_TYPE)


def chunked(start: bytes, repeated: bytes, times: int, end: bytes) -> Response:
    """Answer a large body without ever holding it whole."""

    async def body() -> AsyncIterator[bytes]:
        yield start
        for _ in range(times):
            yield repeated
            await anyio.lowlevel.checkpoint()
        yield end

    return StreamingResponse(body(), media_type=JSON_TYPE)
