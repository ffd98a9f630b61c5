"""(f) List calls and the age of the list over the backlog, in simulated time: the real exporter and the simulated API, without sockets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING

import anyio

from tests.incidents.stage import Exporter, Site, curtain, instant
from tests.simulated_time import SimulatedTimeLoop

if TYPE_CHECKING:
    from exporter.simulator import Environment
    from tests.incidents.stage import Stage

BACKLOGS = (10**2, 10**4, 10**5)
OTHERS = 20
INTERVAL_S = 30
CHANGES = 5
"""Items that arrive between two scrapes, and items that are claimed."""
MINUTES_BEFORE, MINUTES = 30, 30
"""Before the measurement the exporter reads the whole list twice with what its budget leaves."""
TICK_S = 0.09
"""Items make their steps at any moment, not in the same one as the scrapes."""
RUN_MIN = (1.0, 3.0)
BACKLOG = Site(
    name="backlog",
    arrival_s=INTERVAL_S / CHANGES,
    workers=round(60 * sum(RUN_MIN) / 2 * CHANGES / INTERVAL_S) + 1,
    run_min=RUN_MIN,
    scene={"waiting_max": 10**9},
)
OTHER_SITES = tuple(Site(name=f"other{number:02}") for number in range(OTHERS))
AGE = "managed_agents_data_age_seconds"
AGES = re.compile(rf'{AGE}{{environment_id="env_(\w+?)".*source="list"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Of the scrapes measured. `others_age_s`: the mean age of the lists of all other environments, `others_age_most_s` the greatest."""

    backlog: int
    scrapes: int
    calls: float
    calls_most: int
    age_s: float
    age_most_s: float
    others_age_s: float
    others_age_most_s: float


def measure(*, quick: bool) -> list[Row]:
    options = {"loop_factory": SimulatedTimeLoop}
    return [anyio.run(_row, backlog, backend_options=options) for backlog in (BACKLOGS[:1] if quick else BACKLOGS)]


async def _row(backlog: int) -> Row:
    calls: list[int] = []
    ages: list[float] = []
    others_ages: list[float] = []
    async with curtain((BACKLOG, *OTHER_SITES), (Exporter(),)) as stage:
        stage.tick_s = TICK_S
        _fill(stage.crews[BACKLOG.name].queue, backlog)
        for number in range((MINUTES_BEFORE + MINUTES) * 60 // INTERVAL_S):
            await stage.until(number * INTERVAL_S)
            before = stage.network.calls[BACKLOG.id, "list"]
            age_by_site = await _ages(stage)
            if stage.minute >= MINUTES_BEFORE:
                calls.append(stage.network.calls[BACKLOG.id, "list"] - before)
                ages.append(age_by_site.pop(BACKLOG.name))
                others_ages += age_by_site.values()
    return Row(
        backlog=backlog,
        scrapes=len(calls),
        calls=mean(calls),
        calls_most=max(calls),
        age_s=mean(ages),
        age_most_s=max(ages),
        others_age_s=mean(others_ages),
        others_age_most_s=max(others_ages),
    )


def _fill(queue: Environment, items: int) -> None:
    """Let so many items wait that were created one after the other."""
    now = queue._time
    for number in range(items):
        queue._time = lambda: instant(0) - 0.01 * (items - number)  # noqa: B023 - called in this turn
        queue.create()
    queue._time = now


async def _ages(stage: Stage) -> dict[str, float]:
    (exporter,) = stage.exporters
    samples = await stage.scrape(exporter, frozenset({AGE}))
    matches = ((AGES.match(series), value) for series, value in samples or ())
    return {match[1]: value for match, value in matches if match}
