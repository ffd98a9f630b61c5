"""Three workspaces of one organisation in one exporter: each is listed and read as itself, and one that fails concerns no other."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from exporter.simulator import Options, World
from exporter.simulator.options import ORGANISATION, Call
from tests.ample import AMPLE_S
from tests.exported import COMMAND, Exporter, exporter_process, read_exposition, write_config
from tests.simulated import Running, running
from tests.simulator.faults import Faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

pytestmark = pytest.mark.e2e

A, B, C = WORKSPACES = "wrkspc_a", "wrkspc_b", "wrkspc_c"
UP = "managed_agents_exporter_discovery_up"
SUCCEEDED = "managed_agents_exporter_discovery_last_success_timestamp_seconds"
ERRORS = "managed_agents_exporter_discovery_errors_total"


@dataclass(frozen=True, slots=True)
class Scene:
    """An exporter of an organisation in whose workspaces an environment called production is, the oldest in the first."""

    exporter: Exporter
    simulator: Running
    config: Path

    def add(self, workspace_id: str, environment_id: str) -> None:
        def change(world: World) -> None:
            world.add_environment(environment_id, name="production", key=f"key of {environment_id}").create()
            world.place(workspace_id, environment_id)

        self.simulator.call(change, self.simulator.world)

    def fail(self, workspace_id: str, fault: str = "status-403") -> None:
        self.simulator.call(self.simulator.faults.inject, fault, call="environments", workspace_id=workspace_id)

    def heal(self) -> None:
        self.simulator.call(self.simulator.faults.heal)

    def reload(self, *workspaces: str) -> None:
        document = json.loads(self.config.read_text())
        document["discovery"]["workspaces"] = workspaces
        self.config.write_text(json.dumps(document))
        self.exporter.signal(signal.SIGHUP)

    def answer(self) -> httpx.Response:
        return httpx.get(f"{self.exporter.base_url}/sd", timeout=AMPLE_S)

    def targets(self) -> dict[str, tuple[str, str]]:
        """Return the name and the workspace of every environment that service discovery lists."""
        groups: list[dict[str, Any]] = self.answer().raise_for_status().json()
        meta = "__meta_managed_agents_"
        return {
            group["targets"][0]: (group["labels"][f"{meta}environment_name"], group["labels"][f"{meta}workspace_id"])
            for group in groups
        }

    def page(self) -> str:
        return httpx.get(f"{self.exporter.base_url}/", timeout=AMPLE_S).text

    def up_by_workspace(self) -> dict[str, float]:
        return self.exporter.scrape().by(UP, "workspace_id")

    def wait_for(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + AMPLE_S
        while not holds():
            assert time.monotonic() < deadline, self.exporter.log()[-2000:]
            time.sleep(0.05)


@contextmanager
def organisation(
    directory: Path,
    *,
    failing: Sequence[str] = (),
    fault: str = "status-403",
    file: Sequence[dict[str, str]] = (),
    api: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[Scene]:
    world, faults, options = World(time.time), Faults(), Options()
    options.accepted[Call.LIST] = ORGANISATION
    for workspace_id in WORKSPACES:
        environment_id = f"env_{workspace_id[-1]}1"
        world.add_environment(environment_id, name="production").create()
        world.place(workspace_id, environment_id)
    for workspace_id in failing:
        faults.inject(fault, call="environments", workspace_id=workspace_id)
    with running(world, options, faults) as simulator:
        discovery = {"enabled": True, "interval": "1s", "workspaces": WORKSPACES}
        config = write_config(directory, simulator, discovery=discovery, api=dict(api))
        config.write_text(json.dumps({**json.loads(config.read_text()), "environments": file}))
        with exporter_process(f"--config.file={config}", directory=directory) as exporter:
            yield Scene(exporter, simulator, config)


EVERYTHING = {
    "env_a1": ("production", A),
    "env_b1": ("production-b1", B),
    "env_c1": ("production-c1", C),
}


def test_one_workspace_of_three_fails_keeps_its_list_and_recovers(tmp_path: Path) -> None:
    with organisation(tmp_path) as scene:
        scene.wait_for(lambda: scene.answer().status_code == 200)
        assert scene.targets() == EVERYTHING
        assert scene.up_by_workspace() == dict.fromkeys(WORKSPACES, 1)

        scene.fail(B)
        scene.wait_for(lambda: scene.up_by_workspace() == {A: 1, B: 0, C: 1})
        succeeded_at = scene.exporter.scrape().value(SUCCEEDED, workspace_id=B)
        scene.add(B, "env_b2")
        scene.add(C, "env_c2")
        scene.simulator.call(scene.simulator.world.delete_environment, "env_a1")
        # The oldest that is left keeps the name.
        others = {"env_b1": ("production", B), "env_c1": ("production-c1", C), "env_c2": ("production-c2", C)}
        scene.wait_for(lambda: scene.targets() == others)
        scrape = scene.exporter.scrape()
        assert scrape.by("managed_agents_up", "environment_id") == dict.fromkeys(others, 1)
        assert scrape.by("managed_agents_list_up", "environment_id") == dict.fromkeys(others, 1)
        assert scrape.value(SUCCEEDED, workspace_id=B) == succeeded_at
        assert (scrape.value(SUCCEEDED, workspace_id=C) or 0) > (succeeded_at or 0)
        assert {each: sum(scrape.by(ERRORS, "reason", workspace_id=each).values()) > 0 for each in WORKSPACES} == {
            A: False,
            B: True,
            C: False,
        }
        assert "3 found in 3 workspaces" in scene.page()
        assert "wrkspc_b: the API answered 403" in scene.page()
        assert "the 1 found then are kept" in scene.page()

        scene.heal()
        scene.wait_for(lambda: scene.targets() == {**others, "env_b2": ("production-b2", B)})
        assert scene.up_by_workspace() == dict.fromkeys(WORKSPACES, 1)
        assert "the API answered" not in scene.page()
        events = [line for line in scene.exporter.log().splitlines() if "event=discovery_" in line]
        assert ["event=discovery_failed" in line for line in events] == [True, False]
        assert all("workspace_id=wrkspc_b" in line for line in events)


@pytest.mark.parametrize("fault", ["status-403", "hang"])
def test_a_part_of_the_environments_is_never_listed_as_the_whole(tmp_path: Path, fault: str) -> None:
    with organisation(tmp_path, failing=[B], fault=fault) as scene:
        # What is known is exported all the same.
        known = {"env_a1": 1.0, "env_c1": 1.0}
        scene.wait_for(lambda: scene.exporter.scrape().by("managed_agents_up", "environment_id") == known)
        answer = scene.answer()
        assert (answer.status_code, answer.text) == (
            503,
            "The environments have not been listed yet in wrkspc_b, and a part of them must not be taken for the whole.\n",
        )
        scrape = scene.exporter.scrape()
        assert scrape.by(UP, "workspace_id") == {A: 1, B: 0, C: 1}
        assert scrape.by(SUCCEEDED, "workspace_id").keys() == {A, C}
        if fault != "hang":
            assert "never listed" in scene.page()
        scene.heal()
        scene.wait_for(lambda: scene.answer().status_code == 200)
        assert scene.targets() == EVERYTHING


def test_workspaces_that_hang_for_ever_leave_slots_for_the_environments(tmp_path: Path) -> None:
    with organisation(tmp_path, failing=[B, C], fault="hang", api={"concurrency": 2, "timeout": "0s"}) as scene:
        scene.wait_for(lambda: scene.exporter.scrape().by("managed_agents_up", "environment_id") == {"env_a1": 1})
        for _ in range(3):
            assert scene.exporter.scrape().by("managed_agents_up", "environment_id") == {"env_a1": 1}
        assert scene.up_by_workspace() == {A: 1, B: 0, C: 0}


def test_every_call_names_the_workspace_of_its_environment_and_the_file_wins(tmp_path: Path) -> None:
    key = tmp_path / "environment.key"
    key.write_text("sk-ant-oat01-env_a1\n")
    named = {"id": "env_a1", "name": "mine", "workspace_id": A, "environment_key_file": str(key)}
    with organisation(tmp_path, file=[named]) as scene:
        scene.wait_for(lambda: scene.answer().status_code == 200)
        assert scene.targets() == {"env_a1": ("mine", A), "env_b1": ("production", B), "env_c1": ("production-c1", C)}
        info = scene.exporter.scrape()
        assert {
            each: info.by("managed_agents_environment_info", "environment_id", workspace_id=each).keys()
            for each in WORKSPACES
        } == {A: {"env_a1"}, B: {"env_b1"}, C: {"env_c1"}}
        records = scene.simulator.call(lambda: list(scene.simulator.calls.records))
        asked = {(each.call, each.environment_id, each.workspace_id) for each in records}
        reads = {
            (call, environment_id, workspace_id)
            for call in (Call.STATS, Call.LIST)
            for environment_id, workspace_id in (("env_a1", A), ("env_b1", B), ("env_c1", C))
        }
        assert asked == reads | {(Call.ENVIRONMENTS, None, workspace_id) for workspace_id in WORKSPACES}


def test_a_reload_adds_workspaces_and_removes_them_with_their_environments(tmp_path: Path) -> None:
    with organisation(tmp_path) as scene:
        scene.wait_for(lambda: scene.answer().status_code == 200)
        scene.reload(A, B)
        scene.wait_for(lambda: scene.answer().status_code == 200 and "env_c1" not in scene.targets())
        scrape = scene.exporter.scrape()
        assert scrape.by(UP, "workspace_id") == {A: 1, B: 1}
        assert not scrape.names(workspace_id=C)
        assert not scrape.names(environment_id="env_c1")
        scene.fail(C)
        scene.reload(C, A)
        scene.wait_for(lambda: scene.answer().status_code == 503)
        assert scene.up_by_workspace().get(B) is None
        scene.heal()
        scene.wait_for(lambda: scene.answer().status_code == 200)
        assert scene.targets() == {"env_a1": ("production", A), "env_c1": ("production-c1", C)}


def test_reading_once_is_no_success_while_a_workspace_is_not_known(tmp_path: Path) -> None:
    with organisation(tmp_path, failing=[B]) as scene:
        command = [*COMMAND, "--once", f"--config.file={scene.config}"]

        def once() -> tuple[int, dict[str, float]]:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=AMPLE_S, check=False)
            return ended.returncode, read_exposition(ended.stdout).by("managed_agents_up", "environment_id")

        assert once() == (1, {"env_a1": 1, "env_c1": 1})
        scene.heal()
        assert once() == (0, dict.fromkeys(EVERYTHING, 1))
