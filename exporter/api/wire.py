"""The Work API's answers: bytes in, checked values out, `WireError` for anything else.

Only the fields that are used are named; everything else, credentials and metadata included, is skipped by the decoder
and never becomes a Python object.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, DecimalException
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from exporter.config.model import ENVIRONMENT_ID, NAME_LENGTH_LIMIT, without_controls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.api.transport import Body

T = TypeVar("T")

COUNT_LIMIT = 2**53
"""Counts beyond what a float holds exactly are not believed."""
SET_FROM = datetime(1971, 1, 1, tzinfo=UTC).timestamp()
"""Instants before it mean "not set": the zeros of Go and .NET (year 1), of databases and of Unix (1970)."""
SET_UNTIL = datetime(2200, 1, 1, tzinfo=UTC).timestamp()
"""So do instants from it on: the last ones of .NET (9999), of Go's nanoseconds (2262), and what databases have for "never"."""
UNSET_TEXTS = ("0000-", "-0001-11-30", "0001-01-01", "1970-01-01", "9999-12-31")
"""How such instants begin where they are written otherwise than in RFC 3339, as MySQL, PHP and Go's time.Time print them."""
UNSET_NUMBERS = (0, -62_135_596_800)
"""1970 and year 1 in Unix seconds."""
ID_LENGTH_LIMIT = 256
CURSOR_LENGTH_LIMIT = 4096
REPLACEMENT = "\ufffd"
"""What a lone surrogate becomes."""


class WireError(Exception):
    """An answer without the documented shape. The text names the place, never the content; `drift` the fields at fault."""

    def __init__(self, text: str, drift: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.drift = tuple(drift)


class State(enum.StrEnum):
    QUEUED = "queued"
    STARTING = "starting"
    ACTIVE = "active"
    STOPPING = "stopping"
    STOPPED = "stopped"
    UNKNOWN = "unknown"


LIVE_STATES = (State.QUEUED, State.STARTING, State.ACTIVE, State.STOPPING)
STATE_BY_WORD = {state.value: state for state in State if state is not State.UNKNOWN}
DRIFT_FIELDS = (
    *("depth", "pending", "oldest_queued_at", "workers_polling", "next_page"),
    *(
        "id",
        "state",
        "environment_id",
        "data.type",
        "created_at",
        "acknowledged_at",
        "started_at",
        "latest_heartbeat_at",
    ),
    *("stop_requested_at", "stopped_at", "environment.id", "environment.config.type", "environment.created_at"),
)
"""Every field that drift may name."""
ENVIRONMENT_TYPES = frozenset({"self_hosted", "cloud"})
ITEM_TYPES = {each: each for each in ("session", "healthcheck")}
"""Each by itself, so that a million items share two strings."""


class WorkStats(msgspec.Struct, frozen=True):
    """The answer of `stats`. `oldest_queued_at`: seconds since 1970, None when nothing waits or when it isn't known.

    `oldest_known`: it is given, or nothing waits.
    """

    depth: int
    pending: int
    oldest_queued_at: float | None
    workers_polling: int | None
    oldest_known: bool = True
    drift: tuple[str, ...] = ()

    @property
    def is_blank(self) -> bool:
        """Whether it says nothing at all, as it does of an environment that is not self-hosted."""
        return not (self.depth or self.pending) and self.oldest_queued_at is None and self.workers_polling is None


class WorkItem(msgspec.Struct, frozen=True, gc=False):
    """One item of `list`. Instants are seconds since 1970 on the server's clock, None when not reached or not legible.

    `type`: one of `ITEM_TYPES`, or `unknown`. `session_id`: None where it is no session's.
    """

    id: str
    state: State
    created_at: float | None = None
    acknowledged_at: float | None = None
    started_at: float | None = None
    latest_heartbeat_at: float | None = None
    stop_requested_at: float | None = None
    stopped_at: float | None = None
    type: str = "unknown"
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class WorkPage:
    """One page of `list`, in the server's order. `next_cursor` is None on the last page.

    `drift` names the fields whose values this version does not know, once per occurrence; `drift_subjects` the items they stand in.
    """

    items: tuple[WorkItem, ...]
    next_cursor: str | None
    drift: tuple[str, ...] = ()
    drift_subjects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteEnvironment:
    """An environment as the list of its workspace has it. `workspace_id` is empty where the call named none."""

    id: str
    name: str
    self_hosted: bool
    archived: bool
    created_at: float | None = None
    workspace_id: str = ""


@dataclass(frozen=True, slots=True)
class EnvironmentPage:
    environments: tuple[RemoteEnvironment, ...]
    next_cursor: str | None
    drift: tuple[str, ...] = ()
    drift_subjects: tuple[str, ...] = ()


class _RawStats(msgspec.Struct):
    depth: Any
    pending: Any
    oldest_queued_at: Any = None
    workers_polling: Any = None


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


class _RawEnvironment(msgspec.Struct):
    id: Any = None
    name: Any = None
    config: Any = None
    archived_at: Any = None
    created_at: Any = None


class _RawEnvironmentPage(msgspec.Struct):
    data: list[_RawEnvironment]
    next_page: Any = None
    has_more: Any = None


class _RawError(msgspec.Struct):
    message: Any = None


class _RawFailure(msgspec.Struct):
    error: _RawError


_STATS = msgspec.json.Decoder(_RawStats, float_hook=Decimal)  # a float would take 1e-400 for a zero
_PAGE = msgspec.json.Decoder(_RawPage)
_ENVIRONMENTS = msgspec.json.Decoder(_RawEnvironmentPage)
_FAILURE = msgspec.json.Decoder(_RawFailure)
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\.", re.DOTALL
)
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_SINGLE_ESCAPE_LENGTH = len(rb"\ud800")


def parse_stats(body: Body) -> WorkStats:
    """Read the answer of `stats`. Raises WireError."""
    raw = _decode(_STATS, body)
    drift: list[str] = []
    depth, pending = _count(raw.depth, "depth"), _count(raw.pending, "pending")
    oldest_queued_at = _instant(raw.oldest_queued_at, "oldest_queued_at", drift)
    return WorkStats(
        depth=depth,
        pending=pending,
        oldest_queued_at=oldest_queued_at,
        oldest_known=oldest_queued_at is not None or not (drift or depth or pending),
        workers_polling=None if raw.workers_polling is None else _count(raw.workers_polling, "workers_polling"),
        drift=tuple(drift),
    )


def parse_work_page(body: Body, *, environment_id: str) -> WorkPage:
    """Read a page of `list`. Items of other environments are dropped and counted as drift; raises WireError if all are."""
    raw = _decode(_PAGE, body)
    drift: list[str] = []
    subjects: list[str] = []
    items: list[WorkItem] = []
    for item in raw.data:
        if _belongs(item, environment_id, drift):
            items.append(_work_item(item, drift))
        subjects += [item.id] * (len(drift) - len(subjects))
    if raw.data and not items:
        raise WireError("every item of the page belongs to another environment", drift)
    return WorkPage(tuple(items), _next_cursor(raw.next_page, raw.has_more), tuple(drift), tuple(subjects))


def parse_environment_page(body: Body, *, workspace_id: str = "") -> EnvironmentPage:
    """Read a page of a workspace's environments. One that can't be named or addressed is dropped as drift."""
    raw = _decode(_ENVIRONMENTS, body)
    drift: list[str] = []
    subjects: list[str] = []
    found: list[RemoteEnvironment] = []
    for raw_environment in raw.data:
        environment = _environment(raw_environment, workspace_id, drift)
        found += [] if environment is None else [environment]
        subjects += [str(raw_environment.id)[:ID_LENGTH_LIMIT]] * (len(drift) - len(subjects))
    return EnvironmentPage(tuple(found), _next_cursor(raw.next_page, raw.has_more), tuple(drift), tuple(subjects))


def speaks_of_workspaces(body: Body) -> bool:
    """Tell whether a refusal's message is about the workspace of the call. The message itself is kept nowhere."""
    try:
        message = _decode(_FAILURE, body).error.message
    except WireError:
        return False
    return isinstance(message, str) and "workspace" in message.lower()


def clean_name(text: str) -> str:
    """Drop what must not reach a label, a log or a page: control, format (bidi), surrogate characters. At most 128 remain."""
    kept = without_controls(text.replace(REPLACEMENT, ""))
    return kept.strip()[:NAME_LENGTH_LIMIT].strip()


def _decode(decoder: msgspec.json.Decoder[T], body: Body) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as problem:
        raise WireError(f"unexpected shape: {_place(problem)}") from None
    except (msgspec.DecodeError, DecimalException, UnicodeDecodeError, RecursionError):
        if _SURROGATE_ESCAPE.search(body) is None:
            raise WireError("not the JSON that is expected") from None
    # Lone surrogates are legal in JSON, and somebody's metadata may hold one; the decoder refuses the whole text for it.
    try:
        return decoder.decode(_ESCAPE.sub(_whole_character, body))
    except (msgspec.DecodeError, DecimalException, UnicodeDecodeError, RecursionError):
        raise WireError("not the JSON that is expected") from None


def _whole_character(escape: re.Match[bytes]) -> bytes:
    text = escape.group()
    lone = len(text) == _SINGLE_ESCAPE_LENGTH and text[1:2] == b"u"
    return rb"\ufffd" if lone else text


def _place(problem: msgspec.ValidationError) -> str:
    """Name the path in the document, `$.depth`, without quoting anything that was sent."""
    found = re.search(r"`(\$[\w.\[\]]*)`\Z", str(problem))
    return found.group(1) if found else "$"


def _count(value: Any, field: str) -> int:
    """Return a whole number, also one that is written `3.0` or `1e1`."""
    if type(value) in {int, Decimal} and 0 <= value <= COUNT_LIMIT and value % 1 == 0:
        return int(value)
    raise WireError(f"{field} is not a count", [field])


def _instant(value: object, field: str, drift: list[str]) -> float | None:
    """Return seconds since 1970, or None for an instant that is not set or not legible; the latter is drift."""
    if value is None:
        return None
    try:
        # A plain class is looked up in a third of the time of an annotated one; thousands of instants are read a scrape.
        instant = msgspec.convert(value, datetime) if isinstance(value, str) else None
    except msgspec.ValidationError:
        instant = None
    if instant is None or instant.tzinfo is None:
        if not _is_unset(value, instant):
            drift.append(field)
        return None
    at = instant.timestamp()
    return at if SET_FROM <= at < SET_UNTIL else None


def _is_unset(value: object, instant: datetime | None) -> bool:
    """Tell whether a value that is no instant means "not set" all the same: nothing, a number's zero, a known spelling."""
    if instant is not None:
        return not SET_FROM <= instant.replace(tzinfo=UTC).timestamp() < SET_UNTIL
    if isinstance(value, str):
        return not value or value.startswith(UNSET_TEXTS)
    return type(value) in {int, float, Decimal} and value in UNSET_NUMBERS


def _next_cursor(next_page: object, has_more: object) -> str | None:
    if not next_page or has_more is False:
        return None
    if not isinstance(next_page, str) or len(next_page) > CURSOR_LENGTH_LIMIT:
        raise WireError("next_page is not a cursor", ["next_page"])
    return next_page


def _belongs(item: _RawItem, environment_id: str, drift: list[str]) -> bool:
    if item.environment_id is None or item.environment_id == environment_id:
        return True
    drift.append("environment_id")
    return False


def _work_item(raw: _RawItem, drift: list[str]) -> WorkItem:
    if not 0 < len(raw.id) <= ID_LENGTH_LIMIT:
        raise WireError("an item's id is empty or too long", ["id"])
    data = raw.data if isinstance(raw.data, dict) else {}
    word = data.get("type")
    kind = ITEM_TYPES.get(word, "unknown") if isinstance(word, str) else "unknown"
    if kind == "unknown":
        drift.append("data.type")
    return WorkItem(
        id=raw.id,
        state=_state(raw.state, drift),
        type=kind,
        session_id=_session_id(data.get("id")) if kind == "session" else None,
        created_at=_instant(raw.created_at, "created_at", drift),
        acknowledged_at=_instant(raw.acknowledged_at, "acknowledged_at", drift),
        started_at=_instant(raw.started_at, "started_at", drift),
        latest_heartbeat_at=_instant(raw.latest_heartbeat_at, "latest_heartbeat_at", drift),
        stop_requested_at=_instant(raw.stop_requested_at, "stop_requested_at", drift),
        stopped_at=_instant(raw.stopped_at, "stopped_at", drift),
    )


def _session_id(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= ID_LENGTH_LIMIT else None


def _state(value: object, drift: list[str]) -> State:
    state = STATE_BY_WORD.get(value) if isinstance(value, str) else None
    if state is None:
        drift.append("state")
        return State.UNKNOWN
    return state


def _environment(raw: _RawEnvironment, workspace_id: str, drift: list[str]) -> RemoteEnvironment | None:
    if not isinstance(raw.id, str) or not ENVIRONMENT_ID.fullmatch(raw.id):
        drift.append("environment.id")
        return None
    kind = raw.config.get("type") if isinstance(raw.config, dict) else None
    if not isinstance(kind, str) or kind not in ENVIRONMENT_TYPES:
        drift.append("environment.config.type")
    return RemoteEnvironment(
        id=raw.id,
        name=clean_name(raw.name) if isinstance(raw.name, str) else "",
        self_hosted=kind == "self_hosted",
        archived=raw.archived_at is not None,
        created_at=_instant(raw.created_at, "environment.created_at", drift),
        workspace_id=workspace_id,
    )
