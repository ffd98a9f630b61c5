from __future__ import annotations

import pytest

from exporter.listing.order import MIN_ORDERED_PAIRS, Order, OrderDetector
from tests.listing.made import queued


def _learnt(*created_at: float | None) -> Order:
    return OrderDetector().learn(queued(str(n), at) for n, at in enumerate(created_at))


@pytest.mark.parametrize(
    ("created_at", "order"),
    [
        ([], Order.UNKNOWN),
        (list(range(MIN_ORDERED_PAIRS)), Order.UNKNOWN),
        (list(range(MIN_ORDERED_PAIRS + 1)), Order.OLDEST_FIRST),
        (list(range(MIN_ORDERED_PAIRS + 1, 0, -1)), Order.NEWEST_FIRST),
        ([7.0] * 100, Order.UNKNOWN),
        ([*[7.0] * 100, *range(8, 8 + MIN_ORDERED_PAIRS)], Order.OLDEST_FIRST),
        ([1, 2, 1], Order.NEITHER),
        ([2, 1, 2], Order.NEITHER),
        ([1, 2, None], Order.NEITHER),
        ([None], Order.NEITHER),
    ],
)
def test_the_order_is_what_the_creation_times_show(created_at: list[float | None], order: Order) -> None:
    assert _learnt(*created_at) is order


def test_what_several_pages_show_is_put_together() -> None:
    detector = OrderDetector()
    assert detector.learn(queued(str(n), n) for n in range(5)) is Order.UNKNOWN
    assert detector.learn(queued(str(n), n) for n in range(5, MIN_ORDERED_PAIRS + 1)) is Order.OLDEST_FIRST
    assert detector.learn([queued("old", 0)]) is Order.NEITHER
