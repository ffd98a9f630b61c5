"""The HTTP face of a `World`: routes, credentials, limits and envelopes. All state that matters is the world's."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import math
import re
from collections import deque
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from exporter.simulator import replies
from exporter.simulator.environment import (
    RECLAIM_DEFAULT_MS,
    Conflict,
    CursorRefused,
    Environment,
    HeartbeatMismatch,
    Invalid,
    Lease,
    NotFound,
    Refusal,
)
from exporter.simulator.item import Item, rendered
from exporter.simulator.options import Call, CallRecord, Calls, Credential, Options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from exporter.simulator.world import World

VERSION = re.compile(r"20\d\d-\d\d-\d\d")  # the documents say 2023-06-01, the newest SDK sends a later one
BETA = "managed-agents-"
WORKSPACE_HEADER = "anthropic-workspace-id"
BLOCK_MAX_MS = 999
MINUTE_S = 60.0

_ROUTES = (
    (Call.ENVIRONMENTS, "GET", "/environments"),
    (Call.ENVIRONMENT, "GET", "/environments/{environment_id}"),
    (Call.STATS, "GET", "/environments/{environment_id}/work/stats"),
    (Call.POLL, "GET", "/environments/{environment_id}/work/poll"),
    (Call.LIST, "GET", "/environments/{environment_id}/work"),
    (Call.RETRIEVE, "GET", "/environments/{environment_id}/work/{work_id}"),
    (Call.UPDATE, "POST", "/environments/{environment_id}/work/{work_id}"),
    (Call.ACK, "POST", "/environments/{environment_id}/work/{work_id}/ack"),
    (Call.HEARTBEAT, "POST", "/environments/{environment_id}/work/{work_id}/heartbeat"),
    (Call.STOP, "POST", "/environments/{environment_id}/work/{work_id}/stop"),
)


class Unauthenticated(Refusal):
    pass


class Forbidden(Refusal):
    def __init__(self, status: int) -> None:
        super().__init__("this credential is not accepted for this call")
        self.status = status


class NoWorkspaceNamed(Refusal):
    def __init__(self, status: int) -> None:
        super().__init__(f"{WORKSPACE_HEADER}: required, because this API key is not of one workspace")
        self.status = status


class OtherWorkspace(Forbidden):
    def __init__(self) -> None:
        super().__init__(403)
        self.args = (f"{WORKSPACE_HEADER}: this credential cannot act on that workspace",)


class RateLimited(Refusal):
    def __init__(self, wait_s: float) -> None:
        super().__init__("rate limit of the organisation exceeded")
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, read completely."""

    call: Call
    request: Request
    body: bytes
    request_id: str

    @property
    def environment_id(self) -> str | None:
        return self.request.path_params.get("environment_id")

    @property
    def workspace_id(self) -> str:
        return self.request.headers.get(WORKSPACE_HEADER, "")

    @property
    def work_id(self) -> str:
        return str(self.request.path_params["work_id"])

    def whole(self, name: str) -> int | None:
        text = self.request.query_params.get(name)
        if text is None:
            return None
        try:
            return int(text)
        except ValueError:
            raise Invalid(f"{name}: must be an integer") from None

    def json_object(self) -> dict[str, Any]:
        try:
            value = json.loads(self.body or b"{}")
        except ValueError:
            raise Invalid("body: not JSON") from None
        if not isinstance(value, dict):
            raise Invalid("body: must be an object")
        return value


class RateLimit:
    """Requests of the last minute."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def take(self, now: float, per_minute: int) -> None:
        while self._times and self._times[0] <= now - MINUTE_S:
            self._times.popleft()
        if len(self._times) >= per_minute:
            oldest = self._times[0] if self._times else now
            raise RateLimited(oldest + MINUTE_S - now)
        self._times.append(now)


class Simulator:
    """An ASGI app. `world`, `options` and `calls` are open to whoever arranges a scene."""

    def __init__(self, world: World, options: Options) -> None:
        self.world = world
        self.options = options
        self.calls = Calls()
        self._limit = RateLimit()
        self._request_numbers = itertools.count(1)
        self._handlers: dict[Call, Callable[[Asked], Awaitable[object]]] = {
            Call.ENVIRONMENTS: self._environments,
            Call.ENVIRONMENT: self._environment,
            Call.STATS: self._stats,
            Call.LIST: self._list,
            Call.POLL: self._poll,
            Call.RETRIEVE: self._retrieve,
            Call.UPDATE: self._update,
            Call.ACK: self._ack,
            Call.HEARTBEAT: self._heartbeat,
            Call.STOP: self._stop,
        }
        self._app: ASGIApp = self._routed()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def _routed(self) -> Starlette:
        routes = [
            Route(self.options.prefix + path, self._endpoint(call), methods=[method]) for call, method, path in _ROUTES
        ]
        handlers = {HTTPException: self._no_such_route}
        return Starlette(routes=[Route("/", self._index), *routes], exception_handlers=handlers)

    def _endpoint(self, call: Call) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            asked = Asked(call, request, await request.body(), self._request_id())
            self._remember(asked)
            return self._stamped(await self._answer(asked), asked.request_id)

        return endpoint

    async def _answer(self, asked: Asked) -> Response:
        """Answer no sooner than the latency after the request has come: what the work of answering takes is part of it."""
        latency_s = self.options.latency(asked.environment_id)
        due_at = anyio.current_time() + latency_s
        response = await self.respond(asked)
        if latency_s:
            with anyio.CancelScope(deadline=due_at):
                await replies.gone(asked.request.receive)
        return response

    async def respond(self, asked: Asked) -> Response:
        """Return the right answer, or the refusal that the request deserves."""
        try:
            return replies.answer(await self._allowed(asked))
        except Refusal as refusal:
            return self._refused(refusal, asked.request_id)

    async def _allowed(self, asked: Asked) -> object:
        if self.options.requests_per_minute is not None and (asked.call != Call.POLL or self.options.polls_count):
            self._limit.take(self.world.time(), self.options.requests_per_minute)
        self._check_headers(asked.request)
        self._check_credential(asked)
        self._check_workspace(asked)
        return await self._handlers[asked.call](asked)

    def _request_id(self) -> str:
        return f"req_simulated{next(self._request_numbers):012d}"

    def _stamped(self, response: Response, request_id: str) -> Response:
        response.headers["request-id"] = request_id
        if self.options.date == "right":
            response.headers["date"] = formatdate(self.world.time() + self.options.date_skew_s, usegmt=True)
        elif self.options.date == "nonsense":
            response.headers["date"] = "half past nine"
        return response

    def _remember(self, asked: Asked) -> None:
        credentials = tuple(kind for kind, _ in self._presented(asked))
        query = dict(asked.request.query_params)
        at = self.world.time()
        self.calls.add(CallRecord(at, asked.environment_id, asked.call, query, credentials, asked.workspace_id))

    def _no_such_route(self, _: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        request_id = self._request_id()
        return self._stamped(replies.failure(status, "no such endpoint", request_id), request_id)

    def _refused(self, refusal: Refusal, request_id: str) -> Response:
        message = str(refusal)
        match refusal:
            case RateLimited():
                response = replies.failure(429, message, request_id)
                self._add_retry_after(response, refusal.wait_s)
                return response
            case HeartbeatMismatch():
                return replies.failure(412, message, request_id, _mismatch(refusal.lease))
            case CursorRefused() | Forbidden() | NoWorkspaceNamed():
                return replies.failure(refusal.status, message, request_id)
            case _:
                statuses = {NotFound: 404, Invalid: 400, Conflict: 409, Unauthenticated: 401}
                return replies.failure(statuses[type(refusal)], message, request_id)

    def _add_retry_after(self, response: Response, wait_s: float) -> None:
        wait_s = wait_s if self.options.retry_after_s is None else self.options.retry_after_s
        match self.options.retry_after:
            case "seconds":
                response.headers["retry-after"] = str(math.ceil(wait_s))
            case "date":
                until = self.world.time() + self.options.date_skew_s + math.ceil(wait_s)
                response.headers["retry-after"] = formatdate(until, usegmt=True)
            case "nonsense":
                response.headers["retry-after"] = "in a while"
            case "absent":
                pass

    def _check_headers(self, request: Request) -> None:
        if self.options.require_beta_query and request.query_params.get("beta") != "true":
            raise Invalid("beta: this endpoint needs the query parameter beta=true")
        if not self.options.check_headers:
            return
        if not VERSION.fullmatch(request.headers.get("anthropic-version", "")):
            raise Invalid("anthropic-version: must be a date, such as 2023-06-01")
        if not any(word.strip().startswith(BETA) for word in request.headers.get("anthropic-beta", "").split(",")):
            raise Invalid("anthropic-beta: must name the managed-agents beta")

    def _presented(self, asked: Asked) -> list[tuple[Credential, str | None]]:
        """Return the credentials that are genuine, each with the environment it belongs to."""
        found: list[tuple[Credential, str | None]] = []
        if self._is_api_key(asked.request.headers.get("x-api-key", "")):
            found.append((Credential.API_KEY, None))
        scheme, _, token = asked.request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return found
        if self._is_api_key(token):
            found.append((Credential.BEARER_API_KEY, None))
        elif (owner := self.world.owner(token)) is not None:
            found.append((Credential.ENVIRONMENT_KEY, owner))
        elif "work_id" in asked.request.path_params and token == _session_token(asked.work_id):
            found.append((Credential.WORK_SECRET, asked.environment_id))
        return found

    def _is_api_key(self, key: str) -> bool:
        return key == self.options.api_key or key in self.options.workspace_by_api_key

    def _check_workspace(self, asked: Asked) -> None:
        """Refuse a call that names no workspace with a key of them all, or another one than its credential's.

        Where no environment is in a workspace, nobody looks at what a call names, as on servers that know no workspaces.
        """
        if not self.world.workspaces():
            return
        own = self._credentials_workspace(asked)
        if own is None and not asked.workspace_id:
            raise NoWorkspaceNamed(self.options.unnamed_workspace_status)
        if asked.workspace_id and asked.workspace_id not in (self.world.workspaces() if own is None else {own}):
            raise OtherWorkspace

    def _credentials_workspace(self, asked: Asked) -> str | None:
        """Return the workspace that the credential belongs to; None for the organisation's key."""
        owner = next((owner for _, owner in self._presented(asked) if owner is not None), None)
        if owner is not None:
            return self.world.workspace_of(owner)
        headers = asked.request.headers
        key = headers.get("x-api-key") or headers.get("authorization", "").partition(" ")[2]
        return self.options.workspace_by_api_key.get(key)

    def _visible_workspace(self, asked: Asked) -> str | None:
        """Return the workspace whose environments the call may see; None for all, where there are no workspaces."""
        if not self.world.workspaces():
            return None
        return asked.workspace_id or self._credentials_workspace(asked)

    def _check_credential(self, asked: Asked) -> None:
        presented = self._presented(asked)
        if not presented:
            raise Unauthenticated("missing or unknown credential")
        accepted = self.options.accepts(asked.call, asked.environment_id)
        if not any(kind in accepted for kind, _ in presented):
            raise Forbidden(self.options.refusal_status)
        if not any(kind in accepted and owner in {None, asked.environment_id} for kind, owner in presented):
            raise Forbidden(403)

    def _queue(self, asked: Asked) -> Environment:
        environment = self.world.environment(asked.environment_id or "")
        if self._visible_workspace(asked) not in {None, self.world.workspace_of(environment.id)}:
            raise NotFound(f"environment not found: {environment.id}")
        return environment

    def _work(self, asked: Asked) -> Environment:
        environment = self._queue(asked)
        if environment.profile.kind == "cloud":
            raise NotFound(f"environment has no work queue: {environment.id}")
        return environment

    async def _index(self, _: Request) -> Response:
        environments = [
            {
                "id": environment.id,
                "name": environment.profile.name,
                "type": environment.profile.kind,
                "environment_key": environment.profile.key,
                "workspace_id": self.world.workspace_of(environment.id),
            }
            for environment in self.world.environments()
        ]
        credentials = {call.value: sorted(kinds) for call, kinds in self.options.accepted.items()}
        index = {
            "api_key": self.options.api_key,
            "workspace_by_api_key": self.options.workspace_by_api_key,
            "base_path": self.options.prefix,
            "environments": environments,
            "credentials": credentials,
        }
        return self._stamped(replies.answer(index), self._request_id())

    async def _environments(self, asked: Asked) -> object:
        return self._environment_page(
            limit=asked.whole("limit"),
            cursor=asked.request.query_params.get("page"),
            include_archived=asked.request.query_params.get("include_archived") == "true",
            workspace_id=self._visible_workspace(asked),
        )

    def _environment_page(self, **wanted: Any) -> dict[str, Any]:
        page, next_page = self.world.environment_page(**wanted)
        return {"data": [_environment_body(environment) for environment in page], "next_page": next_page}

    async def _environment(self, asked: Asked) -> object:
        return _environment_body(self._queue(asked))

    async def _stats(self, asked: Asked) -> object:
        environment = self._queue(asked)
        stats = environment.stats()
        oldest = stats.oldest_queued_at
        return {
            "type": "work_queue_stats",
            "depth": stats.depth,
            "pending": stats.pending,
            "oldest_queued_at": None if oldest is None else environment.timestamp(oldest),
            "workers_polling": stats.workers_polling,
        }

    async def _list(self, asked: Asked) -> object:
        cursor = asked.request.query_params.get("page")
        return self._page(self._queue(asked), limit=asked.whole("limit"), cursor=cursor)

    def _page(self, environment: Environment, *, limit: int | None, cursor: str | None) -> dict[str, Any]:
        page = environment.page(limit=limit, cursor=cursor)
        data = [_item_body(environment, item) for item in page.items]
        body: dict[str, Any] = {"data": data, "next_page": page.next_cursor}
        if environment.rules.has_more:
            ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
            body |= {"first_id": None, "last_id": None, **ends, "has_more": page.next_cursor is not None}
        return body

    async def _poll(self, asked: Asked) -> object:
        environment = self._work(asked)
        block_ms = asked.whole("block_ms")
        if block_ms is not None and not 1 <= block_ms <= BLOCK_MAX_MS:
            raise Invalid(f"block_ms: must be between 1 and {BLOCK_MAX_MS}")
        reclaim_older_than_ms = asked.whole("reclaim_older_than_ms")
        worker_id = asked.request.headers.get("anthropic-worker-id")

        def claim() -> Item | None:
            older_than_ms = RECLAIM_DEFAULT_MS if reclaim_older_than_ms is None else reclaim_older_than_ms
            return environment.poll(worker_id=worker_id, reclaim_older_than_ms=older_than_ms)

        item = claim()
        if item is None and block_ms is not None:
            item = await self._claim_on_arrival(environment, claim, block_ms / 1000, asked.request)
        if item is None:
            return None
        secret = _secret(item.id) if environment.rules.secrets else None
        return _item_body(environment, item, secret=secret)

    async def _claim_on_arrival(
        self, environment: Environment, claim: Callable[[], Item | None], wait_s: float, request: Request
    ) -> Item | None:
        arrived = asyncio.Event()
        environment.arrivals.add(arrived.set)
        hung_up = asyncio.ensure_future(replies.gone(request.receive))
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + wait_s
        item: Item | None = None
        try:
            while item is None and await _happened(arrived, unless=hung_up, within_s=ends_at - loop.time()):
                arrived.clear()
                item = claim()  # another poll may have been quicker
        finally:
            environment.arrivals.discard(arrived.set)
            hung_up.cancel()
        return item

    async def _retrieve(self, asked: Asked) -> object:
        environment = self._work(asked)
        return _item_body(environment, environment.item(asked.work_id))

    async def _update(self, asked: Asked) -> object:
        environment = self._work(asked)
        metadata = asked.json_object().get("metadata", {})
        if not isinstance(metadata, dict):
            raise Invalid("metadata: must be an object")
        if not all(value is None or isinstance(value, str) for value in metadata.values()):
            raise Invalid("metadata: every value must be a string, or null to delete it")
        return _item_body(environment, environment.update(asked.work_id, metadata))

    async def _ack(self, asked: Asked) -> object:
        environment = self._work(asked)
        return _item_body(environment, environment.ack(asked.work_id))

    async def _heartbeat(self, asked: Asked) -> object:
        lease = self._work(asked).heartbeat(
            asked.work_id,
            expected=asked.request.query_params.get("expected_last_heartbeat"),
            desired_ttl_s=asked.whole("desired_ttl_seconds"),
        )
        return {
            "type": "work_heartbeat",
            "last_heartbeat": lease.last_heartbeat,
            "lease_extended": lease.extended,
            "state": lease.state,
            "ttl_seconds": lease.ttl_s,
        }

    async def _stop(self, asked: Asked) -> object:
        environment = self._work(asked)
        force = asked.json_object().get("force", False)
        if not isinstance(force, bool):
            raise Invalid("force: must be a boolean")
        return _item_body(environment, environment.stop(asked.work_id, force=force))


async def _happened(event: asyncio.Event, *, unless: asyncio.Future[None], within_s: float) -> bool:
    """Wait for the event; a caller who hangs up must not be given work, it would be lost until it is taken back."""
    waiting = asyncio.ensure_future(event.wait())
    either: set[asyncio.Future[Any]] = {waiting, unless}
    done, _ = await asyncio.wait(either, timeout=max(within_s, 0), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return bool(done) and unless not in done


def _mismatch(lease: Lease) -> dict[str, object]:
    return {
        "error_code": "heartbeat_precondition_failed",
        "current_state": {
            "last_heartbeat": lease.last_heartbeat or None,
            "lease_extended": False,
            "state": lease.state,
            "ttl_seconds": lease.ttl_s,
        },
    }


def _item_body(environment: Environment, item: Item, *, secret: str | None = None) -> dict[str, object]:
    return rendered(item, environment.rules.timestamps, secret=secret)


def _session_token(work_id: str) -> str:
    return f"sk-ant-session-{work_id}"


def _secret(work_id: str) -> str:
    payload = json.dumps({"sessions_token": _session_token(work_id)})
    return base64.urlsafe_b64encode(payload.encode()).decode().rstrip("=")


def _environment_body(environment: Environment) -> dict[str, Any]:
    profile = environment.profile
    config: dict[str, Any] = {"type": profile.kind}
    if profile.kind == "cloud":
        packages: dict[str, list[str]] = {manager: [] for manager in ("apt", "cargo", "gem", "go", "npm", "pip")}
        config |= {"networking": {"type": "unrestricted"}, "packages": packages}
    archived_at = environment.archived_at
    return {
        "type": "environment",
        "id": profile.id,
        "name": profile.name,
        "description": profile.description,
        "config": config,
        "metadata": {},
        "archived_at": None if archived_at is None else environment.timestamp(archived_at),
        "created_at": environment.timestamp(profile.created_at),
        "updated_at": environment.timestamp(archived_at or profile.created_at),
        "scope": "organization",
    }


def make_app(world: World, options: Options | None = None) -> Simulator:
    return Simulator(world, options or Options())
