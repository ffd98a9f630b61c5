"""The live items of an environment as a page, as JSON and as a table of text. Pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from exporter.config.model import without_controls
from exporter.environments.live_items import STATES
from exporter.web.markup import Markup, document, span, tag

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from exporter.api.wire import State
    from exporter.environments.live_items import LiveItem, LiveItems

COLUMNS: Final = ("Item", "Session", "State", "For", "Last heartbeat")
UNKNOWN: Final = "unknown"
DEFAULT_LIMIT, LARGEST_LIMIT = 100, 1000


def as_json(items: LiveItems) -> str:
    """Return one object; instants are RFC 3339, null where the API doesn't tell them."""
    found = {
        "environment_id": items.environment_id,
        "environment_name": items.environment_name,
        "read_at": _rfc3339(items.read_at),
        "age_seconds": round(items.age_s, 3),
        "total": items.total,
        "items": [_object(each) for each in items.items],
    }
    return f"{json.dumps(found, indent=2)}\n"


def as_table(items: LiveItems) -> str:
    """Return a heading and a line per item, or one sentence where there is none."""
    if not items.items:
        return f"No such item in {without_controls(items.environment_name)}.\n"
    rows = [("ITEM", "SESSION", "TYPE", "STATE", "FOR", "LAST HEARTBEAT"), *map(_row_of_text, items.items)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(f"{'  '.join(map(str.ljust, row, widths)).rstrip()}\n" for row in rows)


def as_page(items: LiveItems, states: Collection[State], limit: int, *, link_base: str) -> str:
    """Return the page. `states`, `limit`: what was asked for; `link_base`: what links begin with."""
    name = items.environment_name
    return document(
        f"Items of {without_controls(name)}",
        tag("h1", f"Items of {without_controls(name)}"),
        tag("nav", tag("a", "All environments", href=link_base), *_links(items, states, limit, link_base)),
        tag("p", _summary(items), *_more(items, states, limit, link_base)),
        *_table(items.items),
    )


def _links(items: LiveItems, states: Collection[State], limit: int, link_base: str) -> Iterator[Markup]:
    for word, wanted in (("any state", ()), *((state.value, (state,)) for state in STATES)):
        chosen = set(wanted or STATES) == set(states)
        href = address(link_base, items.environment_id, *wanted, limit=limit)
        yield tag("b", word) if chosen else tag("a", word, href=href)
    href = address(link_base, items.environment_id, *_narrowed(states), limit=limit)
    yield tag("a", "JSON", href=f"{href}&format=json")


def address(link_base: str, environment_id: str, *states: State, limit: int = DEFAULT_LIMIT) -> str:
    """Return the address of the page of these items."""
    query = [("target", environment_id), *(("state", state.value) for state in states)]
    query += [] if limit == DEFAULT_LIMIT else [("limit", str(limit))]
    return f"{link_base}items?{urlencode(query)}"


def _narrowed(states: Collection[State]) -> tuple[State, ...]:
    return () if set(states) == set(STATES) else tuple(states)


def _summary(items: LiveItems) -> str:
    count = f"{items.total:,} items" if items.total != 1 else "1 item"
    shown = "" if len(items.items) == items.total else f", the {len(items.items):,} that are longest in their state"
    return f"{count}{shown}; read {span(items.age_s)} ago. Times are those at the read."


def _more(items: LiveItems, states: Collection[State], limit: int, link_base: str) -> Iterator[str]:
    if len(items.items) < items.total and limit < LARGEST_LIMIT:
        href = address(link_base, items.environment_id, *_narrowed(states), limit=LARGEST_LIMIT)
        yield " "
        yield tag("a", f"Show up to {LARGEST_LIMIT:,}.", href=href)


def _table(items: Iterable[LiveItem]) -> Iterator[Markup]:
    rows = [_row(each) for each in items]
    if rows:
        heads = (tag("th", name, scope="col") for name in COLUMNS)
        yield tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows))


def _row(item: LiveItem) -> Markup:
    since = "" if item.since is None else f"since {_rfc3339(item.since)}"
    heartbeat = tag("b", f"{_ago(item)}, overdue", class_="bad") if item.overdue else tag("span", _ago(item))
    cells = (
        tag("td", without_controls(item.session_id or "none"), class_="text", data_label="Session"),
        tag("td", item.state.value, data_label="State"),
        tag("td", tag("div", _for(item), tag("small", since)), data_label="For"),
        tag("td", heartbeat, data_label="Last heartbeat"),
    )
    return tag("tr", tag("th", without_controls(item.id), tag("small", item.type), scope="row"), *cells)


def _row_of_text(item: LiveItem) -> tuple[str, ...]:
    heartbeat = f"{_ago(item)}{', overdue' if item.overdue else ''}"
    return (
        without_controls(item.id),
        without_controls(item.session_id or "-"),
        item.type,
        item.state.value,
        _for(item),
        heartbeat,
    )


def _object(item: LiveItem) -> dict[str, object]:
    return {
        "id": item.id,
        "session_id": item.session_id,
        "type": item.type,
        "state": item.state.value,
        "since": _rfc3339(item.since),
        "for_seconds": None if item.for_s is None else round(item.for_s, 3),
        "latest_heartbeat_at": _rfc3339(item.latest_heartbeat_at),
        "heartbeat_overdue": item.overdue,
    }


def _for(item: LiveItem) -> str:
    return UNKNOWN if item.for_s is None else span(item.for_s)


def _ago(item: LiveItem) -> str:
    return "none" if item.heartbeat_age_s is None else f"{span(item.heartbeat_age_s)} ago"


def _rfc3339(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
