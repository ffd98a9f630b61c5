"""One environment: what to read now, what came of it, and what may be shown.

`stats` and `list` are two sources that fail, age and are throttled each by itself. A read ends in a value, in a problem, or, where
the budget did not allow it, in nothing: then what was known stays, until it is too old.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import anyio

from exporter.api.admission import CallRequest, Health, Throttled
from exporter.api.budget import Priority
from exporter.api.client import ApiError
from exporter.environments.list_read import ListReader
from exporter.environments.pending_watch import PendingWatch
from exporter.environments.snapshot import Environment, Queue, Snapshot, Work
from exporter.environments.source_state import NEVER, SourceState, read_times
from exporter.listing.ledger import Ledger, QueuedCount

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.api.client import ApiContext, Reason, WorkApi

NOT_SELF_HOSTED = "not a self-hosted environment: its queue is blank and it has no list of work"


class Due(NamedTuple):
    """What a read of an environment is to read."""

    stats: bool
    list: bool


class EnvironmentReader:
    """Reads one environment and remembers what it found. All of it runs in one event loop."""

    def __init__(self, environment: Environment, api: WorkApi, context: ApiContext) -> None:
        self.environment = environment
        self.api = api
        self._context = context
        self._stats: SourceState[Queue] = SourceState("stats", context, lambda: self.environment)
        self._list: SourceState[Work] = SourceState("list", context, lambda: self.environment, self._explain)
        listing = context.config().listing
        self.ledger = Ledger(page_size=listing.page_size, resync_interval_s=listing.resync_interval_s)
        self._queued: QueuedCount | None = None
        self._pending_watch = PendingWatch()
        self._list_reader = ListReader(self.ledger, api, context, self._list, self._new_request)

    @property
    def stale_since(self) -> float:
        """When the stats were last asked for, on the monotonic clock; the stalest are read first.

        The last try counts, not the last success: many that fail would otherwise keep each other from being tried again.
        """
        return self._stats.tried_at

    @property
    def list_stale_since(self) -> float:
        """When the list was last asked for, likewise."""
        return self._list.tried_at

    @property
    def health(self) -> Health:
        """How it has answered so far."""
        if self.api.timed_out:
            return Health.TIMING_OUT
        return Health.UNKNOWN if self._stats.tried_at == NEVER else Health.HEALTHY

    @property
    def reads_stats_first(self) -> bool:
        """Whether the list waits for the stats: where one may hang, so that it holds one slot, and where the list compares them."""
        return self.health is not Health.HEALTHY or self._list_reader.compares_stats

    @property
    def has_background(self) -> bool:
        return self._list_reader.has_background

    def due(self, within_s: float) -> Due:
        """Return which sources are worth a read that may take `within_s`."""
        listing_enabled = self._context.config().listing.enabled
        return Due(stats=self._stats.is_due(within_s), list=listing_enabled and self._list.is_due(within_s))

    def begin(self, due: Due) -> None:
        """Begin to read: from now on nothing older is shown to somebody whose wait for this read has ended."""
        if due.stats:
            self._stats.begin()
        if due.list:
            self._list.begin()

    async def read_stats(self) -> None:
        """Read the stats, after `begin`."""
        state = self._stats
        self.api.begin("stats")
        asked_at = self._context.clock.monotonic()
        try:
            with state.recording_calls(self.api):
                reading = await self.api.stats(self._new_request(Priority.STATS, self.stale_since))
        except Throttled:
            state.skip()
        except ApiError as failed:
            state.fail(failed)
        except anyio.get_cancelled_exc_class():
            state.fail(state.cut_short())
            raise
        else:
            now, stats = self._context.clock.monotonic(), reading.value
            state.succeed(Queue(stats, read_times(state.began_at, reading, now)))
            self._queued = None if reading.age_s else QueuedCount(stats.depth + stats.pending, asked_at, now)
        finally:
            state.end()

    async def read_list(self, *, deadline: Callable[[], float]) -> None:
        """Read the list, after `begin`; `deadline` is on the monotonic clock, and may be moved meanwhile."""
        self.api.begin("list")
        await self._list_reader.read(deadline=deadline, queued=self._queued)
        queue, work = self._stats.value, self._list.value
        if queue is not None and work is not None and self._pending_watch.observe(queue, work):
            self._context.log.warning(
                "pending_counts_all_items",
                environment_id=self.environment.id,
                environment_name=self.environment.name,
                detail="the server counts running items as pending, so ManagedAgentsClaimedNotAcknowledged says nothing here",
            )

    def leave_list(self) -> bool:
        """Give the list up where the stats have timed out, since it would, too. Return whether it was given up."""
        if self._stats.problem is None or self._stats.problem.reason != "timeout":
            return False
        self._list.cut_after_s = self._stats.cut_after_s
        self._list.fail(ApiError("timeout", "not asked for, since the stats timed out"))
        self._list.end()
        return True

    async def read_background(self) -> None:
        """Go on with what no scrape waits for."""
        await self._list_reader.read_background()

    def broke(self, defect: Exception) -> None:
        """Show no numbers after a defect of the exporter's own, and log where it is."""
        self._context.log.error("read_broke", environment_id=self.environment.id, exception=defect)
        for state in (self._stats, self._list):
            state.fail(ApiError("internal", "a defect of the exporter; its log says more"))
            state.end()

    async def aclose(self) -> None:
        await self.api.aclose()

    def snapshot(self, *, asked_at: float, late: bool = False) -> Snapshot:
        """Return what may be shown to somebody who asked at `asked_at` (monotonic).

        `late`: their wait for the read under way has ended. Without it that read is somebody else's, and changes nothing yet.
        """
        queue, work = self._stats.shown(late=late), self._list.shown(late=late)
        queue = queue if queue and self._is_current(queue.times.monotonic_at, asked_at) else None
        listing_enabled = self._context.config().listing.enabled
        work = work if work and listing_enabled and self._is_current(work.times.monotonic_at, asked_at) else None
        problem = self._stats.problem
        if self._list.problem is not None and self._is_not_self_hosted(self._list.problem.reason):
            problem, queue = replace(self._list.problem, text=NOT_SELF_HOSTED), None
        return Snapshot(
            environment=self.environment,
            listing_enabled=listing_enabled,
            queue=queue,
            work=work,
            tally=self._list_reader.tally,
            queue_problem=problem,
            work_problem=self._list.problem,
        )

    def _is_current(self, read_at: float, asked_at: float) -> bool:
        age_s = self._context.clock.monotonic() - read_at
        return read_at >= asked_at or age_s <= self._context.config().scrape.max_age_s

    def _explain(self, failed: ApiError) -> str:
        return NOT_SELF_HOSTED if self._is_not_self_hosted(failed.reason) else str(failed)

    def _is_not_self_hosted(self, list_failed: Reason) -> bool:
        """Return whether this is a cloud environment: its stats are blank, and it has no list."""
        queue = self._stats.value
        return list_failed == "not_found" and queue is not None and queue.stats.is_blank

    def _new_request(self, priority: Priority, stale_since: float) -> CallRequest:
        return CallRequest(
            priority=priority, stale_since=stale_since, environment_id=self.environment.id, health=self.health
        )
