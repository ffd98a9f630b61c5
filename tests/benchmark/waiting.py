"""(b) The time of a scrape against the least that so many calls of that latency can take.

The bound is calls ÷ concurrency, times the latency, for a server and a client that cost nothing. What is above it is their work, here
on the same processors, and the last calls, which leave slots empty. So the lists are short, and nothing changes between two scrapes:
a server's work on long pages would be measured otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import trustme

from tests.benchmark.api import served
from tests.benchmark.scene import Scene
from tests.benchmark.subject import exporter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmark.subject import Scrape

ENVIRONMENTS = (10, 100, 1000)
LATENCY_S = 0.05
CONCURRENCY = 16
PROCESSES = 3
WARM_SCRAPES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Medians of `repetitions` scrapes. `cold`: the first scrape of a process, every connection is a new one."""

    environments: int
    tls: bool
    cold: bool
    repetitions: int
    calls: float
    bound_s: float
    wall_s: float
    ratio: float
    ratio_least: float
    ratio_most: float
    cpu_ms_per_call: float


def measure(*, quick: bool) -> list[Row]:
    return [
        row
        for tls in (False, True)
        for environments in (ENVIRONMENTS[:2] if quick else ENVIRONMENTS)
        for row in _rows(environments, tls=tls)
    ]


def certificate(directory: Path) -> tuple[str, Path]:
    """Make a certificate for loopback. Answers the server's PEM file and that of its authority."""
    authority = trustme.CA()
    ca_file, pem_file = directory / "ca.pem", directory / "server.pem"
    authority.cert_pem.write_to_path(ca_file)
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem_file)
    return str(pem_file), ca_file


def _rows(environments: int, *, tls: bool) -> list[Row]:
    cold: list[Scrape] = []
    warm: list[Scrape] = []
    with TemporaryDirectory() as place:
        directory = Path(place)
        pem_file, ca_file = certificate(directory) if tls else (None, None)
        scene = Scene(environments=environments, history=0, latency_s=LATENCY_S, certificate=pem_file)
        with served(scene) as api:
            for _ in range(PROCESSES):
                with exporter(api, directory, ca_file=ca_file, api={"concurrency": CONCURRENCY}) as ours:
                    cold.append(ours.true_scrape())
                    warm += [ours.true_scrape() for _ in range(WARM_SCRAPES)]
    return [_row(environments, cold, tls=tls, cold=True), _row(environments, warm, tls=tls, cold=False)]


def _row(environments: int, scrapes: Sequence[Scrape], *, tls: bool, cold: bool) -> Row:
    ratios = [scrape.wall_s / bound_s(scrape.calls.total) for scrape in scrapes]
    calls = median(scrape.calls.total for scrape in scrapes)
    return Row(
        environments=environments,
        tls=tls,
        cold=cold,
        repetitions=len(scrapes),
        calls=calls,
        bound_s=bound_s(calls),
        wall_s=median(scrape.wall_s for scrape in scrapes),
        ratio=median(ratios),
        ratio_least=min(ratios),
        ratio_most=max(ratios),
        cpu_ms_per_call=median(scrape.cpu_s / scrape.calls.total * 1000 for scrape in scrapes),
    )


def bound_s(calls: float) -> float:
    return calls / CONCURRENCY * LATENCY_S
