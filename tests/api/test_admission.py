"""Slots and tokens go to what is worth most, and none is lost, whoever gives up and when."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from exporter.api.admission import Admission, CallRequest, Evicted, Health, Throttled
from exporter.api.budget import Budget, Priority
from tests.simulated_time import SIMULATED_TIME

pytestmark = pytest.mark.anyio
PLENTY = 1_000_000


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return SIMULATED_TIME


@dataclass
class Calls:
    """Calls over one admission; each holds its slot until it is let go."""

    per_minute: int = PLENTY
    concurrency: int = 4
    now: float = 0.0
    running: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    throttled: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.budget = Budget(per_minute=self.per_minute, min_interval_s=0, now=0, jitter=lambda: 0.5)
        self.admission = Admission(self.budget, concurrency=self.concurrency, monotonic=lambda: self.now)
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._end: dict[str, asyncio.Event] = {}

    def start(self, name: str, request: CallRequest) -> None:
        self._end[name] = asyncio.Event()
        self.tasks[name] = asyncio.get_running_loop().create_task(self._call(name, request))

    async def _call(self, name: str, request: CallRequest) -> None:
        try:
            async with self.admission.slot(request):
                self.running.append(name)
                self.order.append(name)
                try:
                    await self._end[name].wait()
                finally:
                    self.running.remove(name)
        except Throttled:
            self.throttled.append(name)

    def submit(self, name: str, request: CallRequest, *, calls: bool = True) -> None:
        """Submit a read that makes one call, or none."""

        def start() -> None:
            self.started.append(name)
            if calls:
                self.start(name, request)

        self.admission.submit(request, start)

    def end(self, name: str) -> None:
        self._end[name].set()

    async def end_all(self) -> None:
        while self.running:
            for name in list(self.running):
                self.end(name)
            await settled()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    async def free_slots(self) -> int:
        """Count the slots that can be had now by trying."""
        before = set(self.running)
        for number in range(self.concurrency + 1):
            self.start(f"trial {number}", stats())
        await settled()
        free = len(set(self.running) - before)
        await self.end_all()
        return free


async def settled() -> None:
    """Let every task run until it waits for something that is not the loop."""
    for _ in range(8):
        await asyncio.sleep(0)


def stats(stale_since: float = 0.0, *, health: Health = Health.HEALTHY) -> CallRequest:
    return CallRequest(priority=Priority.STATS, stale_since=stale_since, health=health)


TURNS = {
    "unread stats": CallRequest(priority=Priority.STATS),
    "stalest stats": stats(1.0),
    "stats": stats(2.0),
    "stalest open end": CallRequest(priority=Priority.OPEN_END, stale_since=0.5),
    "open end": CallRequest(priority=Priority.OPEN_END, stale_since=9.0),
    "segment": CallRequest(priority=Priority.SEGMENT, stale_since=0.0),
    "history": CallRequest(priority=Priority.BACKFILL),
    "resync": CallRequest(priority=Priority.RESYNC),
}


@pytest.mark.parametrize("seed", range(10))
async def test_calls_are_made_in_order_of_worth_whatever_order_they_are_wanted_in(seed: int) -> None:
    calls = Calls(concurrency=1)
    names = list(TURNS)
    random.Random(seed).shuffle(names)  # noqa: S311 -- an order, not a secret
    for name in names:
        calls.start(name, TURNS[name])
    await settled()
    await calls.end_all()
    assert calls.order == list(TURNS)


@pytest.mark.parametrize("seed", range(5))
async def test_scarce_tokens_go_to_the_stalest_whatever_order_they_are_wanted_in(seed: int) -> None:
    calls = Calls(per_minute=6, concurrency=50)
    ages = list(range(20))
    random.Random(seed).shuffle(ages)  # noqa: S311 -- an order, not a secret
    for age in ages:
        calls.start(f"{age:02}", stats(-age))
    await settled()
    assert sorted(calls.running) == ["17", "18", "19"]
    assert len(calls.throttled) == 17
    await calls.end_all()


async def test_among_equals_the_first_comes_first() -> None:
    calls = Calls(concurrency=1)
    for name in "abcd":
        calls.start(name, stats())
    await settled()
    await calls.end_all()
    assert calls.order == list("abcd")


async def test_no_more_calls_run_at_once_than_there_are_slots() -> None:
    calls = Calls(concurrency=3)
    for number in range(9):
        calls.start(str(number), stats(number))
    for ended in range(9):
        await settled()
        assert len(calls.running) == min(3, 9 - ended)
        calls.end(calls.running[0])
    await calls.end_all()
    assert await calls.free_slots() == 3


async def test_a_call_that_fails_gives_its_slot_back() -> None:
    calls = Calls(concurrency=1)
    with pytest.raises(ZeroDivisionError):
        async with calls.admission.slot(stats()):
            raise ZeroDivisionError
    assert await calls.free_slots() == 1


# ---- reads that have not been started


async def test_reads_are_started_as_slots_become_free_and_the_best_first() -> None:
    calls = Calls(concurrency=2)
    names = list(TURNS)
    for name in reversed(names):
        calls.submit(name, TURNS[name])
    for free in range(2, len(names) + 1):
        await settled()
        assert (calls.started, calls.order) == (names[:free], names[:free])
        calls.end(calls.running[0])
    await calls.end_all()
    assert await calls.free_slots() == 2


async def test_a_read_that_was_started_keeps_its_turn_before_those_that_were_not() -> None:
    calls = Calls(concurrency=1)
    calls.admission.submit(stats(1.0), lambda: calls.start("call", stats(99.0)))
    calls.submit("read", stats(2.0))
    await settled()
    assert (calls.running, calls.started) == (["call"], [])
    await calls.end_all()
    assert calls.order == ["call", "read"]


async def test_a_better_call_goes_before_a_read() -> None:
    calls = Calls(concurrency=1)
    calls.submit("list", TURNS["open end"])
    calls.start("stats", TURNS["stats"])
    await settled()
    assert (calls.running, calls.started) == (["stats"], [])
    await calls.end_all()
    assert calls.order == ["stats", "list"]


async def test_a_better_read_goes_before_a_call() -> None:
    calls = Calls(concurrency=1)
    calls.start("list", TURNS["open end"])
    calls.submit("stats", TURNS["stats"])
    await settled()
    assert (calls.running, calls.started) == (["stats"], ["stats"])
    await calls.end_all()
    assert calls.order == ["stats", "list"]


async def test_a_read_that_makes_no_call_leaves_the_slot_to_the_next() -> None:
    calls = Calls(concurrency=1)
    for number in range(3):
        calls.submit(f"without a key {number}", stats(number), calls=False)
    calls.submit("with a key", stats(3.0))
    for _ in range(4):
        await settled()
    assert (len(calls.started), calls.running) == (4, ["with a key"])
    await calls.end_all()


async def test_without_tokens_reads_are_started_a_few_at_a_time_until_all_know() -> None:
    calls = Calls(per_minute=2, concurrency=3)
    calls.start("spends the token and hangs", stats())
    await settled()
    for number in range(20):
        lane = Health.TIMING_OUT if number % 2 else Health.HEALTHY
        calls.submit(f"{number:02}", stats(number, health=lane))
    waiting_at_once = 0
    while len(calls.throttled) < 20:
        await asyncio.sleep(0)
        waiting_at_once = max(waiting_at_once, len(calls.started) - len(calls.throttled))
    assert waiting_at_once <= 4 * 3
    await calls.end_all()
    assert sorted(calls.started) == sorted(calls.throttled) == [f"{number:02}" for number in range(20)]


@pytest.mark.parametrize(("concurrency", "share"), [(1, 1), (2, 1), (3, 1), (16, 8)])
async def test_reads_of_environments_that_hung_are_started_in_half_of_the_slots(concurrency: int, share: int) -> None:
    calls = Calls(concurrency=concurrency)
    for number in range(40):
        calls.submit(f"hanging {number}", stats(health=Health.TIMING_OUT))
    await settled()
    assert (len(calls.started), len(calls.running)) == (share, share)
    await calls.end_all()
    assert len(calls.order) == 40


# ---- time slices


async def slices_of(calls: Calls, health: Health, *, answers_s: float | None = None, until_s: float = 0.9) -> list[str]:
    """Hold the only slot for nine and a half seconds, of which `until_s` have passed; return how that ended.

    `answers_s`: how long the calls before it took.
    """
    ended: list[str] = []

    async def hold() -> None:
        try:
            async with calls.admission.slot(stats(health=health)):
                await asyncio.sleep(9.5)
                ended.append("answered")
        except Evicted:
            ended.append("evicted")

    if answers_s is not None:
        for took_s in (answers_s, 30.0, answers_s):
            async with calls.admission.slot(stats()):
                await asyncio.sleep(took_s)
    calls.tasks["holding"] = asyncio.get_running_loop().create_task(hold())
    await asyncio.sleep(until_s)
    return ended


@pytest.mark.parametrize("health", [Health.UNKNOWN, Health.TIMING_OUT])
@pytest.mark.parametrize(
    ("answers_s", "slice_s"),
    [
        pytest.param(0.01, 1, id="a second where answers are quick"),
        pytest.param(0.8, 3.2, id="four usual calls where they are slow: one that hangs does not count"),
        pytest.param(None, 1, id="a second where nothing was answered yet"),
    ],
)
async def test_who_may_hang_gives_its_slot_away_after_a_slice_to_whoever_waits(
    health: Health, answers_s: float | None, slice_s: float
) -> None:
    for wait in (Calls.start, Calls.submit):
        calls = Calls(concurrency=1)
        ended = await slices_of(calls, health, answers_s=answers_s, until_s=slice_s - 0.1)
        wait(calls, "patient", stats())
        await asyncio.sleep(0.05)
        assert (ended, calls.running) == ([], [])
        await asyncio.sleep(0.1)
        assert (ended, calls.running) == (["evicted"], ["patient"])
        await calls.end_all()


async def test_a_failed_call_says_nothing_of_how_long_one_takes() -> None:
    calls = Calls(concurrency=1)
    calls.start("times out", stats())
    await asyncio.sleep(5)
    calls.tasks["times out"].cancel()
    ended = await slices_of(calls, Health.UNKNOWN, until_s=0.9)
    calls.start("patient", stats())
    await asyncio.sleep(0.2)
    assert (ended, calls.running) == (["evicted"], ["patient"])
    await calls.end_all()


@pytest.mark.parametrize("health", [Health.UNKNOWN, Health.TIMING_OUT])
async def test_who_may_hang_keeps_its_slot_while_nobody_waits(health: Health) -> None:
    calls = Calls(concurrency=1)
    ended = await slices_of(calls, health)
    calls.start("gives up", stats())
    await settled()
    calls.tasks["gives up"].cancel()
    await asyncio.sleep(8.2)
    assert ended == []
    calls.start("patient", stats())
    await asyncio.sleep(0.3)
    assert (ended, calls.running) == ([], [])
    await calls.tasks["holding"]
    await settled()
    await calls.end_all()
    assert (ended, calls.order) == (["answered"], ["patient"])


async def test_a_healthy_environment_keeps_its_slot_whoever_waits() -> None:
    calls = Calls(concurrency=1)
    ended = await slices_of(calls, Health.HEALTHY)
    calls.start("patient", stats())
    await asyncio.sleep(8.5)
    assert (ended, calls.running) == ([], [])
    await asyncio.sleep(0.2)
    assert (ended, calls.running) == (["answered"], ["patient"])
    await calls.end_all()


@pytest.mark.parametrize(
    ("quick", "slice_s"),
    [
        pytest.param(8, 1, id="eight of the last fifteen were quick"),
        pytest.param(7, 4, id="eight of the last fifteen were slow"),
    ],
)
async def test_the_last_fifteen_answers_tell_how_long_a_call_takes(quick: int, slice_s: float) -> None:
    calls = Calls(concurrency=1)
    for took_s in (*[1.0] * 9, *[0.1] * quick):
        async with calls.admission.slot(stats()):
            await asyncio.sleep(took_s)
    ended = await slices_of(calls, Health.UNKNOWN, until_s=slice_s - 0.1)
    calls.start("patient", stats())
    await asyncio.sleep(0.05)
    assert (ended, calls.running) == ([], [])
    await asyncio.sleep(0.1)
    assert (ended, calls.running) == (["evicted"], ["patient"])
    await calls.end_all()


async def test_a_slice_gets_shorter_while_it_lasts_as_soon_as_answers_are_quicker() -> None:
    calls = Calls(concurrency=2)
    ended = await slices_of(calls, Health.UNKNOWN, answers_s=2.0, until_s=2.5)
    for _ in range(4):
        async with calls.admission.slot(stats()):
            await asyncio.sleep(0.01)
    for name in ("busy", "patient"):
        calls.start(name, stats())
    await asyncio.sleep(0.2)
    assert (ended, calls.running) == ([], ["busy"])
    await asyncio.sleep(0.3)
    assert (ended, calls.running) == (["evicted"], ["busy", "patient"])
    await calls.end_all()


async def test_who_kept_its_slot_since_nobody_waited_gives_it_away_within_a_second_of_somebody_waiting() -> None:
    calls = Calls(concurrency=1)
    ended = await slices_of(calls, Health.UNKNOWN, until_s=4.1)
    calls.start("patient", stats())
    await asyncio.sleep(1.0)
    assert (ended, calls.running) == (["evicted"], ["patient"])
    await calls.end_all()


async def test_a_call_that_has_ended_is_not_looked_after_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, reviews = Calls(concurrency=1), 0
    review = calls.admission._review

    def counted(time_slice: Any) -> None:
        nonlocal reviews
        reviews += 1
        review(time_slice)

    monkeypatch.setattr(calls.admission, "_review", counted)
    async with calls.admission.slot(stats(health=Health.UNKNOWN)):
        await asyncio.sleep(2.5)
    assert reviews == 2
    await asyncio.sleep(60)
    assert reviews == 2


# ---- environments that time out


@pytest.mark.parametrize(("concurrency", "share"), [(1, 1), (2, 1), (3, 1), (16, 8)])
async def test_environments_that_hung_share_half_of_the_slots(concurrency: int, share: int) -> None:
    calls = Calls(concurrency=concurrency)
    for number in range(40):
        calls.start(f"hanging {number}", stats(health=Health.TIMING_OUT))
    await settled()
    assert len(calls.running) == share
    for number in range(40):
        calls.start(f"sound {number}", stats(99.0))
    await settled()
    assert len([name for name in calls.running if name.startswith("sound")]) == concurrency - share
    for task in calls.tasks.values():
        task.cancel()
    await asyncio.gather(*calls.tasks.values(), return_exceptions=True)
    assert await calls.free_slots() == concurrency


async def test_a_single_slot_is_for_environments_that_hung_once_no_other_wants_it() -> None:
    calls = Calls(concurrency=1)
    calls.start("hanging one", stats(0.0, health=Health.TIMING_OUT))
    calls.start("sound stats", stats(5.0))
    calls.start("sound list", CallRequest(priority=Priority.SEGMENT, stale_since=5.0))
    await settled()
    assert calls.running == ["sound stats"]
    await calls.end_all()
    assert calls.order == ["sound stats", "sound list", "hanging one"]


async def test_sound_environments_may_have_every_slot() -> None:
    calls = Calls(concurrency=4)
    for number in range(6):
        calls.start(f"sound {number}", stats(5.0))
    await settled()
    calls.start("hanging one", stats(0.0, health=Health.TIMING_OUT))
    await settled()
    assert len(calls.running) == 4
    calls.end("sound 0")
    await settled()
    assert "hanging one" in calls.running
    await calls.end_all()


# ---- tokens


async def test_a_call_without_a_token_is_refused_at_once() -> None:
    calls = Calls(per_minute=2, concurrency=4)
    calls.start("first", stats(0.0))
    calls.start("second", stats(1.0))
    await settled()
    assert (calls.running, calls.throttled) == (["first"], ["second"])
    await calls.end_all()


async def test_who_waits_for_a_slot_is_not_sent_away_while_one_token_is_left() -> None:
    calls = Calls(per_minute=4, concurrency=1)
    for name in ("first", "second"):
        calls.start(name, stats())
    await settled()
    assert (calls.running, calls.throttled) == (["first"], [])
    calls.end("first")
    await settled()
    assert calls.running == ["second"]
    await calls.end_all()


async def test_a_call_without_a_token_is_refused_at_once_while_all_slots_hang() -> None:
    calls = Calls(per_minute=2, concurrency=1)
    calls.start("hanging", stats())
    await settled()
    calls.start("sound", stats())
    calls.start("hanging one", stats(health=Health.TIMING_OUT))
    await settled()
    assert (calls.running, sorted(calls.throttled)) == (["hanging"], ["hanging one", "sound"])
    await calls.end_all()


async def test_without_tokens_reads_learn_it_at_once_while_all_slots_hang() -> None:
    calls = Calls(per_minute=2, concurrency=2)
    for name in ("hanging", "throttled"):
        calls.start(name, stats())
    await settled()
    calls.now = 30.0
    calls.start("hanging, too", stats())
    await settled()
    assert calls.running == ["hanging", "hanging, too"]
    for number in range(5):
        calls.submit(str(number), stats(number))
    for _ in range(5):
        await settled()
    assert calls.throttled == ["throttled", *"01234"]
    await calls.end_all()


async def test_who_gives_up_keeps_nobody_from_learning_that_there_are_no_tokens() -> None:
    calls = Calls(per_minute=2, concurrency=1)
    calls.start("hanging", stats())
    await settled()
    for name in ("gives up", "patient"):
        calls.start(name, stats())
    await asyncio.sleep(0)
    calls.tasks["gives up"].cancel()
    await settled()
    assert calls.throttled == ["patient"]
    await calls.end_all()


async def test_a_refusal_by_the_api_sends_away_all_who_wait_for_a_slot() -> None:
    calls = Calls(concurrency=2)
    for number in range(6):
        calls.start(str(number), stats(number))
    await settled()
    calls.admission.rate_limited(30.0)
    calls.end("0")
    await settled()
    assert (calls.running, sorted(calls.throttled)) == (["1"], ["2", "3", "4", "5"])
    await calls.end_all()
    calls.now = 31.0
    assert await calls.free_slots() == 2


async def test_a_wait_gets_shorter_as_time_passes_and_ends() -> None:
    calls = Calls()
    waits = [calls.admission.wait_s]
    assert calls.admission.rate_limited(30.0)
    for calls.now in (0.0, 10.0, 29.0, 30.0, 40.0):
        waits.append(calls.admission.wait_s)
    assert waits == [0, 30, 20, 1, 0, 0]


async def test_a_good_answer_lets_the_next_wait_start_small_again() -> None:
    calls = Calls()
    waits = []
    for calls.now, answered in ((0.0, False), (100.0, False), (200.0, True), (300.0, False)):
        calls.admission.rate_limited(None)
        waits.append(calls.admission.wait_s)
        if answered:
            calls.admission.answered()
    assert waits == [3.75, 7.5, 15, 3.75]


async def test_several_529_in_a_row_let_everybody_wait_and_one_lets_its_own_environment_wait() -> None:
    calls = Calls()
    news = [calls.admission.overloaded(f"env_{number}", 20.0) for number in range(3)]
    assert (news, calls.admission.wait_s) == ([False, False, True], 20)
    assert [calls.admission.back_off_s(None, waits) for waits in (1, 2, 3)] == [3.75, 7.5, 15]
    assert calls.admission.back_off_s(7.0, 3) == 7


async def test_a_token_is_taken_when_the_slot_is_had_not_before() -> None:
    calls = Calls(per_minute=20, concurrency=1)
    calls.start("running", stats())
    calls.start("waiting", stats())
    await settled()
    assert calls.budget.available(0.0) == 9
    await calls.end_all()


async def test_a_call_that_was_refused_leaves_its_slot_to_others() -> None:
    calls = Calls(per_minute=2, concurrency=1)
    calls.start("spends the token", stats())
    await settled()
    await calls.end_all()
    calls.start("refused", stats())
    await settled()
    calls.now = 60.0
    assert calls.throttled == ["refused"]
    assert await calls.free_slots() == 1


async def test_fewer_slots_hold_from_the_next_call_on() -> None:
    calls = Calls(concurrency=4)
    for number in range(4):
        calls.start(str(number), stats())
    await settled()
    calls.admission.configure(concurrency=1)
    calls.start("late", stats())
    for number in range(3):
        calls.end(str(number))
    await settled()
    assert calls.running == ["3"]
    calls.end("3")
    await settled()
    assert calls.running == ["late"]
    await calls.end_all()


# ---- giving up


async def test_who_gives_up_while_waiting_is_passed_over() -> None:
    calls = Calls(concurrency=1)
    for name in ("running", "gives up", "patient"):
        calls.start(name, stats())
    await settled()
    calls.tasks["gives up"].cancel()
    calls.end("running")
    await settled()
    assert calls.running == ["patient"]
    await calls.end_all()


async def test_who_gives_up_in_the_instant_of_the_grant_leaks_no_slot() -> None:
    calls = Calls(concurrency=1)
    calls.start("gives up", stats())
    await asyncio.sleep(0)
    calls.admission._dispatch()
    calls.tasks["gives up"].cancel()
    await settled()
    assert calls.order == []
    assert await calls.free_slots() == 1


async def test_who_gives_up_in_the_instant_of_the_refusal_leaves_no_trace() -> None:
    calls = Calls(per_minute=20, concurrency=1)
    calls.budget.rate_limited(10.0, now=0.0)
    calls.start("gives up", stats())
    await asyncio.sleep(0)
    calls.admission._dispatch()
    calls.tasks["gives up"].cancel()
    await settled()
    calls.now = 600.0
    assert await calls.free_slots() == 1


async def test_a_scope_that_is_over_leaks_no_slot() -> None:
    calls = Calls(concurrency=1)
    calls.start("running", stats())
    await settled()
    with anyio.move_on_after(0):
        async with calls.admission.slot(stats()):
            pytest.fail("there was no free slot")
    await calls.end_all()
    assert await calls.free_slots() == 1


@pytest.mark.parametrize("seed", range(40))
async def test_however_many_give_up_at_any_moment_no_slot_is_lost_and_none_is_doubled(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 -- chances of a test
    calls = Calls(per_minute=chance.choice([40, PLENTY]), concurrency=chance.choice([1, 2, 5]))
    for step in range(300):
        calls.now += 0.5
        action = chance.random()
        if action < 0.5:
            calls.start(
                str(step),
                CallRequest(
                    priority=chance.choice(list(Priority)),
                    health=Health.TIMING_OUT if chance.random() < 0.4 else Health.HEALTHY,
                ),
            )
        elif action < 0.75 and calls.tasks:
            chance.choice(list(calls.tasks.values())).cancel()
        elif calls.running:
            calls.end(chance.choice(calls.running))
        for _ in range(chance.choice([0, 0, 1, 2, 8])):
            await asyncio.sleep(0)
        assert len(calls.running) <= calls.concurrency
    for task in calls.tasks.values():
        task.cancel()
    await asyncio.gather(*calls.tasks.values(), return_exceptions=True)
    await settled()
    for lane in calls.admission._lanes:
        lane.drop_given_up()
        assert (lane.heap, lane.running, lane.started) == ([], 0, 0)
    calls.now += 600
    assert await calls.free_slots() == calls.concurrency
