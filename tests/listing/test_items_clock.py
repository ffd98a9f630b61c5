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
