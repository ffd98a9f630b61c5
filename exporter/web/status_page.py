"""The status page: what an operator sees first. It works without JavaScript and fits a phone.

Text becomes part of the page only through `tag`, which escapes it, because names and messages come from elsewhere. The style is
the only file that is read, once, at import; rendering is pure.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from exporter.check.remedies import REMEDY_BY_REASON

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.environments.snapshot import Problem, Queue, Snapshot, Work

STYLE: Final = files("exporter.web").joinpath("status_page.css").read_text(encoding="utf-8")
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""The page's Content-Security-Policy: this style and nothing else."""

NOT_READ: Final = "No scrape has read it yet, or none was allowed to for longer than scrape.max_age."
COLUMNS: Final = ("Environment", "State", "Waiting", "Claimed", "Oldest", "Workers polling", "Work listed")
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetStatus:
    """`waits_s`: for how long no call is made, None if calls are made."""

    limit_per_minute: float
    available: float
    waits_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryFailure:
    """A workspace that cannot be listed now. `kept`: how many environments are known of it from the last time, None if there was none.

    `workspace_id` is empty where calls name no workspace. `listed_ago_s`: how long ago that last time was.
    """

    workspace_id: str
    problem: str
    kept: int | None
    listed_ago_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryStatus:
    """`found`: number of environments, None before the first answer. `due_in_s`: time until the next call."""

    found: int | None
    due_in_s: float
    workspaces: int = 1
    failures: tuple[DiscoveryFailure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What the page says about the exporter itself. `refused`: why the last reload failed. `warnings`: about stale files."""

    version: str
    telemetry_path: str
    uptime_s: float
    in_force_s: float
    budget: BudgetStatus
    discovery: DiscoveryStatus | None = None
    refused: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str) -> Markup:
    """Return an element. Children are escaped unless they are markup; `class_` is `class` and `data_label` `data-label`."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items() if value
    )
    content = "".join(child if isinstance(child, Markup) else escape(child) for child in children)
    return Markup(f"<{name}{written}>{content}</{name}>")


def render(
    status: Status, snapshots: Sequence[Snapshot], *, link_base: str = "./", wall: float, monotonic: float
) -> str:
    """Return the page. `link_base`: what links begin with, relative to the page or from the server's root on."""
    head = Markup(
        '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>managed-agents-exporter</title><style>{STYLE}</style></head>"
    )
    links = (
        tag("a", "Metrics", href=f"{link_base}{status.telemetry_path.removeprefix('/')}"),
        tag("a", "Service discovery", href=f"{link_base}sd"),
    )
    body = tag(
        "body",
        tag("h1", "managed-agents-exporter"),
        tag("nav", *links),
        tag("dl", *_facts(status)),
        *_notes(status),
        tag("h2", _summary(snapshots)),
        _table([_row(snapshot, link_base, wall, monotonic) for snapshot in snapshots]),
    )
    return f"<!doctype html>{tag('html', head, body, lang='en')}\n"


# ---- the exporter itself


def _facts(status: Status) -> Iterator[Markup]:
    budget = status.budget
    left = f"{int(budget.available):,} left now"
    waits = "" if budget.waits_s is None else f"none for {_span(budget.waits_s)}: the API asks to wait"
    in_force = f"in force for {_span(status.in_force_s)}"
    yield _fact("Version", status.version)
    yield _fact("Running for", _span(status.uptime_s))
    yield _fact(
        "API calls", f"{budget.limit_per_minute:,.0f} a minute", tag("b", waits, class_="wait") if waits else left
    )
    yield _fact("Discovery", *_discovery(status.discovery))
    yield _fact("Configuration", in_force, *([tag("b", "last reload refused", class_="bad")] if status.refused else []))


def _discovery(discovery: DiscoveryStatus | None) -> Iterator[str]:
    if discovery is None:
        yield "off"
        return
    found = "nothing found yet" if discovery.found is None else f"{discovery.found:,} found"
    among = f" in {discovery.workspaces:,} workspaces" if discovery.workspaces > 1 else ""
    yield f"{found}{among}, next in {_span(discovery.due_in_s)}"
    for failure in discovery.failures:
        named = f"{failure.workspace_id}: " if failure.workspace_id else ""
        yield tag("b", f"{named}{failure.problem}", class_="bad")
        yield _kept(failure)


def _kept(failure: DiscoveryFailure) -> str:
    if failure.kept is None:
        return "never listed: its environments are not known, and service discovery answers 503"
    return f"listed {_span(failure.listed_ago_s)} ago: the {failure.kept:,} found then are kept"


def _fact(name: str, *values: str) -> Markup:
    first, *more = values
    return tag("div", tag("dt", name), tag("dd", first, *(tag("small", value) for value in more)))


def _notes(status: Status) -> Iterator[Markup]:
    if notes := [*status.refused, *status.warnings]:
        yield tag("ul", *(tag("li", note) for note in notes), class_="notes")


# ---- the environments


def _summary(snapshots: Sequence[Snapshot]) -> str:
    if not snapshots:
        return "No environments"
    up = sum(snapshot.queue is not None for snapshot in snapshots)
    return f"{up:,} of {len(snapshots):,} environments up"


def _table(rows: Sequence[Markup]) -> Markup:
    if not rows:
        return tag("p", "None is configured, and discovery has found none.")
    numbers = COLUMNS[2:6]
    heads = (tag("th", name, scope="col", class_="number" if name in numbers else "") for name in COLUMNS)
    return tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows))


def _row(snapshot: Snapshot, link_base: str, wall: float, monotonic: float) -> Markup:
    environment = snapshot.environment
    link = tag("a", environment.name, href=f"{link_base}probe?target={quote(environment.id, safe='')}")
    cells = [
        tag(
            "th",
            link,
            *(tag("small", each) for each in (environment.id, environment.workspace_id) if each),
            scope="row",
        ),
        _text_cell("State", _state(snapshot, wall, monotonic)),
        *_numbers(snapshot.queue),
        _text_cell("Work listed", _listed(snapshot, wall, monotonic)),
    ]
    return tag("tr", *cells)


def _text_cell(label: str, content: Markup) -> Markup:
    return tag("td", tag("div", content), class_="text", data_label=label)


def _state(snapshot: Snapshot, wall: float, monotonic: float) -> Markup:
    if snapshot.queue is not None:
        read = f"read {_span(monotonic - snapshot.queue.times.monotonic_at)} ago"
        return Markup(tag("b", "up", class_="good") + tag("small", read))
    if snapshot.queue_problem is None:
        return Markup(tag("b", "no numbers", class_="wait") + tag("small", NOT_READ))
    return _failure("down", snapshot.queue_problem, wall)


def _failure(word: str, problem: Problem, wall: float) -> Markup:
    request = f" (request {problem.request_id})" if problem.request_id else ""
    return Markup(
        tag("b", f"{word}: {problem.reason}", class_="bad")
        + tag("small", f"for {_span(wall - problem.since)}: {problem.text}{request}")
        + tag("small", REMEDY_BY_REASON[problem.reason])
    )


def _numbers(queue: Queue | None) -> Iterator[Markup]:
    values = ("", "", "", "")
    if queue is not None:
        stats = queue.stats
        waited_s = None if stats.oldest_queued_at is None else queue.times.server_at - stats.oldest_queued_at
        workers = "unknown" if stats.workers_polling is None else f"{stats.workers_polling:,}"
        values = (f"{stats.depth:,}", f"{stats.pending:,}", "none" if waited_s is None else _span(waited_s), workers)
    for label, value in zip(COLUMNS[2:6], values, strict=True):
        yield tag("td", value, class_="number", data_label=label)


def _listed(snapshot: Snapshot, wall: float, monotonic: float) -> Markup:
    if not snapshot.listing_enabled:
        return tag("span", "off")
    if snapshot.work is not None:
        return _counts(snapshot.work, monotonic)
    if snapshot.work_problem is None:
        return tag("b", "not complete", class_="wait")
    if snapshot.queue_problem is not None and snapshot.queue_problem.reason == snapshot.work_problem.reason:
        return tag("b", f"failed: {snapshot.work_problem.reason}", class_="bad")
    return _failure("failed", snapshot.work_problem, wall)


def _counts(work: Work, monotonic: float) -> Markup:
    counts = [f"{count:,} {state.value}" for state, count in work.listing.count_by_state.items() if count]
    return Markup(
        tag("span", ", ".join(counts) or "nothing")
        + tag("small", f"read {_span(monotonic - work.times.monotonic_at)} ago")
    )


def _span(seconds: float) -> str:
    """Write a duration in the one or two largest units that it has."""
    whole = round(max(0.0, seconds))
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min"
    if whole < DAY_S:
        return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S} min"
    return f"{whole // DAY_S} d {whole % DAY_S // HOUR_S} h"
