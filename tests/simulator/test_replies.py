"""JSON and the error envelope, as they go over the wire."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest

from exporter.simulator import replies

if TYPE_CHECKING:
    from starlette.types import Message


def test_an_answer_is_json_even_where_it_holds_what_json_has_not() -> None:
    answer = replies.answer({"state": "\ud800", "depth": math.nan})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert bytes(answer.body) == b'{"state": "\\ud800", "depth": NaN}'


@pytest.mark.parametrize(
    ("status", "error_type"),
    [
        (400, "invalid_request_error"),
        (418, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_a_failure_comes_in_the_envelope(status: int, error_type: str) -> None:
    failure = replies.failure(status, "no", "req_1", {"why": 7})
    assert failure.status_code == status
    assert json.loads(bytes(failure.body)) == {
        "type": "error",
        "error": {"type": error_type, "message": "no", "details": {"why": 7}},
        "request_id": "req_1",
    }


@pytest.mark.anyio
async def test_a_caller_is_gone_once_it_has_hung_up() -> None:
    messages: list[Message] = [{"type": "http.request"}, {"type": "http.request"}, {"type": "http.disconnect"}]

    async def receive() -> Message:
        return messages.pop(0)

    await replies.gone(receive)
    assert messages == []
