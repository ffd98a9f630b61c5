from __future__ import annotations

from email.utils import formatdate
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.api.server_clock import ANSWERS, ClockReading, ServerClock, http_date


def _first_ahead_s(date: str | None, sent_at: float, received_at: float) -> float:
    return ServerClock().ahead_s(
        date, ClockReading(sent_at, sent_at - 1e6), ClockReading(received_at, received_at - 1e6)
    )


@pytest.mark.parametrize(
    ("date", "ahead_s"),
    [
        (1_000_000, 0.0),
        (999_999, -1.3),
        (1_000_001, 0.7),
        (1_000_060, 59.7),
        (999_940, -60.3),
    ],
)
def test_the_server_s_clock_is_known_as_far_as_its_whole_seconds_prove(date: int, ahead_s: float) -> None:
    assert _first_ahead_s(formatdate(date, usegmt=True), 1_000_000.7, 1_000_000.9) == pytest.approx(ahead_s)


@pytest.mark.parametrize(
    "date", [None, "", "yesterday", "2026-07-01T08:15:01Z", "\udcff", "Wed, 99 Jul 2026 08:15:01 GMT"]
)
def test_a_date_that_is_absent_or_illegible_means_that_clocks_agree(date: str | None) -> None:
    assert _first_ahead_s(date, 1_000_000.0, 1_000_000.1) == 0.0


def test_a_date_without_a_zone_is_read_as_utc() -> None:
    assert http_date("Thu, 01 Jan 1970 00:01:00 -0000") == 60.0


@given(
    skew_s=st.floats(-1e6, 1e6),
    way_there_s=st.floats(0, 5),
    way_back_s=st.floats(0, 5),
    sent_at=st.floats(1e9, 2e9),
)
def test_the_estimate_is_never_further_off_than_the_call_took_and_a_second(
    skew_s: float, way_there_s: float, way_back_s: float, sent_at: float
) -> None:
    date = formatdate(int(sent_at + way_there_s + skew_s), usegmt=True)
    estimate = _first_ahead_s(date, sent_at, sent_at + way_there_s + way_back_s)
    assert abs(estimate - skew_s) <= 1 + way_there_s + way_back_s + 1e-3


class _Machines:
    """A server and ours, each with clocks that can be set. Every answer takes 0.2 s, and they are 7 s apart."""

    def __init__(self) -> None:
        self.clock = ServerClock()
        self.server = 1_780_000_000.0
        self.wall = self.server
        self.monotonic = 500.0

    def pass_time(self, seconds: float) -> None:
        self.server += seconds
        self.wall += seconds
        self.monotonic += seconds

    def error_s(self, *, lead_s: float = 0.0, wall_jump_s: float = 0.0, date: bool = True) -> float:
        """Make a call, and return how wrong the server's time is taken to be after it."""
        self.pass_time(6.8)
        sent = ClockReading(self.wall, self.monotonic)
        self.pass_time(0.1)
        text = formatdate(int(self.server + lead_s), usegmt=True) if date else None
        self.pass_time(0.1)
        self.wall += wall_jump_s
        return self.wall + self.clock.ahead_s(text, sent, ClockReading(self.wall, self.monotonic)) - self.server


def test_one_answer_with_a_wrong_date_does_not_show() -> None:
    machines = _Machines()
    errors = [machines.error_s(lead_s=20.0 if number == 3 else 0.0) for number in range(12)]
    assert max(map(abs, errors)) <= 1.2


def test_a_wrong_date_in_every_third_answer_does_not_show() -> None:
    machines = _Machines()
    errors = [machines.error_s(lead_s=20.0 if number % 3 == 2 else 0.0) for number in range(30)]
    assert max(map(abs, errors)) <= 1.2


def test_a_wall_clock_that_is_set_while_a_call_is_under_way_does_not_show() -> None:
    machines = _Machines()
    errors = [machines.error_s(wall_jump_s=3600.0 if number == 3 else 0.0) for number in range(12)]
    assert max(map(abs, errors)) <= 1.2
    first = _Machines()
    assert abs(first.error_s(wall_jump_s=-3600.0)) <= 1.2


def test_a_wall_clock_that_is_wrong_does_not_show() -> None:
    machines = _Machines()
    machines.wall -= 90
    assert max(abs(machines.error_s()) for _ in range(12)) <= 1.2


def test_a_machine_that_slept_does_not_show() -> None:
    machines = _Machines()
    for _ in range(ANSWERS):
        machines.error_s()
    machines.wall += 3600
    machines.server += 3600
    assert max(abs(machines.error_s()) for _ in range(12)) <= 1.2


def test_a_server_clock_that_is_set_is_believed_after_a_while() -> None:
    machines = _Machines()
    for _ in range(ANSWERS):
        machines.error_s()
    machines.server += 60
    taken = next(number for number in count() if abs(machines.error_s()) <= 1.2)
    assert taken <= ANSWERS // 2


def test_answers_without_a_date_rest_on_those_before_or_on_our_clock() -> None:
    machines = _Machines()
    machines.wall -= 90
    machines.error_s()
    assert abs(machines.error_s(date=False)) <= 1.2
    without = _Machines()
    assert without.error_s(date=False) == 0.0
