"""What a client needs around it: a configuration, a budget, an observer that remembers, clocks that stand still."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from exporter.api.admission import Admission, CallRequest
from exporter.api.budget import Budget, Priority
from exporter.api.client import ApiContext
from exporter.clock import Clock
from exporter.config.model import ApiConfig, Config
from exporter.config.secret import EnvSecret
from exporter.log import Log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.api.client import Reason, Source

BASE_URL = "http://127.0.0.1:9/v1"
API_KEY = "canary-api-key-51b2"
ENVIRONMENT_KEY = "canary-environment-key-77c0"
ENVIRON = {"API_KEY": API_KEY, "ENVIRONMENT_KEY": ENVIRONMENT_KEY}
STATS_CALL = CallRequest(priority=Priority.STATS)
LIST_CALL = CallRequest(priority=Priority.OPEN_END)


@dataclass
class RecordingObserver:
    """Remembers everything that the client reports."""

    sent: list[tuple[Source, str]] = field(default_factory=list)
    durations_s: list[float] = field(default_factory=list)
    throttled: list[Source] = field(default_factory=list)
    failed: list[tuple[Source, Reason]] = field(default_factory=list)
    drifted: list[str] = field(default_factory=list)

    def request_sent(self, source: Source, code: str, duration_s: float) -> None:
        self.sent.append((source, code))
        self.durations_s.append(duration_s)

    def request_throttled(self, source: Source) -> None:
        self.throttled.append(source)

    def read_failed(self, source: Source, reason: Reason) -> None:
        self.failed.append((source, reason))

    def schema_drifted(self, fields: Sequence[str]) -> None:
        self.drifted += fields

    def clock_compared(self, offset_s: float) -> None: ...


@dataclass
class Surroundings:
    """Settings and clocks that a test may change while the client runs."""

    api: ApiConfig = field(default_factory=lambda: ApiConfig(base_url=BASE_URL, api_key=EnvSecret("API_KEY", ENVIRON)))
    per_minute: int = 1_000_000
    now: float = 1_000_000.0
    observer: RecordingObserver = field(default_factory=RecordingObserver)

    def __post_init__(self) -> None:
        self.budget = Budget(per_minute=self.per_minute, min_interval_s=0, now=self.now, jitter=lambda: 0.5)
        self.context = ApiContext(
            config=lambda: Config(api=self.api),
            admission=Admission(self.budget, concurrency=16, monotonic=lambda: self.now),
            observer=self.observer,
            clock=Clock(wall=lambda: self.now, monotonic=lambda: self.now),
            log=Log(),
        )

    def change(self, **settings: object) -> None:
        self.api = replace(self.api, **settings)  # type: ignore[arg-type]  # the test names fields of ApiConfig
