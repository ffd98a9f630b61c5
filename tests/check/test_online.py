"""The check before the first scrape: which credential serves for what, and what to do where none does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any, Literal

import anyio
import pytest

from exporter.app import App, Settings
from exporter.check.remedies import CLOUD, NO_LIST, NO_WORKSPACE, REMEDY_BY_REASON, RENEW_BY_CREDENTIAL, UNFINISHED
from exporter.clock import Clock
from exporter.config.load import load
from exporter.log import Log
from exporter.simulator import Options, Rules, World
from exporter.simulator.options import ENVIRONMENT, ORGANISATION, Call
from exporter.web.routes import WebSettings
from exporter.web.web_config_reload import ReloadingWebConfig
from tests.ample import AMPLE_S
from tests.exported import COMMAND, free_port, long_call_s, write_config
from tests.simulated import Running, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.check.report import Report


@pytest.fixture
def simulator() -> Iterator[Running]:
    with running(world_of(3)) as simulator:
        yield simulator


def world_of(count: int) -> World:
    world = World(time.time)
    for number in range(count):
        environment = world.add_environment(f"env_{number}", name=f"name-{number}", key=f"key-{number}")
        for _ in range(12):
            environment.create()
    return world


def checked(config: Path) -> Report:
    log = Log("exporter.tests")
    settings = Settings(
        load=lambda: load(config, {}),
        web=WebSettings(),
        web_config=ReloadingWebConfig(None, log),
        clock=Clock(),
        log=log,
    )
    return anyio.run(App(settings).check_online)


def changed(config: Path, **sections: Any) -> Path:
    document = json.loads(config.read_text())
    config.write_text(json.dumps({**document, **sections}))
    return config


def remedies(report: Report) -> dict[str, tuple[str, ...]]:
    """Return every environment's remedies, those of fine ones too: none."""
    return {each.environment.id: each.remedies() for each in report.environments}


def without_times(report: Report) -> list[str]:
    return [re.sub(r"\d+ ms", "N ms", line) for line in report.lines()]


def test_a_healthy_fleet_needs_no_remedy_and_few_calls(simulator: Running, tmp_path: Path) -> None:
    report = checked(write_config(tmp_path, simulator))
    assert report.fine
    assert without_times(report) == [
        "environments: API key works (N ms): 3 self-hosted, 0 other",
        *(
            line
            for number in range(3)
            for line in (
                f"ok: name-{number} (env_{number})",
                "  type: self-hosted",
                "  stats: API key works (N ms), environment key works (N ms)",
                "  list: environment key works (N ms), API key is refused (403)",
                "  listing: 12 items",
            )
        ),
        "clock: in step with the API's",
        "3 of 3 environments can be exported in full",
    ]
    assert simulator.calls.count() <= 1 + 3 * 6
    assert simulator.calls.count("poll") == 0


def test_a_wrong_environment_key_and_a_cloud_environment_are_distinguished(simulator: Running, tmp_path: Path) -> None:
    simulator.call(simulator.world.add_environment, "env_cloud", name="cloud", key="cloud", kind="cloud")
    config = write_config(tmp_path, simulator)
    (tmp_path / "env_1.key").write_text("revoked\n")
    report = checked(config)
    assert not report.fine
    assert remedies(report) == {
        "env_0": (),
        "env_1": (RENEW_BY_CREDENTIAL["environment_key"],),
        "env_2": (),
        "env_cloud": (CLOUD,),
    }


def test_a_cloud_environment_is_recognised_without_the_list_of_environments(simulator: Running, tmp_path: Path) -> None:
    simulator.call(simulator.world.add_environment, "env_cloud", name="cloud", key="cloud", kind="cloud")
    config = write_config(tmp_path, simulator)
    api = json.loads(config.read_text())["api"]
    del api["api_key_file"]
    report = checked(changed(config, api=api))
    assert remedies(report)["env_cloud"] == (CLOUD,)
    assert [each.kind for each in report.environments] == ["self-hosted"] * 3 + ["cloud"]
    assert simulator.calls.count("environments") == 0


def test_a_wrong_api_key_is_a_fault_even_where_the_environments_own_keys_suffice(
    simulator: Running, tmp_path: Path
) -> None:
    config = write_config(tmp_path, simulator)
    (tmp_path / "api-key").write_text("revoked\n")
    report = checked(config)
    assert set(remedies(report).values()) == {(RENEW_BY_CREDENTIAL["api_key"],)}
    assert without_times(report)[0] == "environments: API key is refused (401); discovery does not need it"


def test_an_api_key_that_serves_discovery_alone_is_no_fault(simulator: Running, tmp_path: Path) -> None:
    simulator.options.accepted[Call.STATS] = ENVIRONMENT
    report = checked(write_config(tmp_path, simulator))
    assert report.fine
    assert "  stats: API key is refused (403), environment key works (N ms)" in without_times(report)


def test_an_api_key_that_serves_another_environment_alone_is_no_fault(simulator: Running, tmp_path: Path) -> None:
    simulator.options.accepted[Call.ENVIRONMENTS] = frozenset()
    simulator.options.accepted[Call.STATS] = ENVIRONMENT
    simulator.options.accepted_by_environment["env_2"] = {Call.STATS: ORGANISATION | ENVIRONMENT}
    assert checked(write_config(tmp_path, simulator)).fine


def test_an_api_key_that_serves_discovery_alone_does_not_excuse_a_wrong_environment_key(
    simulator: Running, tmp_path: Path
) -> None:
    simulator.options.accepted[Call.STATS] = ENVIRONMENT
    config = write_config(tmp_path, simulator)
    (tmp_path / "env_1.key").write_text("revoked\n")
    assert remedies(checked(config)) == {"env_0": (), "env_1": (RENEW_BY_CREDENTIAL["environment_key"],), "env_2": ()}


def test_an_unreachable_host_costs_one_call_an_environment(simulator: Running, tmp_path: Path) -> None:
    config = write_config(tmp_path, simulator, api={"base_url": f"http://127.0.0.1:{free_port()}/v1"})
    report = checked(config)
    assert set(remedies(report).values()) == {(REMEDY_BY_REASON["connect"],)}
    assert all(len(each.trials) == 1 for each in report.environments)
    assert report.server_ahead_s is None


def test_a_silent_host_is_distinguished_from_one_that_refuses(simulator: Running, tmp_path: Path) -> None:
    hang_s = long_call_s(write_config(tmp_path, simulator), tmp_path)
    simulator.faults.inject("hang", environment_id="env_2")
    report = checked(write_config(tmp_path, simulator, api={"timeout": f"{round(hang_s * 1000)}ms"}))
    assert remedies(report) == {"env_0": (), "env_1": (), "env_2": (REMEDY_BY_REASON["timeout"],)}


def test_an_environment_that_does_not_exist_is_named(simulator: Running, tmp_path: Path) -> None:
    config = write_config(tmp_path, simulator)
    simulator.call(simulator.world.delete_environment, "env_1")
    assert remedies(checked(config))["env_1"] == (REMEDY_BY_REASON["not_found"],)


def test_discovered_environments_are_checked_too(tmp_path: Path) -> None:
    with running(world_of(2)) as simulator:
        config = changed(write_config(tmp_path, simulator), discovery={"enabled": True}, environments=[])
        assert remedies(checked(config)) == {"env_0": (NO_LIST,), "env_1": (NO_LIST,)}
        simulator.options.accepted[Call.LIST] = ORGANISATION
        assert checked(config).fine
        simulator.faults.inject("status-401", call="environments")
        report = checked(config)
        assert (report.fine, [each.remedies() for each in report.environment_lists]) == (
            False,
            [(RENEW_BY_CREDENTIAL["api_key"],)],
        )


def test_every_workspace_is_checked_and_every_environment_in_its_own(simulator: Running, tmp_path: Path) -> None:
    for number in range(3):
        simulator.world.place(f"wrkspc_{number}", f"env_{number}")
    simulator.options.accepted[Call.LIST] = ORGANISATION | ENVIRONMENT
    config = write_config(tmp_path, simulator)
    (configured, *_) = json.loads(config.read_text())["environments"]
    changed(
        config,
        environments=[{**configured, "workspace_id": "wrkspc_0"}],
        discovery={"enabled": True, "workspaces": ["wrkspc_1", "wrkspc_2"]},
    )
    report = checked(config)
    assert report.fine, without_times(report)
    assert [line for line in without_times(report) if not line.startswith(" ")] == [
        *(f"environments of wrkspc_{number}: API key works (N ms): 1 self-hosted, 0 other" for number in (1, 2, 0)),
        "ok: name-0 (env_0)",
        "ok: name-1 (env_1)",
        "ok: name-2 (env_2)",
        "clock: in step with the API's",
        "3 of 3 environments can be exported in full",
    ]
    simulator.faults.inject("status-403", call="environments", workspace_id="wrkspc_2")
    lines = without_times(checked(config))
    assert "FAILED: environments of wrkspc_2: API key is refused (403)" in lines
    assert "2 of 2 environments can be exported in full" in lines


@pytest.mark.parametrize("status", [400, 403])
def test_an_organisations_key_without_a_workspace_gets_its_own_sentence(
    simulator: Running, tmp_path: Path, status: Literal[400, 403]
) -> None:
    simulator.world.place("wrkspc_1", "env_0", "env_1", "env_2")
    simulator.options.unnamed_workspace_status = status
    config = changed(write_config(tmp_path, simulator), discovery={"enabled": True})
    report = checked(config)
    assert [each.remedies() for each in report.environment_lists] == [(NO_WORKSPACE,)]
    assert set(remedies(report).values()) == {(NO_WORKSPACE,)}
    api = {**json.loads(config.read_text())["api"], "workspace_id": "wrkspc_1"}
    assert checked(changed(config, api=api)).fine


def test_without_listing_no_list_is_called(simulator: Running, tmp_path: Path) -> None:
    config = write_config(tmp_path, simulator, listing={"enabled": False})
    (tmp_path / "env_1.key").unlink()
    document = json.loads(config.read_text())
    del document["environments"][1]["environment_key_file"]
    assert checked(changed(config, **document)).fine
    assert simulator.calls.count("list") == 0


def test_a_server_with_small_pages_is_understood(tmp_path: Path) -> None:
    world = World(time.time)
    rules = Rules(page_max=100, order="oldest_first")
    environment = world.add_environment("env_small", name="env_small", key="key", rules=rules)
    environment.add_finished(1500, spacing_s=1.0)
    with running(world) as simulator:
        report = checked(write_config(tmp_path, simulator))
        assert report.fine
        lines = without_times(report)
        assert "ok: env_small" in lines
        assert "  listing: more than 500 items" in lines
        assert simulator.calls.count("list") <= 8


def test_no_more_calls_are_made_than_the_budget_has(
    simulator: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.check.online.LIMIT_S", 0.6)
    report = checked(write_config(tmp_path, simulator, api={"requests_per_minute": 8}))
    assert not report.fine
    assert all(found[0] == UNFINISHED for found in remedies(report).values())
    assert simulator.calls.count() <= 4


def test_a_clock_that_is_off_is_reported(tmp_path: Path) -> None:
    with running(world_of(1), Options(date_skew_s=-90.0)) as simulator:
        report = checked(write_config(tmp_path, simulator))
        assert report.fine
        (line,) = (line for line in report.lines() if "clock" in line)
        assert line.startswith("warning: clock: the API's is 90 s behind this machine's")


def test_the_command_ends_with_1_and_a_remedy_for_each_failure(simulator: Running, tmp_path: Path) -> None:
    config = write_config(tmp_path, simulator)
    assert check(config, "--config.check=online").returncode == 0
    (tmp_path / "env_1.key").write_text("revoked-c4nary\n")
    ended = check(config, "--config.check=online")
    assert ended.returncode == 1
    assert ended.stderr == ""
    assert [line for line in ended.stdout.splitlines() if "FAILED" in line] == ["FAILED: name-1 (env_1)"]
    assert f"  remedy: {RENEW_BY_CREDENTIAL['environment_key']}" in ended.stdout.splitlines()
    assert "c4nary" not in ended.stdout
    assert check(config, "--config.check=sometimes").returncode == 2


def test_the_check_without_a_value_makes_no_call(simulator: Running, tmp_path: Path) -> None:
    config = write_config(tmp_path, simulator)
    assert check(config, "--config.check").returncode == 0
    assert simulator.calls.count() == 0


def check(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
    command = [*COMMAND, *arguments, f"--config.file={config}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=AMPLE_S, check=False, env=bare)
