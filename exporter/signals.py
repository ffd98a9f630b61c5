"""What happens to signals before the program can heed them: they wait.

Python needs a third of a second to import what the exporter is made of. A SIGTERM in that time would end it with 143, and a SIGHUP
would kill it; as a container's first process it would not even notice the SIGTERM, and be killed half a minute later.
"""

from __future__ import annotations

import signal

BLOCKED = (signal.SIGTERM, signal.SIGHUP)


def block() -> None:
    """Let them wait. SIGINT does not: whoever presses Ctrl-C wants the end at once."""
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)


def unblock() -> None:
    """Let them come, with those that came meanwhile: handlers are there, or the default is right."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)
