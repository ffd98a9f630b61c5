"""What the simulated queue keeps: work items, and long finished history that exists only as arithmetic."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

State = Literal["queued", "starting", "active", "stopping", "stopped"]
Kind = Literal["session", "healthcheck"]
Outcome = Literal["ran", "never_started", "never_acknowledged"]
TimestampStyle = Literal["micros", "millis", "seconds", "nanos", "offset"]

STATES: tuple[State, ...] = ("queued", "starting", "active", "stopping", "stopped")

# Ids must not reveal the order of creation, or a client that sorts by id would pass every test. Multiplying by an odd
# number is a bijection on 64 bits, so the place of an item is found again from its id without an index.
_MASK = 2**64 - 1
_FACTOR = 0x9E3779B97F4A7C15
_INVERSE = pow(_FACTOR, -1, 2**64)
_WORK_ID = re.compile(r"work_([0-9a-f]{16})(?:r([1-9][0-9]{0,8}))?")


def scramble(seq: int, salt: int) -> int:
    return (seq * _FACTOR + salt) & _MASK


def work_id(seq: int, salt: int, generation: int = 0) -> str:
    suffix = f"r{generation}" if generation else ""
    return f"work_{scramble(seq, salt):016x}{suffix}"


def parse_work_id(text: str, salt: int) -> tuple[int, int] | None:
    """Return (seq, generation), or None for what was never an id."""
    match = _WORK_ID.fullmatch(text)
    if match is None:
        return None
    return ((int(match[1], 16) - salt) * _INVERSE) & _MASK, int(match[2] or 0)


@dataclass(slots=True)
class Item:
    """One work item; instants are seconds since 1970, None when not reached."""

    seq: int
    id: str
    environment_id: str
    kind: Kind
    created_at: float
    state: State = "queued"
    generation: int = 0
    lease_s: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    acknowledged_at: float | None = None
    started_at: float | None = None
    latest_heartbeat_at: float | None = None
    stop_requested_at: float | None = None
    stopped_at: float | None = None

    @property
    def data_id(self) -> str:
        prefix = "session" if self.kind == "session" else "healthcheck"
        return f"{prefix}_{self.id.removeprefix('work_')}"

    @property
    def outcome(self) -> Outcome:
        """How the item ended, or would be said to have ended if it stopped now."""
        if self.started_at is not None:
            return "ran"
        return "never_acknowledged" if self.acknowledged_at is None else "never_started"


@dataclass(frozen=True, slots=True)
class History:
    """Consecutive items that ran and stopped, evenly spaced; each is computed when it is looked at."""

    environment_id: str
    salt: int
    first_seq: int
    count: int
    first_created_at: float
    spacing_s: float
    wait_s: float
    startup_s: float
    run_s: float

    def __contains__(self, seq: int) -> bool:
        return self.first_seq <= seq < self.first_seq + self.count

    def item(self, seq: int) -> Item:
        created_at = round(self.first_created_at + (seq - self.first_seq) * self.spacing_s, 6)
        acknowledged_at = round(created_at + self.wait_s, 6)
        started_at = round(acknowledged_at + self.startup_s, 6)
        stopped_at = round(started_at + self.run_s, 6)
        return Item(
            seq=seq,
            id=work_id(seq, self.salt),
            environment_id=self.environment_id,
            kind="session",
            created_at=created_at,
            state="stopped",
            acknowledged_at=acknowledged_at,
            started_at=started_at,
            latest_heartbeat_at=stopped_at,
            stop_requested_at=stopped_at,
            stopped_at=stopped_at,
        )


@lru_cache(maxsize=1 << 16)  # most items of a list have been listed before
def timestamp(instant: float, style: TimestampStyle = "micros") -> str:
    moment = datetime.fromtimestamp(instant, UTC)
    match style:
        case "micros":
            return moment.isoformat(timespec="microseconds")[: -len("+00:00")] + "Z"
        case "seconds":
            return moment.isoformat(timespec="seconds")[: -len("+00:00")] + "Z"
        case "millis":
            return moment.isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"
        case "nanos":
            return moment.isoformat(timespec="microseconds")[: -len("+00:00")] + "000Z"
        case "offset":
            return moment.isoformat(timespec="microseconds")


def rendered(item: Item, style: TimestampStyle, *, secret: str | None = None) -> dict[str, object]:
    """Render the item as the API's JSON object."""

    def instant(value: float | None) -> str | None:
        return None if value is None else timestamp(value, style)

    return {
        "type": "work",
        "id": item.id,
        "environment_id": item.environment_id,
        "state": item.state,
        "data": {"type": item.kind, "id": item.data_id},
        "metadata": dict(item.metadata),
        "secret": secret,
        "created_at": timestamp(item.created_at, style),
        "acknowledged_at": instant(item.acknowledged_at),
        "started_at": instant(item.started_at),
        "latest_heartbeat_at": instant(item.latest_heartbeat_at),
        "stop_requested_at": instant(item.stop_requested_at),
        "stopped_at": instant(item.stopped_at),
    }
