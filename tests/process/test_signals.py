"""Signals that come too early wait until they can be handled."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

from exporter.process import signals

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def received() -> Iterator[list[int]]:
    """Handle SIGHUP and SIGTERM by noting them; afterwards all is as it was."""
    numbers: list[int] = []
    before = {number: signal.signal(number, lambda number, _: numbers.append(number)) for number in signals.BLOCKED}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield numbers
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_blocked_signals_are_delivered_once_they_are_unblocked(received: list[int]) -> None:
    signals.block()
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.pthread_kill(threading.get_ident(), number)  # another thread of the tests may not block it
    assert received == []
    signals.unblock()
    assert sorted(received) == [signal.SIGHUP, signal.SIGTERM]


def test_an_interrupt_does_not_wait(received: list[int]) -> None:
    signals.block()
    with pytest.raises(KeyboardInterrupt):
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # through another thread it may come later
    assert received == []
