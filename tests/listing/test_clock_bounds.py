"""What the stamps of items tell of the clock that made them, from both sides."""

from __future__ import annotations

import pytest

from exporter.listing.bookmarks import INFINITY
from exporter.listing.clock_bounds import ClockBounds, latest
from exporter.listing.items_clock import MEMORY_S


def test_nothing_is_known_before_a_stamp_was_shown() -> None:
    assert (ClockBounds().at_least(5.0), ClockBounds().at_most(5.0)) == (-INFINITY, INFINITY)


def test_a_stamp_bounds_the_clock_from_both_sides() -> None:
    bounds = ClockBounds()
    bounds.learn(500.25, shown_at=20.5, not_before=20.0)
    assert bounds.at_least(30.0) == pytest.approx(509.75)
    assert bounds.at_most(30.0) == pytest.approx(510.25, abs=0.01)


def test_the_narrowest_of_several_stamps_count() -> None:
    bounds = ClockBounds()
    bounds.learn(500.25, shown_at=20.5, not_before=20.0)
    bounds.learn(509.5, shown_at=29.6, not_before=20.5)
    bounds.learn(529.8, shown_at=60.0, not_before=49.6)
    assert bounds.at_least(0.0) == pytest.approx(479.9)
    assert bounds.at_most(0.0) == pytest.approx(480.2, abs=0.01)


def test_a_stamp_in_whole_seconds_may_be_a_second_later() -> None:
    assert latest(500.0) == 501.0
    assert latest(500.123) == pytest.approx(500.124)
    bounds = ClockBounds()
    bounds.learn(500.0, shown_at=20.9, not_before=20.0)
    assert bounds.at_most(20.0) == 501.0


def test_a_stamp_whose_earliest_moment_is_unknown_says_only_what_the_clock_shows_at_least() -> None:
    bounds = ClockBounds()
    bounds.learn(500.25, shown_at=20.5)
    assert (bounds.at_least(20.5), bounds.at_most(20.5)) == (500.25, INFINITY)


@pytest.mark.parametrize("set_by_s", [-3.0, -0.3, 0.3, 3.0])
def test_a_clock_that_was_set_makes_everything_void(set_by_s: float) -> None:
    bounds = ClockBounds()
    bounds.learn(500.25, shown_at=20.3, not_before=20.2)
    bounds.learn(510.25 + set_by_s, shown_at=30.3, not_before=30.2)
    assert (bounds.at_least(40.0), bounds.at_most(40.0)) == (-INFINITY, INFINITY)


def test_bounds_that_meet_are_no_contradiction() -> None:
    bounds = ClockBounds()
    bounds.learn(500.25, shown_at=20.25)
    bounds.learn(500.0, shown_at=21.5, not_before=21.0)
    assert (bounds.at_least(0.0), bounds.at_most(0.0)) == (480.0, 480.0)


def test_what_was_learnt_long_ago_is_forgotten_as_soon_as_newer_stamps_have_come() -> None:
    bounds = ClockBounds()
    bounds.learn(100.2, shown_at=0.2, not_before=0.1)
    bounds.learn(1000.0 + MEMORY_S, shown_at=902.0 + MEMORY_S)
    assert bounds.at_least(0.0) == pytest.approx(100.0)
    bounds.learn(3000.0 + MEMORY_S, shown_at=2901.5 + MEMORY_S)
    assert bounds.at_least(0.0) == pytest.approx(98.5)
    assert bounds.at_most(0.0) == INFINITY
