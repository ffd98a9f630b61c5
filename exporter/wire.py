"""The Work API's answers: bytes in, checked values out, `WireError` for anything else.

Only the fields that are used are named; everything else, credentials and metadata included, is skipped by the decoder
and never becomes a Python object.
"""

from __future__ import annotations

import enum
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

COUNT_LIMIT = 2**53
"""Counts beyond what a float holds exactly are not believed."""
NAME_LENGTH_LIMIT = 128
ID_LENGTH_LIMIT = 256
CURSOR_LENGTH_LIMIT = 4096


class WireError(Exception):
    """An answer that does not have the documented shape. The text names the place, never the content."""


class State(enum.StrEnum):
    QUEUED = "queued"
    STARTING = "starting"
    ACTIVE = "active"
    STOPPING = "stopping"
    STOPPED = "stopped"
    UNKNOWN = "unknown"


STATE_BY_WORD = {state.value: state for state in State if state is not State.UNKNOWN}
ITEM_TYPES = frozenset({"session", "healthcheck"})


class WorkStats(msgspec.Struct, frozen=True):
    """The answer of `stats`. `oldest_queued_at`: seconds since 1970, None when nothing waits."""

    depth: int
    pending: int
    oldest_queued_at: float | None
    workers_polling: int | None
    drift: tuple[str, ...] = ()


class WorkItem(msgspec.Struct, frozen=True, gc=False):
    """One item of `list`. Instants are seconds since 1970 on the server's clock, None when not reached or not legible."""

    id: str
    state: State
    created_at: float | None = None
    acknowledged_at: float | None = None
    started_at: float | None = None
    latest_heartbeat_at: float | None = None
    stop_requested_at: float | None = None
    stopped_at: float | None = None


@dataclass(frozen=True, slots=True)
class WorkPage:
    """One page of `list`, in the server's order. `next_cursor` is None on the last page.

    `drift` names the fields whose values this version does not know, once per occurrence.
    """

    items: tuple[WorkItem, ...]
    next_cursor: str | None
    drift: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteEnvironment:
    id: str
    name: str
    self_hosted: bool
    archived: bool


@dataclass(frozen=True, slots=True)
class EnvironmentPage:
    environments: tuple[RemoteEnvironment, ...]
    next_cursor: str | None
    drift: tuple[str, ...] = ()


class _RawStats(msgspec.Struct):
    depth: int
    pending: int
    oldest_queued_at: Any = None
    workers_polling: Any = None


class _RawData(msgspec.Struct):
    type: Any = None


class _RawItem(msgspec.Struct):
    id: str
    state: Any = None
    environment_id: Any = None
    data: Any = None
    created_at: Any = None
    acknowledged_at: Any = None
    started_at: Any = None
    latest_heartbeat_at: Any = None
    stop_requested_at: Any = None
    stopped_at: Any = None


class _RawPage(msgspec.Struct):
    data: list[_RawItem]
    next_page: Any = None
    has_more: Any = None
