"""The flags of the command line, and what they were set to."""

from __future__ import annotations

import argparse
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn
from urllib.parse import urlsplit

from exporter import __version__
from exporter.api.wire import State
from exporter.environments.live_items import STATES
from exporter.web.addresses import AddressError, parse_address
from exporter.web.routes import TAKEN_PATHS, WebSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.log import Format, Level

DEFAULT_ADDRESS: Final = ":9831"
PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*")
EXTERNAL_URL: Final = re.compile(
    rf"https?://(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?{PREFIX.pattern}/?"
)
CONTRADICTIONS: Final = {
    "simulator": ("demo", "once", "items", "config.check", "config.file", "web.config.file"),
    "demo": ("config.check", "config.file"),
    "config.check": ("once", "items"),
    "once": ("items",),
}
"""By mode, the flags that it would ignore. They are usage errors, because whoever sets a flag expects it to have an effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the flags were set to."""

    config_file: Path | None
    check: Literal["offline", "online"] | None
    demo: bool
    simulator: bool
    simulator_address: str
    once: bool
    items: ItemsQuery | None
    addresses: tuple[str, ...]
    web: WebSettings
    web_config_file: Path | None
    log_level: Level
    log_format: Format

    @property
    def reads_once(self) -> bool:
        """Whether the process ends after one read."""
        return self.once or self.items is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsQuery:
    """Of which environment (its id or name) which live items are wanted, and how they are written."""

    target: str
    states: tuple[State, ...]
    format: Literal["table", "json"]


class UsageError(Exception):
    """Flags that can't be used. The text is the usage and the problem, in several lines."""


class Parser(argparse.ArgumentParser):
    """A parser that leaves printing and the exit code to its caller."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.format_usage()}{self.prog}: error: {message}")


def parse(arguments: Sequence[str] | None) -> Options | str:
    """Return what the flags were set to, or the text that --help or --version asks for. Raises UsageError.

    Without arguments those of `sys.argv` are read.
    """
    flags = parser()
    given = vars(flags.parse_args(arguments))
    if given["help"]:
        return flags.format_help()
    if given["version"]:
        return f"managed-agents-exporter {__version__} (Python {platform.python_version()})\n"
    for mode, ignored in CONTRADICTIONS.items():
        for flag in ignored:
            if given[mode] and given[flag]:
                flags.error(f"--{mode} can't go with --{flag}")
    if given["items"] is None and (given["items.state"] or given["items.format"]):
        flags.error("--items.state and --items.format need --items")
    return Options(
        config_file=given["config.file"],
        check=given["config.check"],
        demo=given["demo"],
        simulator=given["simulator"],
        simulator_address=given["simulator.listen-address"],
        once=given["once"],
        items=_items_query(given),
        addresses=tuple(given["web.listen-address"] or [DEFAULT_ADDRESS]),
        web=WebSettings(
            telemetry_path=given["web.telemetry-path"],
            max_requests=given["web.max-requests"],
            enable_lifecycle=given["web.enable-lifecycle"],
            external_url=given["web.external-url"],
            route_prefix=_route_prefix(given["web.route-prefix"], given["web.external-url"]),
        ),
        web_config_file=given["web.config.file"],
        log_level=given["log.level"],
        log_format=given["log.format"],
    )


def parser() -> Parser:
    parser = Parser(
        prog="managed-agents-exporter",
        description="Prometheus exporter for the work queues of Claude Managed Agents' self-hosted environments.",
        allow_abbrev=False,
        add_help=False,
    )

    def add(name: str, text: str, **more: Any) -> None:
        default = " (default %(default)s)" if "default" in more else ""
        parser.add_argument(f"--{name}", dest=name, help=f"{text}{default}", **more)

    _add_modes(add)
    _add_web(add)
    add("log.level", "least severe events logged", choices=("debug", "info", "warn", "error"), default="info")
    add("log.format", "how events are written to stderr", choices=("logfmt", "json"), default="logfmt")
    add("version", "print the version and exit", action="store_true")
    parser.add_argument("-h", "--help", dest="help", help="print this and exit", action="store_true")
    return parser


def _add_modes(add: Callable[..., None]) -> None:
    text = "YAML file; without it the environment variables alone configure"
    add("config.file", text, metavar="PATH", type=_file)
    text = "validate the configuration, print what it costs in API calls, exit; online: and try every credential"
    add("config.check", text, nargs="?", const="offline", choices=("offline", "online"))
    text = "start the embedded simulated Work API and export it; no config, key or network"
    add("demo", text, action="store_true")
    add("simulator", "serve only the simulated Work API", action="store_true")
    text = "where --simulator listens"
    add("simulator.listen-address", text, metavar="ADDR", default="127.0.0.1:9832", type=_address)
    add("once", "read every environment once, print the metrics, exit 0 if all were read", action="store_true")
    text = "read the list of one environment, print its live items, the longest in their state first"
    add("items", text, metavar="ID_OR_NAME")
    text = "only the items in this state; repeatable"
    add("items.state", text, metavar="STATE", choices=[state.value for state in STATES], action="append")
    add("items.format", "how items are written: table (default) or json", choices=("table", "json"))


def _items_query(given: dict[str, Any]) -> ItemsQuery | None:
    if given["items"] is None:
        return None
    states = tuple(dict.fromkeys(map(State, given["items.state"] or STATES)))
    # A locale without the name's characters passes them as bytes; the configuration is UTF-8.
    target = os.fsencode(given["items"]).decode("utf-8", "surrogateescape")
    return ItemsQuery(target=target, states=states, format=given["items.format"] or "table")


def _add_web(add: Callable[..., None]) -> None:
    text = f":port, host:port or [v6]:port; repeatable (default {DEFAULT_ADDRESS})"
    add("web.listen-address", text, metavar="ADDR", type=_address, action="append")
    add("web.telemetry-path", "path of the metrics", metavar="PATH", default="/metrics", type=_path)
    text = "where users reach the exporter, such as https://example.com/exporter; links follow"
    add("web.external-url", text, metavar="URL", type=_external_url)
    text = "what every path begins with (default: the path of --web.external-url)"
    add("web.route-prefix", text, metavar="PATH", type=_prefix)
    add("web.config.file", "TLS and basic auth, in exporter-toolkit's file format", metavar="PATH", type=_file)
    add("web.enable-lifecycle", "allow POST /-/reload", action="store_true")
    add("web.max-requests", "scrapes served at once; more get 503", metavar="N", default=40, type=_positive)


def _route_prefix(given: str | None, external_url: str | None) -> str:
    if given is None and external_url is not None:
        return urlsplit(external_url).path
    return given or ""


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _address(text: str) -> str:
    try:
        parse_address(text)
    except AddressError as invalid:
        raise argparse.ArgumentTypeError(str(invalid)) from None
    return text


def _file(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("an empty path; leave the flag out, or check the variable it is made of")
    return Path(text)


def _path(text: str) -> str:
    if not text.startswith("/") or text == "/" or any(character in text for character in "?#{} ") or _climbs(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a path like /metrics")
    if text in TAKEN_PATHS:
        raise argparse.ArgumentTypeError(f"{text!r} is a path that answers something else")
    return text


def _external_url(text: str) -> str:
    """Return the URL without slashes at its end."""
    url = text.rstrip("/")
    if not EXTERNAL_URL.fullmatch(url) or _climbs(url):
        raise argparse.ArgumentTypeError(f"{text!r} is not an address like https://example.com/exporter")
    return url


def _climbs(path: str) -> bool:
    """Tell whether a browser would ask for another path than this one."""
    return any(part in {".", ".."} for part in path.split("/"))


def _prefix(text: str) -> str:
    """Return the path with a slash before it and none at its end. `/` is no prefix."""
    path = f"/{text.strip('/')}".rstrip("/")
    if not PREFIX.fullmatch(path) or _climbs(path):
        raise argparse.ArgumentTypeError(f"{text!r} is not a path like /exporter")
    return path
