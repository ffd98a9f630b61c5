"""Credentials: a value that can't be printed, and where it is read from."""

from __future__ import annotations

import hmac
import os
import re
import stat
from typing import TYPE_CHECKING, Final, Protocol, Self, final

from exporter.config.followed_file import FollowedFiles, UnusableFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SHOWN: Final = "<secret>"
LENGTH_LIMIT: Final = 512
"""Bytes. Longer than any credential the API issues, short enough that a wrong file is noticed."""

_WELL_FORMED = re.compile(rb"[!-~]+")


@final
class Secret:
    """A credential. Nothing but `reveal()` gives it away."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return SHOWN

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return SHOWN

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_encoded(self._value), _encoded(other._value))

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    def __getstate__(self) -> None:
        """Return nothing: the default would hand out the slots."""

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, (SHOWN,)


class SecretError(Exception):
    """A secret that can't be read or isn't well-formed. The text says where and which rule, never the content."""


class SecretSource(Protocol):
    """Where a secret is read from, again whenever it has changed there."""

    @property
    def problem(self) -> str | None:
        """Why the last `read` gave an older secret than the source should hold, or None. For the log and the status page."""
        ...

    def read(self) -> Secret:
        """Return the secret as it is now; the last good one where the source has become unreadable. Raises SecretError."""
        ...

    def forget(self) -> None:
        """Have the next `read` look at the source again, whatever it remembers (after a 401)."""
        ...


class EnvSecret:
    """A secret in an environment variable. `environ` is looked at on every read."""

    def __init__(self, variable: str, environ: Mapping[str, str]) -> None:
        self._variable = variable
        self._environ = environ
        self._value: Secret | None = None
        self._problem: str | None = None

    def __repr__(self) -> str:
        return f"EnvSecret({self._variable!r})"

    @property
    def problem(self) -> str | None:
        return self._problem

    def read(self) -> Secret:
        found = self._look()
        if isinstance(found, Secret):
            self._value, self._problem = found, None
        else:
            self._problem = f"{found}: {self._variable}"
        return _last_good(self._value, self._problem)

    def forget(self) -> None:
        """Nothing to do: a variable is never remembered."""

    def _look(self) -> Secret | str:
        if self._variable not in self._environ:
            return "no such environment variable"
        return _checked(_encoded(self._environ[self._variable]))


class FileSecret:
    """A secret in a file, read again when the file has changed. One trailing newline is not part of the secret."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._followed = FollowedFiles(self._make)

    def __repr__(self) -> str:
        return f"FileSecret({str(self._path)!r})"

    @property
    def problem(self) -> str | None:
        return next(iter(self._followed.problems), None)

    def read(self) -> Secret:
        self._followed.look()
        return _last_good(self._followed.value, self.problem)

    def forget(self) -> None:
        self._followed.forget()

    def _make(self, note: Callable[[Path], object]) -> Secret:
        note(self._path)
        try:
            found = _read_file(self._path)
        except OSError as error:
            raise UnusableFileError(f"{system_words(error)}: {self._path}", passing=True) from None
        if isinstance(found, Secret):
            return found
        raise UnusableFileError(f"{found}: {self._path}")


def _read_file(path: Path) -> Secret | str:
    """Return the secret in the file, or the rule it breaks. Raises OSError."""
    # Without O_NONBLOCK, to open a pipe that nobody writes to would hang here.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return "not a regular file"
        return _checked(os.read(descriptor, LENGTH_LIMIT + len(b"\r\n") + 1))
    finally:
        os.close(descriptor)


def _checked(content: bytes) -> Secret | str:
    """Return the secret or the rule it breaks; never raises, because a traceback's locals would hold the content."""
    value = content.removesuffix(b"\r\n") if content.endswith(b"\r\n") else content.removesuffix(b"\n")
    if not value:
        return "empty"
    if len(value) > LENGTH_LIMIT:
        return f"more than {LENGTH_LIMIT} bytes"
    if not _WELL_FORMED.fullmatch(value):
        return "something other than visible ASCII characters (a space, a second line, a byte order mark)"
    return Secret(value.decode("ascii"))


def _last_good(last_good: Secret | None, problem: str | None) -> Secret:
    if last_good is None:
        raise SecretError(problem)
    return last_good


def system_words(error: OSError) -> str:
    """Return the system's words for the error in the tone of a message: `no such file`, `permission denied`."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return (error.strerror or "unreadable").lower()


def _encoded(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")
