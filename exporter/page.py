"""The status page: what an operator sees first. Pure; everything that is shown is escaped; works without JavaScript."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exporter.snapshot import Problem, Snapshot

STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif }
body { margin: 1.5rem auto; max-width: 72rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { padding: .35rem .6rem; text-align: left; border-bottom: 1px solid #8884; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums }
.ok { color: #15803d } .bad { color: #c2410c; font-weight: 600 }
small { opacity: .75 }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What the page says of the exporter itself."""

    version: str
    telemetry_path: str


def render(status: Status, snapshots: Sequence[Snapshot], *, wall: float, monotonic: float) -> str:
    rows = "".join(_row(snapshot, wall, monotonic) for snapshot in snapshots)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>managed-agents-exporter</title><style>{STYLE}</style></head><body>"
        f"<h1>managed-agents-exporter <small>{escape(status.version)}</small></h1>"
        f'<p><a href="{escape(status.telemetry_path)}">Metrics</a> · <a href="/sd">Service discovery</a></p>'
        "<table><thead><tr><th>Environment</th><th>State</th><th>Waiting</th><th>Claimed</th><th>Oldest</th>"
        f"<th>Workers polling</th><th>Read</th></tr></thead><tbody>{rows}</tbody></table></body></html>"
    )


def _row(snapshot: Snapshot, wall: float, monotonic: float) -> str:
    environment = snapshot.environment
    name = f"{escape(environment.name)}<br><small>{escape(environment.id)}</small>"
    return f"<tr><td>{name}</td>{_cells(_values(snapshot, wall, monotonic))}</tr>"


def _cells(values: Iterable[str]) -> str:
    state, *numbers = values
    return f"<td>{state}</td>" + "".join(f'<td class="n">{number}</td>' for number in numbers)


def _values(snapshot: Snapshot, wall: float, monotonic: float) -> tuple[str, ...]:
    if snapshot.queue is None:
        return (_failed(snapshot.queue_problem), "", "", "", "", "")
    stats, times = snapshot.queue.stats, snapshot.queue.times
    oldest = (
        "none"
        if stats.oldest_queued_at is None
        else f"{max(0.0, times.server_now(monotonic) - stats.oldest_queued_at):.0f} s"
    )
    workers = "unknown" if stats.workers_polling is None else str(stats.workers_polling)
    state = '<span class="ok">up</span>'
    if snapshot.work_problem is not None:
        state += f"<br><small>list: {_failed(snapshot.work_problem)}</small>"
    return state, str(stats.depth), str(stats.pending), oldest, workers, f"{max(0.0, wall - times.read_at):.0f} s ago"


def _failed(problem: Problem | None) -> str:
    if problem is None:
        return "not read yet"
    return f'<span class="bad">{escape(problem.reason)}</span><br><small>{escape(problem.text)}</small>'
