"""How many API calls may be made, and for what. Pure: the clock and the randomness are arguments.

One token bucket serves every source of every environment. It holds at most half a minute's calls, so that in any window
no more than the budget plus that burst is sent. Who may take a token depends on what for:

* a read of `stats` takes whatever token there is;
* anything of the listing leaves enough for the stats that fall due before new tokens arrive: for the k-th next of them,
  what is left plus what accrues until then must be k at least. Where stats alone need the whole budget, the listing gets
  nothing, and the age of the stats is what arithmetic allows: environments ÷ budget;
* an open end is read only where the segments that its list asked for last time can be read as well: they are reserved with it.
  Otherwise open ends alone would use up a small budget, and no list would ever be complete;
* segments that are not reserved and all below leave the same for each environment's open end; background work leaves half of the
  bucket too.

A 429 stops everybody until the time it names. Afterwards the rate is half of what it was, and recovers by a tenth of the
configured rate a minute: the limit is shared with the workers, and they come first. A 529 of one environment is that one's own
affair; those of several in a row, with no good answer in between, stop everybody like a 429.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MINUTE_S = 60.0
RETRY_AFTER_LIMIT_S = 300.0
RETRY_AFTER_LEAST_S = 1.0
BACK_OFF_FIRST_S = 5.0
BACK_OFF_DOUBLINGS = 8
SLOWEST_SHARE = 1 / 16
FEWEST_OVERLOADED, MOST_OVERLOADED = 3, 8
"""How many environments in a row say that the whole API is overloaded: half of those that are scraped, within these bounds."""
RECOVERY_PER_S = 0.1 / MINUTE_S
DEMAND_KEPT_S = 300.0
PERIOD_FIRST_GUESS_S = 15.0
RESERVED_LIMIT = 4
RESERVED_SHARE_OF_BURST = 1 / 8
RESERVED_KEPT_S = 10.0


def burst_calls(per_minute: float) -> float:
    """Return how many calls may be sent at once after a time without any."""
    return max(1.0, per_minute / 2)


class Priority(enum.IntEnum):
    """What a call is for, the most important first. The one scale of the whole exporter."""

    STATS = 0
    OPEN_END = 1
    SEGMENT = 2
    BACKFILL = 3
    RESYNC = 4


@dataclass(slots=True)
class _Demand:
    """The calls that one environment will soon need. Instants on the monotonic clock.

    `period_s`: the time between two scrapes that cause a read. It follows the scrapes, not the reads: otherwise a time without
    tokens would look like a slower scraper. `segments`: calls that the list needed besides its open end when that was last read.
    `segments_asked`, `opened`: the same count for the scrape under way, and whether its open end was read.
    """

    asked_at: float
    period_at: float
    period_s: float
    stats_at: float = float("-inf")
    open_end_at: float = float("-inf")
    segments: int = 0
    segments_asked: int = 0
    opened: bool = False
    reserved: int = 0

    def begin_scrape(self) -> None:
        if self.opened or self.segments_asked:
            self.segments = self.segments_asked
        self.segments_asked, self.opened = 0, False


@dataclass(slots=True)
class _Slack:
    """At least so many tokens can be spared. `at`: when this was computed; `exact`: no token has been taken since."""

    tokens: float
    at: float
    exact: bool = True

    def take_one(self) -> None:
        self.tokens -= 1
        self.exact = False

    def decides(self, enough: float, *, per_second: float, now: float) -> bool:
        """Whether `enough` can be answered without computing the slack again.

        Yes, if so many were spare: none is taken back but by `take_one`. No, if even all that has accrued since is too little.
        """
        return self.tokens >= enough or (self.exact and self.tokens + per_second * (now - self.at) < enough)


class Budget:
    """`per_minute` calls a minute, every `min_interval_s` at most once for one environment's stats.

    All instants are on the monotonic clock. `jitter` returns a number in [0, 1).
    """

    def __init__(self, *, per_minute: int, min_interval_s: float, now: float, jitter: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._min_interval_s = min_interval_s
        self._burst = burst_calls(per_minute)
        self._tokens = self._burst
        self._at = now
        self._share = 1.0
        self._waits = 0
        self._no_call_before = float("-inf")
        self._jitter = jitter
        self._overloaded: set[str | None] = set()
        self._demand_by_environment: dict[str, _Demand] = {}
        self._reserved = 0
        self._slack_by_priority: dict[Priority, _Slack] = {}

    def configure(self, *, per_minute: int, min_interval_s: float, now: float) -> None:
        """Change the rate. What is left, what is being waited for and who asked stays."""
        self._refill(now)
        self._per_minute = per_minute
        self._min_interval_s = min_interval_s
        self._burst = burst_calls(per_minute)
        self._tokens = min(self._tokens, self._burst)
        self._slack_by_priority.clear()

    def forget_server(self, *, now: float) -> None:
        """Begin anew with another server: what the one before it refused says nothing about this one."""
        self._tokens, self._at = self._burst, now
        self._share, self._waits, self._no_call_before = 1.0, 0, float("-inf")
        self._overloaded.clear()
        self._slack_by_priority.clear()

    def register_demand(self, environment_ids: Iterable[str], *, now: float) -> None:
        """Note that these environments are scraped now; forget those that have not been scraped lately."""
        for environment_id in environment_ids:
            demand = self._demand_by_environment.pop(environment_id, None)
            if demand is None:
                demand = _Demand(now, now, max(self._min_interval_s, PERIOD_FIRST_GUESS_S))
            # The last one now: they stand in the order in which they asked.
            self._demand_by_environment[environment_id] = demand
            demand.asked_at = now
            if now - demand.period_at >= self._min_interval_s and now > demand.period_at:
                demand.period_s = min(DEMAND_KEPT_S, now - demand.period_at)
                demand.period_at = now
            demand.begin_scrape()
            if now - demand.open_end_at >= RESERVED_KEPT_S:
                self._reserve(demand, 0)
        self._forget_before(now - DEMAND_KEPT_S)
        self._slack_by_priority.clear()

    def take(self, priority: Priority, *, environment_id: str | None, now: float) -> bool:
        """Take one token, or leave the bucket as it is and return False."""
        self._refill(now)
        demand = self._demand_by_environment.get(environment_id or "")
        if demand is not None and priority is Priority.SEGMENT:
            demand.segments_asked += 1
        if self._tokens < 1 or not self._affordable(priority, demand, now):
            return False
        self._tokens -= 1
        for slack in self._slack_by_priority.values():
            slack.take_one()
        if demand is not None:
            self._note(priority, demand, now)
        return True

    def rate_limited(self, retry_after_s: float | None, *, now: float) -> bool:
        """Stop everybody for `retry_after_s`, or for a growing time where it is None.

        Return whether that is news: the first wait since the API last answered something else.
        """
        already_waiting = now < self._no_call_before
        if not already_waiting:
            self._refill(now)
            self._share = max(SLOWEST_SHARE, self._share / 2)
            self._waits += 1
        if retry_after_s is not None or not already_waiting:
            self._no_call_before = max(self._no_call_before, now + self.wait_s(retry_after_s, self._waits))
        # What stops everybody: there is no token, and none accrues before that time.
        self._tokens, self._at = 0.0, self._no_call_before
        self._slack_by_priority.clear()
        return self._waits == 1 and not already_waiting

    def overloaded(self, environment_id: str | None, retry_after_s: float | None, *, now: float) -> bool:
        """Note a 529, and stop everybody once several environments in a row gave one. Return whether that is news."""
        self._overloaded.add(environment_id)
        several = min(MOST_OVERLOADED, max(FEWEST_OVERLOADED, len(self._demand_by_environment) // 2))
        return len(self._overloaded) >= several and self.rate_limited(retry_after_s, now=now)

    def answered(self) -> None:
        """Note a good answer: the next wait starts small again."""
        self._waits = 0
        self._overloaded.clear()

    def wait_s(self, retry_after_s: float | None, waits: int) -> float:
        """Return how long to wait after the answer that says so, or a growing time where it doesn't. `waits`: this one included."""
        if retry_after_s is not None:
            return min(RETRY_AFTER_LIMIT_S, max(RETRY_AFTER_LEAST_S, retry_after_s))
        longest_s = min(RETRY_AFTER_LIMIT_S, BACK_OFF_FIRST_S * 2.0 ** min(BACK_OFF_DOUBLINGS, waits - 1))
        return longest_s * (0.5 + self._jitter() / 2)

    def limit_per_minute(self, now: float) -> float:
        self._refill(now)
        return self._per_minute * self._share

    def available(self, now: float) -> float:
        self._refill(now)
        return self._tokens

    def waits_until(self, now: float) -> float | None:
        return self._no_call_before if now < self._no_call_before else None

    def _refill(self, now: float) -> None:
        passed_s = now - self._at
        if passed_s <= 0:
            return
        # The mean of the share while it recovers: exact as long as it does not reach its ceiling within the step.
        share = min(1.0, self._share + passed_s * RECOVERY_PER_S)
        mean = (self._share + share) / 2
        self._tokens = min(self._burst, self._tokens + passed_s * mean * self._per_minute / MINUTE_S)
        self._share = share
        self._at = now

    def _forget_before(self, asked_lately: float) -> None:
        """Forget the environments that nobody has asked for since. They come first, so a probe of one looks at one, not at all."""
        demands = self._demand_by_environment
        while demands and (oldest := demands[next(iter(demands))]).asked_at < asked_lately:
            self._reserve(oldest, 0)
            del demands[next(iter(demands))]

    def _note(self, priority: Priority, demand: _Demand, now: float) -> None:
        if priority is Priority.STATS:
            demand.stats_at = now
        elif priority is Priority.OPEN_END:
            demand.open_end_at = now
            demand.opened = True
            self._reserve(demand, self._segments_to_reserve(demand))
        elif priority is Priority.SEGMENT and demand.reserved:
            self._reserve(demand, demand.reserved - 1)

    def _reserve(self, demand: _Demand, segments: int) -> None:
        self._reserved += segments - demand.reserved
        demand.reserved = segments

    def _segments_to_reserve(self, demand: _Demand | None) -> int:
        asked = 0 if demand is None else demand.segments
        return min(asked, RESERVED_LIMIT, int(self._burst * RESERVED_SHARE_OF_BURST))

    def _affordable(self, priority: Priority, demand: _Demand | None, now: float) -> bool:
        if priority is Priority.STATS or (priority is Priority.SEGMENT and demand is not None and demand.reserved):
            return True
        spare = self._tokens - self._reserved
        if priority is Priority.RESYNC and spare - 1 < self._burst / 2:
            return False
        wanted = 1 + (self._segments_to_reserve(demand) if priority is Priority.OPEN_END else 0)
        if spare < wanted:
            return False
        least = min(priority, Priority.SEGMENT)
        if spare - wanted >= least * len(self._demand_by_environment):
            return True
        enough = self._reserved + wanted
        return self._slack_above(least, enough, now) >= enough

    def _slack_above(self, priority: Priority, enough: float, now: float) -> float:
        """Return how many tokens the calls before `priority` leave. It may be too low, but on the right side of `enough`."""
        known = self._slack_by_priority.get(priority)
        if known is None or not known.decides(enough, per_second=self._per_second, now=now):
            # Costs a millisecond at a thousand environments; without the memory, for every call of a scrape.
            known = self._slack_by_priority[priority] = _Slack(self._least_left(priority, now), now)
        return known.tokens

    def _least_left(self, priority: Priority, now: float) -> float:
        """Return the fewest tokens that will be left when one of the calls before `priority` has fallen due and taken its own."""
        cycle_s = len(self._demand_by_environment) / self._per_second
        due_in_s: list[float] = []
        for demand in self._demand_by_environment.values():
            period_s = max(cycle_s, demand.period_s)
            due_in_s.append(max(0.0, demand.stats_at + period_s - now))
            if priority > Priority.OPEN_END:
                due_in_s.append(max(0.0, demand.open_end_at + period_s - now))
        due_in_s.sort()
        return min(self._tokens + self._per_second * wait_s - k for k, wait_s in enumerate(due_in_s, start=1))

    @property
    def _per_second(self) -> float:
        return self._per_minute * self._share / MINUTE_S
