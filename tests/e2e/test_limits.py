"""Many environments on a small machine: the shipped limit of memory, the usual limit of descriptors."""

from __future__ import annotations

import json
import re
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.ample import AMPLE_S
from tests.exported import COMMAND, Exporter, exporter_process
from tests.raw_api import RawApi, item, raw_api, right

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

DEPLOYMENT = Path(__file__).parents[2] / "config/kubernetes/deployment.yaml"
MEBIBYTE = 2**20
PAGE_BYTES = int(7.1 * MEBIBYTE)
ITEMS = 50
"""Few and large: what is tested is the memory of bodies on their way, not that of the items kept."""
LARGE, MANY = 200, 2000
SCRAPE_S = 5 * AMPLE_S
"""An idle machine needs less than a tenth: what is tested are memory and descriptors."""


def config(directory: Path, base_url: str, environments: int) -> str:
    (directory / "key").write_text("sk-ant-oat01-many\n")
    document = {
        "api": {"base_url": base_url, "requests_per_minute": 1_000_000, "timeout": f"{AMPLE_S:g}s"},
        "environments": [{"id": f"env_{number}", "environment_key_file": "key"} for number in range(environments)],
    }
    path = directory / "exporter.yml"
    path.write_text(json.dumps(document))
    return f"--config.file={path}"


def shipped_limit_bytes() -> int:
    (container,) = yaml.safe_load(DEPLOYMENT.read_text())["spec"]["template"]["spec"]["containers"]
    limit: str = container["resources"]["limits"]["memory"]
    assert limit.endswith("Mi")
    return int(limit.removesuffix("Mi")) * MEBIBYTE


def peak_bytes(exporter: Exporter) -> int:
    peak = re.search(r"VmHWM:\s+([0-9]+) kB", Path(f"/proc/{exporter.process.pid}/status").read_text())
    assert peak is not None
    return int(peak[1]) * 1024


SCRAPES_ON_A_BUSY_MACHINE = 5
"""One does on an idle machine; on another some may be made to wait for the next, and count as timeouts."""


def large_page() -> bytes:
    """Return a page of an environment called env_?, as large as one that a server was seen to answer."""
    padding = "x" * (PAGE_BYTES // ITEMS - len(json.dumps(item("env_?", ITEMS))) - len('"padding": ""'))
    items = [item("env_?", number) | {"metadata": {"padding": padding}} for number in range(ITEMS)]
    return json.dumps({"data": items, "next_page": None}).encode()


def test_two_hundred_large_pages_fit_into_the_shipped_limit_of_memory(tmp_path: Path) -> None:
    page = large_page()
    assert abs(len(page) - PAGE_BYTES) < PAGE_BYTES / 50

    def body(environment_id: str, call: str) -> bytes:
        if call == "stats":
            return json.dumps(right(environment_id, call)).encode()
        return page.replace(b"env_?", environment_id.encode())

    with (
        raw_api(RawApi(body=body)) as server,
        exporter_process(config(tmp_path, server.base_url, LARGE), directory=tmp_path) as exporter,
    ):
        scrape = exporter.scrape(timeout_s=SCRAPE_S)
        queued = scrape.by("managed_agents_work_items", "environment_id", state="queued")
        # A busy machine takes longer for a page than others are made to wait for it.
        assert len(queued) > LARGE * 0.9
        assert set(queued.values()) == {ITEMS}
        assert peak_bytes(exporter) < shipped_limit_bytes(), f"{peak_bytes(exporter) / MEBIBYTE:.0f} MiB"


@pytest.fixture
def _many_descriptors() -> Iterator[None]:
    """Let this process have as many as it may: the server's ends of the connections are here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_many_descriptors")
def test_two_thousand_environments_do_with_a_thousand_descriptors(tmp_path: Path) -> None:
    command = ("prlimit", "--nofile=1024:1024", *COMMAND)
    with (
        raw_api(RawApi(body=lambda _, call: json.dumps(right("env_0", call)).encode())) as server,
        exporter_process(config(tmp_path, server.base_url, MANY), directory=tmp_path, command=command) as exporter,
    ):
        for _ in range(SCRAPES_ON_A_BUSY_MACHINE):
            scrape = exporter.scrape(timeout_s=SCRAPE_S)
            shown = [scrape.by(name, "environment_id") for name in ("managed_agents_up", "managed_agents_list_up")]
            if all(all(each.values()) for each in shown):
                break
        assert shown == [{f"env_{number}": 1.0 for number in range(MANY)}] * 2
        errors = scrape.by("managed_agents_exporter_api_errors_total", "reason", source="stats")
        assert {reason for reason, number in errors.items() if number} <= {"timeout"}
        # A busy machine makes reads wait longer than others let them, and each says so.
        others = [line for line in exporter.log().splitlines() if " event=read_" not in line]
        assert len(others) < 20, others
