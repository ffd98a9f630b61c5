"""The live items of one environment, as a person looks at them: the longest in its state first. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.api.wire import LIVE_STATES, State
from exporter.listing.items import entered_at

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from exporter.api.wire import WorkItem
    from exporter.environments.snapshot import Snapshot, Work

STATES = (*LIVE_STATES, State.UNKNOWN)
"""Those whose items are known one by one. Of finished items only the number is."""
NOT_COMPLETE = "The list is not complete yet, or no scrape has read it for longer than scrape.max_age."
LISTING_OFF = "The list is not read: listing.enabled is false."


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveItem:
    """An item as it was at the read. Instants are on the server's clock; None where it doesn't tell them.

    `since`: when the item entered its state, `for_s`: how long it had been in it. `overdue`: it is active, and its latest
    heartbeat older than `work.heartbeat_overdue`.
    """

    id: str
    session_id: str | None
    type: str
    state: State
    since: float | None
    for_s: float | None
    latest_heartbeat_at: float | None
    heartbeat_age_s: float | None
    overdue: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveItems:
    """`total`: how many there are in the states asked for; `items`: the first of them. `read_at`: the exporter's wall clock."""

    environment_id: str
    environment_name: str
    read_at: float
    age_s: float
    total: int
    items: tuple[LiveItem, ...]


def live_items(
    snapshot: Snapshot, states: Collection[State], *, limit: int | None, heartbeat_overdue_s: float, monotonic: float
) -> LiveItems | str:
    """Return the items in these states, those whose time is not known last; or a sentence that says why they are not known.

    `limit`: the most items that are returned, None for all.
    """
    work = snapshot.work
    if work is None:
        return _why_unknown(snapshot)
    found = sorted(
        _those(work, states, heartbeat_overdue_s), key=lambda each: (each.for_s is None, -(each.for_s or 0), each.id)
    )
    return LiveItems(
        environment_id=snapshot.environment.id,
        environment_name=snapshot.environment.name,
        read_at=work.times.read_at,
        age_s=max(0.0, monotonic - work.times.monotonic_at),
        total=len(found),
        items=tuple(found[:limit]),
    )


def _why_unknown(snapshot: Snapshot) -> str:
    if not snapshot.listing_enabled:
        return LISTING_OFF
    problem = snapshot.work_problem
    return NOT_COMPLETE if problem is None else f"The list cannot be read ({problem.reason}): {problem.text}"


def _those(work: Work, states: Collection[State], heartbeat_overdue_s: float) -> Iterator[LiveItem]:
    now = work.times.server_at
    for item in work.listing.unfinished:
        if item.state in states:
            yield _live_item(item, now, heartbeat_overdue_s)


def _live_item(item: WorkItem, now: float, heartbeat_overdue_s: float) -> LiveItem:
    since, heartbeat_at = entered_at(item), item.latest_heartbeat_at
    heartbeat_age_s = None if heartbeat_at is None else max(0.0, now - heartbeat_at)
    return LiveItem(
        id=item.id,
        session_id=item.session_id,
        type=item.type,
        state=item.state,
        since=since,
        for_s=None if since is None else max(0.0, now - since),
        latest_heartbeat_at=heartbeat_at,
        heartbeat_age_s=heartbeat_age_s,
        overdue=item.state is State.ACTIVE and heartbeat_age_s is not None and heartbeat_age_s > heartbeat_overdue_s,
    )
