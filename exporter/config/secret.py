"""Credentials: a value that can't be printed, and the variable or file that it is read from."""

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
"""Bytes. Longer than any credential of the API, and short enough to notice a wrong file."""

_WELL_FORMED = re.compile(rb"[!-~]+")


@final
class Secret:
    """A credential. Only `reveal()` shows it."""

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
        """Return nothing. The default would return the value."""

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, (SHOWN,)


class SecretError(Exception):
    """A secret that can't be read or breaks a rule. The text names the place and the rule, never the content."""


class SecretSource(Protocol):
    """Where a secret is read from. A change there is noticed."""

    @property
    def problem(self) -> str | None:
        """Why the last `read` returned an older secret than the source has now, or None. For the log and the status page."""
        ...

    def read(self) -> Secret:
        """Return the secret as it is now, or the last good one if the source has become unusable. Raises SecretError."""
        ...

    def forget(self) -> None:
        """Make the next `read` read the source again, even if it seems unchanged (after a 401)."""
        ...


class EnvSecret:
    """A secret in an environment variable, looked up in `environ` at every read."""

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
    """Return the secret or the rule it breaks. Raise nothing: the locals in a traceback would hold the content."""
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
    """Return the system's words for the error in lower case: `no such file`, `permission denied`."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return (error.strerror or "unreadable").lower()


def _encoded(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")
