"""The clocks are those of the process, read anew each time."""

from __future__ import annotations

import time

from exporter.clock import Clock


def test_the_clocks_are_the_wall_and_the_monotonic_one() -> None:
    clock = Clock()
    wall, monotonic = time.time(), time.monotonic()
    assert wall <= clock.wall() <= time.time()
    assert monotonic <= clock.monotonic() <= time.monotonic()


def test_a_clock_can_be_simulated() -> None:
    clock = Clock(wall=lambda: 5.0, monotonic=lambda: 7.0)
    assert (clock.wall(), clock.monotonic()) == (5.0, 7.0)
