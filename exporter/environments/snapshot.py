"""What one environment is known to be like, frozen: the only thing the metrics and the status page look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from exporter.api.client import Reason
    from exporter.api.wire import WorkStats
    from exporter.config.model import WorkerMode
    from exporter.listing.ledger import Listing
    from exporter.listing.tally import TallyView

Origin = Literal["config", "discovery"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """An environment that is exported. `name` is unique among those exported at the same time.

    `wait_objective_s`: an item shall be acknowledged within it. `workspace_id` is empty where none is configured.
    """

    id: str
    name: str
    worker_mode: WorkerMode = "unknown"
    origin: Origin = "config"
    workspace_id: str = ""
    wait_objective_s: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadTimes:
    """When and how numbers were read.

    `read_at`: the exporter's wall clock. `server_at`: the same instant on the server's clock, `monotonic_at` on the monotonic one.
    """

    read_at: float
    server_at: float
    monotonic_at: float
    duration_s: float

    def moved_to(self, monotonic_at: float) -> ReadTimes:
        """Return the same read at another instant."""
        by_s = monotonic_at - self.monotonic_at
        return ReadTimes(
            read_at=round(self.read_at + by_s, 3),
            server_at=self.server_at + by_s,
            monotonic_at=monotonic_at,
            duration_s=self.duration_s,
        )


@dataclass(frozen=True, slots=True)
class Queue:
    stats: WorkStats
    times: ReadTimes


@dataclass(frozen=True, slots=True)
class Work:
    """`times` are those of the oldest read that the counts rest on."""

    listing: Listing
    times: ReadTimes


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there are no numbers. `since`: the exporter's wall clock; `status`: of the answer, where there was one."""

    reason: Reason
    text: str
    since: float
    status: int | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """`queue` is None while the stats are not current (`up` 0), `work` while the listing isn't (`list_up` 0).

    `tally` counts from the first complete listing on and stays whatever fails.
    """

    environment: Environment
    listing_enabled: bool
    queue: Queue | None
    work: Work | None
    tally: TallyView | None
    queue_problem: Problem | None = None
    work_problem: Problem | None = None
