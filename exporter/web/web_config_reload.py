"""Who may come in now: what `--web.config.file` says, followed while its files change.

The files are looked at every second, and a change counts once it has stood still for one look: a file caught half-written is
legal YAML that may lack its last lines. For the same reason protection is only ever taken away by a restart. What is bad is
refused whole, and the last good stays in force and says so.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from exporter.config.model import ConfigError
from exporter.web.server_tls import CLIENT_AUTHS, server_context
from exporter.web.web_config import WebConfig, load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from exporter.config.secret import Secret
    from exporter.log import Log

LOOK_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class _Rules:
    """What is in force, whole. `seen`: the signatures of the files it was made of."""

    config: WebConfig
    tls: ssl.SSLContext | None
    seen: object


class ReloadingWebConfig:
    """Raises ConfigError when it is made with a file that can't be used. Without a file everybody may come in."""

    def __init__(self, path: Path | None, log: Log) -> None:
        self._path = path
        self._log = log
        self._rules = _Rules(WebConfig(), None, None) if path is None else _read(path)
        self._looked_at: object = self._rules.seen
        self.problems: tuple[str, ...] = ()
        """Why what is in force is older than the files, for the status page."""

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
        if self._path is None:
            return
        thread = anyio.CapacityLimiter(1)
        while True:
            await anyio.sleep(LOOK_INTERVAL_S)
            await anyio.to_thread.run_sync(self.look, limiter=thread, abandon_on_cancel=True)

    def look(self) -> None:
        """Take over what has changed and stood still since the last look, or say why not."""
        if self._path is None:
            return
        seen = _signatures(self._path, self._rules.config)
        stood_still, self._looked_at = seen == self._looked_at, seen
        if not stood_still or (seen == self._rules.seen and not self.problems):
            return
        try:
            self._take_over(_read(self._path))
        except ConfigError as refused:
            # Tried again at every look: what is wrong may be a file that only the new configuration names.
            self._refuse(refused.problems)

    def _take_over(self, rules: _Rules) -> None:
        if weaker := _weaker(self._rules.config, rules.config):
            raise ConfigError(tuple(f"{self._path}: {problem}" for problem in weaker))
        self._rules, self._looked_at, self.problems = rules, rules.seen, ()
        self._log.info("web_config_reloaded", users=len(rules.config.hash_by_user), tls=rules.tls is not None)

    def _refuse(self, problems: tuple[str, ...]) -> None:
        if problems != self.problems:
            self._log.error("web_config_refused", problems=problems)
        self.problems = problems


def _read(path: Path) -> _Rules:
    """Read and prove it all in a context that nobody uses yet. Raises ConfigError."""
    # Looked at before they are read: a write in between shows at the next look, never gets lost.
    seen = _signature(path)
    config = load(path)
    files_seen = _signatures(path, config)[1:]
    try:
        context = None if config.tls is None else server_context(config.tls)
    except (OSError, ssl.SSLError):
        raise ConfigError((f"{path}: tls_server_config: a file changed while it was read",)) from None
    return _Rules(config, context, (seen, *files_seen))


def _weaker(old: WebConfig, new: WebConfig) -> list[str]:
    problems = []
    if (old.tls is None) is not (new.tls is None):
        problems.append("tls_server_config: adding or removing it needs a restart")
    if old.tls and new.tls and CLIENT_AUTHS.index(new.tls.client_auth) < CLIENT_AUTHS.index(old.tls.client_auth):
        problems.append("tls_server_config.client_auth_type: asking less of clients than before needs a restart")
    if old.hash_by_user and not new.hash_by_user:
        problems.append("basic_auth_users: letting everybody in needs a restart")
    return problems


def _signatures(path: Path, config: WebConfig) -> tuple[object, ...]:
    files = () if config.tls is None else config.tls.files
    return tuple(_signature(each) for each in (path, *files))


def _signature(path: Path) -> object:
    try:
        status = path.stat()
    except OSError as error:
        return (path, error.errno)
    return (path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
