"""How the API is reached now: TLS material is read again when its files change, and the last good stays when they are bad."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.api.httpx_transport import ConnectOptions, tls_context
from exporter.config.followed_file import FollowedFiles, UnusableFileError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from exporter.config.model import ApiConfig, Config
    from exporter.log import Log

PROBLEM = "the CA or client certificate files are unreadable or do not match; the last good ones are used"


class ConnectOptionsSource:
    """Hands out the same `ConnectOptions` until what they are made of changes; the transports compare it by identity."""

    def __init__(self, config: Callable[[], Config], log: Log) -> None:
        self._config = config
        self._log = log
        self._settings: object = None
        self._tls = FollowedFiles(self._read)
        self._options: ConnectOptions | None = None

    @property
    def problem(self) -> str | None:
        return next(iter(self._tls.problems), None)

    def options(self) -> ConnectOptions:
        """Return how the API is reached now. Raises ssl.SSLError or OSError while there has never been a good way."""
        api = self._config().api
        settings = (api.proxy_url, api.max_response_bytes, *_files(api))
        if settings != self._settings:
            self._tls.forget()
        failed = self.problem is not None
        if self._tls.look() and self._tls.value is not None:
            self._log_change(failed=failed)
            self._settings = settings
            self._options = ConnectOptions(
                tls=self._tls.value, proxy_url=api.proxy_url, max_response_bytes=api.max_response_bytes
            )
        assert self._options is not None  # noqa: S101 -- tells the type checker what the first look has made sure of
        return self._options

    def _log_change(self, *, failed: bool) -> None:
        if self.problem is not None:
            self._log.warning("tls_files_refused", detail=self.problem)
        elif failed:
            self._log.info("tls_files_recovered")

    def _read(self, note: Callable[[Path], object]) -> ssl.SSLContext:
        api = self._config().api
        for path in _files(api):
            note(path)
        try:
            return tls_context(
                ca_file=api.ca_file, client_cert_file=api.client_cert_file, client_key_file=api.client_key_file
            )
        except OSError:  # ssl.SSLError is one
            if self._tls.value is None:
                raise
            raise UnusableFileError(PROBLEM) from None


def _files(api: ApiConfig) -> list[Path]:
    return [path for path in (api.ca_file, api.client_cert_file, api.client_key_file) if path is not None]
