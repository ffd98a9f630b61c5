"""Environments that the organisation's directory names come and go without a restart, at the price of one list an interval."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from exporter.simulator import Options, World
from exporter.simulator.options import ORGANISATION, Call
from tests.ample import AMPLE_S
from tests.exported import Exporter, exporter_process, write_config
from tests.simulated import Running, running
from tests.simulator.faults import Faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

INTERVAL_S = 1.0
# More than one page of the directory.
MANY = 130


def world_of(count: int) -> World:
    world = World(time.time)
    for number in range(count):
        world.add_environment(f"env_{number}", name=f"name-{number}", key=f"key-{number}").create()
    return world


@contextmanager
def discovering(world: World, directory: Path, *, configured: int = 0, fault: str | None = None) -> Iterator[Scene]:
    """Run an exporter that discovers the world, the first `configured` environments of which its file names too."""
    options = Options()
    options.accepted[Call.LIST] = ORGANISATION
    faults = Faults()
    if fault is not None:
        faults.inject(fault, call="environments")
    with running(world, options, faults) as simulator:
        discovery = {"enabled": True, "interval": f"{INTERVAL_S:g}s"}
        config = write_config(directory, simulator, discovery=discovery, scrape={"min_interval": "10s"})
        document = json.loads(config.read_text())
        document["environments"] = document["environments"][:configured]
        config.write_text(json.dumps(document))
        with exporter_process(f"--config.file={config}", directory=directory) as exporter:
            yield Scene(exporter, simulator)


class Scene:
    def __init__(self, exporter: Exporter, simulator: Running) -> None:
        self.exporter = exporter
        self.simulator = simulator

    def answer(self) -> httpx.Response:
        return httpx.get(f"{self.exporter.base_url}/sd", timeout=AMPLE_S)

    def listed(self) -> dict[str, dict[str, str]]:
        answer = self.answer()
        assert answer.status_code == 200, answer.text
        groups: list[dict[str, Any]] = answer.json()
        return {group["targets"][0]: group["labels"] for group in groups}

    def names(self) -> dict[str, str]:
        return {each: labels["__meta_managed_agents_environment_name"] for each, labels in self.listed().items()}

    def wait_for(self, holds: Callable[[], bool], *, within_s: float = AMPLE_S) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, self.exporter.log()[-2000:]
            time.sleep(0.05)

    def lists_begun_at(self) -> list[float]:
        """When the directory was asked for its first page."""
        records = self.simulator.call(lambda: list(self.simulator.calls.records))
        return [record.at for record in records if record.call == Call.ENVIRONMENTS and "page" not in record.query]


def wait_for_a_failure(scene: Scene) -> None:
    before = failures(scene)
    scene.wait_for(lambda: failures(scene) > before)


def failures(scene: Scene) -> float:
    errors = scene.exporter.scrape().by("managed_agents_exporter_api_errors_total", "reason", source="environments")
    return sum(errors.values())


def test_environments_appear_and_disappear_without_a_restart(tmp_path: Path) -> None:
    world = world_of(4)
    world.add_environment("env_cloud", name="cloud", key="cloud", kind="cloud")
    with discovering(world, tmp_path, configured=1) as scene:
        simulator = scene.simulator
        assert scene.names() == {f"env_{number}": f"name-{number}" for number in range(4)}
        simulator.call(world.archive, "env_2")
        simulator.call(world.delete_environment, "env_3")
        simulator.call(world.add_environment, "env_new", name="name-1", key="new")
        simulator.call(world.add_environment, "env_other", name="name-0", key="other")
        # The file's names come first, then the oldest environment's.
        expected = {"env_0": "name-0", "env_1": "name-1", "env_new": "name-1-new", "env_other": "name-0-other"}
        scene.wait_for(lambda: scene.names() == expected)
        scrape = scene.exporter.scrape()
        origins = scrape.by("managed_agents_environment_info", "environment_id", origin="discovery")
        assert origins.keys() == expected.keys() - {"env_0"}
        assert scrape.by("managed_agents_up", "environment_id") == dict.fromkeys(expected, 1.0)
        assert not scrape.names(environment_id="env_2") | scrape.names(environment_id="env_3")
        gone = httpx.get(f"{scene.exporter.base_url}/probe?target=env_3", timeout=AMPLE_S)
        assert (gone.status_code, "env_3" in gone.text) == (400, False)


def test_service_discovery_is_refused_until_there_was_one_list(tmp_path: Path) -> None:
    with discovering(world_of(3), tmp_path, configured=1, fault="status-503") as scene:
        for _ in range(3):
            assert scene.answer().status_code == 503
        # What the file names is exported all the same.
        assert scene.exporter.scrape().by("managed_agents_up", "environment_id") == {"env_0": 1.0}
        scene.simulator.call(scene.simulator.faults.heal)
        scene.wait_for(lambda: scene.answer().status_code == 200)
        assert scene.listed().keys() == {"env_0", "env_1", "env_2"}


def test_a_failing_directory_keeps_the_last_list_and_is_asked_no_more_often(tmp_path: Path) -> None:
    with discovering(world_of(MANY), tmp_path) as scene:
        expected = scene.names()
        assert len(expected) == MANY
        faults = scene.simulator.faults
        for fault in ("status-500", "truncated-json", "repeated-cursor"):
            scene.simulator.call(faults.inject, fault, call="environments")
            wait_for_a_failure(scene)
            assert scene.names() == expected
            scene.simulator.call(faults.heal)
        scene.wait_for(lambda: "event=discovery_recovered" in scene.exporter.log())
        begun_at = scene.lists_begun_at()
        assert len(begun_at) >= 5
        assert all(later - earlier >= INTERVAL_S for earlier, later in pairwise(begun_at)), begun_at
