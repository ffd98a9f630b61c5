from __future__ import annotations

from exporter.api.wire import WorkPage
from exporter.listing.bookmarks import INFINITY, Bookmark
from exporter.listing.pages import Contradiction, PageRead
from tests.listing.made import finished, newest_first, observation, page_read


def test_the_first_page_speaks_of_everything_down_to_its_last_item() -> None:
    page = page_read([finished("a", 9), finished("b", 7)], "next")
    assert (page.low, page.high, page.first_sort_key) == (-INFINITY, -7, -9)
    assert (page.offset, page.end) == (0, 2)


def test_the_last_page_speaks_of_everything_that_follows() -> None:
    assert page_read([finished("a", 9)]).high == INFINITY


def test_a_page_behind_an_old_bookmark_speaks_from_its_first_item_on() -> None:
    page = page_read([finished("a", 9)], bookmark=Bookmark("c", offset=10, issued_in=1, low=-20), read=2)
    assert page.low == -9


def test_a_page_behind_a_bookmark_of_this_read_speaks_also_of_what_lies_between() -> None:
    page = page_read([finished("a", 9)], bookmark=Bookmark("c", offset=10, issued_in=2, low=-20), read=2)
    assert (page.low, page.offset, page.end) == (-20, 10, 11)


def test_an_empty_page_that_is_not_the_last_speaks_of_nothing() -> None:
    page = page_read([], "next", bookmark=Bookmark("c", issued_in=1, low=-20))
    assert page.low == page.high == -20


def test_an_item_shown_twice_on_a_page_is_there_once_as_shown_last() -> None:
    page = page_read([finished("a", 9), finished("a", 8)])
    assert [item.created_at for item in page.items] == [8]
    assert page.ids == {"a"}


def test_a_page_notes_in_its_bookmark_how_far_it_reached() -> None:
    bookmark = Bookmark("c", offset=10)
    page_read([finished("a", 9), finished("b", 7)], "next", bookmark=bookmark)
    assert (bookmark.page_high, bookmark.page_end) == (-7, 12)


def test_the_bookmark_behind_a_page_begins_where_the_page_ends() -> None:
    page = page_read(
        [finished("a", 9), finished("b", 7)], "next", bookmark=Bookmark("c", 10, issued_in=5, low=-9.5), read=5
    )
    behind = page.bookmark_behind("next", ordered=True)
    assert (behind.cursor, behind.offset, behind.issued_in, behind.low, behind.follows) == ("next", 12, 5, -9.5, 7)


def test_the_bookmark_behind_an_empty_page_follows_no_item() -> None:
    assert page_read([], "next").bookmark_behind("next", ordered=True).follows == INFINITY


def test_a_page_read_before_the_order_was_known_says_nothing_of_what_lies_before_it() -> None:
    page = page_read([finished("a", 9)], "next", bookmark=Bookmark("c", issued_in=5, low=-9.5), read=5)
    assert page.bookmark_behind("next", ordered=False).issued_in == 0


def test_behind_the_first_page_everything_was_read_whatever_the_order() -> None:
    page = PageRead.of(WorkPage((finished("a", 9),), "next"), Bookmark(None), newest_first, observation(read=5))
    assert page.bookmark_behind("next", ordered=False).issued_in == 5


def test_a_contradiction_says_what_it_may_come_from() -> None:
    found = [
        Contradiction("a"),
        Contradiction("b", disorder=True),
        Contradiction("c", unexpected_item=True),
    ]
    assert [(str(each), each.disorder, each.unexpected_item) for each in found] == [
        ("a", False, False),
        ("b", True, False),
        ("c", False, True),
    ]
