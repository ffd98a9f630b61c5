"""A snapshot knows the server's time at any later moment, and the oldest read that its counts rest on."""

from __future__ import annotations

from exporter.environments.snapshot import ReadTimes, Work
from exporter.listing.ledger import Listing

TIMES = ReadTimes(read_at=2_000.0, server_at=5_000.0, monotonic_at=100.0, duration_s=0.5)


def listing(oldest_read_at: float | None) -> Listing:
    return Listing(
        complete=True, count_by_state={}, oldest_at_by_state={}, heartbeats=(), oldest_read_at=oldest_read_at
    )


def test_the_servers_time_goes_on_with_the_monotonic_clock() -> None:
    assert TIMES.server_now(107.5) == 5_007.5


def test_counts_rest_on_the_oldest_page_or_else_on_the_newest_read() -> None:
    assert Work(listing(40.0), TIMES).oldest_read_at == 40.0
    assert Work(listing(None), TIMES).oldest_read_at == 100.0
