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
    """An environment that is exported. `name` is unique among those exported at the same time."""

    id: str
    name: str
    worker_mode: WorkerMode = "unknown"
    origin: Origin = "config"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadTimes:
    """When and how numbers were read.

    `read_at`: the exporter's wall clock. `server_at`: the same instant on the server's clock, `monotonic_at` on the monotonic
    one: together they give the server's time later, whatever the wall clock does meanwhile.
    """

    read_at: float
    server_at: float
    monotonic_at: float
    duration_s: float

    def server_now(self, monotonic: float) -> float:
        return self.server_at + (monotonic - self.monotonic_at)


@dataclass(frozen=True, slots=True)
class Queue:
    stats: WorkStats
    times: ReadTimes


@dataclass(frozen=True, slots=True)
class Work:
    """`times.read_at` is the oldest read that the counts rest on; the other times are those of the newest."""

    listing: Listing
    times: ReadTimes

    @property
    def oldest_read_at(self) -> float:
        """When the oldest read was that the counts rest on, on the monotonic clock."""
        oldest = self.listing.oldest_read_at
        return self.times.monotonic_at if oldest is None else oldest


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
