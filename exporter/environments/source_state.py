"""One source of an environment, its stats or its list: what it said last, or why it can't be read."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from exporter.api.client import ApiError
from exporter.environments.snapshot import Problem, Queue, ReadTimes, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.api.client import ApiContext, Reading, Reason, Source, WorkApi
    from exporter.api.wire import WorkPage, WorkStats
    from exporter.environments.snapshot import Environment

NEVER = float("-inf")
MIN_INTERVAL_TOLERANCE_S = 0.05
"""Prometheus is punctual to some milliseconds: a scrape that early for a new read gets one nevertheless."""

V = TypeVar("V", Queue, Work)


class SourceState(Generic[V]):
    """Remembers how the reads of one source ended. A read is `begin`, then `succeed`, `fail` or `skip`, then `end`.

    On the monotonic clock, `began_at`: the last read's start; `tried_at`: the start of the last one that sent a call.
    `cut_after_s`: how long the last read took when its deadline ended it, infinite where none did.
    """

    def __init__(
        self,
        name: Source,
        context: ApiContext,
        environment: Callable[[], Environment],
        explain: Callable[[ApiError], str] = str,
    ) -> None:
        self.name: Source = name
        self.value: V | None = None
        self.problem: Problem | None = None
        self.began_at = self.tried_at = NEVER
        self.cut_after_s = math.inf
        self._reading = False
        self._last_logged_reason: Reason | None = None
        self._context = context
        self.environment = environment
        self._explain = explain

    def is_due(self, within_s: float) -> bool:
        """Return whether a read that may take `within_s` can tell more than the last one did.

        It can when the last one is `min_interval` old, and when its deadline ended it sooner than that.
        """
        last = self._context.clock.monotonic() - self._context.config().scrape.min_interval_s + MIN_INTERVAL_TOLERANCE_S
        return self.began_at <= last or within_s > self.cut_after_s

    def shown(self, *, late: bool) -> V | None:
        """Return the value that may be shown; `late`: to somebody whose wait for the read under way has ended."""
        return None if late and self._reading else self.value

    def begin(self) -> None:
        self._reading = True
        self.began_at = self._context.clock.monotonic()
        self.cut_after_s = math.inf

    def end(self) -> None:
        self._reading = False

    @contextmanager
    def recording_calls(self, api: WorkApi) -> Iterator[None]:
        """Set `tried_at` if the block sends a call."""
        sent_before = api.sent(self.name)
        try:
            yield
        finally:
            if api.sent(self.name) > sent_before:
                self.tried_at = self.began_at

    def succeed(self, value: V | None) -> None:
        """Keep the value read; None where more reads are needed before there is one."""
        self.value, self.problem = value, None
        self._log_change()

    def skip(self) -> None:
        """Keep what is known: the budget allowed no call. The next scrape may try again at once."""
        self.began_at = NEVER

    def cut_short(self) -> ApiError:
        """Return the failure of a read that its deadline ended, and remember how long it was given."""
        self.cut_after_s = self._context.clock.monotonic() - self.began_at
        return ApiError("timeout", "no answer before the scrape's deadline")

    def fail(self, failed: ApiError) -> None:
        self._context.observer.read_failed(self.name, failed.reason)
        since = self._context.clock.wall() if self.problem is None else self.problem.since
        self.problem = Problem(failed.reason, self._explain(failed), since, failed.status, failed.request_id)
        if failed.reason != "rate_limited":  # that wait concerns everybody: what was known stays, as for all others
            self.value = None
            self._log_change()

    def _log_change(self) -> None:
        """Log when the source starts to fail, fails for another reason, or recovers; not at every read."""
        problem = self.problem
        reason = None if problem is None else problem.reason
        if reason == self._last_logged_reason:
            return
        self._last_logged_reason = reason
        environment, log = self.environment(), self._context.log
        fields = {"environment_id": environment.id, "environment_name": environment.name, "source": self.name}
        if problem is None:
            log.info("read_recovered", **fields)
        else:
            about = {"status": problem.status, "request_id": problem.request_id, "detail": problem.text}
            log.warning("read_failed", **fields, reason=reason, **about)


def read_times(began_at: float, reading: Reading[WorkStats] | Reading[WorkPage], monotonic_at: float) -> ReadTimes:
    """Return when a read took place, of which `reading` is the last answer and came at `monotonic_at`.

    An answer that a cache had kept is as old as the cache says.
    """
    return ReadTimes(
        read_at=round(reading.received_at, 3),
        server_at=reading.received_at + reading.server_ahead_s,
        monotonic_at=monotonic_at - reading.age_s,
        duration_s=monotonic_at - began_at,
    )
