"""(c) Processor time per call and per series, (d) memory, (e) the way to the first scrape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.benchmark.api import served
from tests.benchmark.scene import Scene
from tests.benchmark.subject import Scrape, Subject, exporter, seconds_to_first_scrape

ENVIRONMENTS = (10, 100, 1000)
IDLE_ENVIRONMENTS = (1000,)
INTERVAL_S = 15
SCRAPES = 5
RENDERINGS = 10
STARTS = 5
STARTED_ENVIRONMENTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """`rss_start_mib`: before the first scrape. `cpu_ms_per_call`: without rendering, which is given by itself."""

    environments: int
    busy: bool
    rss_start_mib: float
    rss_mib: float
    cpu_ms_per_call: float
    series: int
    cpu_ms_per_1000_series: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    environments: int
    repetitions: int
    first_scrape_s: float


def measure_sizes(*, quick: bool) -> list[Size]:
    if quick:
        return [_size(environments, busy=True) for environments in ENVIRONMENTS[:2]]
    return [
        *(_size(environments, busy=True) for environments in ENVIRONMENTS),
        *(_size(environments, busy=False) for environments in IDLE_ENVIRONMENTS),
    ]


def measure_start(*, quick: bool) -> list[Start]:
    repetitions = 1 if quick else STARTS
    with TemporaryDirectory() as place, served(Scene(environments=STARTED_ENVIRONMENTS)) as api:
        took_s = [seconds_to_first_scrape(api, Path(place)) for _ in range(repetitions)]
    return [Start(environments=STARTED_ENVIRONMENTS, repetitions=repetitions, first_scrape_s=median(took_s))]


def _size(environments: int, *, busy: bool) -> Size:
    with TemporaryDirectory() as place, served(Scene(environments=environments, busy=busy)) as api:
        directory = Path(place)
        with exporter(api, directory) as ours:
            rss_start_mib = ours.rss_mib()
            ours.true_scrape()
            scrapes = [_next_scrape(ours) for _ in range(SCRAPES)]
            rss_mib = ours.rss_mib()
        # Scrapes that share one read spend nothing but what it takes to render.
        with exporter(api, directory, scrape={"min_interval": "1h"}) as ours:
            rendered = ours.true_scrape()
            renderings = [ours.scrape() for _ in range(RENDERINGS)]
    rendering_ms = sum(each.cpu_s for each in renderings) / RENDERINGS * 1000
    read_ms = sum(each.cpu_s for each in scrapes) * 1000 - rendering_ms * SCRAPES
    return Size(
        environments=environments,
        busy=busy,
        rss_start_mib=rss_start_mib,
        rss_mib=rss_mib,
        cpu_ms_per_call=read_ms / sum(each.calls.total for each in scrapes),
        series=rendered.series,
        cpu_ms_per_1000_series=rendering_ms / rendered.series * 1000,
    )


def _next_scrape(ours: Subject) -> Scrape:
    ours.api.advance(INTERVAL_S)
    return ours.true_scrape()
