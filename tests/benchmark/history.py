"""(a) List calls and time per scrape over the history, beside those of the naive exporter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.benchmark.api import served
from tests.benchmark.naive import PAGE_SIZE
from tests.benchmark.scene import LIVE, Scene
from tests.benchmark.subject import exporter, naive_exporter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmark.subject import Scrape, Subject

HISTORIES = (10**2, 10**3, 10**4, 10**5, 10**6)
ENVIRONMENTS = (1, 10, 100)
ITEMS_LIMIT = 10**6
"""Combinations with more items than this in all environments together are not run."""
INTERVAL_S = 15
REPETITIONS = 5
REPETITIONS_OF_LONG_WALKS = 1
LONG_WALK_ITEMS = 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Medians per scrape. `calls_least` and `calls_most`: of list calls, over the repetitions."""

    repetitions: int
    stats_calls: float
    list_calls: float
    calls_least: int
    calls_most: int
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`naive_calls_needed`: list calls that a full walk takes, by arithmetic; the rest is measured, or None if not run.

    `rss_mib` of ours: after the last scrape, when the live items of the first have long stopped and are sealed.
    """

    environments: int
    history: int
    naive_calls_needed: int
    first: Cost | None = None
    ours: Cost | None = None
    naive: Cost | None = None
    rss_mib: float | None = None
    naive_rss_mib: float | None = None


def measure(*, quick: bool) -> list[Row]:
    limit = ITEMS_LIMIT // 100 if quick else ITEMS_LIMIT
    return [
        _row(environments, history, run=environments * history <= limit)
        for environments in ENVIRONMENTS
        for history in HISTORIES
    ]


def _row(environments: int, history: int, *, run: bool) -> Row:
    needed = environments * math.ceil((history + LIVE) / PAGE_SIZE)
    if not run:
        return Row(environments=environments, history=history, naive_calls_needed=needed)
    scene = Scene(environments=environments, history=history)
    with TemporaryDirectory() as place, served(scene) as api:
        directory = Path(place)
        with exporter(api, directory) as ours, naive_exporter(api, directory) as naive:
            first = ours.true_scrape()
            repetitions = REPETITIONS_OF_LONG_WALKS if environments * history >= LONG_WALK_ITEMS else REPETITIONS
            of_ours, of_naive = _side_by_side(ours, naive, repetitions)
            rss_mib, naive_rss_mib = ours.rss_mib(), naive.rss_mib()
    return Row(
        environments=environments,
        history=history,
        naive_calls_needed=needed,
        first=_cost([first]),
        ours=_cost(of_ours),
        naive=_cost(of_naive),
        rss_mib=rss_mib,
        naive_rss_mib=naive_rss_mib,
    )


def _side_by_side(ours: Subject, naive: Subject, naive_repetitions: int) -> tuple[list[Scrape], list[Scrape]]:
    """Scrape both, one after the other, each time `INTERVAL_S` seconds of work later."""
    of_ours, of_naive = [], []
    for number in range(REPETITIONS):
        ours.api.advance(INTERVAL_S)
        of_ours.append(ours.true_scrape())
        if number < naive_repetitions:
            of_naive.append(naive.true_scrape())
    return of_ours, of_naive


def _cost(scrapes: Sequence[Scrape]) -> Cost:
    list_calls = [scrape.calls.list for scrape in scrapes]
    return Cost(
        repetitions=len(scrapes),
        stats_calls=median(scrape.calls.stats for scrape in scrapes),
        list_calls=median(list_calls),
        calls_least=min(list_calls),
        calls_most=max(list_calls),
        wall_s=median(scrape.wall_s for scrape in scrapes),
    )
