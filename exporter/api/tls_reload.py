"""How the API is reached now: TLS material is read again when its files change, and the last good stays when they are bad."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from exporter.api.httpx_transport import ConnectOptions, tls_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from exporter.config.model import ApiConfig, Config
    from exporter.log import Log


class ConnectOptionsSource:
    """Hands out the same `ConnectOptions` until what it is made of changes; the clients compare it by identity."""

    def __init__(self, config: Callable[[], Config], log: Log) -> None:
        self._config = config
        self._log = log
        self._made_of: object = None
        self._options: ConnectOptions | None = None
        self.problem: str | None = None

    def options(self) -> ConnectOptions:
        """HttpResponse the route as it is now. Raises ssl.SSLError or OSError while there has never been a good one."""
        api = self._config().api
        made_of = (api.proxy_url, api.max_response_bytes, *map(_signature, _files(api)))
        if self._options is None or made_of != self._made_of:
            self._renew(api)
            self._made_of = made_of
        assert self._options is not None  # noqa: S101 -- tells the type checker what _renew has just made sure of
        return self._options

    def _renew(self, api: ApiConfig) -> None:
        try:
            tls = tls_context(
                ca_file=api.ca_file, client_cert_file=api.client_cert_file, client_key_file=api.client_key_file
            )
        except (OSError, ssl.SSLError):
            if self._options is None:
                raise
            self.problem = (
                "the CA or client certificate files are unreadable or do not match; the last good ones are used"
            )
            self._log.warning("tls_files_refused", detail=self.problem)
            tls = self._options.tls
        else:
            if self.problem is not None:
                self._log.info("tls_files_recovered")
            self.problem = None
        self._options = ConnectOptions(tls=tls, proxy_url=api.proxy_url, max_response_bytes=api.max_response_bytes)


def _files(api: ApiConfig) -> tuple[Path | None, ...]:
    return api.ca_file, api.client_cert_file, api.client_key_file


def _signature(path: Path | None) -> object:
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return (path, None)
    return (path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
