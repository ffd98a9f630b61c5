"""The simulated Work API in a process of its own, so that its work is not mistaken for that of those who read it."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import uvicorn

from exporter.simulator import Call, Options, make_app
from tests.benchmark.scene import Play, Scene

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from exporter.simulator import Simulator

START_S = 60.0
END_S = 10.0
ANSWER_S = 120.0


@dataclass(frozen=True, slots=True)
class Calls:
    stats: int
    list: int

    @property
    def total(self) -> int:
        return self.stats + self.list

    def __sub__(self, earlier: Calls) -> Calls:
        return Calls(self.stats - earlier.stats, self.list - earlier.list)


@dataclass(frozen=True, slots=True)
class Api:
    """The process, seen from outside."""

    scene: Scene
    base_url: str
    api_key: str
    pipe: Connection

    def advance(self, seconds: int) -> None:
        self._ask("advance", seconds)

    def calls(self) -> Calls:
        answer: Calls = self._ask("calls")
        return answer

    def counts(self) -> dict[str, dict[str, int]]:
        answer: dict[str, dict[str, int]] = self._ask("counts")
        return answer

    def _ask(self, *question: object) -> Any:
        self.pipe.send(question)
        if not self.pipe.poll(ANSWER_S):
            raise TimeoutError(f"the simulated API did not answer {question[0]}")
        return self.pipe.recv()


@contextmanager
def served(scene: Scene) -> Iterator[Api]:
    """Serve the scene on a free loopback port while the block runs."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=serve, args=(scene, there), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(START_S):
            raise TimeoutError("the simulated API did not start")
        base_url, api_key = here.recv()
        yield Api(scene, base_url, api_key, here)
    finally:
        here.close()
        process.join(END_S)
        process.kill()
        process.join()


def serve(scene: Scene, pipe: Connection) -> None:
    asyncio.run(_serve(scene, pipe))


async def _serve(scene: Scene, pipe: Connection) -> None:
    play = Play(scene)
    app = make_app(play.world, Options(latency_s=scene.latency_s))
    # The protocol is named because asyncio sets TCP_NODELAY only where it is.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        server = _Server(_config(app, scene.certificate))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            await server.ready.wait()
            scheme = "http" if scene.certificate is None else "https"
            pipe.send((f"{scheme}://127.0.0.1:{listener.getsockname()[1]}{app.options.prefix}", app.options.api_key))
            await _obey(pipe, play, app)
            server.force_exit = server.should_exit = True


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def _config(app: Simulator, certificate: str | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        date_header=False,
        server_header=False,
        timeout_keep_alive=300,
        backlog=2048,
        ssl_certfile=certificate,
    )


async def _obey(pipe: Connection, play: Play, app: Simulator) -> None:
    """Answer questions until nobody is left to ask any."""
    while True:
        try:
            question = await anyio.to_thread.run_sync(pipe.recv)
        except EOFError:
            return
        match question:
            case ("advance", int(seconds)):
                play.advance(seconds)
                pipe.send(None)
            case ("calls",):
                pipe.send(Calls(app.calls.count(Call.STATS), app.calls.count(Call.LIST)))
            case ("counts",):
                pipe.send(play.counts())
            case _:
                raise ValueError(f"no such question: {question}")
