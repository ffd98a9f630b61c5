"""How the simulated API presents itself, and what it has been asked. All of it may change while it serves."""

from __future__ import annotations

import enum
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Literal

CALLS_KEPT = 20_000


class Call(enum.StrEnum):
    """Every operation of the API."""

    ENVIRONMENTS = "environments"
    ENVIRONMENT = "environment"
    STATS = "stats"
    LIST = "list"
    POLL = "poll"
    RETRIEVE = "retrieve"
    UPDATE = "update"
    ACK = "ack"
    HEARTBEAT = "heartbeat"
    STOP = "stop"


class Credential(enum.StrEnum):
    API_KEY = "x-api-key"
    BEARER_API_KEY = "bearer-api-key"
    ENVIRONMENT_KEY = "environment-key"
    WORK_SECRET = "work-secret"  # noqa: S105 - the kind of a credential, not one


ORGANISATION = frozenset({Credential.API_KEY, Credential.BEARER_API_KEY})
ENVIRONMENT = frozenset({Credential.ENVIRONMENT_KEY})
WORKER = frozenset({Credential.ENVIRONMENT_KEY, Credential.WORK_SECRET})


def documented_credentials() -> dict[Call, frozenset[Credential]]:
    """Return what the newest documents say, where they contradict each other the stricter reading."""
    return {
        Call.ENVIRONMENTS: ORGANISATION,
        Call.ENVIRONMENT: ORGANISATION,
        Call.STATS: ORGANISATION | ENVIRONMENT,
        Call.LIST: ENVIRONMENT,
        Call.POLL: ENVIRONMENT,
        Call.RETRIEVE: ORGANISATION,
        Call.UPDATE: ORGANISATION,
        Call.ACK: WORKER,
        Call.HEARTBEAT: WORKER,
        Call.STOP: ORGANISATION | WORKER,
    }


@dataclass(slots=True)
class Options:
    prefix: str = "/v1"
    """Read once, when the app is made; everything else at each request."""
    api_key: str = "sk-ant-api03-simulated"
    """Of the whole organisation: where environments are in workspaces, a call with it has to name one."""
    workspace_by_api_key: dict[str, str] = field(default_factory=dict)
    """Further API keys, each of one workspace."""
    unnamed_workspace_status: Literal[400, 403] = 400
    """For a call with the organisation's key that names none."""
    accepted: dict[Call, frozenset[Credential]] = field(default_factory=documented_credentials)
    accepted_by_environment: dict[str, dict[Call, frozenset[Credential]]] = field(default_factory=dict)
    refusal_status: Literal[401, 403] = 403
    """For a good credential of a kind that the call does not take."""
    latency_s: float = 0.0
    latency_by_environment: dict[str, float] = field(default_factory=dict)
    requests_per_minute: int | None = None
    """One limit for all callers, as the organisation's is."""
    polls_count: bool = True
    retry_after: Literal["seconds", "date", "absent", "nonsense"] = "seconds"
    retry_after_s: float | None = None
    """None: until the limit has room again."""
    date: Literal["right", "absent", "nonsense"] = "right"
    date_skew_s: float = 0.0
    """How far `Date` is from the clock behind the timestamps."""
    check_headers: bool = True
    require_beta_query: bool = False

    def accepts(self, call: Call, environment_id: str | None) -> frozenset[Credential]:
        return self.accepted_by_environment.get(environment_id or "", {}).get(call, self.accepted[call])

    def latency(self, environment_id: str | None) -> float:
        return self.latency_by_environment.get(environment_id or "", self.latency_s)


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One request. `at` is on the world's clock; `credentials` are the kinds presented, known ones only.

    `workspace_id` is the one that the call names, empty for none.
    """

    at: float
    environment_id: str | None
    call: Call
    query: dict[str, str]
    credentials: tuple[Credential, ...]
    workspace_id: str = ""


class Calls:
    """Everything that was asked, refused calls included: all of it counted, the last `CALLS_KEPT` in detail."""

    def __init__(self) -> None:
        self.records: deque[CallRecord] = deque(maxlen=CALLS_KEPT)
        self._count: Counter[tuple[str | None, Call]] = Counter()

    def add(self, record: CallRecord) -> None:
        self.records.append(record)
        self._count[record.environment_id, record.call] += 1

    def count(self, call: str | None = None, environment_id: str | None = None) -> int:
        return sum(
            number
            for (asked_environment_id, asked_call), number in self._count.items()
            if call in {None, asked_call} and environment_id in {None, asked_environment_id}
        )

    def between(self, start: float, end: float, *, environment_id: str | None = None) -> list[CallRecord]:
        """Return the calls of start <= at < end, for an assertion about a rate."""
        return [
            record
            for record in self.records
            if start <= record.at < end and environment_id in {None, record.environment_id}
        ]

    def clear(self) -> None:
        self.records.clear()
        self._count.clear()
