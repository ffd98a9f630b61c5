"""What a configuration will cost: calls a minute per source, against the budget. Pure arithmetic, before any call is made.

One read of an environment is one call for its stats and, while no work is live, one for its list; live items that lie on
several pages make it up to about three. Stats are paid first. What one scrape can spend is what has accrued since the last
one, and never more than the bucket holds: half of `requests_per_minute`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exporter.api.budget import burst_calls
from exporter.config.model import DISCOVERY_PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.config.model import Config

MINUTE_S: Final = 60.0
SCRAPE_INTERVALS_S: Final = (15.0, 30.0, 60.0)
LIST_CALLS_BUSY: Final = 3
WORKER_POLLS: Final = (15, 30)
"""How often an idle worker polls, at least and at most, a minute."""
ORGANISATION_LIMIT: Final = (600, 1200)
"""Read calls a minute, according to the vendor's older and newer documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Scraping at one interval. Calls are per minute and what is wanted; `room` is how many environments can have it."""

    scrape_interval_s: float
    read_interval_s: float
    """Longer where `min_interval` makes scrapes share a read."""
    stats_calls: float
    list_calls: tuple[float, float]
    environments_calls: float
    room: int
    stats_age_s: float
    list_age_s: tuple[float, float]
    """With little and with much live work; infinite where no call is left for the list."""
    remedies: tuple[str, ...]
    """What would let stats, and the list while little work is live, be read at every scrape; empty if they are."""

    @property
    def calls(self) -> tuple[float, float]:
        rest = self.stats_calls + self.environments_calls
        return rest + self.list_calls[0], rest + self.list_calls[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `--config.check` says. `workers_polls`: calls a minute that the fleet's own idle workers make, from one each."""

    environments: int
    requests_per_minute: int
    burst: float
    listing: bool
    resync_interval_s: float
    discovery_interval_s: float | None
    workspaces: int
    max_age_s: float
    workers_polls: tuple[int, int]
    rows: tuple[Row, ...]

    def lines(self) -> tuple[str, ...]:
        return (*self._lines(), *(f"warning: {warning}" for warning in self.warnings()))

    def warnings(self) -> tuple[str, ...]:
        """Return what will not work as configured, each with its remedy."""
        return tuple(self._warnings())

    def _lines(self) -> Iterator[str]:
        yield f"budget: {_count(self.requests_per_minute)} calls a minute, at most {_count(self.burst)} in one scrape"
        yield f"environments: {self.environments}{self._discovered()}"
        yield from (self._row_line(row) for row in self.rows)
        if self.listing:
            every = f"every {duration(self.resync_interval_s)}" if self.resync_interval_s else "all the time"
            yield f"resync: a full walk of each list, {every}, spread out over calls that nothing else wants"
        yield (
            f"workers: an idle one polls {_range(WORKER_POLLS)} times a minute; one for each environment that isn't woken by"
            f" webhook makes {_range(self.workers_polls)}, from the same {_range(ORGANISATION_LIMIT)} calls a minute that the"
            " organisation has in all"
        )

    def _discovered(self) -> str:
        if self.discovery_interval_s is None:
            return ""
        among = f" in {self.workspaces} workspaces" if self.workspaces > 1 else ""
        return f", and those that discovery finds{among} every {duration(self.discovery_interval_s)}, which are not counted here"

    def _row_line(self, row: Row) -> str:
        parts = [f"stats {_count(row.stats_calls)}"]
        if self.listing:
            parts.append(f"list {_range(row.list_calls)}")
        if self.discovery_interval_s is not None:
            parts.append(f"environments {_count(row.environments_calls)}")
        return (
            f"scraped every {duration(row.scrape_interval_s)}: {' + '.join(parts)} = {_range(row.calls)} calls a minute,"
            f" room for {_count(row.room)} environments: {self._verdict(row)}"
        )

    def _verdict(self, row: Row) -> str:
        calm, busy = row.list_age_s
        late = [f"stats {_old(row.stats_age_s)}"] if row.stats_age_s > row.read_interval_s else []
        if self.listing and calm > row.read_interval_s:
            late.append(f"list {_old(calm)}")
        if self.listing and not late and busy > row.read_interval_s:
            return f"fits; with much live work the list is {_old(busy)}"
        return ", ".join(late) or ("discovery comes late" if row.remedies else "fits")

    def _warnings(self) -> Iterator[str]:
        for row in self.rows:
            if not row.remedies:
                continue
            happens = self._verdict(row)
            if row.stats_age_s > self.max_age_s:
                happens += f", beyond scrape.max_age {duration(self.max_age_s)}: environments go to up 0 in turn"
            remedies = ", or ".join(row.remedies)
            yield f"scraped every {duration(row.scrape_interval_s)} the budget is too small ({happens}): set {remedies}"
        if self.requests_per_minute > ORGANISATION_LIMIT[0] / 2:
            yield (
                f"a budget of {_count(self.requests_per_minute)} is more than half of the organisation's limit in the vendor's"
                f" older documents, {ORGANISATION_LIMIT[0]}, and the workers share it: lower api.requests_per_minute unless"
                " the limit is known to be higher"
            )


def plan(config: Config, *, environments: int) -> Plan:
    """Return what exporting this many environments costs: the configured ones and as many as discovery has found."""
    discovery = config.discovery
    always_on = environments - sum(environment.worker_mode == "webhook" for environment in config.environments)
    return Plan(
        environments=environments,
        requests_per_minute=config.api.requests_per_minute,
        burst=burst_calls(config.api.requests_per_minute),
        listing=config.listing.enabled,
        resync_interval_s=config.listing.resync_interval_s,
        discovery_interval_s=discovery.interval_s if discovery.enabled else None,
        workspaces=len(config.discovered_workspaces),
        max_age_s=config.scrape.max_age_s,
        workers_polls=(WORKER_POLLS[0] * max(0, always_on), WORKER_POLLS[1] * max(0, always_on)),
        rows=tuple(_row(config, environments, interval_s) for interval_s in SCRAPE_INTERVALS_S),
    )


def _row(config: Config, environments: int, scrape_interval_s: float) -> Row:
    read_s = max(scrape_interval_s, config.scrape.min_interval_s)
    reads = MINUTE_S / read_s
    listing = 1 if config.listing.enabled else 0
    discovery = _discovery_calls(config, environments)
    left = _calls_a_read(config, reads) - discovery / reads
    supply = max(0.0, left)
    for_list = max(0.0, supply - environments)
    calm = environments * listing
    fits = environments + calm <= left
    return Row(
        scrape_interval_s=scrape_interval_s,
        read_interval_s=read_s,
        stats_calls=environments * reads,
        list_calls=(calm * reads, calm * LIST_CALLS_BUSY * reads),
        environments_calls=discovery,
        room=math.floor(supply / (1 + listing)),
        stats_age_s=_age_s(environments, supply, read_s),
        list_age_s=(_age_s(calm, for_list, read_s), _age_s(calm * LIST_CALLS_BUSY, for_list, read_s)),
        remedies=() if fits else tuple(_remedies(config, environments, reads, discovery)),
    )


def _calls_a_read(config: Config, reads: float) -> float:
    """Return how many calls there are for each of `reads` a minute."""
    return min(burst_calls(config.api.requests_per_minute), config.api.requests_per_minute / reads)


def _discovery_calls(config: Config, environments: int) -> float:
    """Return discovery's calls a minute, whether anybody scrapes or not: one for each workspace and for each full page at most."""
    if not config.discovery.enabled:
        return 0.0
    pages = len(config.discovered_workspaces) + max(0, math.ceil(environments / DISCOVERY_PAGE_SIZE) - 1)
    return pages * MINUTE_S / config.discovery.interval_s


def _age_s(wanted: float, supply: float, read_s: float) -> float:
    """Return how old the last of `wanted` calls' answers gets if each read can make `supply` of them, in turn."""
    if wanted <= supply:
        return read_s
    return read_s * wanted / supply if supply else math.inf


def _remedies(config: Config, environments: int, reads: float, discovery: float) -> Iterator[str]:
    wanted = environments * (2 if config.listing.enabled else 1)
    # Twice: one scrape spends at most half of the budget, however rarely it comes.
    needed = math.ceil(max(wanted * reads + discovery, 2 * (wanted + discovery / reads)))
    allowed = ", as far as the organisation's limit allows" if needed > ORGANISATION_LIMIT[0] / 2 else ""
    yield f"api.requests_per_minute to {needed} or more{allowed}"
    left = config.api.requests_per_minute - discovery
    interval_s = math.ceil(MINUTE_S * wanted / left) if left > 0 else math.inf
    # Discovery goes on between two reads, so what it takes of the burst grows with the interval.
    if wanted + discovery * max(interval_s / MINUTE_S, 1 / reads) <= burst_calls(config.api.requests_per_minute):
        yield f"scrape.min_interval to {duration(interval_s)}{'' if discovery else ' or more'}"
    if config.listing.enabled and environments + discovery / reads <= _calls_a_read(config, reads):
        yield "listing.enabled to false"


def duration(seconds: float) -> str:
    """Return seconds as the configuration writes durations, rounded up to whole seconds from one minute on."""
    if seconds < MINUTE_S:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return "".join(f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m"), (rest, "s")) if count)


def _old(age_s: float) -> str:
    return "never read" if math.isinf(age_s) else f"up to {duration(age_s)} old"


def _count(number: float) -> str:
    return f"{number:,.1f}".removesuffix(".0")


def _range(numbers: tuple[float, float]) -> str:
    low, high = map(_count, numbers)
    return low if low == high else f"{low} to {high}"
