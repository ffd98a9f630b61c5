"""Credentials: a value that can't be printed, and where it is read from."""

from __future__ import annotations

from typing import Protocol


class Secret:
    """A credential. Nothing but `reveal()` gives it away."""


class SecretError(Exception):
    """A secret that can't be read or isn't well-formed. The text says where and which rule, never the content."""


class SecretSource(Protocol):
    """Where a secret is read from, again whenever it has changed there."""

    def read(self) -> Secret:
        """Return the secret as it is now; the last good one where the source has become unreadable. Raises SecretError."""
        ...

    def forget(self) -> None:
        """Have the next `read` look at the source again, whatever it remembers (after a 401)."""
        ...
