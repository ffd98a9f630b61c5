"""What each mode of the command line runs and prints, and its exit code. The only file that prints."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NoReturn

import anyio

from exporter import __version__, flags, log
from exporter.app import App, Settings
from exporter.check.plan import plan
from exporter.clock import Clock
from exporter.config.from_environment import from_environment
from exporter.config.load import load
from exporter.config.model import Config, ConfigError
from exporter.demo import demo_config, set_up_workspaces, simulated_api
from exporter.environments.live_items import live_items
from exporter.metrics.exposition import Wanted, expose
from exporter.metrics.series import families_of
from exporter.process import signals
from exporter.web import items
from exporter.web.addresses import AddressError, listen
from exporter.web.basic_auth import THREAD_NAME as PASSWORDS
from exporter.web.web_config_reload import ReloadingWebConfig

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence

    from exporter.flags import ItemsQuery, Options

PROGRAM = "managed-agents-exporter"
NAMES_SHOWN = 20


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        code = _start(arguments)
    except ConfigError as invalid:
        code = _fail(*invalid.problems)
    except AddressError as problem:
        code = _fail(str(problem))
    except KeyboardInterrupt:
        code = _fail("interrupted")
    except flags.UsageError as problem:
        _complain(str(problem))
        code = 2
    return _leave(code)


def _start(arguments: Sequence[str] | None) -> int:
    options = flags.parse(arguments)
    if isinstance(options, str):
        _write(options)
        return 0
    if options.reads_once or options.check:
        signals.unblock()
    logger = log.configure(level=options.log_level, format=options.log_format, stream=sys.stderr)
    return _run(options, logger)


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
    if options.reads_once:
        return _in_loop(lambda: _read_once(app, options.items))
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
    return [listener for address in options.addresses for listener in listen(address)]


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
    _write("".join(f"{line}\n" for line in plan(config, environments=len(config.environments)).lines()))


async def _check_online(app: App) -> int:
    report = await app.check_online()
    _write("".join(f"{line}\n" for line in report.lines()))
    return 0 if report.fine else 1


async def _read_once(app: App, query: ItemsQuery | None) -> int:
    return await _once(app) if query is None else await _items(app, query)


async def _once(app: App) -> int:
    snapshots = await app.read_once()
    families = families_of(
        snapshots,
        monotonic=Clock().monotonic(),
        heartbeat_overdue_s=app.config.work.heartbeat_overdue_s,
    )
    _write(expose(families, app.registry, Wanted()).body)
    read = [each.queue is not None and (each.work is not None or not each.listing_enabled) for each in snapshots]
    return 0 if read and all(read) and not app.discovery.unlisted else 1


async def _items(app: App, query: ItemsQuery) -> int:
    snapshots = await app.read_once(query.target)
    if not snapshots:
        names = ", ".join(sorted(reader.environment.name for reader in app.roster.readers)[:NAMES_SHOWN])
        return _fail(f"--items: no environment has the id or name {query.target!r}; there are: {names or 'none'}")
    found = live_items(
        snapshots[0],
        query.states,
        limit=None,
        heartbeat_overdue_s=app.config.work.heartbeat_overdue_s,
        monotonic=Clock().monotonic(),
    )
    if isinstance(found, str):
        return _fail(f"{query.target}: {found}")
    _write(items.as_json(found) if query.format == "json" else items.as_table(found))
    return 0


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
        _announce(f"The simulated Work API is at {base_url}; / lists its environments and their keys.")
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            signals.unblock()
            await anext(received)
    return 0


async def _serve_demo(options: Options, logger: log.Log) -> int:
    # What can fail is made before the simulator's tasks start: they would wrap the exception in a group.
    settings = _settings(options, logger, lambda: config)
    sockets = [] if options.reads_once else _listen(options)
    async with simulated_api("127.0.0.1:0") as (simulator, base_url):
        set_up_workspaces(simulator)
        config = demo_config(simulator, base_url)
        app = App(settings)
        if options.reads_once:
            return await _read_once(app, options.items)
        for port in dict.fromkeys(listener.getsockname()[1] for listener in sockets):
            _announce(f"The demo is at http://localhost:{port}{options.web.route_prefix}/")
        return await _serve(app, sockets, logger, options)


# ---- output


def _write(output: str | bytes) -> None:
    """Write to stdout at once. If that fails, end the process as one that was cut off."""
    try:
        _write_to_stdout(output)
    except OSError as problem:
        _end_cut_off(problem)


def _announce(line: str) -> None:
    """Write a line that a server can do without."""
    try:
        _write_to_stdout(f"{line}\n")
    except OSError:
        sys.stdout = None  # the interpreter would try again at its end, and exit with 120


def _write_to_stdout(output: str | bytes) -> None:
    if sys.stdout is None:  # how Python says that the descriptor was closed
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    if isinstance(output, str):  # names may hold what the terminal's encoding doesn't have
        output = output.encode(sys.stdout.encoding, "backslashreplace")
    sys.stdout.buffer.write(output)
    sys.stdout.buffer.flush()


def _end_cut_off(problem: OSError) -> NoReturn:
    """End the process. A reader that has gone is no news: the process dies of SIGPIPE, in silence, like any other in a pipe."""
    if isinstance(problem, BrokenPipeError):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
        os._exit(128 + signal.SIGPIPE)  # only where SIGPIPE is blocked, or ignored as in a container's first process
    os._exit(_fail(f"cannot write to stdout: {problem.strerror}"))


def _fail(*problems: str) -> int:
    for problem in problems:
        _complain(f"{PROGRAM}: {problem}")
    return 1


def _complain(text: str) -> None:
    """Print to stderr, if there is one that can be written to."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


# ---- the process


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
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:  # what it still holds would make the interpreter end with another code
        os._exit(code)
    if any(thread.name.startswith(("names", PASSWORDS)) for thread in threading.enumerate()):
        os._exit(code)
    return code
