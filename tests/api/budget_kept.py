"""What a budget promises, checked on what the API was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ENVIRONMENTS = 40
PER_MINUTE = 120
BURST = PER_MINUTE / 2
LIMIT_PER_MINUTE = 600
SCRAPE_S = 0.25
LEAST_AGE_S = ENVIRONMENTS / PER_MINUTE * 60
"""What arithmetic allows: no order of reading keeps all environments' stats younger than this."""
AGE_LIMIT_S = 1.2 * LEAST_AGE_S
POLLS_PER_MINUTE = 400
"""Of all workers together. With the exporter's budget and burst this stays below the organisation's limit."""


def assert_never_above_budget(called_at: Sequence[float], *, jitter_s: float = 0.0) -> None:
    """No window, whichever it is, holds more calls than its share of the budget and the burst.

    `jitter_s`: how much closer together two calls may arrive than they were sent.
    """
    for first, earlier in enumerate(called_at):
        for last in range(first, len(called_at)):
            window_s = called_at[last] - earlier + jitter_s
            count = last - first + 1
            assert count <= BURST + window_s * PER_MINUTE / 60 + 1e-6, f"{count} calls within {window_s:.2f} s"
