"""The two clocks of the exporter. Whatever depends on time gets them as an argument."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Clock:
    """`wall`: seconds since 1970, what Prometheus' `time()` shows; may step. `monotonic`: seconds, for durations and limits."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
