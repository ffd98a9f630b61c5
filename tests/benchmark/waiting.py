"""(b) The time of a scrape against the least that so many calls of that latency can take.

The bound is calls ÷ concurrency, times the latency, for a server and a client that cost nothing. What is above it is their work, here
on the same processors, and the last calls, which leave slots empty. So the lists are short, and nothing changes between two scrapes:
a server's work on long pages would be measured otherwise. What the machine and the library leave of the distance is measured
beside it: the latency of a call that is alone, and the same calls by the HTTP library alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import trustme

from tests.benchmark.api import served
from tests.benchmark.reference import latency_s, library_wall_s
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
    """Medians of `repetitions` scrapes. `cold`: the first scrape of a process, every connection is a new one.

    `latency_s`: measured, of a call that is alone; `ratio_at_latency`: to the bound with that instead of the nominal latency.
    `library_ratio`: of the same calls by the HTTP library alone, over open connections.
    """

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
    latency_s: float
    ratio_at_latency: float
    library_ratio: float
    cpu_ms_per_call: float


@dataclass(frozen=True, slots=True)
class _Reference:
    latency_s: float
    library_wall_s: float


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
    latencies_s: list[float] = []
    library_s: list[float] = []
    with TemporaryDirectory() as place:
        directory = Path(place)
        pem_file, ca_file = certificate(directory) if tls else (None, None)
        scene = Scene(environments=environments, history=0, latency_s=LATENCY_S, certificate=pem_file)
        with served(scene) as api:
            for _ in range(PROCESSES):
                latencies_s.append(latency_s(api, ca_file))
                library_s.append(library_wall_s(api, ca_file, concurrency=CONCURRENCY))
                with exporter(api, directory, ca_file=ca_file, api={"concurrency": CONCURRENCY}) as ours:
                    cold.append(ours.true_scrape())
                    warm += [ours.true_scrape() for _ in range(WARM_SCRAPES)]
    reference = _Reference(median(latencies_s), median(library_s))
    return [_row(scene, cold, reference, cold=True), _row(scene, warm, reference, cold=False)]


def _row(scene: Scene, scrapes: Sequence[Scrape], reference: _Reference, *, cold: bool) -> Row:
    ratios = [scrape.wall_s / bound_s(scrape.calls.total) for scrape in scrapes]
    calls = median(scrape.calls.total for scrape in scrapes)
    return Row(
        environments=scene.environments,
        tls=scene.certificate is not None,
        cold=cold,
        repetitions=len(scrapes),
        calls=calls,
        bound_s=bound_s(calls),
        wall_s=median(scrape.wall_s for scrape in scrapes),
        ratio=median(ratios),
        ratio_least=min(ratios),
        ratio_most=max(ratios),
        latency_s=reference.latency_s,
        ratio_at_latency=median(ratios) * LATENCY_S / reference.latency_s,
        library_ratio=reference.library_wall_s / bound_s(2 * scene.environments),
        cpu_ms_per_call=median(scrape.cpu_s / scrape.calls.total * 1000 for scrape in scrapes),
    )


def bound_s(calls: float) -> float:
    return calls / CONCURRENCY * LATENCY_S
