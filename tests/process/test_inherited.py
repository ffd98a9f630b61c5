"""Variables of other programs change nothing here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from exporter.process import inherited
from tests.exported import COMMAND, exporter_process, read_exposition

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


def once(directory: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "--demo", "--once"],
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
    ended = once(tmp_path, PROMETHEUS_MULTIPROC_DIR=value, prometheus_multiproc_dir=value)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_all_of_them_at_once_change_neither_the_exposition_nor_the_log(tmp_path: Path) -> None:
    plain, hostile = once(tmp_path), once(tmp_path, **HOSTILE)
    assert (hostile.returncode, hostile.stderr) == (plain.returncode, plain.stderr) == (0, "")
    assert set(read_exposition(hostile.stdout).value_by_series) == set(read_exposition(plain.stdout).value_by_series)
    assert list(tmp_path.iterdir()) == []


def test_the_server_starts_with_all_of_them(tmp_path: Path) -> None:

    with exporter_process("--demo", directory=tmp_path, environ=HOSTILE) as exporter:
        assert exporter.scrape().value("managed_agents_up", environment_name="production") == 1
        assert "level=error" not in exporter.log()
