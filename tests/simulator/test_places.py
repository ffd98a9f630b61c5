"""What a walk of the list shows, in every order and with every kind of cursor."""

from __future__ import annotations

import time
from itertools import product
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.simulator import Environment, Rules, World
from exporter.simulator.environment import CursorRefused, Invalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.simulator.places import Order

START_AT = 1_780_000_000.0
Cursors = Literal["key", "position"]
ORDERS: tuple[Order, ...] = ("newest_first", "oldest_first", "unordered")
CURSORS: tuple[Cursors, ...] = ("key", "position")


def environment(rules: Rules | None = None, now: Callable[[], float] = lambda: START_AT) -> Environment:
    return World(now).add_environment("env_a", rules=rules)


def walk(queue: Environment, limit: int) -> list[list[str]]:
    pages, cursor = [], None
    while True:
        page = queue.page(limit=limit, cursor=cursor)
        pages.append([item.id for item in page.items])
        cursor = page.next_cursor
        if cursor is None:
            return pages


@given(
    finished=st.integers(0, 30),
    live=st.integers(0, 30),
    deleted=st.sets(st.integers(0, 59), max_size=20),
    limit=st.integers(1, 25),
    order=st.sampled_from(ORDERS),
    cursors=st.sampled_from(CURSORS),
    trailing_cursor=st.booleans(),
)
def test_a_walk_shows_every_item_once(
    finished: int,
    live: int,
    deleted: set[int],
    limit: int,
    order: Order,
    cursors: Cursors,
    trailing_cursor: bool,  # noqa: FBT001 - hypothesis passes it by name
) -> None:
    rules = Rules(order=order, cursors=cursors, trailing_cursor=trailing_cursor)
    queue = environment(rules)
    queue.add_finished(finished)
    for _ in range(live):
        queue.create()
    ids = [item.id for item in queue.items()]
    for index in deleted & set(range(len(ids))):
        queue.delete(ids[index])
    kept = [item.id for item in queue.items()]

    pages = walk(queue, limit)

    shown = [work_id for page in pages for work_id in page]
    assert all(len(page) == limit for page in pages[:-1])
    assert {"oldest_first": kept, "newest_first": kept[::-1], "unordered": shown}[order] == shown
    assert sorted(shown) == sorted(kept)


@pytest.mark.parametrize(("order", "cursors"), list(product(ORDERS, CURSORS)))
def test_what_becomes_visible_late_is_counted_from_then_on(order: Order, cursors: Cursors) -> None:
    at = START_AT
    rules = Rules(order=order, cursors=cursors, late_visibility_s=8.0)
    queue = environment(rules, lambda: at)
    queue.add_finished(10)
    for _ in range(40):
        queue.create()
    seen = []
    for _ in range(10):
        shown = [work_id for page in walk(queue, 7) for work_id in page]
        truth = queue.truth()
        assert len(shown) == len(set(shown)) == sum(truth.listed.values())
        assert truth.existing["queued"] == truth.stats.depth == 40
        seen.append(len(shown))
        at += 1.0
    assert seen[0] == 10
    assert seen == sorted(seen)
    assert seen[-1] == 50
    assert len(set(seen)) > 4


def test_a_key_cursor_stays_at_its_item_and_a_position_shifts() -> None:
    expectations: tuple[tuple[Cursors, int], ...] = (("key", 0), ("position", 2))
    for cursors, repeated in expectations:
        queue = environment(Rules(cursors=cursors))
        queue.add_finished(10)
        first = queue.page(limit=5)
        queue.create()
        queue.create()
        second = queue.page(limit=5, cursor=first.next_cursor)
        assert len({item.id for item in first.items} & {item.id for item in second.items}) == repeated


def test_a_key_cursor_outlives_its_item() -> None:
    queue = environment(Rules(order="oldest_first"))
    ids = [queue.create().id for _ in range(6)]
    first = queue.page(limit=3)
    queue.delete(ids[2])
    assert [item.id for item in queue.page(limit=3, cursor=first.next_cursor).items] == ids[3:]


def test_a_page_too_large_is_refused_or_cut() -> None:
    queue = environment(Rules(page_max=100))
    queue.add_finished(150)
    with pytest.raises(Invalid, match="between 1 and 100"):
        queue.page(limit=101)
    queue.rules.over_limit = "clamp"
    assert len(queue.page(limit=1000).items) == 100
    assert len(queue.page().items) == 20
    with pytest.raises(Invalid):
        queue.page(limit=0)


def test_a_full_last_page_ends_the_walk_unless_the_rules_say_otherwise() -> None:
    queue = environment()
    queue.add_finished(6)
    assert [len(page) for page in walk(queue, 3)] == [3, 3]
    queue.rules.trailing_cursor = True
    assert [len(page) for page in walk(queue, 3)] == [3, 3, 0]


def test_cursors_expire_with_the_status_of_the_rules() -> None:
    at = START_AT
    queue = environment(Rules(cursor_ttl_s=60.0, cursor_refusal_status=410), lambda: at)
    queue.add_finished(10)
    cursor = queue.page(limit=5).next_cursor
    at += 60
    queue.page(limit=5, cursor=cursor)
    at += 1
    with pytest.raises(CursorRefused) as caught:
        queue.page(limit=5, cursor=cursor)
    assert caught.value.status == 410


@given(cursor=st.text(max_size=40))
@settings(max_examples=50)
def test_any_other_cursor_is_refused(cursor: str) -> None:
    queue = environment()
    queue.add_finished(3)
    with pytest.raises(CursorRefused):
        queue.page(cursor=cursor)


@pytest.mark.parametrize("cursor", ["WyJrIiwiYSIsMF0", "WyJrIiwtMSwwXQ", "WyJ4IiwxLDBd", "NQ", "bnVsbA"])
def test_a_cursor_of_the_right_shape_and_wrong_content_is_refused(cursor: str) -> None:
    with pytest.raises(CursorRefused):
        environment(Rules(cursor_ttl_s=1.0)).page(cursor=cursor)


def test_a_million_finished_items_cost_little_and_a_page_costs_what_it_shows() -> None:
    few_s, many_s = (min(seconds_to_page_through(finished) for _ in range(3)) for finished in (2_000, 1_000_000))
    # Five hundred times as many items; the least of three, for a machine may be busy now and then.
    assert many_s < 20 * few_s


def seconds_to_page_through(finished: int) -> float:
    """Return the processor time that so many finished items and twenty pages of them take."""
    queue = environment()
    began = time.process_time()
    queue.add_finished(finished)
    assert queue.truth().listed["stopped"] == finished
    cursor = None
    for _ in range(20):
        page = queue.page(limit=100, cursor=cursor)
        cursor = page.next_cursor
        assert len(page.items) == 100
    return time.process_time() - began
