"""The list calls of a scrape as a picture: over the history, and over the backlog."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from tests.benchmark import backlog, history
from tests.benchmark.naive import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

OURS, NAIVE = "#3b6ea5", "#c1543c"


def draw(over_history: Sequence[history.Row], over_backlog: Sequence[backlog.Row], path: Path) -> None:
    """Draw what was measured; of the full walk over the backlog, which is not run, what its pages take."""
    # Fixed ids, no date: the file changes when the figures do.
    with mpl.rc_context({"svg.hashsalt": "calls", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(8, 4), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        _draw_history(over_history, left)
        _draw_backlog(over_backlog, right)
        for axes in (left, right):
            axes.set(xscale="log", yscale="log")
            axes.grid(visible=True, alpha=0.3)
        figure.legend(fontsize=8, loc="outside lower center", ncols=4)
        figure.savefig(path, metadata={"Date": None})


def _draw_history(rows: Sequence[history.Row], axes: Axes) -> None:
    for environments, marker in zip(history.ENVIRONMENTS, "os^", strict=True):
        ran = [row for row in rows if row.environments == environments and row.ours and row.naive]
        of = f"{environments} environment{'s' if environments > 1 else ''}"
        sizes = [row.history for row in ran]
        naive = [row.naive.list_calls for row in ran if row.naive]
        ours = [row.ours.list_calls for row in ran if row.ours]
        axes.plot(sizes, naive, f"{marker}--", color=NAIVE, label=f"full walk, {of}")
        axes.plot(sizes, ours, f"{marker}-", color=OURS, label=f"exporter, {of}")
    axes.set(title="history", xlabel="finished items per environment", ylabel="list calls per scrape")


def _draw_backlog(rows: Sequence[backlog.Row], axes: Axes) -> None:
    sizes = [row.backlog for row in rows]
    axes.plot(sizes, [math.ceil(size / PAGE_SIZE) for size in sizes], ":", color=NAIVE, label="full walk, by its pages")
    axes.plot(sizes, [row.calls for row in rows], "o-", color=OURS)
    axes.set(title="backlog", xlabel="queued items in one environment")
