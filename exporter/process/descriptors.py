"""How many files and connections this process may have open at once."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress


def raise_limit() -> None:
    """Raise the soft limit to the hard one, as Go programs do: each environment keeps a connection or two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # a hard limit above what the system allows; then the soft one stays
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
