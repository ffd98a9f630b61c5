"""The status page: what an operator sees first. It works without JavaScript and fits a phone.

Rendering is pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from urllib.parse import quote

from exporter.check.remedies import REMEDY_BY_REASON
from exporter.environments.live_items import STATES
from exporter.environments.trouble import Severity, troubles, worst
from exporter.web.items import address
from exporter.web.markup import Markup, document, span, tag

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.environments.snapshot import Problem, Queue, Snapshot, Work
    from exporter.environments.trouble import Trouble

DOCUMENTATION: Final = "https://github.com/managed-agents-exporter/managed-agents-exporter/tree/main/docs"
NOT_READ: Final = "No scrape has read it yet, or none was allowed to for longer than scrape.max_age."
COLUMNS: Final = (
    "Environment",
    "State",
    "Waiting",
    "Not acknowledged",
    "Longest wait",
    "Workers polling",
    "Work listed",
)
NONE: Final = (
    "None is configured, and discovery has found none. Name some in the configuration file under environments, or let "
    "discovery.enabled find them with an API key."
)
Group = Literal["failing", "trouble", "fine"]
GROUPS: Final[tuple[Group, ...]] = ("failing", "trouble", "fine")
GROUP_BY_SEVERITY: Final[Mapping[Severity, Group]] = {
    Severity.FINE: "fine",
    Severity.WARNING: "trouble",
    Severity.CRITICAL: "trouble",
    Severity.UNREADABLE: "failing",
}
CLASS_BY_SEVERITY: Final = {Severity.WARNING: "wait", Severity.CRITICAL: "bad"}


class _Row(NamedTuple):
    snapshot: Snapshot
    troubles: tuple[Trouble, ...]

    @property
    def group(self) -> Group:
        return GROUP_BY_SEVERITY[worst(self.troubles)]


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
    """What the page says about the exporter itself. `refused`: why the last reload failed. `warnings`: about stale files.

    `items_shown`: whether live items may be shown one by one. `heartbeat_overdue_s`: of the configuration.
    """

    version: str
    telemetry_path: str
    uptime_s: float
    in_force_s: float
    budget: BudgetStatus
    discovery: DiscoveryStatus | None = None
    refused: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    items_shown: bool = True
    heartbeat_overdue_s: float = 90.0


class View(NamedTuple):
    """What is looked at, and from where. `only`: the environments of that group alone.

    `link_base`: what links begin with, relative to the page or from the server's root on.
    """

    link_base: str = "./"
    only: Group | None = None


def render(status: Status, snapshots: Sequence[Snapshot], view: View, *, wall: float, monotonic: float) -> str:
    """Return the page, the environments in trouble first."""
    link_base, only = view
    rows = [_Row(each, _troubles(each, status, monotonic)) for each in snapshots]
    shown = sorted((row for row in rows if only in {None, row.group}), key=lambda row: -worst(row.troubles))
    links = (
        tag("a", "Metrics", href=f"{link_base}{status.telemetry_path.removeprefix('/')}"),
        tag("a", "Service discovery", href=f"{link_base}sd"),
        tag("a", "Health", href=f"{link_base}-/healthy"),
        tag("a", "Documentation", href=DOCUMENTATION),
    )
    return document(
        "managed-agents-exporter",
        tag("h1", "managed-agents-exporter"),
        tag("nav", *links),
        tag("dl", *_facts(status)),
        *_notes(status),
        tag("h2", _summary(rows)),
        *_groups(rows, only, link_base),
        _table([_row(row, status, link_base, wall, monotonic) for row in shown], only),
    )


# ---- the exporter itself


def _facts(status: Status) -> Iterator[Markup]:
    budget = status.budget
    left = f"{int(budget.available):,} left now"
    waits = "" if budget.waits_s is None else f"none for {span(budget.waits_s)}: the API asks to wait"
    in_force = f"in force for {span(status.in_force_s)}"
    yield _fact("Version", status.version)
    yield _fact("Running for", span(status.uptime_s))
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
    yield f"{found}{among}, next in {span(discovery.due_in_s)}"
    for failure in discovery.failures:
        named = f"{failure.workspace_id}: " if failure.workspace_id else ""
        yield tag("b", f"{named}{failure.problem}", class_="bad")
        yield _kept(failure)


def _kept(failure: DiscoveryFailure) -> str:
    if failure.kept is None:
        return "never listed: its environments are not known, and service discovery answers 503"
    return f"listed {span(failure.listed_ago_s)} ago: the {failure.kept:,} found then are kept"


def _fact(name: str, *values: str) -> Markup:
    first, *more = values
    return tag("div", tag("dt", name), tag("dd", first, *(tag("small", value) for value in more)))


def _notes(status: Status) -> Iterator[Markup]:
    if notes := [*status.refused, *status.warnings]:
        yield tag("ul", *(tag("li", note) for note in notes), class_="notes")


# ---- the environments


def _summary(rows: Sequence[_Row]) -> str:
    if not rows:
        return "No environments"
    fine = sum(row.group == "fine" for row in rows)
    return f"{fine:,} of {len(rows):,} environments are fine"


def _troubles(snapshot: Snapshot, status: Status, monotonic: float) -> tuple[Trouble, ...]:
    return troubles(snapshot, monotonic=monotonic, heartbeat_overdue_s=status.heartbeat_overdue_s)


def _groups(rows: Sequence[_Row], only: Group | None, link_base: str) -> Iterator[Markup]:
    """Link to the environments of each group, with their number."""
    if not rows:
        return
    links = [_choice("all", len(rows), link_base, chosen=only is None)]
    for group in GROUPS:
        count = sum(row.group == group for row in rows)
        links.append(_choice(group, count, f"{link_base}?state={group}", chosen=only == group))
    yield tag("nav", *links)


def _choice(word: str, count: int, href: str, *, chosen: bool) -> Markup:
    text = f"{word}: {count:,}"
    return tag("b", text) if chosen else tag("a", text, href=href)


def _table(rows: Sequence[Markup], only: Group | None) -> Markup:
    if not rows:
        return tag("p", NONE if only is None else f"None of them is {only}.")
    numbers = COLUMNS[2:6]
    heads = (tag("th", name, scope="col", class_="number" if name in numbers else "") for name in COLUMNS)
    return tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows))


def _row(row: _Row, status: Status, link_base: str, wall: float, monotonic: float) -> Markup:
    snapshot, environment = row.snapshot, row.snapshot.environment
    link = tag("a", environment.name, href=f"{link_base}probe?target={quote(environment.id, safe='')}")
    cells = [
        tag(
            "th",
            link,
            *(tag("small", each) for each in (environment.id, environment.workspace_id) if each),
            scope="row",
        ),
        _text_cell("State", _state(row, wall, monotonic)),
        *_numbers(snapshot.queue),
        _text_cell("Work listed", _listed(snapshot, link_base if status.items_shown else None, wall, monotonic)),
    ]
    return tag("tr", *cells)


def _text_cell(label: str, content: Markup) -> Markup:
    return tag("td", tag("div", content), class_="text", data_label=label)


def _state(row: _Row, wall: float, monotonic: float) -> Markup:
    snapshot = row.snapshot
    if snapshot.queue is not None:
        read = f"read {span(monotonic - snapshot.queue.times.monotonic_at)} ago"
        found = (tag("b", each.sentence, class_=CLASS_BY_SEVERITY[each.severity]) for each in row.troubles)
        said = "".join(tag("div", each) for each in found) or tag("b", "fine", class_="good")
        return Markup(said + tag("small", read))
    if snapshot.queue_problem is None:
        return Markup(tag("b", "no numbers", class_="wait") + tag("small", NOT_READ))
    return _failure("down", snapshot.queue_problem, wall)


def _failure(word: str, problem: Problem, wall: float) -> Markup:
    request = f" (request {problem.request_id})" if problem.request_id else ""
    return Markup(
        tag("b", f"{word}: {problem.reason}", class_="bad")
        + tag("small", f"for {span(wall - problem.since)}: {problem.text}{request}")
        + tag("small", REMEDY_BY_REASON[problem.reason])
    )


def _numbers(queue: Queue | None) -> Iterator[Markup]:
    values = ("", "", "", "")
    if queue is not None:
        stats = queue.stats
        waited_s = None if stats.oldest_queued_at is None else queue.times.server_at - stats.oldest_queued_at
        workers = "unknown" if stats.workers_polling is None else f"{stats.workers_polling:,}"
        values = (f"{stats.depth:,}", f"{stats.pending:,}", "none" if waited_s is None else span(waited_s), workers)
    for label, value in zip(COLUMNS[2:6], values, strict=True):
        yield tag("td", value, class_="number", data_label=label)


def _listed(snapshot: Snapshot, items_base: str | None, wall: float, monotonic: float) -> Markup:
    if not snapshot.listing_enabled:
        return tag("span", "off")
    if snapshot.work is not None:
        return _counts(snapshot.work, snapshot.environment.id, items_base, monotonic)
    if snapshot.work_problem is None:
        return tag("b", "not complete", class_="wait")
    if snapshot.queue_problem is not None and snapshot.queue_problem.reason == snapshot.work_problem.reason:
        return tag("b", f"failed: {snapshot.work_problem.reason}", class_="bad")
    return _failure("failed", snapshot.work_problem, wall)


def _counts(work: Work, environment_id: str, items_base: str | None, monotonic: float) -> Markup:
    """Show how many items are in each state, with links to those that are known one by one if `items_base` is given."""
    counts = []
    for state, count in work.listing.count_by_state.items():
        text = f"{count:,} {state.value}"
        if count and state in STATES and items_base is not None:
            counts.append(tag("a", text, href=address(items_base, environment_id, state)))
        elif count:
            counts.append(Markup(escape(text)))
    return Markup(
        tag("span", Markup(", ".join(counts) or "nothing"))
        + tag("small", f"read {span(monotonic - work.times.monotonic_at)} ago")
    )
