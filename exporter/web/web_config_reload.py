"""What `--web.config.file` asks of clients now. The file and the certificates it names are followed while they change.

They are looked at every second, and a change counts once two looks have seen the same: a half-written file can be legal YAML that
lacks its last lines. For the same reason only a restart takes protection away. A bad change is rejected as a whole; the last good
rules stay in force, and `problems` says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from exporter.config.followed_file import FollowedFiles, UnusableFileError
from exporter.config.model import ConfigError
from exporter.web.server_tls import CLIENT_AUTHS, server_context
from exporter.web.web_config import WebConfig, load

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from exporter.config.secret import Secret
    from exporter.log import Log

LOOK_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class _Rules:
    """What is in force, whole."""

    config: WebConfig
    tls: ssl.SSLContext | None


_NO_RULES = _Rules(WebConfig(), None)


class ReloadingWebConfig:
    """Raises ConfigError when it is made with a file that can't be used. Without a file there are no rules."""

    def __init__(self, path: Path | None, log: Log) -> None:
        self._log = log
        self._files = None if path is None else FollowedFiles(partial(self._read, path), stand_still=True)
        self.look()
        if self._files is not None and self._files.value is None:
            raise ConfigError(self._files.problems)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why what is in force is older than the files, for the status page."""
        return () if self._files is None else self._files.problems

    @property
    def _rules(self) -> _Rules:
        return (self._files and self._files.value) or _NO_RULES

    @property
    def headers(self) -> Mapping[str, str]:
        return self._rules.config.headers

    @property
    def hash_by_user(self) -> Mapping[str, Secret]:
        return self._rules.config.hash_by_user

    @property
    def tls(self) -> ssl.SSLContext | None:
        """What new connections are accepted with. It is there from the start or never."""
        return self._rules.tls

    async def follow(self) -> None:
        """Look at the files for ever. In a thread of its own: a file system may hang."""
        thread = anyio.CapacityLimiter(1)
        while self._files is not None:
            await anyio.sleep(LOOK_INTERVAL_S)
            await anyio.to_thread.run_sync(self._look_safely, limiter=thread, abandon_on_cancel=True)

    def _look_safely(self) -> None:
        try:
            self.look()
        except Exception as defect:  # noqa: BLE001 -- a defect in reading a file must not end a running exporter
            self._log.error("web_config_broke", error=defect)

    def look(self) -> None:
        """Take over what has changed and stood still since the last look, or log why not."""
        if self._files is None:
            return
        first, before = self._files.value is None, self._files.problems
        if not self._files.look() or first:
            return
        if not self.problems:
            self._log.info("web_config_reloaded", users=len(self.hash_by_user), tls=self.tls is not None)
        elif self.problems != before:
            self._log.error("web_config_refused", problems=self.problems)

    def _read(self, path: Path, note: Callable[[Path], object]) -> _Rules:
        """Read it all and prove it in a context that nobody uses yet."""
        note(path)
        try:
            config = load(path)
        except ConfigError as invalid:
            # Passing, because what is wrong may be a file that only the new configuration names.
            raise UnusableFileError(*invalid.problems, passing=True) from None
        in_force = self._files.value if self._files else None
        if in_force and (weaker := _weaker(in_force.config, config)):
            raise UnusableFileError(*(f"{path}: {problem}" for problem in weaker))
        for file in () if config.tls is None else config.tls.files:
            note(file)
        try:
            return _Rules(config, None if config.tls is None else server_context(config.tls))
        except OSError:  # ssl.SSLError is one
            changed = f"{path}: tls_server_config: a file changed while it was read"
            raise UnusableFileError(changed, passing=True) from None


def _weaker(old: WebConfig, new: WebConfig) -> list[str]:
    problems = []
    if (old.tls is None) is not (new.tls is None):
        problems.append("tls_server_config: adding or removing it needs a restart")
    if old.tls and new.tls and CLIENT_AUTHS.index(new.tls.client_auth) < CLIENT_AUTHS.index(old.tls.client_auth):
        problems.append("tls_server_config.client_auth_type: asking less of clients than before needs a restart")
    if old.hash_by_user and not new.hash_by_user:
        problems.append("basic_auth_users: letting everybody in needs a restart")
    return problems
