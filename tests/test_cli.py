"""Flags, exit codes and the one clear line that bad input gets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from exporter.process import signals
from exporter.simulator import World
from tests.ample import AMPLE_S
from tests.exported import COMMAND, exporter_process, free_port, read_exposition, write_config
from tests.simulated import Running, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@pytest.fixture
def simulator() -> Iterator[Running]:
    world = World(time.time)
    world.add_environment("env_1", name="one", key="key-1").create()
    with running(world) as simulator:
        yield simulator


def run(*arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=AMPLE_S,
        check=False,
        env=bare | dict(environ or {}),
    )


def test_nothing_configured_is_one_line_that_names_the_demo() -> None:
    ended = run()
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert "--demo" in ended.stderr


def test_bad_usage_ends_with_2_and_no_traceback() -> None:
    ended = run("--no-such-flag")
    assert ended.returncode == 2
    assert ended.stderr.endswith("error: unrecognized arguments: --no-such-flag\n")


def test_the_demo_can_be_printed_once() -> None:
    ended = run("--demo", "--once")
    assert ended.returncode == 0, ended.stderr
    printed = read_exposition(ended.stdout)
    assert len(printed.by("managed_agents_up", "environment_id")) >= 6
    listed = printed.by("managed_agents_exporter_discovery_up", "workspace_id")
    assert listed == dict.fromkeys(printed.by("managed_agents_environment_info", "workspace_id"), 1.0)
    assert len(listed) == 2


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with exporter_process("--demo", directory=tmp_path) as exporter:
        taken = exporter.base_url.removeprefix("http://")
        ended = run("--demo", f"--web.listen-address={taken}")
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert f"cannot listen on {taken}" in ended.stderr


@pytest.mark.parametrize("mode", [["--demo"], ["--demo", "--once"]])
def test_a_bad_web_configuration_is_one_line_in_the_demo_too(mode: list[str], tmp_path: Path) -> None:
    ended = run(*mode, f"--web.config.file={tmp_path / 'none.yml'}", f"--web.listen-address=127.0.0.1:{free_port()}")
    assert ended.returncode == 1
    assert ended.stderr == f"managed-agents-exporter: {tmp_path / 'none.yml'}: no such file\n"


def test_a_configuration_that_can_be_read_once_only_is_checked(simulator: Running, tmp_path: Path) -> None:
    config = write_config(tmp_path, simulator).read_bytes()
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(config)
    with os.fdopen(reader, "rb") as piped:
        ended = subprocess.run(
            [*COMMAND, "--config.check", "--config.file=/dev/stdin"],
            stdin=piped,
            capture_output=True,
            text=True,
            timeout=AMPLE_S,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    assert "environments: 1" in ended.stdout


def test_a_single_read_that_is_interrupted_says_so_without_a_traceback(simulator: Running, tmp_path: Path) -> None:
    simulator.call(simulator.faults.inject, "hang", call="stats")
    config = write_config(tmp_path, simulator)
    with subprocess.Popen([*COMMAND, "--once", f"--config.file={config}"], stderr=subprocess.PIPE, text=True) as once:
        while simulator.calls.count("stats") == 0:
            time.sleep(0.02)
        once.send_signal(signal.SIGINT)
        _, stderr = once.communicate(timeout=AMPLE_S)
    assert once.returncode == 1
    assert "Traceback" not in stderr
    assert stderr.endswith("managed-agents-exporter: interrupted\n")


def test_every_problem_of_a_file_is_printed_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "bad.yml"
    path.write_text("api: {timeout: soon, colour: red}\nenvironments: [{id: ../poll}]\n")
    ended = run(f"--config.file={path}")
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    for place in ("api.timeout", "api.colour", "environments[0].id"):
        assert place in ended.stderr


def test_once_prints_the_exposition_and_succeeds_when_all_were_read(simulator: Running, tmp_path: Path) -> None:
    config = write_config(tmp_path, simulator)
    ended = run("--once", f"--config.file={config}")
    assert ended.returncode == 0, ended.stderr
    scrape = read_exposition(ended.stdout)
    assert scrape.value("managed_agents_queue_depth", environment_name="one") == 1
    assert scrape.value("managed_agents_list_up", environment_name="one") == 1


def test_once_fails_when_an_environment_could_not_be_read(simulator: Running, tmp_path: Path) -> None:
    simulator.call(simulator.faults.inject, "status-500", call="list")
    ended = run("--once", f"--config.file={write_config(tmp_path, simulator)}")
    assert ended.returncode == 1
    assert read_exposition(ended.stdout).value("managed_agents_up", environment_name="one") == 1


def test_items_are_printed_without_a_running_exporter(simulator: Running, tmp_path: Path) -> None:
    config = f"--config.file={write_config(tmp_path, simulator)}"
    ended = run("--items=one", config)
    assert (ended.returncode, ended.stderr) == (0, "")
    head, row = ended.stdout.splitlines()
    assert head.split()[:2] == ["ITEM", "SESSION"]
    (item,) = json.loads(run("--items", "env_1", "--items.format=json", "--items.state=queued", config).stdout)["items"]
    assert row.split()[:4] == [item["id"], item["session_id"], "session", "queued"]
    none = run("--items=one", "--items.state=active", config)
    assert (none.returncode, none.stdout) == (0, "No such item in one.\n")


def test_items_that_can_not_be_read_are_one_line_and_1(simulator: Running, tmp_path: Path) -> None:
    config = f"--config.file={write_config(tmp_path, simulator)}"
    ended = run("--items=two", config)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "managed-agents-exporter: --items: no environment has the id or name 'two'; there are: one\n"
    )
    simulator.call(simulator.faults.inject, "status-500", call="list")
    ended = run("--items=one", config, "--log.level=error")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines()[-1].startswith("managed-agents-exporter: one: The list cannot be read (server): ")


def test_the_environment_alone_configures(simulator: Running) -> None:
    environ = {
        "ANTHROPIC_BASE_URL": simulator.base_url.removesuffix("/v1"),
        "ANTHROPIC_API_KEY": simulator.options.api_key,
        "ANTHROPIC_ENVIRONMENT_ID": "env_1",
        "ANTHROPIC_ENVIRONMENT_KEY": "key-1",
    }
    ended = run("--once", environ=environ)
    assert ended.returncode == 0, ended.stderr
    assert read_exposition(ended.stdout).value("managed_agents_up", environment_id="env_1") == 1


def test_a_check_prints_the_plan_and_makes_no_call(simulator: Running, tmp_path: Path) -> None:
    ended = run("--config.check", f"--config.file={write_config(tmp_path, simulator)}")
    assert ended.returncode == 0
    assert "stats" in ended.stdout
    assert simulator.calls.count() == 0


@pytest.mark.parametrize("mode", ["--demo", "--simulator"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0(mode: str, number: signal.Signals) -> None:
    address = f"127.0.0.1:{free_port()}"
    flag = "--web.listen-address" if mode == "--demo" else "--simulator.listen-address"
    process = subprocess.Popen(
        [*COMMAND, mode, f"{flag}={address}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until_answered(f"http://{address}/", process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=AMPLE_S)
    assert process.returncode == 0, errors


@contextmanager
def starting(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start the program, and answer while it still imports what it is made of, but after its first lines.

    SIGINT tells apart what the program blocks from moments in which the C library blocks all signals.
    """
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        status = Path(f"/proc/{process.pid}/status")
        told_apart, expected = (
            sum(1 << (number - 1) for number in numbers)
            for numbers in ((*signals.BLOCKED, signal.SIGINT), signals.BLOCKED)
        )
        blocked = 0
        while blocked & told_apart != expected:
            assert process.poll() is None
            (line,) = [line for line in status.read_text().splitlines() if line.startswith("SigBlk")]
            blocked = int(line.split()[1], 16)
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("mode", ["--demo", "--simulator"])
def test_a_signal_that_comes_too_early_ends_it_with_0(mode: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    with starting(mode, f"--web.listen-address={address}", f"--simulator.listen-address={address}") as process:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=AMPLE_S)
    assert process.returncode == 0
    assert "Traceback" not in errors


def test_a_reload_that_comes_too_early_does_not_kill_it() -> None:
    address = f"127.0.0.1:{free_port()}"
    with starting("--demo", f"--web.listen-address={address}", "--log.format=json") as process:
        process.send_signal(signal.SIGHUP)
        assert wait_until_answered(f"http://{address}/-/ready", process).status_code == 200
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=AMPLE_S)
    assert process.returncode == 0
    assert "config_reloaded" in errors


def test_a_signal_ends_what_is_done_once_as_it_ends_any_program() -> None:
    with starting("--demo", "--once") as process:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=AMPLE_S)
    assert process.returncode == -signal.SIGTERM


def test_the_simulator_lists_its_keys() -> None:
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [*COMMAND, "--simulator", f"--simulator.listen-address={address}"], stdout=subprocess.PIPE, text=True
    )
    listed = wait_until_answered(f"http://{address}/", process).json()
    process.terminate()
    process.communicate(timeout=AMPLE_S)
    assert listed["api_key"]
    assert all({"id", "name", "environment_key"} <= environment.keys() for environment in listed["environments"])


def wait_until_answered(url: str, process: subprocess.Popen[str]) -> httpx.Response:
    deadline = time.monotonic() + AMPLE_S
    while True:
        assert process.poll() is None
        try:
            return httpx.get(url, timeout=AMPLE_S)
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


# ---- outputs that can't be written to

READER_GONE, FULL, CLOSED = "reader gone", "full", "closed"
PRINTING = [
    ["--help"],
    ["--version"],
    ["--config.check"],
    ["--config.check=online"],
    ["--once"],
]


@contextmanager
def broken_output(how: str) -> Iterator[int]:
    """Yield a descriptor to print to, of which the reader has gone or whose disk is full."""
    if how == FULL:
        with Path("/dev/full").open("wb") as full:
            yield full.fileno()
        return
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


def cut_off(how: str, *arguments: str, stream: str = "stdout") -> subprocess.CompletedProcess[str]:
    """Run the program with one of its outputs broken, and read the other one."""
    other = {"stdout": "stderr", "stderr": "stdout"}[stream]
    if how == CLOSED:
        closing = {"stdout": 'exec "$@" >&-', "stderr": 'exec "$@" 2>&-'}[stream]
        command, outputs = ["sh", "-c", closing, "sh", *COMMAND, *arguments], {other: subprocess.PIPE}
        return subprocess.run(command, text=True, timeout=AMPLE_S, check=False, **outputs)  # type: ignore[call-overload, no-any-return]  # the names of streams
    with broken_output(how) as broken:
        outputs = {stream: broken, other: subprocess.PIPE}
        return subprocess.run([*COMMAND, *arguments], text=True, timeout=AMPLE_S, check=False, **outputs)  # type: ignore[call-overload, no-any-return]  # as above


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_reader_that_has_gone_ends_the_program_in_silence(
    arguments: list[str], simulator: Running, tmp_path: Path
) -> None:
    ended = cut_off(READER_GONE, *arguments, f"--config.file={write_config(tmp_path, simulator)}")
    assert (ended.returncode, ended.stderr) == (-signal.SIGPIPE, "")


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_full_disk_is_one_line_and_1(arguments: list[str], simulator: Running, tmp_path: Path) -> None:
    ended = cut_off(FULL, *arguments, f"--config.file={write_config(tmp_path, simulator)}")
    assert ended.returncode == 1
    assert ended.stderr == "managed-agents-exporter: cannot write to stdout: No space left on device\n"


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_closed_output_is_one_line_and_1(arguments: list[str], simulator: Running, tmp_path: Path) -> None:
    ended = cut_off(CLOSED, *arguments, f"--config.file={write_config(tmp_path, simulator)}")
    assert ended.returncode == 1
    assert ended.stderr == "managed-agents-exporter: cannot write to stdout: Bad file descriptor\n"


def test_a_shell_sees_the_exit_code_of_a_pipe_that_was_cut_off() -> None:
    command = 'set -o pipefail; "$@" --demo --once | grep -q managed_agents_up'
    ended = subprocess.run(
        ["bash", "-c", command, "bash", *COMMAND], capture_output=True, text=True, timeout=AMPLE_S, check=False
    )
    assert (ended.returncode in {0, 128 + signal.SIGPIPE}, ended.stdout, ended.stderr) == (True, "", "")


@pytest.mark.parametrize("how", [READER_GONE, FULL, CLOSED])
@pytest.mark.parametrize(("arguments", "code"), [(["--config.file=/nowhere"], 1), (["--nonsense"], 2)])
def test_problems_that_can_not_be_printed_leave_the_exit_code(how: str, arguments: list[str], code: int) -> None:
    ended = cut_off(how, *arguments, stream="stderr")
    assert (ended.returncode, ended.stdout) == (code, "")


@pytest.mark.parametrize("how", [READER_GONE, FULL])
@pytest.mark.parametrize("mode", ["--demo", "--simulator"])
def test_a_server_serves_without_its_outputs(mode: str, how: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    flags = [f"--web.listen-address={address}", f"--simulator.listen-address={address}"]
    with (
        broken_output(how) as broken,
        subprocess.Popen([*COMMAND, mode, *flags], stdout=broken, stderr=broken, text=True) as process,
    ):
        assert wait_until_answered(f"http://{address}/", process).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=AMPLE_S) == 0


def test_a_name_that_the_output_can_not_encode_is_escaped(tmp_path: Path) -> None:
    world = World(time.time)
    world.add_environment("env_1", name="Köln 日本", key="key-1").create()
    with running(world) as simulator:
        config = write_config(tmp_path, simulator)
        for arguments in (["--config.check=online"], ["--config.check"]):
            ended = run(*arguments, f"--config.file={config}", environ={"PYTHONIOENCODING": "ascii"})
            assert (ended.returncode, ended.stderr) == (0, "")
    assert "environments: 1" in ended.stdout
