"""The query that scales workers: what there is to do, or nothing at all; never 0 because nobody could tell."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from exporter.metrics import catalogue

if TYPE_CHECKING:
    from collections.abc import Mapping

SCALED_OBJECT = Path(__file__).parents[2] / "config/kubernetes/scaledobject.yaml"
STEP_S = 15
END_S = 900
TROUBLE_S = 300
GATE_S = 120
FRESH_S = 10
ENVIRONMENT_ID = "env_011CZkZ9X2dpNyB7HsEFoRfW"

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool evaluates the query")


def trigger() -> dict[str, str]:
    (only,) = yaml.safe_load(SCALED_OBJECT.read_text())["spec"]["triggers"]
    settings: dict[str, str] = only["metadata"]
    return settings


def series(name: str, *, instance: str, environment_id: str = ENVIRONMENT_ID, **labels: str) -> str:
    every = {"job": "managed-agents", "instance": instance, "environment_id": environment_id, **labels}
    shown = ",".join(f'{key}="{value}"' for key, value in every.items())
    return f"managed_agents_{name}{{{shown}}}"


DEPTH, PENDING, STATS_AGE, LIST_AGE = "queue_depth", "queue_pending", "stats_age", "list_age"
STATES = ("queued", "starting", "active", "stopping", "stopped", "unknown")
BUSY = {DEPTH: 3, PENDING: 1, "queued": 4, "starting": 1, "active": 5, "stopping": 2, "stopped": 90, "unknown": 0}
DEMAND = 12
IDLE = dict.fromkeys(BUSY, 0)
QUEUE = frozenset({DEPTH, PENDING, STATS_AGE})
WORK = frozenset({*STATES, LIST_AGE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What one exporter shows. From `TROUBLE_S` on, for `lasting_s`, it goes wrong.

    `gone`: series that end, marked stale as after a failed scrape or an absent metric; `silent`: that end without a mark, as when
    who scrapes has died; `unread`: ages that grow, because nothing is read any more.
    """

    numbers: Mapping[str, int] = field(default_factory=lambda: BUSY)
    gone: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()
    lasting_s: int = END_S
    instance: str = "a:9831"

    def input_series(self) -> list[dict[str, str]]:
        return [
            {"series": self._series(name), "values": " ".join(self._values(name))}
            for name in (*self.numbers, STATS_AGE, LIST_AGE)
        ]

    def _series(self, name: str) -> str:
        if name in {STATS_AGE, LIST_AGE}:
            return series("data_age_seconds", instance=self.instance, source=name.removesuffix("_age"))
        if name in STATES:
            return series("work_items", instance=self.instance, state=name)
        return series(name, instance=self.instance)

    def _values(self, name: str) -> list[str]:
        return [self._value(name, at) for at in range(0, END_S + 1, STEP_S)]

    def _value(self, name: str, at: int) -> str:
        in_trouble = TROUBLE_S <= at < TROUBLE_S + self.lasting_s
        if in_trouble and name in self.gone:
            first = at == TROUBLE_S
            return "stale" if first else "_"
        if in_trouble and name in self.silent:
            return "_"
        if name in {STATS_AGE, LIST_AGE}:
            return str(FRESH_S + (at - TROUBLE_S if in_trouble and name in self.unread else 0))
        return str(self.numbers[name])


def evaluated(tmp_path: Path, scenes: list[Scene], expected_at: Mapping[int, int | None]) -> None:
    """Have promtool compare the answers at those seconds; None is an empty one."""
    query = trigger()["query"]
    tests = [
        {
            "expr": query,
            "eval_time": f"{at}s",
            "exp_samples": [] if value is None else [{"labels": "{}", "value": value}],
        }
        for at, value in expected_at.items()
    ]
    group = {
        "interval": f"{STEP_S}s",
        "input_series": [each for scene in scenes for each in scene.input_series()],
        "promql_expr_test": tests,
    }
    file = tmp_path / "keda.test.yml"
    file.write_text(json.dumps({"evaluation_interval": f"{STEP_S}s", "tests": [group]}))
    ended = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


BEFORE_S = TROUBLE_S - STEP_S
SOON_S = TROUBLE_S + 60
LATE_S = TROUBLE_S + GATE_S + 2 * STEP_S


def test_everything_that_needs_a_worker_counts_once(tmp_path: Path) -> None:
    evaluated(tmp_path, [Scene()], {BEFORE_S: DEMAND, END_S: DEMAND})


def test_an_idle_fleet_is_a_zero_that_was_read(tmp_path: Path) -> None:
    evaluated(tmp_path, [Scene(numbers=IDLE)], {BEFORE_S: 0, END_S: 0})


def test_two_replicas_of_the_exporter_do_not_double_the_demand(tmp_path: Path) -> None:
    evaluated(tmp_path, [Scene(), Scene(instance="b:9831")], {BEFORE_S: DEMAND})


def test_one_of_two_replicas_is_enough(tmp_path: Path) -> None:
    down = Scene(gone=QUEUE | WORK, instance="b:9831")
    evaluated(tmp_path, [Scene(), down], {SOON_S: DEMAND, LATE_S: DEMAND, END_S: DEMAND})


def test_one_of_two_replicas_with_fresh_numbers_is_enough(tmp_path: Path) -> None:
    without_budget = Scene(unread=frozenset({STATS_AGE, LIST_AGE}), instance="b:9831")
    evaluated(tmp_path, [Scene(), without_budget], {SOON_S: DEMAND, LATE_S: DEMAND, END_S: DEMAND})


def test_no_two_machines_clocks_are_compared() -> None:
    assert not re.search(r"\btime\(\)|timestamp", trigger()["query"])


def test_one_missed_scrape_changes_nothing(tmp_path: Path) -> None:
    scene = Scene(gone=QUEUE | WORK, lasting_s=STEP_S)
    evaluated(tmp_path, [scene], {TROUBLE_S: DEMAND, TROUBLE_S + STEP_S: DEMAND, END_S: DEMAND})


@pytest.mark.parametrize("numbers", [BUSY, IDLE])
@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(Scene(gone=QUEUE | WORK), id="the exporter is down"),
        pytest.param(Scene(silent=QUEUE | WORK), id="nobody scrapes any more"),
        pytest.param(Scene(unread=frozenset({STATS_AGE, LIST_AGE})), id="the exporter has no budget left"),
        pytest.param(Scene(unread=frozenset({STATS_AGE})), id="stats are old"),
        pytest.param(Scene(unread=frozenset({LIST_AGE})), id="the list is old"),
        pytest.param(Scene(gone=QUEUE), id="stats are unreadable"),
        pytest.param(Scene(gone=WORK), id="the list is unreadable or incomplete"),
        pytest.param(Scene(gone=frozenset(STATES)), id="no counts by state"),
        pytest.param(Scene(gone=frozenset({PENDING})), id="half of the stats"),
    ],
)
def test_what_cannot_be_known_is_empty_and_not_zero(numbers: Mapping[str, int], trouble: Scene, tmp_path: Path) -> None:
    demand = DEMAND if numbers is BUSY else 0
    scene = replace(trouble, numbers=numbers)
    evaluated(tmp_path, [scene], {BEFORE_S: demand, SOON_S: demand, LATE_S: None, END_S: None})


def test_the_answer_is_empty_before_the_first_scrape_and_for_another_environment(tmp_path: Path) -> None:
    nothing = Scene(gone=QUEUE | WORK, lasting_s=END_S)
    evaluated(tmp_path, [nothing], {END_S: None})
    evaluated(tmp_path, [], {END_S: None})


def test_recovery_brings_the_number_back(tmp_path: Path) -> None:
    scene = Scene(gone=QUEUE | WORK, lasting_s=GATE_S + 4 * STEP_S)
    evaluated(tmp_path, [scene], {LATE_S: None, END_S: DEMAND})


def test_an_empty_answer_is_an_error_for_keda_and_leads_to_the_fallback() -> None:
    spec = yaml.safe_load(SCALED_OBJECT.read_text())["spec"]
    assert trigger()["ignoreNullValues"] == "false"
    assert spec["triggers"][0]["metricType"] == "AverageValue", "KEDA's fallback works with no other"
    assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert spec["fallback"]["replicas"] >= spec["minReplicaCount"] >= 1
    assert trigger()["threshold"] == "1"


def test_the_query_asks_for_metrics_that_exist() -> None:
    asked = set(re.findall(r"managed_agents_\w+", trigger()["query"]))
    assert asked <= {metric.name for metric in catalogue.CATALOGUE}
    assert len(asked) == 4
