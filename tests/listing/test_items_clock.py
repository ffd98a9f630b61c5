from __future__ import annotations

from exporter.listing.intervals import BEFORE_EVERYTHING
from exporter.listing.items_clock import ItemsClock


def test_nothing_is_known_before_the_first_item() -> None:
    assert ItemsClock().at(1e9) == BEFORE_EVERYTHING


def test_the_clock_goes_on_with_ours_from_the_newest_item() -> None:
    clock = ItemsClock()
    clock.learn(500.0, 20.0)
    assert clock.at(50.0) == 530.0


def test_an_item_that_is_shown_late_proves_nothing() -> None:
    clock = ItemsClock()
    clock.learn(520.0, 35.0)
    clock.learn(525.0, 50.0)
    assert clock.at(50.0) == 535.0


def test_an_item_among_settled_ones_sets_it_back_and_newer_ones_forward_again() -> None:
    clock = ItemsClock()
    clock.learn(500.0, 20.0)
    clock.step_back(450.0, 30.0)
    assert clock.at(30.0) == 450.0
    clock.step_back(490.0, 30.0)
    assert clock.at(30.0) == 450.0
    clock.learn(470.0, 40.0)
    assert clock.at(40.0) == 470.0


def test_what_an_item_has_proved_is_believed_for_ten_minutes_at_least_and_twenty_at_most() -> None:
    clock = ItemsClock()
    ahead_s = []
    for now, at in ((0.0, 1000.0), (600.0, 1590.0), (601.0, 1591.0), (1201.0, 2190.0), (1201.5, 2191.0)):
        clock.learn(at, now)
        ahead_s.append(clock.at(now) - now)
    assert ahead_s == [1000, 1000, 1000, 1000, 990]


def test_a_step_back_voids_what_was_proved_long_ago_as_well() -> None:
    clock = ItemsClock()
    clock.learn(1000.0, 0.0)
    clock.learn(1600.0, 601.0)
    clock.step_back(1500.0, 601.0)
    assert clock.at(601.0) == 1500
