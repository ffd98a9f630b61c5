"""Fixed events with fields, one line each, as logfmt or JSON, on top of the standard library's logging.

The name of an event is fixed, and what varies is in its fields: `log.warning("read_failed", environment_id=..., reason=...)`.
Records of other libraries are written as the event `message`.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Level = Literal["debug", "info", "warn", "error"]
Format = Literal["logfmt", "json"]

NAME: Final = "exporter"

_NUMBER_BY_LEVEL: Final[Mapping[Level, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
# httpx logs whole URLs at INFO and httpcore headers, credentials included, at DEBUG.
_PINNED: Final = ("httpx", "httpcore")
_BARE: Final = re.compile(r"[!#-<>-\[\]-~]+")


class Log:
    """Writes events. A field may be any object: an exception is written as its traceback, a secret as `<secret>`."""

    def __init__(self, name: str = NAME) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: object) -> None:
        self._logger.debug(event, extra={"fields": fields})

    def info(self, event: str, **fields: object) -> None:
        self._logger.info(event, extra={"fields": fields})

    def warning(self, event: str, **fields: object) -> None:
        self._logger.warning(event, extra={"fields": fields})

    def error(self, event: str, **fields: object) -> None:
        self._logger.error(event, extra={"fields": fields})


def configure(*, level: Level, format: Format, stream: TextIO) -> Log:  # noqa: A002 - the flag is called --log.format
    """Send all logging of the process to the stream and return the exporter's own log. A second call replaces the first."""
    handler = _Handler(stream)
    handler.setFormatter(_Formatter(_logfmt if format == "logfmt" else _json))
    handler.addFilter(_unpinned)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(NAME).setLevel(_NUMBER_BY_LEVEL[level])
    for name in _PINNED:
        logging.getLogger(name).setLevel(logging.WARNING)
    _route_uvicorn(level)
    return Log()


def _route_uvicorn(level: Level) -> None:
    """Remove uvicorn's handlers. Its lines about each request and connection appear at level debug only."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.DEBUG if level == "debug" else max(logging.WARNING, _NUMBER_BY_LEVEL[level]))


def _unpinned(record: logging.LogRecord) -> bool:
    """Return whether a record may be written: a child of a pinned logger can have a level of its own."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] not in _PINNED


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Do nothing. The default would print the record, unescaped, to a stream that may be closed."""


class _Formatter(logging.Formatter):
    def __init__(self, line: Callable[[Mapping[str, object]], str]) -> None:
        super().__init__()
        self._line = line

    def format(self, record: logging.LogRecord) -> str:
        return self._line(_fields(record))


def _fields(record: logging.LogRecord) -> dict[str, object]:
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head: dict[str, object] = {"ts": at, "level": _level_word(record.levelno)}
    own: Mapping[str, object] | None = getattr(record, "fields", None)
    if own is not None:
        head["event"] = record.getMessage()
        return {**head, **{key: _plain(value) for key, value in own.items() if value is not None}, **head}
    head |= {"event": "message", "logger": record.name, "message": record.getMessage()}
    if record.exc_info and record.exc_info[1]:
        head["error"] = _plain(record.exc_info[1])
    return head


def _level_word(number: int) -> Level:
    passed: list[Level] = [word for word, least in _NUMBER_BY_LEVEL.items() if number >= least]
    return passed[-1] if passed else "debug"


def _plain(value: object) -> object:
    """Return what JSON can hold. `str` is used so that a secret is `<secret>`; a traceback has no locals."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, BaseException):
        return "".join(traceback.format_exception(value)).rstrip("\n")
    if isinstance(value, list | tuple):
        return "; ".join(str(_plain(item)) for item in value)
    return str(value)


def _json(fields: Mapping[str, object]) -> str:
    return json.dumps(fields)


def _logfmt(fields: Mapping[str, object]) -> str:
    return " ".join(f"{key}={_logfmt_value(value)}" for key, value in fields.items())


def _logfmt_value(value: object) -> str:
    if isinstance(value, str):
        return value if _BARE.fullmatch(value) else _quoted(value)
    return json.dumps(value)


def _quoted(value: str) -> str:
    """Return the text in quotes on one line. Characters that a terminal would obey and not show are escaped as in JSON."""
    shown = (c if c.isprintable() and c not in '"\\' else json.dumps(c)[1:-1] for c in value)
    return f'"{"".join(shown)}"'
