"""Recording rules and alerts, as Prometheus' own test tool evaluates them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards import recordings, rules
from dashboards import thresholds as t
from dashboards.addresses import EXPORTER_URL, GRAFANA_URL
from tests.shipped.promql_reading import decides, exposed, metric_names
from tests.shipped.rule_scenarios import (
    ACKNOWLEDGED,
    CALM_COUNTERS,
    CALM_GAUGES,
    CALM_S,
    CLOCK_OFFSET,
    DEPTH,
    DRIFT,
    ENVIRONMENT,
    HEARTBEAT_AGE,
    IN_TIME,
    INFO,
    LIST_AGE,
    LISTED,
    LISTING_SERIES,
    OLDEST_AGE,
    OVERDUE,
    PENDING,
    QUEUE_SERIES,
    READABLE,
    RELOADED,
    RUN_SECONDS,
    SCRAPED,
    STARTED,
    STARTED_AT,
    STARTUP_SECONDS,
    STATS_AGE,
    STEP_S,
    THROTTLED,
    WORKERS,
    Samples,
    Timeline,
    Trouble,
    discovery_errors,
    environment,
    errors,
    failure,
    finished,
    input_series,
    items,
    ran_within,
    samples,
    state_age,
    waited,
)

ROOT = Path(__file__).parents[2]
RULE_FILES = sorted((ROOT / "config/prometheus/rules").glob("*.yml"))
LOOKBACK_S = 120
FIRING = 'count by (alertname, severity) (ALERTS{alertstate="firing",alertname!="ManagedAgentsWatchdog"})'
TEXTS: dict[str, str] = json.loads(Path(__file__).with_name("alert_texts.json").read_text(encoding="utf-8"))
NUMBER = re.compile(r"(\d+)m (\d+)s|(\d+(?:\.\d+)?)")
NOTHING_EXPORTED = dict.fromkeys((*CALM_GAUGES, *CALM_COUNTERS))

Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A trouble and the alert it must cause, `onset_s` (earliest, latest) after it began plus the alert's `for`."""

    name: str
    severity: str
    trouble: Trouble
    onset_s: tuple[int, int] = (0, 0)
    labels: dict[str, str] = field(default_factory=dict)
    clears_s: int = 30
    # Each group of series alone makes the cause unknown when it is absent, and then the alert is silent.
    silent_without: tuple[tuple[str, ...], ...] = ()
    # Other alerts that the same trouble causes by then.
    also: set[Key] = field(default_factory=set)

    @property
    def alert(self) -> rules.Alert:
        return _alert(self.name, self.severity)

    @property
    def hold_s(self) -> int:
        return seconds(self.alert.hold)

    @property
    def too_early_s(self) -> int:
        return CALM_S + self.onset_s[0] + self.hold_s - STEP_S

    @property
    def fires_s(self) -> int:
        return CALM_S + self.onset_s[1] + self.hold_s + 2 * STEP_S

    @property
    def trouble_s(self) -> int:
        return self.onset_s[1] + self.hold_s + 300

    def timeline(self, *, missed_at_s: int | None = None) -> Timeline:
        end_s = CALM_S + self.trouble_s + self.clears_s + 2 * STEP_S
        return Timeline(trouble_s=self.trouble_s, end_s=end_s, missed_at_s=missed_at_s)


def _alert(name: str, severity: str) -> rules.Alert:
    return next(a for a in rules.ALERTS if (a.name, a.severity) == (name, severity))


def seconds(duration: str) -> int:
    count, unit = int(duration[:-1]), duration[-1]
    return count * {"s": 1, "m": 60, "h": 3600}[unit]


CASES = (
    Case(
        name="NobodyPolling",
        severity="critical",
        trouble=Trouble(gauges={DEPTH: 4, OLDEST_AGE: lambda s: s, WORKERS: 0, items("active"): 0, HEARTBEAT_AGE: 0}),
        onset_s=(LOOKBACK_S - STEP_S, LOOKBACK_S),
        silent_without=((DEPTH,), (WORKERS,), (STATS_AGE,), (LIST_AGE,)),
    ),
    Case(
        name="NobodyPolling",
        severity="warning",
        trouble=Trouble(
            gauges={
                DEPTH: 4,
                OLDEST_AGE: 200,
                WORKERS: 0,
                LISTED: 0,
                **dict.fromkeys(LISTING_SERIES),
                failure("list", "server"): 1,
            }
        ),
        onset_s=(LOOKBACK_S - STEP_S, LOOKBACK_S + STEP_S),
        silent_without=((DEPTH,), (WORKERS,), (STATS_AGE,)),
    ),
    Case(
        name="WorkersLeaving",
        severity="critical",
        trouble=Trouble(
            gauges={DEPTH: 4, OLDEST_AGE: 45, WORKERS: 0, items("active"): 8}, counters={ACKNOWLEDGED: 0, IN_TIME: 0}
        ),
        onset_s=(270, 330),
        clears_s=300,
        silent_without=((DEPTH,), (WORKERS,), (items("active"),), (OVERDUE,), (LIST_AGE,)),
    ),
    Case(
        name="WorkersSaturated",
        severity="warning",
        trouble=Trouble(gauges={DEPTH: 4, OLDEST_AGE: 45, WORKERS: 0, items("active"): 5}),
        onset_s=(540, 600),
        silent_without=((DEPTH,),),
    ),
    Case(
        name="FleetAbsent",
        severity="warning",
        trouble=Trouble(gauges={WORKERS: 0, items("active"): 0, HEARTBEAT_AGE: 0}),
        onset_s=(LOOKBACK_S - STEP_S, LOOKBACK_S),
        silent_without=((DEPTH,), (WORKERS,), (INFO,), (LIST_AGE,)),
    ),
    Case(
        name="WorkersUnknown",
        severity="info",
        trouble=Trouble(gauges={WORKERS: None}),
        onset_s=(LOOKBACK_S - STEP_S, LOOKBACK_S),
        silent_without=((READABLE,),),
    ),
    Case(
        name="BacklogAgeing",
        severity="warning",
        trouble=Trouble(gauges={DEPTH: 4, OLDEST_AGE: t.WAIT_WARNING_S + 1}),
        silent_without=((OLDEST_AGE,),),
    ),
    Case(
        name="BacklogAgeing",
        severity="critical",
        trouble=Trouble(gauges={DEPTH: 4, OLDEST_AGE: t.WAIT_CRITICAL_S + 1}),
        silent_without=((OLDEST_AGE,),),
        also={("BacklogAgeing", "warning")},
    ),
    Case(
        name="BacklogGrowing",
        severity="warning",
        trouble=Trouble(gauges={DEPTH: lambda s: s // 20}),
        onset_s=(180, 600),
        also={("WorkersSaturated", "warning")},
        silent_without=((DEPTH,),),
    ),
    Case(
        name="ClaimedNotAcknowledged",
        severity="warning",
        trouble=Trouble(gauges={PENDING: 2, OLDEST_AGE: 200}),
        silent_without=((PENDING,), (OLDEST_AGE,), (WORKERS,)),
    ),
    Case(
        name="ClaimedNotAcknowledged",
        severity="critical",
        trouble=Trouble(gauges={PENDING: 2, OLDEST_AGE: 200}, counters={ACKNOWLEDGED: 0, IN_TIME: 0}),
        also={("ClaimedNotAcknowledged", "warning")},
        onset_s=(120, 210),
        silent_without=((PENDING,), (OLDEST_AGE,), (WORKERS,), (LIST_AGE,)),
    ),
    Case(
        name="NothingStarts",
        severity="critical",
        trouble=Trouble(counters={STARTED: 0, STARTUP_SECONDS: 0}),
        onset_s=(180, 270),
        clears_s=60,
        silent_without=((LIST_AGE,),),
    ),
    Case(
        name="RunsEndAtOnce",
        severity="critical",
        trouble=Trouble(counters={ran_within("5.0"): 1, RUN_SECONDS: 2}),
        onset_s=(150, 270),
        clears_s=480,
    ),
    Case(
        name="StuckStarting",
        severity="warning",
        trouble=Trouble(gauges={items("starting"): 1, state_age("starting"): t.STARTING_S + 1}),
        labels={"state": "starting"},
        silent_without=((state_age("starting"),),),
    ),
    Case(
        name="StuckStopping",
        severity="warning",
        trouble=Trouble(gauges={items("stopping"): 3, state_age("stopping"): t.STOPPING_S + 1}),
        labels={"state": "stopping"},
        silent_without=((state_age("stopping"),),),
    ),
    Case(
        name="HeartbeatsOverdue",
        severity="warning",
        trouble=Trouble(gauges={OVERDUE: 1, HEARTBEAT_AGE: 150}),
        silent_without=((OVERDUE,), (LIST_AGE,)),
    ),
    Case(
        name="HeartbeatsOverdue",
        severity="critical",
        trouble=Trouble(gauges={items("active"): 4, OVERDUE: 3, HEARTBEAT_AGE: 150}),
        silent_without=((OVERDUE,), (items("active"),), (LIST_AGE,)),
        also={("HeartbeatsOverdue", "warning")},
    ),
    Case(
        name="StoppedWithoutStarting",
        severity="warning",
        trouble=Trouble(counters={finished("never_started"): 1}),
        labels={"outcome": "never_started"},
        onset_s=(STEP_S, 3 * STEP_S),
        clears_s=seconds(t.NEVER_STARTED_WINDOW) + 60,
    ),
    Case(
        name="ApiUnavailable",
        severity="critical",
        trouble=Trouble(gauges={READABLE: 0, **dict.fromkeys(QUEUE_SERIES), failure("stats", "server"): 1}),
        silent_without=((READABLE,),),
    ),
    Case(
        name="EnvironmentUnreadable",
        severity="warning",
        trouble=Trouble(gauges={READABLE: 0, **dict.fromkeys(QUEUE_SERIES), failure("stats", "timeout"): 1}),
        silent_without=((READABLE,),),
        # It is the only environment of its job.
        also={("ApiUnavailable", "critical")},
    ),
    Case(
        name="EnvironmentUnreadable",
        severity="critical",
        trouble=Trouble(gauges={READABLE: 0, **dict.fromkeys(QUEUE_SERIES), failure("stats", "rate_limited"): 1}),
        silent_without=((READABLE,),),
    ),
    Case(
        name="EnvironmentNotFound",
        severity="warning",
        trouble=Trouble(gauges={READABLE: 0, **dict.fromkeys(QUEUE_SERIES), failure("stats", "not_found"): 1}),
        silent_without=((READABLE,), (failure("stats", "not_found"),)),
        clears_s=30,
    ),
    Case(
        name="CredentialsRejected",
        severity="warning",
        trouble=Trouble(gauges={failure("list", "auth"): 1}),
        labels={"source": "list", "reason": "auth"},
        silent_without=((failure("list", "auth"),),),
        clears_s=LOOKBACK_S,
    ),
    Case(
        name="NumbersOld",
        severity="warning",
        trouble=Trouble(gauges={STATS_AGE: 150}),
        labels={"source": "stats"},
        onset_s=(270, 330),
        clears_s=330,
        silent_without=((STATS_AGE,), (READABLE,)),
    ),
    Case(
        name="ListingIncomplete",
        severity="warning",
        trouble=Trouble(gauges={LISTED: 0, **dict.fromkeys(LISTING_SERIES), failure("list", "timeout"): 1}),
        silent_without=((LISTED,), (READABLE,)),
    ),
    Case(
        name="ExporterDown",
        severity="critical",
        trouble=Trouble(gauges={**NOTHING_EXPORTED, SCRAPED: 0}),
        also={("EnvironmentsUnwatched", "critical")},
        onset_s=(120, 180),
        clears_s=210,
    ),
    Case(
        name="EnvironmentsUnwatched",
        severity="critical",
        trouble=Trouble(gauges={**NOTHING_EXPORTED, SCRAPED: 0}),
        onset_s=(LOOKBACK_S - STEP_S, LOOKBACK_S),
        also={("ExporterDown", "critical")},
        clears_s=210,
    ),
    Case(
        name="ExporterRestarting",
        severity="warning",
        trouble=Trouble(gauges={STARTED_AT: lambda s: 1 + s // 120}),
        labels={"instance": "a:9831"},
        onset_s=(180, 240),
        clears_s=seconds(t.RESTART_WINDOW),
    ),
    Case(
        name="NoEnvironments",
        severity="warning",
        trouble=Trouble(
            gauges={s: None for s in CALM_GAUGES if s not in (SCRAPED, RELOADED, CLOCK_OFFSET, STARTED_AT)}
        ),
        onset_s=(LOOKBACK_S - STEP_S, LOOKBACK_S),
    ),
    Case(
        name="DiscoveryFailing",
        severity="warning",
        trouble=Trouble(counters={discovery_errors("wrkspc_1"): 0.1}),
        labels={"reason": "auth", "workspace_id": "wrkspc_1"},
        onset_s=(390, 600),
        clears_s=seconds(t.DISCOVERY_RECENT) + 60,
    ),
    Case(
        name="ApiErrors",
        severity="warning",
        trouble=Trouble(counters={errors("server"): 1}),
        labels={"source": "stats"},
        onset_s=(240, 330),
        clears_s=seconds(t.ERROR_WINDOW) + 60,
    ),
    Case(
        name="RateLimited",
        severity="warning",
        trouble=Trouble(counters={errors("rate_limited"): 1}),
        onset_s=(0, 2 * STEP_S),
        clears_s=seconds(t.RATE_LIMITED_WINDOW) + 60,
    ),
    Case(
        name="BudgetExhausted",
        severity="warning",
        trouble=Trouble(counters={THROTTLED: 1}),
        labels={"source": "list"},
        onset_s=(0, 2 * STEP_S),
        clears_s=seconds(t.THROTTLED_WINDOW) + 60,
    ),
    Case(
        name="ClockOffset",
        severity="warning",
        trouble=Trouble(gauges={CLOCK_OFFSET: -180}),
        silent_without=((CLOCK_OFFSET,),),
        clears_s=seconds(t.CLOCK_OFFSET_WINDOW) + 60,
    ),
    Case(
        name="ConfigReloadFailed",
        severity="warning",
        trouble=Trouble(gauges={RELOADED: 0}),
        silent_without=((RELOADED,),),
    ),
    Case(
        name="SchemaDrift",
        severity="info",
        trouble=Trouble(counters={DRIFT: 1}),
        labels={"field": "state"},
        onset_s=(0, 2 * STEP_S),
        clears_s=seconds(t.DRIFT_WINDOW) + 60,
    ),
    Case(
        name="WaitObjectiveMissed",
        severity="critical",
        trouble=Trouble(counters={IN_TIME: 0, waited("30.0"): 0, waited("120.0"): 0}),
        onset_s=(1440, 1620),
        also={("WaitObjectiveMissed", "warning")},
        clears_s=seconds("30m") + 60,
    ),
    Case(
        name="WaitObjectiveMissed",
        severity="warning",
        trouble=Trouble(counters={IN_TIME: 0, waited("30.0"): 0, waited("120.0"): 0}),
        onset_s=(210, 330),
        clears_s=seconds("30m") + 60,
    ),
    Case(
        name="ExporterMissing",
        severity="critical",
        trouble=Trouble(gauges={**NOTHING_EXPORTED, SCRAPED: None}),
        onset_s=(270, 330),
        also={("EnvironmentsUnwatched", "critical")},
    ),
)


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)


def play(tmp_path: Path, *scenarios: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    groups = [group["name"] for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"]]
    document = {
        "rule_files": [str(path) for path in RULE_FILES],
        "evaluation_interval": f"{STEP_S}s",
        "group_eval_order": sorted(groups, key=lambda name: not name.endswith("-recording")),
        "tests": scenarios,
    }
    path = tmp_path / "scenarios.yml"
    path.write_text(json.dumps(document))
    return promtool("test", "rules", path)


def run_scenarios(tmp_path: Path, *scenarios: dict[str, Any]) -> None:
    done = play(tmp_path, *scenarios)
    assert done.returncode == 0, done.stdout + done.stderr


def scenario(name: str, drawn: Samples, firing: dict[int, set[Key]], **more: Any) -> dict[str, Any]:
    """Build a promtool test in which, at each moment, exactly these alerts fire, each once."""
    instances = more.pop("instances", ("a:9831",))
    return {
        "name": name,
        "interval": f"{STEP_S}s",
        "input_series": input_series(drawn, instances=instances),
        "promql_expr_test": [
            {"expr": FIRING, "eval_time": f"{at_s}s", "exp_samples": [_firing_sample(key) for key in sorted(keys)]}
            for at_s, keys in firing.items()
        ],
        **more,
    }


def _firing_sample(key: Key) -> dict[str, Any]:
    name, severity = key
    return {"labels": f'{{alertname="ManagedAgents{name}", severity="{severity}"}}', "value": 1}


SHOWN = re.compile(r"Labels:\{(.*)\}\s*\n\s*Annotations:\{(.*)\}")
PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*")')


def shown(tmp_path: Path, case: Case) -> tuple[dict[str, str], dict[str, str]]:
    """Return the labels and annotations of the case's alert when it fires."""
    test = {"alertname": case.alert.full_name, "eval_time": f"{case.fires_s}s", "exp_alerts": []}
    drawn = samples(case.trouble, case.timeline())
    text = play(tmp_path, scenario("shown", drawn, {}, alert_rule_test=[test])).stderr
    found = [
        [{name: json.loads(value) for name, value in PAIR.findall(part)} for part in pair]
        for pair in SHOWN.findall(text)
    ]
    (labels, annotations), *_ = [(each[0], each[1]) for each in found if each[0]["severity"] == case.severity]
    return labels, annotations


def windows_are_left_open() -> bool:
    """Whether a window leaves out what lies exactly at its beginning, as from Prometheus 3 on."""
    said = subprocess.run(["promtool", "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"version (\d+)", said.stdout + said.stderr)
    return version is None or int(version[1]) >= 3  # `go build` alone leaves the version out


def one_sample_less(text: str, expected: str) -> str:
    """Return the text with the expected numbers, where a window that holds one sample less explains it.

    In these tests samples lie on the edges of windows: an alert fires one step earlier, and of what is not in the window there is one more.
    """
    numbers = iter(NUMBER.finditer(expected))

    def explained(found: re.Match[str]) -> str:
        other = next(numbers, None)
        if other is None or (found[3] is None) != (other[3] is None):
            return found[0]
        most = STEP_S if found[3] is None else 1
        return other[0] if 0 <= _amount(found) - _amount(other) <= most else found[0]

    return NUMBER.sub(explained, text)


def _amount(number: re.Match[str]) -> float:
    minutes, seconds, count = number.groups()
    return float(count) if count else 60.0 * int(minutes) + int(seconds)


def _silent(case: Case, *, at_s: int) -> dict[str, Any]:
    """Expect silence of this alert only; others may fire, for what is missing has alerts of its own."""
    selector = f'ALERTS{{alertstate="firing",alertname="{case.alert.full_name}",severity="{case.severity}"}}'
    return {"promql_expr_test": [{"expr": selector, "eval_time": f"{at_s}s", "exp_samples": []}]}


@pytest.fixture(params=CASES, ids=lambda case: f"{case.name}-{case.severity}")
def case(request: pytest.FixtureRequest) -> Case:
    return request.param  # type: ignore[no-any-return]  # pytest knows no type of a parameter


# Of one instance among several, or of nothing at all.
OF_THEIR_OWN = {("ReplicaDown", "warning"), ("Watchdog", "none")}


def test_every_alert_has_its_trouble() -> None:
    troubled = {(c.name, c.severity) for c in CASES}
    assert troubled == {(a.name, a.severity) for a in rules.ALERTS} - OF_THEIR_OWN
    assert len(CASES) == len(troubled)


@pytest.mark.e2e
def test_alert_fires_and_clears(case: Case, tmp_path: Path) -> None:
    firing = {(case.name, case.severity), *case.also}
    timeline = case.timeline()
    drawn = samples(case.trouble, timeline)
    run_scenarios(
        tmp_path, scenario("calm, trouble, calm", drawn, {CALM_S: set(), case.fires_s: firing, timeline.end_s: set()})
    )


@pytest.mark.e2e
def test_alert_says_what_a_human_can_act_on(case: Case, tmp_path: Path) -> None:
    alert = case.alert
    labels, annotations = shown(tmp_path, case)
    text = TEXTS[f"{case.name} {case.severity}"]
    if windows_are_left_open():
        annotations["description"] = one_sample_less(annotations["description"], text)
    of_environment = {"environment_id": "env_alpha", "environment_name": "alpha"}
    subject = of_environment if alert.subject == "environment" else {}
    board = {
        "environment": "/d/managed-agents-environment?var-environment_name=alpha",
        "exporter": "/d/managed-agents-exporter?var-job=managed-agents",
    }[alert.subject]
    page = f"{EXPORTER_URL}/items?target=env_alpha&state={alert.items}"
    items = {"items_url": page} if alert.items else {}
    assert labels == {
        "alertname": alert.full_name,
        "severity": case.severity,
        "job": "managed-agents",
        **subject,
        **case.labels,
    }
    assert annotations == {
        "summary": alert.summary,
        "description": text,
        "runbook_url": alert.runbook_url,
        "dashboard_url": GRAFANA_URL + board,
        **items,
    }


def test_only_one_sample_less_explains_another_number() -> None:
    expected = "17 worker(s), 8 busy. Since 3m 30s."
    assert one_sample_less("18 worker(s), 8 busy. Since 4m 0s.", expected) == expected
    for other in (
        "19 worker(s), 8 busy. Since 4m 0s.",
        "16 worker(s), 8 busy. Since 5m 0s.",
        "18 workers, 8 busy. Since 3m 30s.",
    ):
        assert one_sample_less(other, expected) != expected


@pytest.mark.e2e
def test_alert_does_not_fire_before_its_time(case: Case, tmp_path: Path) -> None:
    drawn = samples(case.trouble, case.timeline())
    selector = f'ALERTS{{alertstate="firing",alertname="{case.alert.full_name}",severity="{case.severity}"}}'
    early = {"expr": selector, "eval_time": f"{case.too_early_s}s", "exp_samples": []}
    run_scenarios(tmp_path, scenario("too early", drawn, {}, promql_expr_test=[early]))


@pytest.mark.e2e
def test_alert_fires_once_when_two_exporters_see_the_trouble(case: Case, tmp_path: Path) -> None:
    drawn = samples(case.trouble, case.timeline())
    firing = {(case.name, case.severity), *case.also}
    if case.name == "ExporterRestarting":
        pytest.skip("an alert of each instance")
    run_scenarios(tmp_path, scenario("two exporters", drawn, {case.fires_s: firing}, instances=("a:9831", "b:9831")))


@pytest.mark.e2e
def test_one_missed_scrape_does_not_restart_the_wait(case: Case, tmp_path: Path) -> None:
    halfway = CALM_S + case.onset_s[1] + case.hold_s // 2 // STEP_S * STEP_S
    drawn = samples(case.trouble, case.timeline(missed_at_s=halfway))
    firing = {(case.name, case.severity), *case.also}
    run_scenarios(tmp_path, scenario("missed scrape", drawn, {case.fires_s: firing}))


@pytest.mark.e2e
def test_alert_is_silent_when_what_it_rests_on_is_unknown(case: Case, tmp_path: Path) -> None:
    unknown = [
        scenario(
            f"without {series}",
            samples(case.trouble.without(*series), case.timeline()),
            {},
            **_silent(case, at_s=case.fires_s),
        )
        for series in case.silent_without
    ]
    nothing = scenario("nothing exported", {SCRAPED: [1.0] * 120}, {3000: {("NoEnvironments", "warning")}})
    run_scenarios(tmp_path, nothing, *unknown)


@pytest.mark.e2e
def test_a_calm_fleet_fires_nothing(tmp_path: Path) -> None:
    drawn = samples(Trouble(), Timeline(trouble_s=0, end_s=7200))
    run_scenarios(
        tmp_path,
        scenario("one exporter", drawn, {at_s: set() for at_s in (60, 600, 3600, 7200)}),
        scenario("two exporters", drawn, {7200: set()}, instances=("a:9831", "b:9831")),
    )


@pytest.mark.e2e
def test_an_idle_webhook_fleet_fires_nothing(tmp_path: Path) -> None:
    webhook = environment("environment_info", 'worker_mode="webhook",origin="config"')
    idle = Trouble(gauges={WORKERS: 0, items("active"): 0, HEARTBEAT_AGE: 0, INFO: None, webhook: 1})
    drawn = samples(idle, Timeline(trouble_s=7200, end_s=7200))
    run_scenarios(tmp_path, scenario("idle", drawn, {at_s: set() for at_s in (900, 3600, 7200)}))


@pytest.mark.e2e
def test_a_busy_fleet_with_items_on_their_way_to_acknowledgement_fires_nothing(tmp_path: Path) -> None:
    busy = Trouble(gauges={DEPTH: lambda s: 3 * (s // STEP_S % 2), PENDING: 4, OLDEST_AGE: 12, items("active"): 40})
    drawn = samples(busy, Timeline(trouble_s=3600, end_s=4200))
    run_scenarios(tmp_path, scenario("busy", drawn, {at_s: set() for at_s in (900, 3600)}))


@pytest.mark.e2e
def test_nobody_polling_fires_without_a_listing_too(tmp_path: Path) -> None:
    """With listing off nobody knows whether workers are busy; that nobody asks for waiting work is known."""
    off = dict.fromkeys((*LISTING_SERIES, LISTED))
    trouble = Trouble(gauges={**off, DEPTH: 4, OLDEST_AGE: 60, WORKERS: 0})
    drawn = samples(trouble, Timeline(trouble_s=1800, end_s=2400))
    for series in off:
        drawn[series] = [None] * len(drawn[series])
    run_scenarios(tmp_path, scenario("listing off", drawn, {1200: {("NobodyPolling", "critical")}}))


@pytest.mark.e2e
def test_a_short_gap_in_the_listing_does_not_turn_busy_workers_into_absent_ones(tmp_path: Path) -> None:
    busy = {DEPTH: 4, OLDEST_AGE: 60, WORKERS: 0, items("active"): 5}
    gap = {series: _gap(busy.get(series, CALM_GAUGES[series])) for series in LISTING_SERIES}
    drawn = samples(Trouble(gauges={**busy, **gap}), Timeline(trouble_s=1800, end_s=2400))
    run_scenarios(tmp_path, scenario("gap", drawn, {1590: {("WorkersSaturated", "warning")}}))


def _gap(level: Any) -> Any:
    """`level`, except for five minutes."""
    return lambda since: None if 300 <= since < 600 else level


@pytest.mark.e2e
def test_one_exporter_that_can_read_is_enough(tmp_path: Path) -> None:
    blind = samples(Trouble(gauges={READABLE: 0, **dict.fromkeys(QUEUE_SERIES)}), Timeline(trouble_s=3000, end_s=3600))
    seeing = samples(Trouble(), Timeline(trouble_s=0, end_s=3600))
    both = scenario("half blind", blind, {3300: set()})
    both["input_series"] += input_series(seeing, instances=("b:9831",))
    run_scenarios(tmp_path, both)


@pytest.mark.e2e
def test_a_replica_that_is_down_is_a_warning_while_another_one_answers(tmp_path: Path) -> None:
    down = samples(Trouble(gauges={**NOTHING_EXPORTED, SCRAPED: 0}), Timeline(trouble_s=3000, end_s=3600))
    up = samples(Trouble(), Timeline(trouble_s=0, end_s=3600))
    both = scenario("half down", down, {3300: {("ReplicaDown", "warning")}})
    both["input_series"] += input_series(up, instances=("b:9831",))
    run_scenarios(tmp_path, both)


@pytest.mark.e2e
def test_an_exporter_that_is_no_longer_listed_is_missed(tmp_path: Path) -> None:
    gone = samples(Trouble(gauges={**NOTHING_EXPORTED, SCRAPED: None}), Timeline(trouble_s=3000, end_s=3600))
    missing = {("ExporterMissing", "critical")}
    unwatched = {("EnvironmentsUnwatched", "critical")}
    run_scenarios(
        tmp_path,
        scenario("target gone", gone, {1200: missing | unwatched, 3300: missing | unwatched}),
        scenario("never there", {"unrelated{}": [1.0] * 60}, {600: missing}),
    )


@pytest.mark.e2e
def test_a_single_failed_scrape_fires_nothing(tmp_path: Path) -> None:
    drawn = samples(Trouble(), Timeline(trouble_s=0, end_s=1800, missed_at_s=900))
    run_scenarios(tmp_path, scenario("one miss", drawn, {at_s: set() for at_s in range(900, 1200, STEP_S)}))


@pytest.mark.e2e
def test_discovery_of_all_workspaces_that_fails_once_fires_nothing(tmp_path: Path) -> None:
    once = Trouble(counters={discovery_errors(each): 1 for each in ("", "wrkspc_1", "wrkspc_2")})
    drawn = samples(once, Timeline(trouble_s=STEP_S, end_s=3600))
    run_scenarios(tmp_path, scenario("one blip", drawn, {at_s: set() for at_s in range(CALM_S, 3600, 300)}))


@pytest.mark.e2e
def test_reads_that_fail_every_other_time_do_not_hide_a_trouble(tmp_path: Path) -> None:
    trouble = CASES[0].trouble
    drawn = samples(trouble, Timeline(trouble_s=1200, end_s=1800))
    for series in QUEUE_SERIES:
        drawn[series] = [None if k % 2 else value for k, value in enumerate(drawn[series])]
    drawn[READABLE] = [0.0 if k % 2 else 1.0 for k in range(len(drawn[READABLE]))]
    run_scenarios(tmp_path, scenario("flapping", drawn, {CASES[0].fires_s: {("NobodyPolling", "critical")}}))


SIX_HOURS_MIN = 6 * 60
DOWN = f"_x{SIX_HOURS_MIN}"


def _counted(per_min: int, minutes: int = SIX_HOURS_MIN) -> str:
    """Count from 0 on, as after a start."""
    return f"0+{per_min}x{minutes - 1}"


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("taken", "in_time", "share"),
    [
        ([_counted(4)] * 4, [_counted(3)] * 4, 0.75),
        ([_counted(4), DOWN] * 2, [_counted(4), DOWN, _counted(2), DOWN], 0.75),
        ([_counted(4, 45)] * 32, [_counted(3, 45)] * 32, 0.75),
        ([_counted(4), DOWN, _counted(0), DOWN], [_counted(3), DOWN, _counted(0), DOWN], 0.75),
    ],
    ids=["restarts", "down half of the time", "restarts every 45 minutes", "idle at times"],
)
def test_shares_over_days_count_what_was_seen(
    taken: list[str], in_time: list[str], share: float, tmp_path: Path
) -> None:
    """Two days alike: neither what a restart forgets nor a time without an exporter counts as missed or as taken in time."""
    alike = f'{{job="managed-agents",{ENVIRONMENT}}}'
    expected = {
        "work_wait_in_time:ratio1d": share,
        "work_wait_in_time:ratio30d": share,
        "work_wait_budget_left:ratio30d": 1 - (1 - share) / 0.05,
    }
    target = f'{alike[:-1]},instance="a:9831"}}'
    document = {
        "rule_files": [str(ROOT / "config/prometheus/rules" / name) for name in ("recording.yml", "objectives.yml")],
        "evaluation_interval": "5m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": f"{name}{target}", "values": " ".join(day * 2)}
                    for name, day in (
                        ("managed_agents_work_acknowledged_total", taken),
                        ("managed_agents_work_acknowledged_in_time_total", in_time),
                    )
                ],
                "promql_expr_test": [
                    {
                        "expr": f"round(last_over_time(environment:managed_agents_{name}[1h]), 0.01)",
                        "eval_time": "48h",
                        "exp_samples": [{"labels": alike, "value": round(value, 2)}],
                    }
                    for name, value in expected.items()
                ],
            }
        ],
    }
    path = tmp_path / "days.yml"
    path.write_text(json.dumps(document))
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_rule_compares_the_clocks_of_two_machines() -> None:
    """How old numbers are is the exporter's own data_age; an instant of another machine minus `time()` is off by their clocks."""
    of_clocks = re.compile(r"\b(time|timestamp|day_of_week|hour|minute)\(|_timestamp_seconds\b")
    expressions = [*(rule.expr for rule in rules.RECORDINGS), *(alert.expr for alert in rules.ALERTS)]
    assert [expr for expr in expressions if of_clocks.search(expr)] == []


@pytest.mark.e2e
def test_promtool_finds_no_fault_with_the_rules_and_the_configuration() -> None:
    for done in (
        promtool("check", "rules", "--lint=all", "--lint-fatal", *RULE_FILES),
        promtool("check", "config", ROOT / "config/prometheus/prometheus.yml"),
    ):
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_rule_files_say_what_the_rules_say() -> None:
    """Recorded names, expressions, `for` and texts as a YAML reader sees them, both ways. No `for` is one of 0 s."""
    groups = [group for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"]]
    read = [rule for group in groups for rule in group["rules"]]
    recorded = {rule["record"]: rule["expr"] for rule in read if "record" in rule}
    alerts = {(rule["alert"], rule["labels"]["severity"]): rule for rule in read if "alert" in rule}
    assert recorded == {rule.record: rule.expr for rule in rules.RECORDINGS}
    said = {
        key: (rule.get("for", rules.AT_ONCE), rule["expr"], rule["annotations"]["description"])
        for key, rule in alerts.items()
    }
    assert said == {(a.full_name, a.severity): (a.hold, a.expr, a.text) for a in rules.ALERTS}
    assert len(read) == len(rules.RECORDINGS) + len(rules.ALERTS)


def test_no_group_has_more_rules_than_a_hosted_ruler_takes() -> None:
    groups = [group for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"]]
    assert [group["name"] for group in groups if len(group["rules"]) > 20] == []


def test_a_recording_rule_reads_only_what_its_own_group_recorded_before() -> None:
    """Groups are evaluated at different moments: what another one recorded would be as old as an interval, and differ from it."""
    for group in (group for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"]):
        recorded: set[str] = set()
        for rule in (rule for rule in group["rules"] if "record" in rule):
            assert {name for name in metric_names(rule["expr"]) if ":" in name} <= recorded, rule["record"]
            recorded.add(rule["record"])


def test_no_alert_fires_only_because_a_series_is_there() -> None:
    """One that is there only while something is wrong may be there as 0 one day."""
    for alert in (alert for alert in rules.ALERTS if alert.name != "Watchdog"):
        assert decides(alert.expr), alert.full_name


@pytest.mark.skipif(shutil.which("pint") is None, reason="pint is not installed")
def test_pint_finds_nothing() -> None:
    command = [
        "pint",
        "--no-color",
        "--offline",
        "lint",
        "--min-severity=info",
        "--fail-on=info",
        *map(str, RULE_FILES),
    ]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert f"entries={len(rules.RECORDINGS) + len(rules.ALERTS)}" in linted.stderr


def test_every_file_reads_only_what_it_or_recording_yml_records() -> None:
    """So that each can be loaded without the others behind it."""
    recorded_by_file = {
        path.stem: {
            rule["record"]
            for group in yaml.safe_load(path.read_text())["groups"]
            for rule in group["rules"]
            if "record" in rule
        }
        for path in RULE_FILES
    }
    for path in RULE_FILES:
        known = recorded_by_file[path.stem] | recorded_by_file["recording"]
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                assert {name for name in metric_names(rule["expr"]) if ":" in name} <= known, rule


def test_an_environment_may_have_a_threshold_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(t, "BY_ENVIRONMENT", {"batch": {"STARTING_S": 900}})
    assert rules.above(recordings.STATE_AGE, "STARTING_S", matchers='state="starting"') == (
        f'{recordings.STATE_AGE.record}{{state="starting",environment_name!~"batch"}} > 300\n'
        f'or {recordings.STATE_AGE.record}{{state="starting",environment_name="batch"}} > 900'
    )


def test_thresholds_of_environments_are_those_that_alerts_compare_with() -> None:
    compared = {"STARTING_S", "STOPPING_S"}
    assert {name for numbers in t.BY_ENVIRONMENT.values() for name in numbers} <= compared


RECORDED_NAME = re.compile(r"[a-z_]+:[a-z_]+:[a-z0-9_]+")


def test_recording_rules_are_named_level_metric_operation() -> None:
    assert [rule.record for rule in rules.RECORDINGS if not RECORDED_NAME.fullmatch(rule.record)] == []


def test_expressions_name_only_metrics_of_the_catalogue_and_rules_that_stand_above() -> None:
    known = {"up", "process_start_time_seconds", *exposed()}
    for rule in rules.RECORDINGS:
        assert set(metric_names(rule.expr)) <= known, rule.record
        known.add(rule.record)
    for alert in rules.ALERTS:
        # An alert may ask whether it fires already.
        assert set(metric_names(alert.expr)) <= known | {"ALERTS"}, alert.full_name
        assert set(re.findall(r'ALERTS\{alertname="(\w+)"', alert.expr)) <= {alert.full_name}


def test_every_recording_is_used() -> None:
    used = " ".join([*(rule.expr for rule in rules.RECORDINGS), *(a.expr + a.text for a in rules.ALERTS)])
    shown = {
        recordings.UTILISATION,
        recordings.WAIT_QUANTILE,
        recordings.IN_TIME_SHARE_1H,
        recordings.IN_TIME_SHARE_1D,
        recordings.BUDGET_LEFT,
    }
    assert {rule.record for rule in rules.RECORDINGS if rule.record not in used} == {rule.record for rule in shown}


@pytest.mark.e2e
def test_the_tools_of_prometheus_are_installed() -> None:
    assert all(shutil.which(tool) for tool in ("promtool", "amtool"))
