"""The list is read as its ledger asks; what fails, what is cut short and what waits for the background are three things."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import anyio
import pytest

from exporter.api.admission import Throttled
from exporter.api.budget import Priority
from exporter.api.client import ApiError
from exporter.api.wire import State
from exporter.config.model import Config, ListingConfig, ScrapeConfig
from exporter.environments.list_read import NEVER_ENDS, wants_smaller_pages
from tests.environments.fake_api import HANG, WALL_AHEAD_S, Surroundings, item, page

if TYPE_CHECKING:
    from exporter.environments.reader import EnvironmentReader

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def around() -> Surroundings:
    return Surroundings(Config(scrape=ScrapeConfig(min_interval_s=0), listing=ListingConfig(resync_interval_s=0)))


async def read_list(reader: EnvironmentReader, deadline: float = float("inf")) -> None:
    reader.begin(reader.due(5.0))
    await reader.read_list(deadline=lambda: deadline)


def counts(reader: EnvironmentReader, around: Surroundings) -> dict[State, int] | None:
    work = reader.snapshot(asked_at=around.now).work
    return None if work is None else {state: count for state, count in work.listing.count_by_state.items() if count}


def problem(reader: EnvironmentReader, around: Surroundings) -> tuple[str, str] | None:
    found = reader.snapshot(asked_at=around.now).work_problem
    return None if found is None else (found.reason, found.text)


async def test_all_pages_are_read_and_counted(around: Surroundings) -> None:
    reader = around.reader()
    around.api.pages = deque([page(item(1), item(2), cursor="a"), page(item(3, State.ACTIVE))])
    await read_list(reader)
    assert counts(reader, around) == {State.QUEUED: 2, State.ACTIVE: 1}
    assert [call[:2] for call in around.api.calls] == [(None, 1000), ("a", 1000)]


async def test_a_list_that_the_budget_did_not_allow_ends_in_neither_value_nor_problem(around: Surroundings) -> None:
    reader = around.reader()
    around.api.pages = deque([Throttled()])
    await read_list(reader)
    assert (counts(reader, around), problem(reader, around)) == (None, None)
    assert reader.list_stale_since == float("-inf")


async def test_a_refused_page_size_is_asked_again_with_a_small_one(around: Surroundings) -> None:
    reader = around.reader()
    around.api.pages = deque([ApiError("bad_request", "no", status=400), page(item(1))])
    await read_list(reader)
    assert [call[1] for call in around.api.calls] == [1000, 100]
    assert counts(reader, around) == {State.QUEUED: 1}


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_a_refused_cursor_leads_to_a_new_walk(around: Surroundings, status: int) -> None:
    reader = around.reader()
    around.api.pages = deque(
        [page(item(1), cursor="a"), ApiError("bad_request", "no", status=status), page(item(1), item(2))]
    )
    await read_list(reader)
    assert [call[0] for call in around.api.calls] == [None, "a", None]
    assert counts(reader, around) == {State.QUEUED: 2}


async def test_a_list_without_an_end_fails_and_says_so(around: Surroundings) -> None:
    reader = around.reader()
    around.api.pages = deque([page(cursor="again")])
    await read_list(reader)
    assert problem(reader, around) == ("protocol", NEVER_ENDS)


async def test_a_failed_page_ends_the_read(around: Surroundings) -> None:
    reader = around.reader()
    around.api.pages = deque([page(item(1), cursor="a"), ApiError("server", "the API answered 500", status=500)])
    await read_list(reader)
    assert problem(reader, around) == ("server", "the API answered 500")
    assert len(around.api.calls) == 2


async def test_a_read_that_is_cut_short_has_timed_out(around: Surroundings) -> None:
    reader = around.reader()
    around.api.pages = deque([HANG])
    with anyio.move_on_after(0.01):
        await read_list(reader)
    assert problem(reader, around) == ("timeout", "no answer before the scrape's deadline")


async def test_history_is_not_begun_just_before_the_deadline(around: Surroundings) -> None:
    reader = around.reader()
    around.api.pages = deque([page(item(1), cursor="a"), page(item(2), cursor="b")])
    await read_list(reader, deadline=around.now + 0.5)
    assert [call[0] for call in around.api.calls] == [None]
    assert problem(reader, around) is None


async def test_counting_begins_with_the_first_complete_list(around: Surroundings) -> None:
    reader = around.reader()
    around.api.pages = deque([ApiError("server", "no"), page(item(1))])
    await read_list(reader)
    assert reader.snapshot(asked_at=around.now).tally is None
    await read_list(reader)
    around.now += 60
    around.api.pages = deque([page(item(1), item(2, created_at=WALL_AHEAD_S + around.now))])
    await read_list(reader)
    tally = reader.snapshot(asked_at=around.now).tally
    assert tally is not None
    assert tally.created == 1


async def test_a_resync_goes_on_in_the_background_and_a_read_takes_its_place(around: Surroundings) -> None:
    reader = around.reader()
    pages = [
        page(*(item(10 * n + k, created_at=float(1000 - 10 * n - k)) for k in range(3)), cursor=f"c{n}")
        for n in range(3)
    ]
    around.api.pages = deque([*pages, page(item(99, created_at=1.0))])
    await read_list(reader)
    around.api.pages = deque([pages[0]])
    around.now += 60
    await read_list(reader)
    assert reader.has_background
    before = len(around.api.calls)
    around.api.pages = deque([Throttled()])
    await reader.read_background()
    assert [call[2].priority for call in around.api.calls[before:]] == [Priority.RESYNC]
    assert not reader.has_background


@pytest.mark.parametrize(
    ("reason", "status", "expected"),
    [
        ("bad_request", 400, True),
        ("too_large", 200, True),
        ("bad_request", 422, False),
        ("server", 500, False),
        (None, None, False),
    ],
)
def test_smaller_pages_may_cure_a_400_and_an_answer_that_is_too_large(
    reason: str | None, status: int | None, *, expected: bool
) -> None:
    assert wants_smaller_pages(reason, status) is expected  # type: ignore[arg-type]  # these are reasons
