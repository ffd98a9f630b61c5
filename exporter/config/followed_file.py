"""Values made of files that others replace: keys, certificates, the web configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")


class UnusableFileError(Exception):
    """Files that give no value. `passing`: they may become usable without a change that their status shows."""

    def __init__(self, *problems: str, passing: bool = False) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
        self.passing = passing


class FollowedFiles(Generic[T]):
    """A value that is made again when one of its files has changed. While they are bad, the last good value stays.

    `make` calls what it is given with each path before it reads that file, and raises UnusableFileError; any other exception
    reaches the caller of `look`, and the next look tries again. Changed means another
    device, inode, size, modification or status change time of what a path leads to now, so that Kubernetes' swap of a symbolic
    link counts like a rewrite. With `stand_still` a change counts only once two looks have seen the same: a file that is half
    written can be legal.
    """

    def __init__(self, make: Callable[[Callable[[Path], object]], T], *, stand_still: bool = False) -> None:
        self._make = make
        self._stand_still = stand_still
        self._made_of: dict[Path, object] = {}
        self._looked_at: dict[Path, object] = {}
        self._due = True
        self.value: T | None = None
        self.problems: tuple[str, ...] = ()
        """Why `value` is older than the files, or None."""

    def look(self) -> bool:
        """Make the value again if that is due. Tell whether it was tried; `problems` says with what success."""
        now = {path: _signature(path) for path in self._made_of}
        counts = now == self._looked_at or not self._stand_still
        self._looked_at = now
        if not counts or (now == self._made_of and not self._due):
            return False
        noted: dict[Path, object] = {}
        try:
            # A signature is older than the content: a write in between shows at the next look.
            self.value = self._make(lambda path: noted.setdefault(path, _signature(path)))
        except UnusableFileError as unusable:
            self.problems, self._due = unusable.problems, unusable.passing
            self._made_of = self._looked_at = now | noted
        else:
            self.problems, self._due = (), False
            self._made_of = self._looked_at = noted
        return True

    def forget(self) -> None:
        """Make the value again at the next look, whatever the files' status says."""
        self._due = True


def _signature(path: Path) -> object:
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
