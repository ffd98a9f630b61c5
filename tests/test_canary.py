"""No output holds a secret: unique ones are looked for, in many disguises, wherever the exporter speaks."""

from __future__ import annotations

import base64
import signal
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from exporter.simulator import Options, World
from tests.ample import AMPLE_S
from tests.exported import Exporter, exporter_process, write_config
from tests.simulated import running

if TYPE_CHECKING:
    from collections.abc import Iterator

API_KEY = "sk-ant-api03-CANARYone%+/=" + "q7Zx" * 8
ENVIRONMENT_KEY = "sk-ant-oat01-CANARYtwo&?#=" + "w9Vy" * 8
FAULTS = ("status-401", "status-500", "html-200", "redirect-301", "truncated-json", "secrets", "gzip-bomb", "hang")
PATHS = ("/metrics", "/sd", "/", "/-/ready", "/-/reload", "/probe?target=env_1", "/probe?target=nobody", "/nowhere")


def disguises(secret: str) -> Iterator[bytes]:
    raw = secret.encode()
    yield raw
    yield raw[:24]
    yield raw[-12:]
    yield raw.hex().encode()
    yield urllib.parse.quote(secret, safe="").encode()
    for skipped in range(3):
        # The middle of a base64 text does not depend on what surrounds it, but on its offset.
        yield base64.b64encode(raw[skipped:])[:-4]
        yield base64.urlsafe_b64encode(raw[skipped:])[:-4]


def assert_clean(output: bytes, where: str) -> None:
    for secret in (API_KEY, ENVIRONMENT_KEY, "metadata-canary", "c2VjcmV0LWNhbmFyeQ"):
        for disguise in disguises(secret):
            assert disguise not in output, f"a secret shows in {where}"


def ask_everything(exporter: Exporter) -> None:
    for path in PATHS:
        for method in ("GET", "POST"):
            headers = {"X-Prometheus-Scrape-Timeout-Seconds": "1"}
            answer = httpx.request(method, f"{exporter.base_url}{path}", headers=headers, timeout=AMPLE_S)
            head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
            assert_clean(answer.content + head.encode(), f"{method} {path}")


def test_no_output_holds_a_secret(tmp_path: Path) -> None:
    world = World(time.time)
    world.add_environment("env_1", name="one", key=ENVIRONMENT_KEY).create()
    with running(world, Options(api_key=API_KEY)) as simulator:
        config = write_config(tmp_path, simulator)
        arguments = (f"--config.file={config}", "--log.level=debug", "--web.enable-lifecycle")
        with exporter_process(*arguments, directory=tmp_path) as exporter:
            ask_everything(exporter)
            for fault in FAULTS:
                simulator.call(simulator.faults.inject, fault)
                ask_everything(exporter)
                simulator.call(simulator.faults.heal)
            # A second newline makes the key malformed: the log says so without the content.
            (tmp_path / "env_1.key").write_text(f"{ENVIRONMENT_KEY}\n\n")
            exporter.signal(signal.SIGHUP)
            ask_everything(exporter)
            process = Path(f"/proc/{exporter.process.pid}")
            assert_clean((process / "cmdline").read_bytes(), "the command line")
        assert_clean(exporter.log_file.read_bytes(), "the log")
    assert "read_failed" in exporter.log()
