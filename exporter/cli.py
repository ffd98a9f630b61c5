"""Flags and exit codes; the only file that prints."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from exporter import __version__, log, signals
from exporter.app import App, Settings
from exporter.check.plan import plan
from exporter.clock import Clock
from exporter.config.from_environment import from_environment
from exporter.config.load import load
from exporter.config.model import Config, ConfigError
from exporter.demo import demo_config, simulated_api
from exporter.metrics.exposition import Wanted, expose
from exporter.metrics.series import families_of
from exporter.web.addresses import AddressError, listen, parse_address
from exporter.web.basic_auth import THREAD_NAME as PASSWORDS
from exporter.web.routes import TAKEN_PATHS, WebSettings
from exporter.web.web_config_reload import ReloadingWebConfig

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence


DEFAULT_ADDRESS = ":9831"
OFFLINE = "offline"


class _Names(ThreadPoolExecutor):
    """The loop's threads, which look up names: a silent DNS server must not hold up the exit."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002, ARG002 -- the base class's signature
        super().shutdown(wait=False, cancel_futures=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    _refuse_contradictions(parser, options)
    if options.once or getattr(options, "config.check"):
        signals.unblock()
    logger = log.configure(
        level=getattr(options, "log.level"), format=getattr(options, "log.format"), stream=sys.stderr
    )
    try:
        code = _run(options, logger)
    except ConfigError as refused:
        for problem in refused.problems:
            print(f"managed-agents-exporter: {problem}", file=sys.stderr)
        code = 1
    except AddressError as refused:
        print(f"managed-agents-exporter: {refused}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("managed-agents-exporter: interrupted", file=sys.stderr)
        code = 1
    return _leave(code)


def _run(options: argparse.Namespace, logger: log.Log) -> int:
    if options.simulator:
        return _in_loop(lambda: _serve_simulator(getattr(options, "simulator.listen-address")))
    if options.demo:
        return _in_loop(lambda: _serve_demo(options, logger))
    configuration = _configuration(options)
    if check := getattr(options, "config.check"):
        code = _check(configuration, lambda: _web_config(options, logger))
        if check == OFFLINE:
            return code
    app = App(_settings(options, _web_config(options, logger), logger, configuration))
    if check:
        return _in_loop(lambda: _check_online(app))
    if options.once:
        return _in_loop(lambda: _once(app))
    sockets = _listen(options)
    return _in_loop(lambda: _serve(app, sockets, logger, options))


def _configuration(options: argparse.Namespace) -> Callable[[], Config]:
    path = getattr(options, "config.file")
    if path is None:
        return lambda: from_environment(os.environ)
    return lambda: load(Path(path), os.environ)


def _web_config(options: argparse.Namespace, logger: log.Log) -> ReloadingWebConfig:
    path = getattr(options, "web.config.file")
    return ReloadingWebConfig(None if path is None else Path(path), logger)


def _settings(
    options: argparse.Namespace, web_config: ReloadingWebConfig, logger: log.Log, configuration: Callable[[], Config]
) -> Settings:
    return Settings(load=configuration, web=_web(options), web_config=web_config, clock=Clock(), log=logger)


def _check(configuration: Callable[[], Config], web_config: Callable[[], ReloadingWebConfig]) -> int:
    config = None
    problems: list[str] = []
    try:
        config = configuration()
    except ConfigError as refused:
        problems += refused.problems
    try:
        web_config()
    except ConfigError as refused:
        problems += refused.problems
    if config is None or problems:
        raise ConfigError(tuple(problems))
    for line in plan(config, environments=len(config.environments)).lines():
        print(line)
    return 0


async def _check_online(app: App) -> int:
    report = await app.check_online()
    for line in report.lines():
        print(line)
    return 0 if report.fine else 1


async def _serve(app: App, sockets: Sequence[socket.socket], logger: log.Log, options: argparse.Namespace) -> int:
    logger.info(
        "listening",
        version=__version__,
        addresses=",".join(_listen_addresses(options)),
        environments=len(app.config.environments),
        discovery=app.config.discovery.enabled,
    )
    await app.serve(sockets)
    return 0


async def _once(app: App) -> int:
    snapshots = await app.read_once()
    families = families_of(
        snapshots,
        monotonic=Clock().monotonic(),
        heartbeat_overdue_s=app.config.work.heartbeat_overdue_s,
    )
    sys.stdout.buffer.write(expose(families, app.registry, Wanted()).body)
    read = [each.queue is not None and (each.work is not None or not each.listing_enabled) for each in snapshots]
    return 0 if read and all(read) else 1


# ---- the simulated API


async def _serve_simulator(address: str) -> int:
    async with simulated_api(address) as (simulator, base_url):
        print(f"The simulated Work API is at {base_url}; / tells its environments and their keys.", flush=True)
        del simulator
        await _until_told_to_stop()
    return 0


async def _serve_demo(options: argparse.Namespace, logger: log.Log) -> int:
    web_config = _web_config(
        options, logger
    )  # refused here, not inside the simulator's tasks: they would wrap what is raised
    sockets = [] if options.once else _listen(options)
    async with simulated_api("127.0.0.1:0") as (simulator, base_url):
        config = demo_config(simulator, base_url)
        app = App(_settings(options, web_config, logger, lambda: config))
        if options.once:
            return await _once(app)
        for listener in sockets:
            print(f"The demo is at http://localhost:{listener.getsockname()[1]}/", flush=True)
        await _serve(app, sockets, logger, options)
    return 0


async def _until_told_to_stop() -> None:
    import signal  # noqa: PLC0415 -- needed by this mode alone

    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        signals.unblock()
        async for _ in received:
            return


# ---- the process


def _in_loop(run: Callable[[], Any]) -> int:
    async def start() -> int:
        import asyncio  # noqa: PLC0415 -- anyio has no word for the loop's own executor

        asyncio.get_running_loop().set_default_executor(_Names(thread_name_prefix="names"))
        code: int = await run()
        return code

    return anyio.run(start)


def _leave(code: int) -> int:
    """End now, even while a thread waits for a DNS server that never answers, or computes a costly hash."""
    sys.stdout.flush()
    sys.stderr.flush()
    lingering = [thread for thread in threading.enumerate() if thread.name.startswith(("names", PASSWORDS))]
    if lingering:
        os._exit(code)
    return code


def _listen_addresses(options: argparse.Namespace) -> list[str]:
    return getattr(options, "web.listen-address") or [DEFAULT_ADDRESS]


def _listen(options: argparse.Namespace) -> list[socket.socket]:
    return [listen(address) for address in _listen_addresses(options)]


def _web(options: argparse.Namespace) -> WebSettings:
    return WebSettings(
        telemetry_path=getattr(options, "web.telemetry-path"),
        max_requests=getattr(options, "web.max-requests"),
        enable_lifecycle=getattr(options, "web.enable-lifecycle"),
    )


# ---- flags


def _refuse_contradictions(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse a flag that would be ignored: whoever gave it expects it to count."""
    ignored_by_mode = {
        "simulator": ("demo", "once", "config.check", "config.file", "web.config.file"),
        "demo": ("config.check", "config.file"),
        "config.check": ("once",),
    }
    for mode, ignored in ignored_by_mode.items():
        for flag in ignored:
            if getattr(options, mode) and getattr(options, flag):
                parser.error(f"--{mode} can't go with --{flag}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="managed-agents-exporter",
        description="Prometheus exporter for the work queues of Claude Managed Agents' self-hosted environments.",
        allow_abbrev=False,
    )
    _add_modes(parser)
    _add_web(parser)
    _flag(parser, "log.level", "least severe events logged", choices=("debug", "info", "warn", "error"), default="info")
    _flag(parser, "log.format", "how events are written to stderr", choices=("logfmt", "json"), default="logfmt")
    version = f"managed-agents-exporter {__version__} (Python {platform.python_version()})"
    parser.add_argument("--version", action="version", version=version)
    return parser


def _add_modes(parser: argparse.ArgumentParser) -> None:
    text = "YAML file; without it the environment variables alone configure"
    _flag(parser, "config.file", text, metavar="PATH", type=_file)
    _flag(
        parser,
        "config.check",
        "validate the configuration, print what it costs in API calls, exit; online: and try every credential",
        nargs="?",
        const=OFFLINE,
        choices=(OFFLINE, "online"),
    )
    _flag(
        parser,
        "demo",
        "start the embedded simulated Work API and export it; no config, key or network",
        action="store_true",
    )
    _flag(parser, "simulator", "serve only the simulated Work API", action="store_true")
    text = "where --simulator listens"
    _flag(parser, "simulator.listen-address", text, metavar="ADDR", default="127.0.0.1:9832", type=_address)
    _flag(
        parser, "once", "read every environment once, print the metrics, exit 0 if all were read", action="store_true"
    )


def _add_web(parser: argparse.ArgumentParser) -> None:
    _flag(
        parser,
        "web.listen-address",
        f":port, host:port or [v6]:port; repeatable (default {DEFAULT_ADDRESS})",
        metavar="ADDR",
        type=_address,
        action="append",
    )
    _flag(parser, "web.telemetry-path", "path of the metrics", metavar="PATH", default="/metrics", type=_path)
    _flag(
        parser, "web.config.file", "TLS and basic auth, in exporter-toolkit's file format", metavar="PATH", type=_file
    )
    _flag(parser, "web.enable-lifecycle", "allow POST /-/reload", action="store_true")
    _flag(parser, "web.max-requests", "scrapes served at once; more get 503", metavar="N", default=40, type=_positive)


def _flag(parser: argparse.ArgumentParser, name: str, text: str, **more: Any) -> None:
    default = " (default %(default)s)" if "default" in more else ""
    parser.add_argument(f"--{name}", dest=name, help=f"{text}{default}", **more)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _address(text: str) -> str:
    try:
        parse_address(text)
    except AddressError as refused:
        raise argparse.ArgumentTypeError(str(refused)) from None
    return text


def _file(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("an empty path; leave the flag out, or check the variable it is made of")
    return text


def _path(text: str) -> str:
    if not text.startswith("/") or text == "/" or any(character in text for character in "?#{} "):
        raise argparse.ArgumentTypeError(f"{text!r} is not a path like /metrics")
    if text in TAKEN_PATHS:
        raise argparse.ArgumentTypeError(f"{text!r} is a path that answers something else")
    return text
