"""The times of a read agree with each other at whatever instant they are taken."""

from __future__ import annotations

from exporter.environments.snapshot import ReadTimes

TIMES = ReadTimes(read_at=2_000.0, server_at=5_000.0, monotonic_at=100.0, duration_s=0.5)


def test_a_read_moved_to_another_instant_keeps_its_clocks_apart_and_its_duration() -> None:
    moved = ReadTimes(read_at=1_987.5, server_at=4_987.5, monotonic_at=87.5, duration_s=0.5)
    assert TIMES.moved_to(87.5) == moved
    assert moved.moved_to(100.0) == TIMES
