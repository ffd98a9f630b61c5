"""What the bodies of all answers under way hold in memory together, however many environments there are.

A body takes what it needs as it arrives. Once all is taken, one body may go on beyond the limit, and the others wait until one ends:
so they never wait for each other for ever, and hold `limit_bytes` and one body more at most.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class BodyShare:
    """What one body holds."""

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self.held_bytes = 0

    async def grow(self, size: int) -> None:
        """Take `size` bytes more, as soon as they can be had."""
        while not self._memory.take(self, size):
            await self._memory.released.wait()


class BodyMemory:
    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._beyond: BodyShare | None = None
        self.held_bytes = 0
        self.released = asyncio.Event()

    @contextmanager
    def share(self) -> Iterator[BodyShare]:
        share = BodyShare(self)
        try:
            yield share
        finally:
            self.held_bytes -= share.held_bytes
            if self._beyond is share:
                self._beyond = None
            self.released.set()
            self.released = asyncio.Event()

    def take(self, share: BodyShare, size: int) -> bool:
        if self.held_bytes + size > self._limit_bytes:
            if self._beyond not in {None, share}:
                return False
            self._beyond = share
        share.held_bytes += size
        self.held_bytes += size
        return True
