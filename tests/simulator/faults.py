"""Faults by name: what a server, or something in front of it, may answer instead of the truth.

A fault either replaces an answer without looking at it, or alters the right one. Faults below HTTP (resets, two content
lengths, dripped headers) need a raw socket and are not here.
"""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
from starlette.responses import RedirectResponse, Response, StreamingResponse

from exporter.simulator import Call, Options, Simulator, replies

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import Receive, Scope, Send

    from exporter.simulator import World
    from exporter.simulator.app import Asked

    Replacement = Callable[["Occasion"], Response]
    Alteration = Callable[["Body", "Occasion"], Response]

Body = dict[str, Any]

STATUSES = (400, 401, 403, 404, 408, 409, 410, 413, 429, 500, 502, 503, 504, 529)
ELSEWHERE = "http://elsewhere.invalid/v1/"
MEBIBYTE = 2**20
LIST_FAULTS = frozenset(
    {"repeated-cursor", "endless-pages", "endless-empty-pages", "item-on-two-pages", "foreign-item"}
)
INSTANTS = ("created_at", "acknowledged_at", "started_at", "latest_heartbeat_at", "oldest_queued_at")


@dataclass(frozen=True, slots=True)
class Occasion:
    """The call that is about to go wrong. `cursor`: the page asked for; `first_page`: the list as it begins."""

    request_id: str
    cursor: str | None
    first_page: Callable[[], Body]


class Silence(Response):
    """Accepts the request and never answers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await replies.gone(receive)


def stalled(start: bytes) -> Response:
    """Answer the first half of a body, then nothing."""

    async def body() -> AsyncIterator[bytes]:
        yield start
        await anyio.sleep_forever()

    return StreamingResponse(body(), media_type=replies.JSON_TYPE)


def dripping(content: bytes, pause_s: float) -> Response:
    """Answer one byte at a time: no single read ever waits long, the whole takes for ever."""

    async def body() -> AsyncIterator[bytes]:
        for byte in content:
            yield bytes([byte])
            await anyio.sleep(pause_s)

    return StreamingResponse(body(), media_type=replies.JSON_TYPE)


def endless(chunk: bytes, repeated: bytes) -> Response:
    async def body() -> AsyncIterator[bytes]:
        yield chunk
        while True:
            yield repeated
            await anyio.lowlevel.checkpoint()  # a fast reader would keep the loop from everybody else

    return StreamingResponse(body(), media_type=replies.JSON_TYPE)


def chunked(start: bytes, repeated: bytes, times: int, end: bytes) -> Response:
    """Answer a large body without ever holding it whole."""

    async def body() -> AsyncIterator[bytes]:
        yield start
        for _ in range(times):
            yield repeated
            await anyio.lowlevel.checkpoint()
        yield end

    return StreamingResponse(body(), media_type=replies.JSON_TYPE)


def _status(status: int, occasion: Occasion) -> Response:
    return replies.failure(status, f"simulated fault: {status}", occasion.request_id)


def _redirect(status: int, _: Occasion) -> Response:
    return RedirectResponse(ELSEWHERE, status)


def _html(status: int, _: Occasion) -> Response:
    page = "<!doctype html><html><head><title>Bad gateway</title></head><body><h1>Please try again</h1></body></html>"
    return Response(page, status, media_type="text/html")


def _raw(content: bytes, _: Occasion) -> Response:
    return Response(content, media_type=replies.JSON_TYPE)


def _encoded(encoding: str, content: bytes, _: Occasion) -> Response:
    return Response(content, headers={"content-encoding": encoding}, media_type=replies.JSON_TYPE)


def _gzip_bomb(_: Occasion) -> Response:
    return _encoded("gzip", gzip.compress(bytes(64 * MEBIBYTE), 9), _)


def _nested_gzip_bomb(_: Occasion) -> Response:
    twice = gzip.compress(gzip.compress(bytes(64 * MEBIBYTE), 9), 9)
    return _encoded("gzip, gzip", twice, _)


def _huge(_: Occasion) -> Response:
    return chunked(b'{"type":"work_queue_stats","padding":"', b"x" * MEBIBYTE, 64, b'"}')


def _nested(_: Occasion) -> Response:
    return _raw(b'{"data":' + b"[" * 10_000 + b"]" * 10_000 + b',"depth":0,"pending":0}', _)


def _loop(occasion: Occasion) -> Response:
    return replies.answer({**occasion.first_page(), "next_page": "again", "has_more": True})


def _page_number(occasion: Occasion) -> int:
    return int((occasion.cursor or "page-0").removeprefix("page-"))


def _endless_pages(occasion: Occasion) -> Response:
    following = f"page-{_page_number(occasion) + 1}"
    return replies.answer({**occasion.first_page(), "next_page": following, "has_more": True})


def _endless_empty_pages(occasion: Occasion) -> Response:
    following = f"page-{_page_number(occasion) + 1}"
    return replies.answer({"data": [], "next_page": following, "has_more": True})


def replacements() -> dict[str, Replacement]:
    """Return the faults that need no right answer, by name."""
    return _other_statuses() | _other_bodies() | _other_sizes() | _endless_lists()


def _other_statuses() -> dict[str, Replacement]:
    return {
        **{f"status-{status}": partial(_status, status) for status in STATUSES},
        "redirect-301": partial(_redirect, 301),
        "redirect-307": partial(_redirect, 307),
        "html-200": partial(_html, 200),
        "html-502": partial(_html, 502),
        "no-content": lambda _: Response(status_code=204),
    }


def _other_bodies() -> dict[str, Replacement]:
    return {
        "empty-body": partial(_raw, b""),
        "not-utf8": partial(_raw, b'{"depth":1,"pending":0,"data":[],"type":"\xff\xfe"}'),
        "json-array": partial(_raw, b"[]"),
        "json-null": partial(_raw, b"null"),
        "json-number": partial(_raw, b"1"),
        "json-string": partial(_raw, b'"work"'),
        "empty-object": partial(_raw, b"{}"),
        "nested": _nested,
        "unknown-encoding": partial(_encoded, "zstd", b"\x28\xb5\x2f\xfd junk"),
    }


def _other_sizes() -> dict[str, Replacement]:
    return {
        "hang": lambda _: Silence(),
        "huge-body": _huge,
        "endless-body": lambda _: endless(b'{"type":"', b"x" * 65_536),
        "endless-spaces": lambda _: endless(b"", b" " * 65_536),
        "gzip-bomb": _gzip_bomb,
        "nested-gzip-bomb": _nested_gzip_bomb,
    }


def _endless_lists() -> dict[str, Replacement]:
    return {
        "repeated-cursor": _loop,
        "endless-pages": _endless_pages,
        "endless-empty-pages": _endless_empty_pages,
    }


def _text(body: Body) -> bytes:
    return json.dumps(body).encode()


def _truncated(body: Body, _: Occasion) -> Response:
    text = _text(body)
    return Response(text[: len(text) * 2 // 3], media_type=replies.JSON_TYPE)


def _stalled(body: Body, _: Occasion) -> Response:
    text = _text(body)
    return stalled(text[: len(text) // 2])


def _dripping(body: Body, _: Occasion) -> Response:
    return dripping(_text(body), pause_s=0.1)


def _gzipped(body: Body, occasion: Occasion) -> Response:
    return _encoded("gzip", gzip.compress(_text(body)), occasion)


def _wrong_type(body: Body, _: Occasion) -> Response:
    return Response(_text(body), media_type="text/plain")


def _duplicate_keys(body: Body, _: Occasion) -> Response:
    text = _text(body)
    return Response(text[:-1] + b', "depth": 999, "data": []}', media_type=replies.JSON_TYPE)


def _each(body: Body, change: Callable[[Body], Body]) -> Response:
    """Change the object itself and, in a list, every item of it."""
    changed = change(body)
    if isinstance(changed.get("data"), list):
        changed["data"] = [change(item) for item in changed["data"]]
    return replies.answer(changed)


def _with(body: Body, values: Body) -> Body:
    return {**body, **{name: value for name, value in values.items() if name in body}}


def _values(values: Body, body: Body, _: Occasion) -> Response:
    return _each(body, lambda part: _with(part, values))


def _wrong_types(body: Body, _: Occasion) -> Response:
    def other_type(value: object) -> object:
        match value:
            case str():
                return 7
            case list():
                return value
            case None:
                return {}
            case _:
                return "seven"

    return _each(body, lambda part: {name: other_type(value) for name, value in part.items()})


def _missing_fields(body: Body, _: Occasion) -> Response:
    dropped = {"depth", "id", "created_at", "state", "name"}
    return _each(body, lambda part: {name: value for name, value in part.items() if name not in dropped})


def _extra_fields(body: Body, _: Occasion) -> Response:
    extra = {"surprise": {"nested": [1, None, "x"]}, "region": "eu", "priority": 1e300}
    return _each(body, lambda part: {**extra, **part})


def _instants(text: str) -> Alteration:
    def change(part: Body) -> Body:
        return {**part, **{name: text for name in INSTANTS if part.get(name) is not None}}

    return lambda body, _: _each(body, change)


def _item_twice(body: Body, occasion: Occasion) -> Response:
    if occasion.cursor is None:
        return replies.answer(body)
    return replies.answer({**body, "data": [*occasion.first_page()["data"][:1], *body["data"]]})


def _foreign_item(body: Body, _: Occasion) -> Response:
    items = body.get("data", [])
    strays = [{**item, "id": f"{item['id']}9", "environment_id": "env_someone_else"} for item in items[:1]]
    return replies.answer({**body, "data": [*strays, *items]})


def alterations() -> dict[str, Alteration]:
    """Return the faults that are made of the right answer, by name."""
    return _altered_transport() | _altered_values() | _altered_texts() | _altered_lists()


def _altered_transport() -> dict[str, Alteration]:
    return {
        "truncated-json": _truncated,
        "stall": _stalled,
        "drip-body": _dripping,
        "gzip": _gzipped,
        "wrong-content-type": _wrong_type,
    }


def _altered_values() -> dict[str, Alteration]:
    return {
        "duplicate-keys": _duplicate_keys,
        "wrong-types": _wrong_types,
        "missing-fields": _missing_fields,
        "extra-fields": _extra_fields,
        "null-data": partial(_values, {"data": None, "depth": None, "pending": None}),
        "nan": partial(_values, {"depth": math.nan, "created_at": math.nan}),
        "infinity": partial(_values, {"depth": math.inf, "created_at": math.inf}),
        "negative": partial(_values, {"depth": -1, "pending": -1, "workers_polling": -1}),
        "huge-integer": partial(_values, {"depth": 10**400, "workers_polling": 10**400, "created_at": 10**400}),
        "fraction": partial(_values, {"depth": 1.5, "pending": 0.5}),
        "unknown-state": partial(_values, {"state": "hibernating"}),
    }


def _altered_texts() -> dict[str, Alteration]:
    return {
        "surrogates": partial(_values, {"state": "\ud800", "name": "\udfff", "id": "work_\ud800"}),
        "control-characters": partial(_values, {"state": "act\u0000ive", "name": "pro\n\u202eduction\u0007"}),
        "secrets": partial(_values, {"secret": "c2VjcmV0LWNhbmFyeQ", "metadata": {"token": "metadata-canary"}}),
        "bad-timestamps": _instants("yesterday"),
        "naive-timestamps": _instants("2026-07-01T08:15:01"),
        "ancient-timestamps": _instants("0001-01-01T00:00:00Z"),
    }


def _altered_lists() -> dict[str, Alteration]:
    return {
        "foreign-items": partial(_values, {"environment_id": "env_someone_else"}),
        "foreign-item": _foreign_item,
        "huge-cursor": partial(_values, {"next_page": "x" * 100_000}),
        "cursor-of-wrong-type": partial(_values, {"next_page": 7}),
        "item-on-two-pages": _item_twice,
    }


def fault_names() -> frozenset[str]:
    return frozenset(replacements()) | frozenset(alterations())


@dataclass(slots=True)
class Injected:
    fault: str
    environment_id: str | None
    calls: frozenset[Call]
    times_left: int | None
    workspace_id: str | None

    def concerns(self, environment_id: str | None, call: Call, workspace_id: str) -> bool:
        return (
            self.times_left != 0
            and call in self.calls
            and self.environment_id in {None, environment_id}
            and self.workspace_id in {None, workspace_id}
        )


@dataclass(slots=True)
class Faults:
    """What goes wrong now."""

    injected: list[Injected] = field(default_factory=list)

    def inject(
        self,
        fault: str,
        *,
        environment_id: str | None = None,
        call: str | None = None,
        times: int | None = None,
        workspace_id: str | None = None,
    ) -> None:
        """Let every matching call go wrong from now on, or the next `times` of them. The latest fault wins."""
        if fault not in fault_names():
            raise ValueError(f"no such fault: {fault}; known: {', '.join(sorted(fault_names()))}")
        every = {Call.LIST, Call.ENVIRONMENTS} if fault in LIST_FAULTS else set(Call)
        calls = frozenset(every if call is None else {Call(call)})
        self.injected.append(Injected(fault, environment_id, calls, times, workspace_id))

    def heal(self, environment_id: str | None = None) -> None:
        """Remove the faults of one environment, or all of them."""
        self.injected = [fault for fault in self.injected if environment_id not in {None, fault.environment_id}]

    def due(self, environment_id: str | None, call: Call, workspace_id: str = "") -> str | None:
        """Return the fault that this call meets. A limited one is used up by being asked for."""
        for injected in reversed(self.injected):
            if injected.concerns(environment_id, call, workspace_id):
                if injected.times_left is not None:
                    injected.times_left -= 1
                return injected.fault
        return None


class FaultySimulator(Simulator):
    """The simulated API with faults in front of it."""

    def __init__(self, world: World, options: Options | None = None, faults: Faults | None = None) -> None:
        super().__init__(world, options or Options())
        self.faults = faults or Faults()
        self._replacements = replacements()
        self._alterations = alterations()

    async def respond(self, asked: Asked) -> Response:
        fault = self.faults.due(asked.environment_id, asked.call, asked.workspace_id)
        if fault in self._replacements:
            return self._replacements[fault](self._occasion(asked))
        response = await super().respond(asked)
        body = json.loads(bytes(response.body)) if response.status_code == 200 else None
        if fault is None or not isinstance(body, dict):
            return response
        return self._alterations[fault](body, self._occasion(asked))

    def _occasion(self, asked: Asked) -> Occasion:
        def first_page() -> Body:
            if asked.call == Call.ENVIRONMENTS:
                return self._environment_page(workspace_id=self._visible_workspace(asked))
            return self._page(self._queue(asked), limit=asked.whole("limit"), cursor=None)

        return Occasion(asked.request_id, asked.request.query_params.get("page"), first_page)
