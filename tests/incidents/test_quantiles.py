"""How far the quantile that Prometheus computes from the exporter's buckets is from that of the waits themselves."""

from __future__ import annotations

import json
import random
import re
import subprocess
from bisect import bisect_right
from typing import TYPE_CHECKING

import pytest

from dashboards import recordings
from dashboards import thresholds as t
from exporter.config.model import WorkConfig
from tests.incidents.laboratory import RULE_FILES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.e2e

ITEMS = 2000
MOST_ERROR = 0.15
STEPS = 120
# Waits in seconds: an idle fleet, one that a webhook wakes, a busy one, and one that is too small.
SHAPES: dict[str, Callable[[random.Random], float]] = {
    "idle": lambda dice: dice.expovariate(1 / 2.5),
    "webhook": lambda dice: dice.gauss(14, 3),
    "busy": lambda dice: dice.lognormvariate(3.5, 1.0),
    "too_small": lambda dice: dice.uniform(0, 782),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shown_p95_is_near_that_of_the_waits(shape: str, tmp_path: Path) -> None:
    dice = random.Random(shape)  # noqa: S311 -- traffic, no secret
    waits = sorted(max(0.0, SHAPES[shape](dice)) for _ in range(ITEMS))
    exact = waits[int(t.WAIT_OBJECTIVE_QUANTILE * ITEMS)]
    assert shown_p95(waits, tmp_path) == pytest.approx(exact, rel=MOST_ERROR)


def shown_p95(waits: list[float], directory: Path) -> float:
    """Return what the recorded rule says of these waits, evenly spread over its window."""
    environment = 'job="managed-agents",environment_id="env_1",environment_name="one"'
    bounds = [*WorkConfig().duration_buckets, float("inf")]
    series = [
        {
            "series": f'managed_agents_work_queue_wait_seconds_bucket{{{environment},le="{_written(bound)}"}}',
            "values": f"0+{bisect_right(waits, bound) / STEPS}x{STEPS}",
        }
        for bound in bounds
    ]
    expected = {
        "expr": recordings.WAIT_QUANTILE.record,
        "eval_time": "30m",
        "exp_samples": [{"labels": "x", "value": 1}],
    }
    tests = [{"interval": "15s", "input_series": series, "promql_expr_test": [expected]}]
    path = directory / "quantile.yml"
    document = {"rule_files": list(map(str, RULE_FILES)), "evaluation_interval": "30m", "tests": tests}
    path.write_text(json.dumps(document))
    done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False)
    (found,) = re.findall(r"got: .*\} (\S+)$", done.stderr, re.MULTILINE)
    return float(found)


def _written(bound: float) -> str:
    return "+Inf" if bound == float("inf") else repr(float(bound))
