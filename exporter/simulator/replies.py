"""Answers as they go over the wire: JSON and the API's error envelope."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import Receive

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
