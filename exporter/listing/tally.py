"""Transitions, folded into counters and cumulative histograms. Pure.

A tally belongs to an environment and outlives what its ledger forgets: it only ever goes up.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, NamedTuple

from exporter.config.model import without_controls
from exporter.listing.lifecycle import Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.api.wire import WorkItem
    from exporter.listing.lifecycle import Transition

Outcome = Literal["ran", "never_started", "never_acknowledged"]
OUTCOMES: tuple[Outcome, ...] = ("ran", "never_started", "never_acknowledged")


class Exemplar(NamedTuple):
    """The latest item of a count: its ids, what was counted of it, and when, on the server's clock."""

    work_id: str
    session_id: str | None
    value: float
    at: float


@dataclass(frozen=True, slots=True)
class HistogramView:
    """`cumulative_counts` has one entry more than `bounds_s`: the last is that of +Inf. `exemplars`: one for each, or none at all."""

    bounds_s: tuple[float, ...]
    cumulative_counts: tuple[int, ...]
    sum_s: float
    exemplars: tuple[Exemplar | None, ...] = ()

    @property
    def count(self) -> int:
        return self.cumulative_counts[-1]


@dataclass(frozen=True, slots=True)
class TallyView:
    created: int
    acknowledged_in_time: int
    finished_by_outcome: Mapping[Outcome, int]
    queue_wait: HistogramView
    startup: HistogramView
    run: HistogramView
    stop: HistogramView
    exemplar_by_outcome: Mapping[Outcome, Exemplar] = field(default_factory=dict)


class _Histogram:
    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0
        self._exemplars: list[Exemplar | None] = []

    def observe(self, exemplar: Exemplar) -> None:
        """Count the exemplar's value, and keep the latest one of each bucket."""
        bucket = bisect_left(self._bounds_s, exemplar.value)
        self._counts[bucket] += 1
        self._sum_s += exemplar.value
        self._exemplars = self._exemplars or [None] * len(self._counts)
        self._exemplars[bucket] = _later(self._exemplars[bucket], exemplar)

    def view(self) -> HistogramView:
        return HistogramView(self._bounds_s, tuple(accumulate(self._counts)), self._sum_s, tuple(self._exemplars))


def _later(one: Exemplar | None, other: Exemplar) -> Exemplar | None:
    """Return the later exemplar: what Prometheus gets must not step back. Ids that could mislead whoever reads them are none."""
    ids = other.work_id + (other.session_id or "")
    if without_controls(ids) != ids:
        return one
    return other if one is None or other.at >= one.at else one


class Tally:
    """`buckets`: upper bounds in seconds, ascending, without +Inf."""

    def __init__(self, buckets: Sequence[float]) -> None:
        bounds_s = tuple(buckets)
        self._created = 0
        self._acknowledged_in_time = 0
        self._finished_by_outcome: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
        self._queue_wait = _Histogram(bounds_s)
        self._startup = _Histogram(bounds_s)
        self._run = _Histogram(bounds_s)
        self._stop = _Histogram(bounds_s)
        self._exemplar_by_outcome: dict[Outcome, Exemplar] = {}
        self._view: TallyView | None = None

    def observe(self, transitions: Iterable[Transition], *, wait_objective_s: float) -> tuple[str, ...]:
        """Count the transitions. Return drift: for each duration that is negative, the field of its later instant."""
        counted = list(transitions)
        if counted:
            self._view = None
        return tuple(field for transition in counted for field in self._count(transition, wait_objective_s))

    def view(self) -> TallyView:
        """Return what has been counted: the same view again while nothing is added."""
        if self._view is None:
            self._view = self._new_view()
        return self._view

    def _new_view(self) -> TallyView:
        return TallyView(
            created=self._created,
            acknowledged_in_time=self._acknowledged_in_time,
            finished_by_outcome=dict(self._finished_by_outcome),
            queue_wait=self._queue_wait.view(),
            startup=self._startup.view(),
            run=self._run.view(),
            stop=self._stop.view(),
            exemplar_by_outcome=dict(self._exemplar_by_outcome),
        )

    def _count(self, transition: Transition, wait_objective_s: float) -> Iterator[str]:
        item = transition.item
        match transition.step:
            case Step.CREATED:
                self._created += 1
            case Step.ACKNOWLEDGED:
                self._acknowledged_in_time += _is_within(wait_objective_s, item.created_at, item.acknowledged_at)
                yield from _observe(self._queue_wait, item, item.created_at, item.acknowledged_at, "acknowledged_at")
            case Step.STARTED:
                yield from _observe(self._startup, item, item.acknowledged_at, item.started_at, "started_at")
            case Step.STOPPED:
                self._count_outcome(item)
                # One wrong instant is one drift, however many durations it spoils.
                yield from dict.fromkeys(
                    [
                        *_observe(self._run, item, item.started_at, item.stopped_at, "stopped_at"),
                        *_observe(self._stop, item, item.stop_requested_at, item.stopped_at, "stopped_at"),
                    ]
                )

    def _count_outcome(self, item: WorkItem) -> None:
        outcome = _outcome(item)
        self._finished_by_outcome[outcome] += 1
        if item.stopped_at is not None:
            exemplar = Exemplar(item.id, item.session_id, 1.0, item.stopped_at)
            latest = _later(self._exemplar_by_outcome.get(outcome), exemplar)
            if latest is not None:
                self._exemplar_by_outcome[outcome] = latest


def _observe(
    histogram: _Histogram, item: WorkItem, since: float | None, until: float | None, name: str
) -> Iterator[str]:
    if since is None or until is None:
        return
    if until < since:
        yield name
    else:
        histogram.observe(Exemplar(item.id, item.session_id, until - since, until))


def _is_within(limit_s: float, since: float | None, until: float | None) -> bool:
    return since is not None and until is not None and 0 <= until - since <= limit_s


def _outcome(item: WorkItem) -> Outcome:
    if item.started_at is not None:
        return "ran"
    return "never_acknowledged" if item.acknowledged_at is None else "never_started"
