"""Routes: HTTP in, calls down, HTTP out."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio.to_thread
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from exporter.environments.live_items import STATES, live_items
from exporter.metrics import catalogue
from exporter.metrics.exposition import Exposition, Wanted, expose
from exporter.metrics.negotiation import prefers_json
from exporter.metrics.series import families_of
from exporter.web import items as items_views
from exporter.web import markup, status_page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from prometheus_client import CollectorRegistry
    from starlette.requests import Request

    from exporter.api.wire import State
    from exporter.clock import Clock
    from exporter.config.model import Config
    from exporter.environments.reader import EnvironmentReader
    from exporter.environments.roster import Roster
    from exporter.environments.scraper import Scraper
    from exporter.environments.snapshot import Snapshot

TIMEOUT_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"
ITEMS_OFF = "The items are not shown: work.items is false.\n"
NO_SUCH_ITEMS = "The items need exactly one target: the id or name of an environment that /sd lists.\n"
UNKNOWN_TARGET = "The probe needs exactly one target: the id or name of an environment that /sd lists.\n"
BUSY = "Too many scrapes at once; --web.max-requests sets how many are served.\n"
LIFECYCLE_OFF = "Reloading over HTTP is off; --web.enable-lifecycle allows it.\n"
UNLISTED = "The environments have not been listed yet{}, and a part of them must not be taken for the whole.\n"
TAKEN_PATHS = frozenset({"/probe", "/sd", "/items", "/-/healthy", "/-/ready", "/-/reload"})
"""The routes besides the metrics and the status page."""
SECURITY_HEADERS = {
    "Content-Security-Policy": markup.POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """`route_prefix`: what every path begins with, such as `/exporter`, or nothing.

    `external_url`: where users reach the exporter, without a slash at its end; None if nobody has said so.
    """

    telemetry_path: str = "/metrics"
    max_requests: int = 40
    enable_lifecycle: bool = False
    external_url: str | None = None
    route_prefix: str = ""

    @property
    def home(self) -> str:
        """The status page's path, as users reach it."""
        return f"{self.route_prefix if self.external_url is None else urlsplit(self.external_url).path}/"

    @property
    def link_base(self) -> str:
        """What links begin with. Relative ones lead through any proxy that has the status page under a path with a slash."""
        return "./" if self.external_url is None else self.home


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the routes call. `settle`: waits until the environments are known, at most the seconds it is given.

    `unlisted`: the workspaces whose environments are not known yet. `reload`: reads the configuration again and returns its problems, none when
    it is in force. `status`: what the status page says about the exporter itself.
    """

    web: WebSettings
    config: Callable[[], Config]
    clock: Clock
    roster: Roster
    scraper: Scraper
    registry: CollectorRegistry
    settle: Callable[[float], Awaitable[None]]
    unlisted: Callable[[], Sequence[str]]
    reload: Callable[[], Awaitable[tuple[str, ...]]]
    status: Callable[[], status_page.Status]


class Routes:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._scrapes = 0

    def app(self) -> Starlette:
        prefix = self._parts.web.route_prefix
        routes = [
            Route(f"{prefix}{self._parts.web.telemetry_path}", self.metrics),
            Route(f"{prefix}/probe", self.probe),
            Route(f"{prefix}/sd", self.service_discovery),
            Route(f"{prefix}/items", self.items),
            Route(f"{prefix}/-/healthy", self.healthy),
            Route(f"{prefix}/-/ready", self.ready),
            Route(f"{prefix}/-/reload", self.reload, methods=["POST"]),
            Route(f"{prefix}/", self.status_page),
        ]
        if prefix:
            routes += [Route(path, self.to_status_page) for path in ("/", prefix)]
        app = Starlette(routes=routes)
        app.router.redirect_slashes = False  # it would answer with an address made of the request's Host header
        return app

    async def metrics(self, request: Request) -> Response:
        return await self._limited(request, None)

    async def probe(self, request: Request) -> Response:
        return await self._limited(request, request.query_params.getlist("target"))

    async def healthy(self, _: Request) -> Response:
        return PlainTextResponse("The exporter is alive.\n")

    async def ready(self, _: Request) -> Response:
        return PlainTextResponse("The exporter is configured and serving.\n")

    async def service_discovery(self, _: Request) -> Response:
        await self._parts.settle(self._parts.config().scrape.timeout_s)
        if unlisted := self._parts.unlisted():
            names = ", ".join(filter(None, unlisted))
            return PlainTextResponse(UNLISTED.format(f" in {names}" if names else ""), 503)
        groups = [_target_group(reader, self._parts.web) for reader in self._parts.roster.readers]
        return Response(json.dumps(groups), media_type="application/json")

    async def items(self, request: Request) -> Response:
        config, query = self._parts.config(), request.query_params
        if not config.work.items:
            return PlainTextResponse(ITEMS_OFF, 404)
        await self._parts.settle(config.scrape.timeout_s)
        readers = self._readers(query.getlist("target"))
        if readers is None:
            return PlainTextResponse(NO_SUCH_ITEMS, 400)
        try:
            states, limit = _states(query.getlist("state")), _limit(query.get("limit"))
            wants_json = _wants_json(query.get("format"), request.headers.get("accept", ""))
        except ValueError as invalid:
            return PlainTextResponse(f"{invalid}\n", 400)
        now = self._parts.clock.monotonic()
        overdue_s = config.work.heartbeat_overdue_s
        snapshot = readers[0].snapshot(asked_at=now)
        found = live_items(snapshot, states, limit=limit, heartbeat_overdue_s=overdue_s, monotonic=now)
        if isinstance(found, str):
            return PlainTextResponse(f"{found}\n", 503)
        if wants_json:
            return Response(items_views.as_json(found), media_type="application/json", headers=SECURITY_HEADERS)
        text = items_views.as_page(found, states, limit, link_base=self._parts.web.link_base)
        return HTMLResponse(_encoded(text), headers=SECURITY_HEADERS)

    async def reload(self, _: Request) -> Response:
        if not self._parts.web.enable_lifecycle:
            return PlainTextResponse(LIFECYCLE_OFF, 403)
        problems = await self._parts.reload()
        if problems:
            listed = "".join(f"{problem}\n" for problem in problems)
            return PlainTextResponse(_encoded(f"The old configuration stays in force:\n{listed}"), 500)
        return PlainTextResponse("The new configuration is in force.\n")

    async def status_page(self, request: Request) -> Response:
        group = request.query_params.get("state")
        if group is not None and group not in status_page.GROUPS:
            return PlainTextResponse(f"state: {group!r} is none of {', '.join(status_page.GROUPS)}\n", 400)
        now = self._parts.clock.monotonic()
        snapshots = [reader.snapshot(asked_at=now) for reader in self._parts.roster.readers]
        base, wall = self._parts.web.link_base, self._parts.clock.wall()
        text = status_page.render(
            self._parts.status(), snapshots, status_page.View(base, group), wall=wall, monotonic=now
        )
        return HTMLResponse(_encoded(text), headers=SECURITY_HEADERS)

    async def to_status_page(self, _: Request) -> Response:
        return RedirectResponse(self._parts.web.home, 302)

    async def _limited(self, request: Request, targets: list[str] | None) -> Response:
        if self._scrapes >= self._parts.web.max_requests:
            return PlainTextResponse(BUSY, 503)
        self._scrapes += 1
        try:
            return await self._scrape(request, targets)
        finally:
            self._scrapes -= 1

    async def _scrape(self, request: Request, targets: list[str] | None) -> Response:
        parts = self._parts
        timeout_s = scrape_timeout_s(request.headers.get(TIMEOUT_HEADER), parts.config())
        started = parts.clock.monotonic()
        await parts.settle(
            timeout_s / 2
        )  # a workspace that hangs must leave time to read the environments of the others
        wanted = Wanted(
            accept=request.headers.get("accept", ""),
            accept_encoding=request.headers.get("accept-encoding", ""),
            names=request.query_params.getlist("name[]"),
        )
        readers = self._readers(targets)
        if readers is None:
            return PlainTextResponse(UNKNOWN_TARGET, 400)
        if wanted.names and not any(map(catalogue.of_environment, wanted.names)):
            readers = ()  # only the exporter's own metrics are wanted: they need no API call
        left_s = max(0.0, timeout_s - (parts.clock.monotonic() - started))
        snapshots = await parts.scraper.scrape(readers, timeout_s=left_s)
        if targets is not None:  # one environment takes less time than handing it to a thread
            return _response(self._render(snapshots, None, wanted))
        return _response(await anyio.to_thread.run_sync(self._render, snapshots, parts.registry, wanted))

    def _readers(self, targets: list[str] | None) -> Sequence[EnvironmentReader] | None:
        if targets is None:
            return self._parts.roster.readers
        reader = self._parts.roster.find(targets[0]) if len(targets) == 1 else None
        return None if reader is None else (reader,)

    def _render(self, snapshots: Sequence[Snapshot], own: CollectorRegistry | None, wanted: Wanted) -> Exposition:
        families = families_of(
            snapshots,
            monotonic=self._parts.clock.monotonic(),
            heartbeat_overdue_s=self._parts.config().work.heartbeat_overdue_s,
            exemplars=self._parts.config().work.exemplars,
        )
        return expose(families, own, wanted)


def scrape_timeout_s(header: str | None, config: Config) -> float:
    """Return how long a scrape may take: the scraper's timeout minus the offset, or the configured timeout without one.

    At least half of the scraper's timeout is left, however long the offset is.
    """
    try:
        scraper_s = float(header or "")
    except ValueError:
        scraper_s = math.nan
    if not (math.isfinite(scraper_s) and scraper_s > 0):
        return config.scrape.timeout_s
    return max(scraper_s - config.scrape.timeout_offset_s, scraper_s / 2)


def _states(words: Sequence[str]) -> tuple[State, ...]:
    """Return the states that the words name, all without any. Raises ValueError."""
    known = {state.value: state for state in STATES}
    for word in words:
        if word not in known:
            raise ValueError(f"state: {word!r} is none of {', '.join(known)}; finished items are not kept one by one")
    return tuple(known[word] for word in dict.fromkeys(words)) or STATES


def _limit(text: str | None) -> int:
    """Return how many items are shown at most. Raises ValueError."""
    if text is None:
        return items_views.DEFAULT_LIMIT
    if not (re.fullmatch("[0-9]{1,4}", text) and 0 < int(text) <= items_views.LARGEST_LIMIT):
        raise ValueError(f"limit: {text!r} is not a whole number from 1 to {items_views.LARGEST_LIMIT}")
    return int(text)


def _wants_json(format_: str | None, accept: str) -> bool:
    """Tell whether JSON is asked for. Raises ValueError."""
    if format_ not in {None, "json", "html"}:
        raise ValueError(f"format: {format_!r} is neither json nor html")
    return prefers_json(accept) if format_ is None else format_ == "json"


def _target_group(reader: EnvironmentReader, web: WebSettings) -> dict[str, object]:
    environment = reader.environment
    prefix = "__meta_managed_agents_"
    labels = {
        f"{prefix}environment_id": environment.id,
        f"{prefix}environment_name": environment.name,
        f"{prefix}worker_mode": environment.worker_mode,
        f"{prefix}workspace_id": environment.workspace_id,
    }
    if web.route_prefix:
        labels["__metrics_path__"] = f"{web.route_prefix}/probe"
    if web.external_url is not None:
        labels[f"{prefix}external_url"] = f"{web.external_url}/"
    return {"targets": [environment.id], "labels": labels}


def _encoded(text: str) -> bytes:
    """Encode text that may name a file: a path can hold bytes that are no UTF-8, which Python keeps as surrogates."""
    return text.encode("utf-8", "backslashreplace")


def _response(rendered: Exposition) -> Response:
    headers = {"Content-Type": rendered.content_type, "Vary": "Accept, Accept-Encoding"}
    if rendered.encoding is not None:
        headers["Content-Encoding"] = rendered.encoding
    return Response(rendered.body, headers=headers)
