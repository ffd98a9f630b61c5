"""One GET over HTTP, as the rest of the exporter sees it: no library shows here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


Body = bytes | bytearray
Fault = Literal["timeout", "connect", "tls", "protocol", "too_large"]


class TransportError(Exception):
    """No usable answer. `unanswered`: no answer had begun, so the call may be repeated; `status`: of one that had."""

    def __init__(self, fault: Fault, text: str, *, unanswered: bool = False, status: int | None = None) -> None:
        super().__init__(text)
        self.fault: Fault = fault
        self.unanswered = unanswered
        self.status = status


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A complete answer. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: Body

    def drop_body(self) -> None:
        """Free the body, even while a traceback holds this answer: in a cycle, which the garbage collector may find much later."""
        if isinstance(self.body, bytearray):
            self.body.clear()


class Transport(Protocol):
    async def get(
        self, url: str, *, query: Mapping[str, str], headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        """Send one GET and read all of the answer within `timeout_s`. Raises TransportError. Follows no redirect."""
        ...

    async def aclose(self) -> None:
        """Close what is open. A read that goes on, because it began before its environment was removed, leaves nothing open either."""
        ...
