"""Signals that arrive before the program can handle them have to wait.

Python needs a third of a second to import the exporter. Without this, a SIGTERM in that time would end it with 143 and a SIGHUP
would kill it. As the first process of a container it would not even notice the SIGTERM, and be killed half a minute later.
"""

from __future__ import annotations

import signal

BLOCKED = (signal.SIGTERM, signal.SIGHUP)


def block() -> None:
    """Make SIGTERM and SIGHUP wait. SIGINT does not wait: a user who presses Ctrl-C wants the end at once."""
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)


def unblock() -> None:
    """Deliver them, with those that have waited. Call this once handlers are installed, or if the default is right."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)
