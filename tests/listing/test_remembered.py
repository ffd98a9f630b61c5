from __future__ import annotations

from exporter.listing.intervals import BEFORE_EVERYTHING
from exporter.listing.remembered import RememberedItems


def test_an_item_is_remembered_by_its_id_and_creation_time() -> None:
    items = RememberedItems()
    items.add("a", 5.0)
    items.add("b", 5.0)
    assert [items.has(item_id, 5.0) for item_id in "abc"] == [True, True, False]
    assert not items.has("a", 6.0)


def test_nothing_is_forgotten_before_the_limit() -> None:
    items = RememberedItems(limit=3)
    for number in (3, 1, 2, 2):
        items.add(str(number), float(number))
    assert len(items) == 3
    assert items.floor == BEFORE_EVERYTHING


def test_the_oldest_is_forgotten_first_and_the_floor_says_so() -> None:
    items = RememberedItems(limit=3)
    for number in (3, 5, 4, 2, 6):
        items.add(str(number), float(number))
    assert [items.has(str(number), float(number)) for number in range(2, 7)] == [False, False, True, True, True]
    assert items.floor == 3.0


def test_below_the_floor_nothing_is_remembered() -> None:
    items = RememberedItems(limit=1)
    items.add("a", 5.0)
    items.add("b", 6.0)
    items.add("c", 5.0)
    items.add("d", 4.0)
    assert (len(items), items.floor) == (1, 5.0)


def test_as_many_are_remembered_as_the_largest_page_holds() -> None:
    items = RememberedItems()
    for number in range(1000):
        items.add(str(number), float(number))
    assert (len(items), items.floor) == (1000, BEFORE_EVERYTHING)
    items.add("1000", 1000.0)
    assert (len(items), items.floor) == (1000, 0.0)
