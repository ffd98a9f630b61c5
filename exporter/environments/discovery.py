"""Which environments exist: those of the configuration, and those the organisation's directory names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.api.admission import CallRequest, Throttled
from exporter.api.budget import Priority
from exporter.api.client import ApiError
from exporter.config.model import DISCOVERY_PAGE_SIZE, ENVIRONMENT_ID
from exporter.environments.snapshot import Environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exporter.api.client import EnvironmentsApi, Observer
    from exporter.api.wire import RemoteEnvironment
    from exporter.config.model import EnvironmentConfig
    from exporter.log import Log

PAGES_LIMIT = 1000


@dataclass(slots=True)
class _Walk:
    """The pages read so far. The budget may end it anywhere; it goes on from there."""

    found: dict[str, RemoteEnvironment] = field(default_factory=dict)
    cursor: str | None = None
    cursors: set[str] = field(default_factory=set)


class Discovery:
    """Reads the directory. `found` is the last complete answer, None until there was one."""

    def __init__(self, api: EnvironmentsApi, *, observer: Observer, log: Log) -> None:
        self._api = api
        self._observer = observer
        self._log = log
        self.found: tuple[RemoteEnvironment, ...] | None = None
        self.problem: str | None = None
        self._walk = _Walk()

    def forget(self) -> None:
        """Know nothing any more: it is another directory from now on."""
        self.found, self._walk = None, _Walk()

    async def refresh(self) -> bool:
        """Read all pages. A failure keeps what was found before. Returns False where the budget did not allow it."""
        walk = self._walk
        try:
            await self._finish(walk)
        except Throttled:
            return False
        except ApiError as failed:
            self._observer.read_failed("environments", failed.reason)
            self._tell(str(failed), failed.reason)
        else:
            if walk is self._walk:
                self.found = tuple(each for each in walk.found.values() if each.self_hosted and not each.archived)
            self._tell(None, None)
        if walk is self._walk:
            self._walk = _Walk()
        return True

    async def _finish(self, walk: _Walk) -> None:
        while len(walk.cursors) < PAGES_LIMIT:
            reading = await self._api.page(walk.cursor, DISCOVERY_PAGE_SIZE, CallRequest(priority=Priority.STATS))
            walk.found.update({each.id: each for each in reading.value.environments})
            cursor = reading.value.next_cursor
            if cursor is None:
                return
            if cursor in walk.cursors:
                break
            walk.cursor = cursor
            walk.cursors.add(cursor)
        raise ApiError("bad_payload", "the pages of environments do not end")

    def _tell(self, problem: str | None, reason: str | None) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        if problem is None:
            self._log.info("discovery_recovered")
        else:
            self._log.warning("discovery_failed", reason=reason, detail=problem)


def merge(
    configured: Sequence[EnvironmentConfig],
    found: Iterable[RemoteEnvironment],
    exported: Iterable[Environment] = (),
) -> tuple[Environment, ...]:
    """Name every environment uniquely: the file's names first, then those already exported, then new ones by id.

    An environment whose name is taken is named by its id. A name that looks like an id is taken for somebody's, here and in the
    file, so an id is always free for its own environment.
    """
    ours = [Environment(id=each.id, name=each.name, worker_mode=each.worker_mode) for each in configured]
    taken = {each.name for each in ours}
    name_by_id = {each.id: each.name for each in exported if each.origin == "discovery"}
    known_ids = {each.id for each in ours}
    new_by_id = {each.id: each for each in found if each.id not in known_ids}
    theirs = sorted(new_by_id.values(), key=lambda each: each.id)
    theirs.sort(key=lambda each: name_by_id.get(each.id) != each.name)
    for each in theirs:
        usable = each.name and each.name not in taken and not ENVIRONMENT_ID.fullmatch(each.name)
        name = each.name if usable else each.id
        taken.add(name)
        ours.append(Environment(id=each.id, name=name, origin="discovery"))
    return tuple(ours)
