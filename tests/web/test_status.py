"""The status page gets of each part of the exporter what that part says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from exporter import __version__
from exporter.api.budget import Budget
from exporter.clock import Clock
from exporter.config.model import ApiConfig, Config, DiscoveryConfig, EnvironmentConfig
from exporter.web.status import StatusSource
from exporter.web.status_page import BudgetStatus, DiscoveryFailure, DiscoveryStatus, Status

NOW = 100.0
EXPECTED = Status(
    version=__version__,
    telemetry_path="/metrics",
    uptime_s=90.0,
    in_force_s=40.0,
    budget=BudgetStatus(limit_per_minute=120, available=60),
)


@dataclass
class Key:
    problem: str | None


def source(current: Config, **parts: Any) -> StatusSource:
    listings = (
        SimpleNamespace(workspace_id="a", found=(1, 2), problem="the API answered 500", found_at=40.0),
        SimpleNamespace(workspace_id="b", found=None, problem="the API answered 403", found_at=float("-inf")),
        SimpleNamespace(workspace_id="c", found=(3,), problem=None, found_at=90.0),
    )
    defaults: dict[str, Any] = {
        "telemetry_path": "/metrics",
        "started_at": 10.0,
        "clock": Clock(wall=lambda: 1000.0, monotonic=lambda: NOW),
        "config": SimpleNamespace(current=current, in_force_at=60.0, problems=()),
        "budget": Budget(per_minute=120, min_interval_s=10, now=NOW, jitter=lambda: 0.5),
        "discovery": SimpleNamespace(listings=listings, environments=(1, 2, 3), due_in_s=25.0),
        "connect_options": SimpleNamespace(problem=None),
        "web_config": SimpleNamespace(problems=()),
    }
    return StatusSource(**(defaults | parts))


def test_a_quiet_exporter_has_nothing_to_complain_about() -> None:
    assert source(Config()).status() == EXPECTED


def test_a_pause_shows_how_long_it_lasts() -> None:
    budget = Budget(per_minute=120, min_interval_s=10, now=NOW, jitter=lambda: 0.5)
    budget.rate_limited(30.0, now=NOW)
    status = source(Config(), budget=budget).status()
    assert status.budget == BudgetStatus(limit_per_minute=60, available=0, waits_s=30.0)


def test_discovery_shows_what_it_found_and_when_it_asks_again() -> None:
    status = source(Config(discovery=DiscoveryConfig(enabled=True))).status()
    assert status.discovery == DiscoveryStatus(
        found=3,
        due_in_s=25.0,
        workspaces=3,
        failures=(
            DiscoveryFailure(workspace_id="a", problem="the API answered 500", kept=2, listed_ago_s=60.0),
            DiscoveryFailure(workspace_id="b", problem="the API answered 403", kept=None, listed_ago_s=float("inf")),
        ),
    )


def test_before_the_first_answer_discovery_shows_that_nothing_was_found_yet() -> None:
    listing = SimpleNamespace(workspace_id="", found=None, problem=None, found_at=float("-inf"))
    discovery = SimpleNamespace(listings=(listing,), environments=(), due_in_s=0.0)
    status = source(Config(discovery=DiscoveryConfig(enabled=True)), discovery=discovery).status()
    assert status.discovery == DiscoveryStatus(found=None, due_in_s=0.0)


def test_every_stale_file_and_the_last_reload_are_complained_about() -> None:
    gone: Any = Key("/keys/one: no such file")
    config = Config(
        api=ApiConfig(api_key=gone),
        environments=(
            EnvironmentConfig(id="env_1", name="one", environment_key=gone),
            EnvironmentConfig(id="env_2", name="two"),
        ),
    )
    parts = {
        "config": SimpleNamespace(current=config, in_force_at=60.0, problems=("scrape.timeout: no duration",)),
        "connect_options": SimpleNamespace(problem="/ca.pem: not a certificate"),
        "web_config": SimpleNamespace(problems=("/web.yml: gone",)),
    }
    assert source(config, **parts).status() == replace(
        EXPECTED,
        refused=("scrape.timeout: no duration",),
        warnings=(
            "api: /keys/one: no such file; the last good key is used",
            "one: /keys/one: no such file; the last good key is used",
            "/ca.pem: not a certificate",
            "/web.yml: gone",
        ),
    )
