"""The simulated Work API without its HTTP: one organisation's environments, on one clock. Pure, like `environment`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.simulator.environment import (
    CursorRefused,
    Environment,
    EnvironmentKind,
    Invalid,
    NotFound,
    Profile,
    Rules,
    Truth,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class World:
    """Every environment of one organisation.

    `now` answers the true time, in seconds since 1970, and may be replaced; `clock_skew_s` is how far the server's
    clock is off. `record_limit` bounds the transitions kept per environment: without it everything is kept.
    """

    def __init__(self, now: Callable[[], float], *, record_limit: int | None = None) -> None:
        self.now = now
        self.clock_skew_s = 0.0
        self._record_limit = record_limit
        self._environment_by_id: dict[str, Environment] = {}
        self._owner_by_key: dict[str, str] = {}
        self._workspace_by_environment: dict[str, str] = {}

    def time(self) -> float:
        # Microseconds are what the wire can carry: durations of what is sent equal durations of what is recorded.
        return round(self.now() + self.clock_skew_s, 6)

    def add_environment(
        self,
        environment_id: str,
        *,
        name: str | None = None,
        key: str | None = None,
        kind: EnvironmentKind = "self_hosted",
        rules: Rules | None = None,
    ) -> Environment:
        key = key or f"sk-ant-oat01-{environment_id}"
        if environment_id in self._environment_by_id or key in self._owner_by_key:
            raise ValueError(f"environment or key exists already: {environment_id}")
        profile = Profile(environment_id, name or environment_id, key, kind, created_at=self.time())
        environment = Environment(profile, rules=rules or Rules(), time=self.time, record_limit=self._record_limit)
        self._environment_by_id[environment_id] = environment
        self._owner_by_key[key] = environment_id
        return environment

    def environment(self, environment_id: str) -> Environment:
        try:
            return self._environment_by_id[environment_id]
        except KeyError:
            raise NotFound(f"environment not found: {environment_id}") from None

    def environments(self) -> tuple[Environment, ...]:
        """Every environment, in the order of creation, archived ones included."""
        return tuple(self._environment_by_id.values())

    def place(self, workspace_id: str, *environment_ids: str) -> None:
        """Put environments into a workspace. Without any such call the organisation has no workspaces."""
        for environment_id in environment_ids:
            self._workspace_by_environment[environment_id] = workspace_id

    def workspaces(self) -> frozenset[str]:
        return frozenset(self._workspace_by_environment.values())

    def workspace_of(self, environment_id: str) -> str:
        """Return the workspace of an environment, deleted ones included; empty for none."""
        return self._workspace_by_environment.get(environment_id, "")

    def owner(self, key: str) -> str | None:
        """Return the environment a key was issued for, even if that has been deleted since."""
        return self._owner_by_key.get(key)

    def archive(self, environment_id: str) -> None:
        self.environment(environment_id).archived_at = self.time()

    def delete_environment(self, environment_id: str) -> None:
        self.environment(environment_id)
        del self._environment_by_id[environment_id]

    def environment_page(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        include_archived: bool = False,
        workspace_id: str | None = None,
    ) -> tuple[tuple[Environment, ...], str | None]:
        """One page, newest first; of one workspace, or of all where it is None. The cursor is the id of the last environment shown."""
        size = 20 if limit is None else limit
        if not 1 <= size <= 1000:  # noqa: PLR2004 - the documented bounds
            raise Invalid("limit: must be between 1 and 1000")
        newest_first = [
            environment
            for environment in reversed(self.environments())
            if (include_archived or environment.archived_at is None)
            and workspace_id in {None, self.workspace_of(environment.id)}
        ]
        start = 0
        if cursor is not None:
            start = next((at + 1 for at, known in enumerate(newest_first) if known.id == cursor), -1)
        if start < 0:
            raise CursorRefused(400)
        page = tuple(newest_first[start : start + size])
        return page, page[-1].id if start + size < len(newest_first) else None

    def truth(self, environment_id: str) -> Truth:
        return self.environment(environment_id).truth()
