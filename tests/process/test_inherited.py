"""Variables of other programs change nothing here."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from exporter.process import inherited
from exporter.simulator import World
from tests.exported import COMMAND, exporter_process, read_exposition, write_config
from tests.simulated import running

ROOT = Path(__file__).parents[2]
HOSTILE = {
    **dict.fromkeys(inherited.REMOVED, "x"),
    "SSLKEYLOGFILE": "/nowhere/keys",
    "PROMETHEUS_MULTIPROC_DIR": "/nowhere",
    "PROMETHEUS_DISABLE_CREATED_SERIES": "true",
    **dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"),
    "NETRC": "/nowhere/netrc",
    **dict.fromkeys(("UVICORN_HOST", "UVICORN_PORT", "UVICORN_WORKERS", "UVICORN_LOG_LEVEL"), "x"),
    "COLUMNS": "x",
    "TZ": "Nowhere/Nowhere",
}


def once(directory: Path, *mode: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *mode, "--once"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
    )


def test_what_is_removed_is_gone_and_the_rest_is_kept() -> None:
    environ = dict.fromkeys((*inherited.REMOVED, "ANTHROPIC_API_KEY", "SSL_CERT_FILE"), "x")
    inherited.remove(environ)
    assert environ == {"ANTHROPIC_API_KEY": "x", "SSL_CERT_FILE": "x"}


@pytest.mark.parametrize("value", ["/nowhere", "", "."])
def test_the_metrics_library_writes_no_files(value: str, tmp_path: Path) -> None:
    ended = once(tmp_path, "--demo", PROMETHEUS_MULTIPROC_DIR=value, prometheus_multiproc_dir=value)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_all_of_them_at_once_change_neither_the_exposition_nor_the_log(tmp_path: Path) -> None:
    now = time.time()
    world = World(lambda: now)
    environment = world.add_environment("env_0", name="production", key="key")
    for _ in range(3):
        environment.create()
    empty = tmp_path / "empty"
    empty.mkdir()
    with running(world) as simulator:
        config = f"--config.file={write_config(tmp_path, simulator)}"
        plain, hostile = once(empty, config), once(empty, config, **HOSTILE)
    assert (hostile.returncode, hostile.stderr) == (plain.returncode, plain.stderr) == (0, "")
    assert set(read_exposition(hostile.stdout).value_by_series) == set(read_exposition(plain.stdout).value_by_series)
    assert list(empty.iterdir()) == []


def test_the_server_starts_with_all_of_them(tmp_path: Path) -> None:

    with exporter_process("--demo", directory=tmp_path, environ=HOSTILE) as exporter:
        assert exporter.scrape().value("managed_agents_up", environment_name="production") == 1
        assert "level=error" not in exporter.log()
