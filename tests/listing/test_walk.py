from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.listing.bookmarks import INFINITY, Bookmark, Bookmarks
from exporter.listing.intervals import BEFORE_EVERYTHING
from exporter.listing.order import Order
from exporter.listing.pages import Contradiction
from exporter.listing.walk import (
    MAX_IDLE_PAGES,
    REMEMBERED,
    WALK_BY_ORDER,
    Covered,
    CycleDetector,
    LearningWalk,
    NewestFirstWalk,
    OldestFirstWalk,
    UnorderedWalk,
    Walk,
    WalkStart,
)
from tests.listing.made import finished, page_read, queued

if TYPE_CHECKING:
    from exporter.api.wire import WorkItem

START = WalkStart(3, 7, 70.0)
ORDERED = (NewestFirstWalk, OldestFirstWalk)


def _walk(kind: type[Walk], *, known: float | None = None, watermark: float = BEFORE_EVERYTHING) -> Walk:
    walk = kind.starting(Bookmarks(), START, known)
    walk.watermark = watermark
    return walk


def _advance(walk: Walk, *items: WorkItem) -> list[bool]:
    return [walk.advance(item, offset) for offset, item in enumerate(items)]


# ---- all walks


def test_every_order_has_its_walk() -> None:
    assert {order: kind.order for order, kind in WALK_BY_ORDER.items()} == {order: order for order in Order}


@pytest.mark.parametrize(
    ("kind", "keys"), [(NewestFirstWalk, [-9, -5]), (OldestFirstWalk, [9, 5]), (UnorderedWalk, [-9, -5])]
)
def test_the_sort_key_grows_along_the_walk(kind: type[Walk], keys: list[float]) -> None:
    assert [kind.sort_key(finished("a", at)) for at in (9, 5)] == keys


@pytest.mark.parametrize(
    ("kind", "is_ordered", "survives_reads", "comes_first"),
    [
        (LearningWalk, False, True, True),
        (UnorderedWalk, False, True, True),
        (NewestFirstWalk, True, True, True),
        (OldestFirstWalk, True, False, False),
    ],
)
def test_the_order_decides_whether_a_walk_outlives_its_read_and_whether_segments_wait_for_it(
    kind: type[Walk],
    *,
    is_ordered: bool,
    survives_reads: bool,
    comes_first: bool,
) -> None:
    assert (kind.is_ordered, kind.survives_reads, kind.comes_first) == (is_ordered, survives_reads, comes_first)


@pytest.mark.parametrize("kind", WALK_BY_ORDER.values())
def test_a_walk_that_begins_has_read_no_page_and_met_nothing_known(kind: type[Walk]) -> None:
    walk = _walk(kind, known=5.0)
    assert (walk.pages, walk.idle_pages, walk.bookmarks) == (0, 0, [])
    assert not walk.has_met_the_known


@pytest.mark.parametrize("kind", WALK_BY_ORDER.values())
def test_a_walk_starts_where_the_bookmarks_say(kind: type[Walk]) -> None:
    bookmarks = Bookmarks()
    bookmarks.start = Bookmark("there", offset=40)
    walk = kind.starting(bookmarks, START, 5.0)
    assert (walk.number, walk.started_in, walk.read_began_at) == START
    assert (walk.bookmark, walk.known_watermark) == (bookmarks.start, 5.0)


def test_pages_that_bring_nothing_new_end_the_walk_after_a_while() -> None:
    walk = _walk(UnorderedWalk)
    for number in range(MAX_IDLE_PAGES - 1):
        walk.check_progress(f"cursor {number}", got_on=False)
    walk.check_progress("new", got_on=True)
    for number in range(MAX_IDLE_PAGES - 1):
        walk.check_progress(f"other {number}", got_on=False)
    with pytest.raises(Contradiction):
        walk.check_progress("one too many", got_on=False)


def test_cursors_that_go_round_in_circles_end_the_walk_whatever_their_pages_bring() -> None:
    walk = _walk(UnorderedWalk)
    walk.check_progress("a", got_on=True)
    walk.check_progress("b", got_on=True)
    with pytest.raises(Contradiction):
        walk.check_progress("b", got_on=True)


def test_the_last_page_may_bring_nothing_new() -> None:
    walk = _walk(UnorderedWalk)
    for number in range(MAX_IDLE_PAGES - 1):
        walk.check_progress(f"cursor {number}", got_on=False)
    walk.check_progress(None, got_on=False)


def test_a_walk_goes_on_at_the_next_page_and_notes_what_lies_before_it() -> None:
    walk = _walk(NewestFirstWalk)
    walk.move_on(page_read([queued("a", 9), queued("b", 7)], "next"), Bookmarks(), has_live=False)
    assert (walk.bookmark.cursor, walk.bookmark.offset, walk.bookmark.follows) == ("next", 2, 7)
    walk.move_on(page_read([], "most"), Bookmarks(), has_live=False)
    assert (walk.bookmark.cursor, walk.bookmark.follows) == ("most", INFINITY)
    walk.move_on(page_read([queued("b", 7)]), Bookmarks(), has_live=False)
    assert walk.bookmark.cursor == "most"


@pytest.mark.parametrize(("has_live", "known", "kept"), [(True, None, 1), (False, None, 0), (False, 5.0, 1)])
def test_a_first_walk_keeps_only_bookmarks_of_pages_with_live_items(
    has_live: bool,  # noqa: FBT001 - a parameter
    known: float | None,
    kept: int,
) -> None:
    walk = _walk(NewestFirstWalk, known=known)
    walk.move_on(page_read([queued("a", 9)]), Bookmarks(), has_live=has_live)
    assert len(walk.bookmarks) == kept


@pytest.mark.parametrize("period", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("lead", [0, 1, 5])
def test_cursors_that_go_round_in_circles_are_noticed_within_three_rounds(period: int, lead: int) -> None:
    detector = CycleDetector()
    cursors = [f"lead {n}" for n in range(lead)] + [f"cursor {n % period}" for n in range(3 * (period + lead) + 3)]
    assert any(detector.closes(cursor) for cursor in cursors)


def test_the_cursor_that_is_kept_is_replaced_after_one_two_and_four_others() -> None:
    detector = CycleDetector()
    assert [detector.closes(cursor) for cursor in "abcdbcd"] == [False] * 6 + [True]


def test_a_cursor_that_leads_to_itself_is_a_circle_at_once() -> None:
    detector = CycleDetector()
    assert [detector.closes("a"), detector.closes("a")] == [False, True]


def test_cursors_that_never_repeat_are_no_circle() -> None:
    detector = CycleDetector()
    assert not any(detector.closes(str(n)) for n in range(1000))


# ---- without an order


def test_an_unordered_walk_remembers_what_the_last_pages_showed() -> None:
    walk = _walk(UnorderedWalk)
    walk.move_on(page_read([finished("a", 5), finished("b", 9)], "next"), Bookmarks(), has_live=False)
    assert _advance(walk, finished("b", 9), finished("c", 7)) == [False, True]
    assert walk.met_lately("a")
    assert not walk.met_lately("c")


def test_an_unordered_walk_forgets_the_oldest_of_many_ids() -> None:
    walk = _walk(UnorderedWalk)
    for start in range(0, REMEMBERED + 100, 100):
        page = page_read([finished(str(n), n) for n in range(start, start + 100)], "next")
        walk.move_on(page, Bookmarks(), has_live=False)
    assert len(walk.recent_ids) == REMEMBERED
    assert not walk.met_lately("0")
    assert walk.met_lately("100")


def test_an_unordered_walk_has_covered_nothing_before_its_end() -> None:
    walk = _walk(UnorderedWalk, watermark=8.0)
    _advance(walk, finished("a", 5))
    assert walk.covered(ended=False) is None
    assert walk.covered(ended=True) == Covered(BEFORE_EVERYTHING, 8.0)
    assert walk.finish(page_read([]), Bookmarks()) == 0


@pytest.mark.parametrize(
    ("created_at", "kind"),
    [
        (range(20), OldestFirstWalk),
        (range(20, 0, -1), NewestFirstWalk),
        ([1, 2, 1], UnorderedWalk),
        ([1, 2], LearningWalk),
    ],
)
def test_a_learning_walk_becomes_one_of_the_order_that_it_sees(created_at: list[float], kind: type[Walk]) -> None:
    walk = _walk(LearningWalk, known=4.0, watermark=8.0)
    walk.pages, walk.bookmark = 2, Bookmark("here")
    learnt = walk.learn(tuple(queued(str(n), at) for n, at in enumerate(created_at)))  # type: ignore[attr-defined]
    assert type(learnt) is kind
    assert (learnt.number, learnt.pages, learnt.watermark, learnt.bookmark) == (3, 2, 8.0, walk.bookmark)
    assert learnt.cycle_detector is walk.cycle_detector


def test_items_that_moved_onto_the_next_page_do_not_spoil_the_order() -> None:
    walk = _walk(LearningWalk)
    first = [queued(str(n), 20 - n) for n in range(5)]
    assert isinstance(walk, LearningWalk)
    assert walk.learn(tuple(first)) is walk
    walk.move_on(page_read(first, "next"), Bookmarks(), has_live=False)
    assert type(walk.learn((*first[3:], *(queued(str(n), 20 - n) for n in range(5, 15))))) is NewestFirstWalk


# ---- ordered


@pytest.mark.parametrize("kind", ORDERED)
def test_an_ordered_walk_gets_on_with_each_item_beyond_its_edge(kind: type[Walk]) -> None:
    walk, sign = _walk(kind), 1 if kind is OldestFirstWalk else -1
    items = [finished("a", 10 + sign), finished("b", 10 + 2 * sign), finished("c", 10 + 2 * sign)]
    assert _advance(walk, *items) == [True, True, True]
    assert _advance(walk, items[2], items[0], finished("d", 10)) == [False, False, False]


@pytest.mark.parametrize("kind", ORDERED)
def test_an_ordered_walk_notices_an_item_that_lies_where_it_has_been(kind: type[Walk]) -> None:
    walk, sign = _walk(kind), 1 if kind is OldestFirstWalk else -1
    first = [finished("a", 20), finished("b", 20 + 2 * sign)]
    _advance(walk, *first)
    walk.pages = 1
    assert not walk.has_passed(finished("x", 20 + sign))
    walk.move_on(page_read(first, "next"), Bookmarks(), has_live=False)
    walk.pages = 2
    assert walk.has_passed(finished("x", 20 + sign))
    assert [walk.has_passed(item) for item in (*first, finished("y", 20 + 2 * sign))] == [False, False, False]


def test_an_unordered_walk_has_passed_nothing() -> None:
    walk = _walk(UnorderedWalk)
    walk.pages = 2
    assert not walk.has_passed(finished("x", 1))


def test_newest_first_walk_stops_at_what_the_last_walk_had_settled() -> None:
    walk = _walk(NewestFirstWalk, known=90.0, watermark=92.0)
    assert isinstance(walk, NewestFirstWalk)
    for offset, at in enumerate((95, 93, 92, 90)):
        walk.advance(finished(str(at), at), offset)
    assert (walk.first_settled, walk.first_known, walk.has_met_the_known) == (3, None, False)
    _advance(walk)
    walk.advance(finished("88", 88), 4)
    walk.advance(finished("70", 70), 5)
    assert (walk.first_settled, walk.first_known, walk.has_met_the_known) == (3, 4, True)


def test_a_first_walk_meets_nothing_that_is_known() -> None:
    walk = _walk(NewestFirstWalk, watermark=92.0)
    walk.advance(finished("a", 5), 0)
    assert not walk.has_met_the_known


def test_newest_first_covers_what_lies_between_its_edge_and_its_watermark() -> None:
    walk = _walk(NewestFirstWalk, watermark=92.0)
    _advance(walk, finished("a", 95))
    assert walk.covered(ended=False) is None
    _advance(walk, finished("b", 92))
    assert walk.covered(ended=False) is None
    _advance(walk, finished("c", 88), finished("d", 88))
    assert walk.covered(ended=False) == Covered(88, 92, 88, {"c", "d"})
    assert walk.covered(ended=True) == Covered(BEFORE_EVERYTHING, 92)


def test_oldest_first_covers_everything_up_to_its_edge_but_not_beyond_its_watermark() -> None:
    walk = _walk(OldestFirstWalk, watermark=92.0)
    _advance(walk, finished("a", 88), finished("b", 88))
    assert walk.covered(ended=False) == Covered(BEFORE_EVERYTHING, 88, 88, {"a", "b"})
    assert walk.covered(ended=True) == Covered(BEFORE_EVERYTHING, 92)
    _advance(walk, finished("c", 92))
    assert walk.covered(ended=False) == Covered(BEFORE_EVERYTHING, 92)
    assert walk.covered(ended=True) == Covered(BEFORE_EVERYTHING, 92)


def test_at_the_end_of_a_newest_first_walk_the_bookmarks_move_by_what_was_settled() -> None:
    bookmarks, old = Bookmarks(), Bookmark("old", offset=100)
    bookmarks.add([old])
    walk = NewestFirstWalk.starting(bookmarks, WalkStart(1, 1, 0.0), None)
    walk.watermark = 90.0
    for offset, at in enumerate((95, 89, 80)):
        walk.advance(finished(str(at), at), offset)
    assert walk.finish(page_read([finished(str(at), at) for at in (95, 89, 80)]), bookmarks) == 0
    assert bookmarks.first_settled == 1
    walk = NewestFirstWalk.starting(bookmarks, WalkStart(2, 2, 0.0), 90.0)
    walk.watermark = 96.0
    items = [finished(str(at), at) for at in (99, 97, 95, 94, 89)]
    for offset, item in enumerate(items):
        walk.advance(item, offset)
    page = page_read(items, "next", read=2)
    walk.move_on(page, bookmarks, has_live=False)
    assert walk.finish(page, bookmarks) == 3
    assert (old.offset, bookmarks.first_settled) == (103, 2)
    assert [each.offset for each in bookmarks.nearest().bookmarks] == [0, 5, 103]


def test_the_pages_of_a_newest_first_walk_can_be_read_again_through_their_bookmarks() -> None:
    bookmarks = Bookmarks()
    walk = NewestFirstWalk.starting(bookmarks, WalkStart(1, 1, 0.0), None)
    first = page_read([finished("a", 95), finished("b", 94)], "one")
    walk.move_on(first, bookmarks, has_live=True)
    last = page_read([finished("c", 90)], bookmark=walk.bookmark)
    walk.move_on(last, bookmarks, has_live=True)
    walk.finish(last, bookmarks)
    assert [each.cursor for each in bookmarks.nearest().bookmarks] == [None, "one"]


def test_a_walk_that_meets_nothing_settled_takes_the_end_of_the_list_for_it() -> None:
    bookmarks = Bookmarks()
    walk = NewestFirstWalk.starting(bookmarks, WalkStart(1, 1, 0.0), None)
    page = page_read([finished("a", 95), finished("b", 94)])
    walk.advance(page.items[0], 0)
    assert walk.finish(page, bookmarks) == 0
    assert bookmarks.first_settled == 2
    assert len(bookmarks) == 1


def test_an_oldest_first_walk_starts_at_the_last_page_that_was_settled() -> None:
    bookmarks = Bookmarks()
    walk = OldestFirstWalk.starting(bookmarks, WalkStart(1, 1, 0.0), 5.0)
    walk.watermark = 90.0
    start = bookmarks.start
    first = page_read([finished("a", 70), finished("b", 80)], "one", bookmark=start, oldest=True)
    walk.move_on(first, bookmarks, has_live=False)
    assert bookmarks.start is start
    second = page_read([finished("c", 85), finished("d", 95)], "two", bookmark=walk.bookmark, oldest=True)
    walk.move_on(second, bookmarks, has_live=False)
    assert bookmarks.start is second.bookmark
    third = page_read([finished("e", 99)], bookmark=walk.bookmark, oldest=True)
    walk.move_on(third, bookmarks, has_live=False)
    assert walk.finish(third, bookmarks) == 0
    assert bookmarks.start is second.bookmark
    assert len(bookmarks) == 4


def test_a_first_oldest_first_walk_that_is_interrupted_goes_on_behind_what_it_settled() -> None:
    bookmarks = Bookmarks()
    walk = OldestFirstWalk.starting(bookmarks, WalkStart(1, 1, 0.0), None)
    walk.watermark = 90.0
    page = page_read([finished("a", 70), finished("b", 80)], "one", oldest=True)
    _advance(walk, *page.items)
    walk.move_on(page, bookmarks, has_live=False)
    assert bookmarks.start.cursor == "one"
    again = OldestFirstWalk.starting(bookmarks, WalkStart(2, 2, 0.0), None)
    assert isinstance(again, OldestFirstWalk)
    assert (again.bookmark.cursor, again.edge) == ("one", 80)
    unsettled = page_read([finished("c", 85), finished("d", 95)], "two", bookmark=again.bookmark, oldest=True)
    again.move_on(unsettled, bookmarks, has_live=False)
    assert bookmarks.start.cursor == "one"
    later = OldestFirstWalk.starting(bookmarks, WalkStart(3, 3, 0.0), 90.0)
    assert isinstance(later, OldestFirstWalk)
    assert later.edge == -INFINITY


def test_an_oldest_first_walk_does_not_start_at_a_page_that_is_empty() -> None:
    bookmarks = Bookmarks()
    walk = OldestFirstWalk.starting(bookmarks, WalkStart(1, 1, 0.0), None)
    walk.watermark = 90.0
    first = page_read([finished("a", 70)], "one", oldest=True)
    walk.move_on(first, bookmarks, has_live=False)
    assert bookmarks.start.cursor == "one"
    empty = page_read([], bookmark=walk.bookmark, oldest=True)
    walk.move_on(empty, bookmarks, has_live=False)
    walk.finish(empty, bookmarks)
    assert bookmarks.start is first.bookmark


@pytest.mark.parametrize("known", [None, 5.0])
def test_an_oldest_first_walk_does_not_start_behind_an_item_created_at_the_watermark(known: float | None) -> None:
    bookmarks = Bookmarks()
    walk = OldestFirstWalk.starting(bookmarks, WalkStart(1, 1, 0.0), known)
    walk.watermark = 90.0
    first = page_read([finished("a", 70), finished("b", 90)], "one", oldest=True)
    walk.move_on(first, bookmarks, has_live=False)
    second = page_read([finished("c", 95)], bookmark=walk.bookmark, oldest=True)
    walk.move_on(second, bookmarks, has_live=False)
    walk.finish(second, bookmarks)
    assert bookmarks.start.cursor is None


@pytest.mark.parametrize("known", [None, 5.0])
@pytest.mark.parametrize(
    "created_at",
    [
        pytest.param([85, 95], id="not settled as a whole"),
        pytest.param([85, 89], id="settled as a whole"),
    ],
)
@pytest.mark.parametrize("trailing", [False, True])
def test_an_oldest_first_walk_starts_at_the_last_page_that_shows_something(
    known: float | None,
    created_at: list[int],
    *,
    trailing: bool,
) -> None:
    bookmarks = Bookmarks()
    walk = OldestFirstWalk.starting(bookmarks, WalkStart(1, 1, 0.0), known)
    walk.watermark = 90.0
    page = page_read([finished("a", 70), finished("b", 80)], "one", oldest=True)
    walk.move_on(page, bookmarks, has_live=False)
    last_items = [finished(str(at), at) for at in created_at]
    page = page_read(last_items, "two" if trailing else None, bookmark=walk.bookmark, oldest=True)
    walk.move_on(page, bookmarks, has_live=False)
    if trailing:
        page = page_read([], bookmark=walk.bookmark, oldest=True)
        walk.move_on(page, bookmarks, has_live=False)
    walk.finish(page, bookmarks)
    assert bookmarks.start.cursor == "one"


@pytest.mark.parametrize(
    ("known", "pages", "first_before", "first_now", "slipped"),
    [
        (92.0, 1, 85.0, 95.0, True),
        (92.0, 1, 85.0, 92.0, True),
        (92.0, 1, 85.0, 91.0, False),
        (92.0, 1, 95.0, 95.0, False),
        (92.0, 2, 85.0, 95.0, False),
        (None, 1, 85.0, 95.0, False),
    ],
)
def test_items_that_slipped_before_the_start_of_an_oldest_first_walk_are_noticed(
    known: float | None,
    pages: int,
    first_before: float,
    first_now: float,
    slipped: bool,  # noqa: FBT001 - a parameter
) -> None:
    walk = _walk(OldestFirstWalk, known=known)
    walk.pages = pages
    page = page_read(
        [finished("a", first_now)], bookmark=Bookmark("c", first_sort_key=first_before), read=2, oldest=True
    )
    if slipped:
        with pytest.raises(Contradiction):
            walk.check_start(page)
    else:
        walk.check_start(page)


@pytest.mark.parametrize("kind", [LearningWalk, UnorderedWalk, NewestFirstWalk])
def test_other_walks_start_where_nothing_can_slip_by(kind: type[Walk]) -> None:
    walk = _walk(kind, known=92.0)
    walk.pages = 1
    walk.check_start(page_read([finished("a", 95)], bookmark=Bookmark("c", first_sort_key=-99)))
