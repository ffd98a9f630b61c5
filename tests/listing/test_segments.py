from __future__ import annotations

import pytest

from exporter.listing.bookmarks import Bookmark, Bookmarks
from exporter.listing.pages import Contradiction
from exporter.listing.segments import PageRequest, Segments
from tests.listing.made import active, finished, oldest_first, page_read, tracked

READ = 2


def _segments(*offsets: int) -> tuple[Segments, dict[int, Bookmark]]:
    by_offset = {offset: Bookmark(f"cursor {offset}", offset=offset) for offset in offsets}
    bookmarks = Bookmarks()
    bookmarks.add(by_offset.values())
    segments = Segments(bookmarks)
    segments.page_length = 100
    return segments, by_offset


def _asked(requests: list[PageRequest]) -> list[tuple[int, list[int]]]:
    return [(request.bookmark.offset, [each.offset for each in request.expected]) for request in requests]


def test_what_was_neither_read_nor_skipped_is_asked_for_in_the_first_read_already() -> None:
    segments, _ = _segments(100)
    assert _asked(segments.requests([tracked(active("a", 130), 130)], oldest_first, read=1)) == [(100, [130])]


def test_one_page_serves_all_items_that_lie_within_its_length() -> None:
    segments, _ = _segments(100, 200, 300)
    unread = [tracked(active(str(at), at), at) for at in (320, 150, 130, 350)]
    assert segments.in_flight == 0
    requests = segments.requests(unread, oldest_first, read=READ)
    assert _asked(requests) == [(100, [130, 150]), (300, [320, 350])]
    assert [request.can_wait for request in requests] == [False, False]
    assert segments.in_flight == 2


@pytest.mark.parametrize("direction", [1, -1])
def test_a_page_is_as_stale_as_the_stalest_item_that_it_is_asked_for(direction: int) -> None:
    segments, _ = _segments(100, 300)
    unread = [tracked(active(str(at), at), at, read_at=at * direction) for at in (130, 150, 320, 350)]
    requests = segments.requests(unread, oldest_first, read=READ)
    assert [request.stale_since for request in requests] == ([130, 320] if direction > 0 else [-150, -350])


def test_an_item_just_behind_the_page_is_asked_for_by_itself() -> None:
    segments, _ = _segments(100, 200)
    unread = [tracked(active(str(at), at), at) for at in (199, 200)]
    assert _asked(segments.requests(unread, oldest_first, read=READ)) == [(100, [199]), (200, [200])]


def test_bookmarks_closer_than_a_page_are_passed_over() -> None:
    segments, _ = _segments(100, 150, 190, 200, 250)
    unread = [tracked(active(str(at), at), at) for at in (130, 160, 199, 200, 260)]
    assert _asked(segments.requests(unread, oldest_first, read=READ)) == [(100, [130, 160, 199]), (200, [200, 260])]


def test_items_far_behind_one_bookmark_are_asked_for_once() -> None:
    segments, _ = _segments(100, 400)
    unread = [tracked(active(str(at), at), at) for at in (250, 350, 351, 550, 650)]
    assert _asked(segments.requests(unread, oldest_first, read=READ)) == [(100, [250, 350, 351]), (400, [550, 650])]


def test_before_the_length_of_a_page_is_known_each_bookmark_is_asked_for_by_itself() -> None:
    bookmarks = Bookmarks()
    bookmarks.add([Bookmark("next", offset=1)])
    unread = [tracked(active(str(at), at), at) for at in (0, 1)]
    assert _asked(Segments(bookmarks).requests(unread, oldest_first, read=READ)) == [(0, [0]), (1, [1])]


def test_a_page_that_could_not_be_had_is_not_asked_for_again_in_the_same_read() -> None:
    segments, _ = _segments(100)
    unread = [tracked(active("a", 130), 130)]
    (request,) = segments.requests(unread, oldest_first, read=READ)
    segments.skipped(request, read=READ)
    assert segments.in_flight == 0
    assert segments.requests(unread, oldest_first, read=READ) == []
    assert _asked(segments.requests(unread, oldest_first, read=READ + 1)) == [(100, [130])]


def test_without_a_refused_bookmark_the_one_before_it_serves() -> None:
    segments, _ = _segments(100, 200)
    unread = [tracked(active("a", 230), 230)]
    (request,) = segments.requests(unread, oldest_first, read=READ)
    segments.cursor_rejected(request)
    assert segments.in_flight == 0
    assert _asked(segments.requests(unread, oldest_first, read=READ)) == [(100, [230])]


def test_an_item_beyond_its_page_is_looked_for_behind_it() -> None:
    segments, by_offset = _segments(100, 200)
    item = tracked(active("a", 130), 130)
    by_offset[100].read_in, by_offset[100].page_high, by_offset[100].page_end = READ, 130, 200
    assert _asked(segments.requests([item], oldest_first, read=READ)) == [(200, [200])]


def test_an_item_before_its_page_is_looked_for_before_it() -> None:
    segments, by_offset = _segments(100, 200)
    item = tracked(active("a", 130), 230)
    by_offset[200].read_in, by_offset[200].page_high, by_offset[200].page_end = READ, 300, 300
    assert _asked(segments.requests([item], oldest_first, read=READ)) == [(100, [199])]


def test_an_item_that_no_page_shows_where_it_must_be_is_a_contradiction() -> None:
    segments, by_offset = _segments(100)
    page_read([finished("x", 100), finished("y", 140)], "next", bookmark=by_offset[100], read=READ, oldest=True)
    item, by_offset[100].read_in = tracked(active("a", 130), 130), READ
    segments._bookmarks.start.read_in, segments._bookmarks.start.page_high = READ, 100.0
    segments._bookmarks.start.page_end = 100
    with pytest.raises(Contradiction):
        segments.requests([item], oldest_first, read=READ)


def test_a_request_that_expects_no_item_is_a_walks() -> None:
    assert PageRequest(Bookmark(None), 0.0).is_walk
    assert not PageRequest(Bookmark(None), 0.0, [tracked(finished("a", 1))]).is_walk
