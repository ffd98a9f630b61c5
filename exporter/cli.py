"""What each mode of the command line runs and prints, and its exit code. The only file that prints."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import anyio

from exporter import __version__, flags, log, signals
from exporter.app import App, Settings
from exporter.check.plan import plan
from exporter.clock import Clock
from exporter.config.from_environment import from_environment
from exporter.config.load import load
from exporter.config.model import Config, ConfigError
from exporter.demo import demo_config, simulated_api
from exporter.metrics.exposition import Wanted, expose
from exporter.metrics.series import families_of
from exporter.web.addresses import AddressError, listen
from exporter.web.basic_auth import THREAD_NAME as PASSWORDS
from exporter.web.web_config_reload import ReloadingWebConfig

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from exporter.flags import Options

PROGRAM = "managed-agents-exporter"


def main(arguments: Sequence[str] | None = None) -> int:
    options = flags.parse(arguments)
    if options.once or options.check:
        signals.unblock()
    logger = log.configure(level=options.log_level, format=options.log_format, stream=sys.stderr)
    try:
        code = _run(options, logger)
    except ConfigError as invalid:
        code = _fail(*invalid.problems)
    except AddressError as problem:
        code = _fail(str(problem))
    except KeyboardInterrupt:
        code = _fail("interrupted")
    return _leave(code)


def _run(options: Options, logger: log.Log) -> int:
    if options.simulator:
        return _in_loop(lambda: _serve_simulator(options.simulator_address))
    if options.demo:
        return _in_loop(lambda: _serve_demo(options, logger))
    if options.check:
        _check(options, logger)
    if options.check == "offline":
        return 0
    app = App(_settings(options, logger, lambda: _configuration(options)))
    if options.check:
        return _in_loop(lambda: _check_online(app))
    if options.once:
        return _in_loop(lambda: _once(app))
    sockets = _listen(options)
    return _in_loop(lambda: _serve(app, sockets, logger, options))


def _configuration(options: Options) -> Config:
    if options.config_file is None:
        return from_environment(os.environ)
    return load(options.config_file, os.environ)


def _settings(options: Options, logger: log.Log, configuration: Callable[[], Config]) -> Settings:
    web_config = ReloadingWebConfig(options.web_config_file, logger)
    return Settings(load=configuration, web=options.web, web_config=web_config, clock=Clock(), log=logger)


def _listen(options: Options) -> list[socket.socket]:
    return [listen(address) for address in options.addresses]


# ---- the modes


def _check(options: Options, logger: log.Log) -> None:
    """Print the plan. Raises ConfigError with the problems of both files."""
    problems: list[str] = []
    try:
        config = _configuration(options)
    except ConfigError as invalid:
        problems += invalid.problems
    try:
        ReloadingWebConfig(options.web_config_file, logger)
    except ConfigError as invalid:
        problems += invalid.problems
    if problems:
        raise ConfigError(tuple(problems))
    _print(plan(config, environments=len(config.environments)).lines())


async def _check_online(app: App) -> int:
    report = await app.check_online()
    _print(report.lines())
    return 0 if report.fine else 1


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


async def _serve(app: App, sockets: Sequence[socket.socket], logger: log.Log, options: Options) -> int:
    logger.info(
        "listening",
        version=__version__,
        addresses=",".join(options.addresses),
        environments=len(app.config.environments),
        discovery=app.config.discovery.enabled,
    )
    await app.serve(sockets)
    return 0


async def _serve_simulator(address: str) -> int:
    async with simulated_api(address) as (_, base_url):
        _print([f"The simulated Work API is at {base_url}; / lists its environments and their keys."])
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            signals.unblock()
            await anext(received)
    return 0


async def _serve_demo(options: Options, logger: log.Log) -> int:
    # What can fail is made before the simulator's tasks start: they would wrap the exception in a group.
    settings = _settings(options, logger, lambda: config)
    sockets = [] if options.once else _listen(options)
    async with simulated_api("127.0.0.1:0") as (simulator, base_url):
        config = demo_config(simulator, base_url)
        app = App(settings)
        if options.once:
            return await _once(app)
        _print(f"The demo is at http://localhost:{listener.getsockname()[1]}/" for listener in sockets)
        return await _serve(app, sockets, logger, options)


# ---- the process


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _fail(*problems: str) -> int:
    for problem in problems:
        print(f"{PROGRAM}: {problem}", file=sys.stderr)
    return 1


class _NameThreads(ThreadPoolExecutor):
    """The threads that look up names. Nothing waits for them at the end: a DNS server may never answer."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002, ARG002 -- the base class's signature
        super().shutdown(wait=False, cancel_futures=True)


def _in_loop(run: Callable[[], Awaitable[int]]) -> int:
    async def start() -> int:
        asyncio.get_running_loop().set_default_executor(_NameThreads(thread_name_prefix="names"))
        return await run()

    return anyio.run(start)


def _leave(code: int) -> int:
    """Return the exit code, or end at once if a thread still waits for a name or computes a password's hash."""
    sys.stdout.flush()
    sys.stderr.flush()
    if any(thread.name.startswith(("names", PASSWORDS)) for thread in threading.enumerate()):
        os._exit(code)
    return code
