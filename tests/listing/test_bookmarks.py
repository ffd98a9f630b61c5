from __future__ import annotations

import pytest

from exporter.listing.bookmarks import Bookmark, Bookmarks


def _bookmarks(*offsets: int) -> tuple[Bookmarks, dict[int, Bookmark]]:
    by_offset = {offset: Bookmark(f"cursor {offset}", offset=offset) for offset in offsets}
    bookmarks = Bookmarks()
    bookmarks.add(by_offset.values())
    return bookmarks, {0: bookmarks.start, **by_offset}


@pytest.mark.parametrize(("offset", "nearest"), [(0, 0), (99, 0), (100, 100), (199, 100), (200, 200), (5000, 200)])
def test_the_nearest_bookmark_is_the_last_one_at_or_before_an_offset(offset: int, nearest: int) -> None:
    bookmarks, by_offset = _bookmarks(200, 100)
    assert bookmarks.nearest().before(offset) is by_offset[nearest]


def test_an_offset_before_everything_is_nearest_to_the_first_bookmark() -> None:
    bookmarks, by_offset = _bookmarks(100)
    assert bookmarks.nearest().before(-1) is by_offset[0]


def test_of_two_bookmarks_at_one_offset_the_later_one_is_taken() -> None:
    bookmarks, _ = _bookmarks(100)
    later = Bookmark("later", offset=100)
    bookmarks.add([later])
    assert bookmarks.nearest().before(100) is later


def test_a_removed_bookmark_is_not_found_any_more() -> None:
    bookmarks, by_offset = _bookmarks(100)
    bookmarks.remove(by_offset[100])
    assert bookmarks.nearest().before(100) is by_offset[0]


def test_items_that_arrive_move_every_bookmark_but_the_start_of_the_list() -> None:
    bookmarks, by_offset = _bookmarks(100, 200)
    bookmarks.move(3)
    assert [by_offset[offset].offset for offset in (0, 100, 200)] == [0, 103, 203]


def test_bookmarks_that_no_item_is_near_to_are_dropped() -> None:
    bookmarks, by_offset = _bookmarks(100, 200, 300, 400)
    bookmarks.drop_useless([150, 160, 320])
    assert bookmarks._bookmarks == [by_offset[0], by_offset[100], by_offset[300]]


def test_the_bookmark_where_the_next_walk_starts_is_never_dropped() -> None:
    bookmarks, by_offset = _bookmarks(100, 200)
    bookmarks.start = by_offset[200]
    bookmarks.drop_useless([])
    assert bookmarks._bookmarks == [by_offset[0], by_offset[200]]
    assert len(bookmarks) == 2
