"""The results as JSON, as a page of tables and as a picture."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.benchmark import backlog, history, reads, resources, waiting
from tests.benchmark.scene import LIVE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tests.benchmark.machine import Machine

JSON, PAGE, PICTURE = "results.json", "README.md", "calls.svg"
NOTHING, UNMEASURED = "-", "unmeasured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    machine: Machine
    took_s: float
    history: Sequence[history.Row]
    waiting: Sequence[waiting.Row]
    sizes: Sequence[resources.Size]
    starts: Sequence[resources.Start]
    backlog: Sequence[backlog.Row]
    reads: Sequence[reads.Row]


def write(results: Results, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / JSON).write_text(json.dumps(dataclasses.asdict(results), indent=1) + "\n")
    (directory / PAGE).write_text(page(results))


def page(results: Results) -> str:
    sections = [
        "# Benchmarks",
        (
            f"`make bench` measures all of this in one run and writes this page, [{JSON}]({JSON}) and the picture. "
            "Look at the ratios; the absolute figures are those of one machine:"
        ),
        _machine(results),
        *_history(results.history),
        *_waiting(results.waiting),
        *_resources(results),
        *_backlog(results.backlog),
        *_reads(results.reads),
    ]
    return "\n\n".join(sections) + "\n"


def _machine(results: Results) -> str:
    machine = results.machine
    libraries = ", ".join(f"{name} {version}" for name, version in machine.libraries.items())
    return "\n".join(
        [
            (
                f"- {machine.cores} cores of {machine.cpu}, {machine.memory_gib} GiB, {machine.system}; "
                f"the simulated API runs on them too"
            ),
            f"- {machine.python}; {libraries}",
            f"- load when it began: {machine.load}; the run took {results.took_s / 60:.1f} minutes",
        ]
    )


def _history(rows: Sequence[history.Row]) -> list[str]:
    table = _table(
        (
            "environments",
            "finished items each",
            "list calls: exporter",
            "full walk",
            "wall: exporter",
            "full walk",
            "full walk ÷ exporter",
            "first scrape: calls",
            "wall",
        ),
        (_history_cells(row) for row in rows),
    )
    return [
        "## (a) A scrape over the history",
        (
            f"Medians of {history.REPETITIONS} scrapes (from {history.LONG_WALK_ITEMS:,} items on the full walk is repeated "
            f"{history.REPETITIONS_OF_LONG_WALKS} time), {history.INTERVAL_S} s of work apart: {LIVE} live items in each environment, one created, claimed, "
            "acknowledged, started, stopped and finished each second. Both exporters read the same API, in turns, without latency; both "
            "read the stats besides, with one call per environment. Each scrape was compared with the truth: both were exact in every one. "
            "The full walk is [`naive.py`](../../tests/benchmark/naive.py). The first scrape of the exporter has to read everything once."
        ),
        table,
        f"![List calls per scrape over the history, and over the backlog of (f)]({PICTURE})",
    ]


def _history_cells(row: history.Row) -> tuple[str, ...]:
    head = (str(row.environments), f"{row.history:,}")
    if row.first is None or row.ours is None or row.naive is None:
        return (*head, NOTHING, f"{row.naive_calls_needed:,} needed", *["not run"] * 2, *[NOTHING] * 3)
    return (
        *head,
        _calls(row.ours),
        _calls(row.naive),
        _seconds(row.ours.wall_s),
        _seconds(row.naive.wall_s),
        f"{row.naive.wall_s / row.ours.wall_s:.1f}",
        f"{row.first.list_calls:,.0f}",
        _seconds(row.first.wall_s),
    )


def _calls(cost: history.Cost) -> str:
    middle = f"{cost.list_calls:,.0f}"
    return middle if cost.calls_least == cost.calls_most else f"{middle} ({cost.calls_least:,}…{cost.calls_most:,})"


def _waiting(rows: Sequence[waiting.Row]) -> list[str]:
    table = _table(
        (
            "environments",
            "transport",
            "scrape",
            "calls",
            "bound",
            "wall",
            "wall ÷ bound",
            "least…most",
            "a call alone",
            "wall ÷ bound with that",
            "library alone ÷ bound",
            "CPU per call",
        ),
        (_waiting_cells(row) for row in rows),
    )
    return [
        "## (b) Waiting",
        (
            f"Every call takes {waiting.LATENCY_S * 1000:.0f} ms, {waiting.CONCURRENCY} may be under way. The bound is calls ÷ {waiting.CONCURRENCY} slots, times "
            f"{waiting.LATENCY_S * 1000:.0f} ms: no client is faster. Each list has {LIVE} items and nothing changes. Medians over {waiting.PROCESSES} processes, {waiting.WARM_SCRAPES} warm scrapes each. Wall and CPU "
            "include rendering. A first scrape opens a connection per call under way and environment; with TLS each of them is a handshake, on both sides. "
            "For comparison, in turns with the scrapes: a call alone, by the standard library's http.client, which is what the latency of "
            f"{waiting.LATENCY_S * 1000:.0f} ms really is with the simulated API's own work, its timers and the loopback; and the same calls by httpx alone: one client, "
            f"{waiting.CONCURRENCY} loops, open connections, and nobody who parses the answers."
        ),
        table,
        (
            "What is above the bound is processor time of three processes on these cores, which latency hides only while others wait. "
            "20 calls are two rounds and 200 are thirteen, the last of them not full: that alone is 1.60 and 1.04. "
            "TLS costs a handshake per connection in the first scrape of a process, and next to nothing in those that follow, because connections are kept."
        ),
    ]


def _waiting_cells(row: waiting.Row) -> tuple[str, ...]:
    return (
        f"{row.environments:,}",
        "TLS" if row.tls else "plain",
        "first" if row.cold else "warm",
        f"{row.calls:,.0f}",
        _seconds(row.bound_s),
        _seconds(row.wall_s),
        f"**{row.ratio:.2f}**",
        f"{row.ratio_least:.2f}…{row.ratio_most:.2f}",
        f"{row.latency_s * 1000:.1f} ms",
        f"{row.ratio_at_latency:.2f}",
        f"{row.library_ratio:.2f}",
        f"{row.cpu_ms_per_call:.2f} ms",
    )


def _resources(results: Results) -> list[str]:
    sizes = _table(
        (
            "environments",
            "live items each",
            "RSS",
            "before the first scrape",
            "CPU per call",
            "series",
            "CPU per 1,000 series",
        ),
        (
            (
                f"{row.environments:,}",
                str(LIVE if row.busy else 0),
                f"{row.rss_mib:.1f} MiB",
                f"{row.rss_start_mib:.1f} MiB",
                f"{row.cpu_ms_per_call:.2f} ms",
                f"{row.series:,}",
                f"{row.cpu_ms_per_1000_series:.2f} ms",
            )
            for row in results.sizes
        ),
    )
    sealed = _table(
        ("finished items in one environment", "RSS", "RSS of the full walk"),
        (
            (f"{row.history:,}", f"{row.rss_mib:.1f} MiB", f"{row.naive_rss_mib or 0:.1f} MiB")
            for row in results.history
            if row.environments == 1 and row.rss_mib is not None
        ),
    )
    start = results.starts[0]
    return [
        "## (c) Processor time, (d) memory, (e) start",
        f"After {resources.SCRAPES} scrapes without latency, each with a list of 100 finished items and more; the packages that only the tests need are hidden from the process. The time per call is without that of rendering.",
        sizes,
        "Memory with the history of (a), sealed:",
        sealed,
        (
            f"From the start of the process to the end of a complete first scrape of {start.environments} environments: "
            f"**{_seconds(start.first_scrape_s)}** (median of {start.repetitions})."
        ),
    ]


def _backlog(rows: Sequence[backlog.Row]) -> list[str]:
    table = _table(
        ("queued items", "list calls a scrape", "most", "age of the list", "most", "of the others' lists", "most"),
        (
            (
                f"{row.backlog:,}",
                f"**{row.calls:.1f}**",
                str(row.calls_most),
                f"{row.age_s:.0f} s",
                f"{row.age_most_s:.0f} s",
                _seconds(row.others_age_s),
                _seconds(row.others_age_most_s),
            )
            for row in rows
        ),
    )
    return [
        "## (f) A backlog",
        (
            f"One environment with a long queue beside {backlog.OTHERS} ordinary ones, under the default budget of 120 calls a minute, scraped every {backlog.INTERVAL_S} s. "
            f"Between two scrapes {backlog.CHANGES} of its items are claimed and {backlog.CHANGES} arrive. Means over {backlog.MINUTES} minutes, after {backlog.MINUTES_BEFORE} in which everything was read. "
            "In simulated time: the whole exporter, without sockets."
        ),
        table,
    ]


def _reads(rows: Sequence[reads.Row]) -> list[str]:
    return [
        "## (g) Processor time of a read, (h) on `/probe`",
        (
            f"Means of {rows[0].reads:,} reads of one environment's stats, without lists: {reads.ENVIRONMENTS} environments, in turns, each a process of its own that reads the same "
            "simulated API without latency, over a connection that its scraper keeps. On `/metrics` one scrape reads all, on `/probe` each takes one. "
            f"[{reads.PEER}](https://github.com/prometheus-community/json_exporter), written in Go, is the usual way to turn a JSON answer into series; all its targets are probes. "
            f"It is measured where `{reads.BINARY}` names its binary."
        ),
        reads_table(rows),
    ]


def reads_table(rows: Sequence[reads.Row]) -> str:
    peer = next((row for row in rows if row.subject == reads.PEER), None)
    cells = [_reads_cells(row, peer) for row in rows]
    if peer is None:
        cells.append((reads.PEER, "`/probe`", *[UNMEASURED] * 4))
    return _table(("", "path", "CPU per read", f"÷ {reads.PEER}", "series per environment", "RSS"), cells)


def _reads_cells(row: reads.Row, peer: reads.Row | None) -> tuple[str, ...]:
    return (
        row.subject,
        f"`{row.path}`",
        f"{row.cpu_ms_per_read:.2f} ms",
        UNMEASURED if peer is None else f"**{row.cpu_ms_per_read / peer.cpu_ms_per_read:.2f}**",
        f"{row.series:.0f}",
        f"{row.rss_mib:.1f} MiB",
    )


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---:"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
