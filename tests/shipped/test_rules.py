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

from dashboards import rules
from dashboards import thresholds as t
from tests.shipped.promql_reading import exposed, metric_names
from tests.shipped.rule_scenarios import (
    CALM_COUNTERS,
    CALM_GAUGES,
    CALM_S,
    DEPTH,
    DRIFT,
    HEARTBEAT_AGE,
    INFO,
    LISTED,
    LISTING_SERIES,
    OLDEST_AGE,
    OVERDUE,
    PENDING,
    QUEUE_SERIES,
    READABLE,
    RELOADED,
    SCRAPED,
    STATS_READ,
    STEP_S,
    THROTTLED,
    WORKERS,
    Samples,
    Timeline,
    Trouble,
    environment,
    errors,
    finished,
    input_series,
    items,
    samples,
    state_age,
    waited,
)

ROOT = Path(__file__).parents[2]
RULE_FILES = sorted((ROOT / "config/prometheus/rules").glob("*.yml"))
LOOKBACK_S = 120
FIRING = 'count by (alertname, severity) (ALERTS{alertstate="firing"})'
NOTHING_EXPORTED = dict.fromkeys((*CALM_GAUGES, *CALM_COUNTERS))

Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A trouble and the alert it must cause, `onset_s` (earliest, latest) after it began plus the alert's `for`."""

    name: str
    severity: str
    trouble: Trouble
    description: str
    onset_s: tuple[int, int] = (0, 0)
    labels: dict[str, str] = field(default_factory=dict)
    clears_s: int = 30
    # Each group of series alone makes the cause unknown when it is absent, and then the alert is silent.
    silent_without: tuple[tuple[str, ...], ...] = ()
    # Other alerts that the same trouble causes by then, and what those of the same name say.
    also: dict[Key, str] = field(default_factory=dict)

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
        silent_without=((DEPTH,), (WORKERS,)),
        description="4 item(s) wait in alpha, the oldest for 6m 0s, and no worker has polled for 2m. No active item with "
        "a fresh heartbeat is known, so the workers are not merely busy. Nothing of this will start until a "
        "worker polls. Worker mode: always_on.",
    ),
    Case(
        name="WorkersSaturated",
        severity="warning",
        trouble=Trouble(gauges={DEPTH: 4, OLDEST_AGE: 45, WORKERS: 0, items("active"): 5, OVERDUE: 0}),
        onset_s=(LOOKBACK_S - STEP_S, LOOKBACK_S),
        silent_without=((DEPTH,), (WORKERS,), (items("active"),), (OVERDUE,)),
        description="4 item(s) wait in alpha, the oldest for 45s. No worker polls, and 5 active item(s) have fresh "
        "heartbeats: the workers are alive and there are too few of them.",
    ),
    Case(
        name="FleetAbsent",
        severity="warning",
        trouble=Trouble(gauges={WORKERS: 0, items("active"): 0, HEARTBEAT_AGE: 0}),
        onset_s=(LOOKBACK_S - STEP_S, LOOKBACK_S),
        silent_without=((DEPTH,), (WORKERS,), (INFO,)),
        description="The workers of alpha are declared always_on, but none has polled for 2m and no active item has a "
        "fresh heartbeat. Nothing waits yet; the next item will.",
    ),
    Case(
        name="WorkersUnknown",
        severity="info",
        trouble=Trouble(gauges={WORKERS: None, DEPTH: 1}),
        onset_s=(LOOKBACK_S - STEP_S, LOOKBACK_S),
        silent_without=((READABLE,),),
        description="alpha is readable, but the number of polling workers is unknown. ManagedAgentsNobodyPolling cannot "
        "fire for it; the age of waiting work still can. Waiting now: 1.",
    ),
    Case(
        name="BacklogAgeing",
        severity="warning",
        trouble=Trouble(gauges={DEPTH: 4, OLDEST_AGE: t.WAIT_WARNING_S + 1}),
        silent_without=((OLDEST_AGE,),),
        description="The oldest item in alpha has waited for 5m 1s. Waiting: 4. Workers polling: 3. Active with a fresh "
        "heartbeat: 2.",
    ),
    Case(
        name="BacklogAgeing",
        severity="critical",
        trouble=Trouble(gauges={DEPTH: 4, OLDEST_AGE: t.WAIT_CRITICAL_S + 1}),
        silent_without=((OLDEST_AGE,),),
        also={
            (
                "BacklogAgeing",
                "warning",
            ): "The oldest item in alpha has waited for 30m 1s. Waiting: 4. Workers polling: 3. Active with a fresh heartbeat: 2."
        },
        description="The oldest item in alpha has waited for 30m 1s. Waiting: 4. Workers polling: 3. Active with a fresh "
        "heartbeat: 2.",
    ),
    Case(
        name="BacklogGrowing",
        severity="warning",
        trouble=Trouble(gauges={DEPTH: lambda s: s // 20}),
        onset_s=(180, 600),
        silent_without=((DEPTH,),),
        description="The backlog of alpha grows by 85 item(s) per 30m and is now 78. Workers polling: 3. Active with a "
        "fresh heartbeat: 2.",
    ),
    Case(
        name="ClaimedNotAcknowledged",
        severity="warning",
        trouble=Trouble(gauges={PENDING: 2, OLDEST_AGE: 200}),
        silent_without=((PENDING,), (OLDEST_AGE,)),
        description="2 item(s) in alpha are claimed and not acknowledged, for 5m without a pause; the oldest was queued "
        "3m 20s ago. A worker acknowledges within seconds. Workers polling: 3.",
    ),
    Case(
        name="WaitObjectiveMissed",
        severity="warning",
        trouble=Trouble(counters={waited("30.0"): 0, waited("120.0"): 0}),
        onset_s=(STEP_S, 6 * STEP_S),
        clears_s=seconds(t.WAIT_OBJECTIVE_WINDOW) + 60,
        description="In alpha, 95 % of the items of the last 1h were acknowledged within 4m 44s; the objective is 120 s. "
        "Items acknowledged: 48.",
    ),
    Case(
        name="StuckStarting",
        severity="warning",
        trouble=Trouble(gauges={items("starting"): 1, state_age("starting"): t.STARTING_S + 1}),
        labels={"state": "starting"},
        silent_without=((state_age("starting"),),),
        description="An item in alpha was acknowledged 5m 1s ago and has not sent its first heartbeat. Items starting: 1.",
    ),
    Case(
        name="StuckStopping",
        severity="warning",
        trouble=Trouble(gauges={items("stopping"): 3, state_age("stopping"): t.STOPPING_S + 1}),
        labels={"state": "stopping"},
        silent_without=((state_age("stopping"),),),
        description="An item in alpha was asked to stop 10m 1s ago and its worker has not confirmed. Items stopping: 3.",
    ),
    Case(
        name="HeartbeatsOverdue",
        severity="warning",
        trouble=Trouble(gauges={OVERDUE: 1, HEARTBEAT_AGE: 150}),
        silent_without=((OVERDUE,),),
        description="1 active item(s) in alpha have an overdue heartbeat, the oldest 2m 30s ago. Their leases will lapse. "
        "Active with a fresh heartbeat: 1.",
    ),
    Case(
        name="StoppedWithoutStarting",
        severity="warning",
        trouble=Trouble(counters={finished("never_started"): 1}),
        labels={"outcome": "never_started"},
        onset_s=(STEP_S, 3 * STEP_S),
        clears_s=seconds(t.NEVER_STARTED_WINDOW) + 60,
        description="9 item(s) in alpha were acknowledged and stopped without a single heartbeat in the last 30m. Their "
        "sessions hang silently. Items that ran in that time: 29.",
    ),
    Case(
        name="EnvironmentUnreadable",
        severity="warning",
        trouble=Trouble(gauges={READABLE: 0, **dict.fromkeys(QUEUE_SERIES)}),
        silent_without=((READABLE,),),
        description="The statistics of alpha have not been readable for 5m. Its queue alerts cannot fire meanwhile, and "
        "those that fired have resolved without anything being well.",
    ),
    Case(
        name="EnvironmentUnreadable",
        severity="critical",
        trouble=Trouble(gauges={READABLE: 0, **dict.fromkeys(QUEUE_SERIES)}),
        silent_without=((READABLE,),),
        also={
            (
                "EnvironmentUnreadable",
                "warning",
            ): "The statistics of alpha have not been readable for 5m. Its queue alerts cannot fire meanwhile, and those that fired have resolved without anything being well."
        },
        description="The statistics of alpha have not been readable for 30m. Its queue alerts cannot fire meanwhile, and "
        "those that fired have resolved without anything being well.",
    ),
    Case(
        name="NumbersOld",
        severity="warning",
        trouble=Trouble(gauges={STATS_READ: CALM_S}),
        labels={"source": "stats"},
        onset_s=(t.DATA_AGE_S, t.DATA_AGE_S + STEP_S),
        silent_without=((STATS_READ,), (READABLE,)),
        description="The statistics shown for alpha were read 4m 30s ago. The exporter is short of its budget or waits "
        "out a 429; soon it will show nothing for this environment.",
    ),
    Case(
        name="ListingIncomplete",
        severity="warning",
        trouble=Trouble(gauges={LISTED: 0, **dict.fromkeys(LISTING_SERIES)}),
        silent_without=((LISTED,),),
        description="The listing of alpha has not been complete for 30m: no counts by state, no ages, no heartbeats. "
        "ManagedAgentsNobodyPolling cannot tell busy workers from absent ones.",
    ),
    Case(
        name="ExporterDown",
        severity="critical",
        trouble=Trouble(gauges={**NOTHING_EXPORTED, SCRAPED: 0}),
        onset_s=(LOOKBACK_S - STEP_S, LOOKBACK_S),
        description="No target of the job managed-agents has answered a scrape for 2m. Every queue alert is blind, and "
        "those that fired have resolved without anything being well.",
    ),
    Case(
        name="NoEnvironments",
        severity="warning",
        trouble=Trouble(gauges={s: None for s in CALM_GAUGES if s not in (SCRAPED, RELOADED)}),
        onset_s=(LOOKBACK_S - STEP_S, LOOKBACK_S),
        description="The exporter of the job managed-agents answers but exports no environment: discovery has not "
        "succeeded yet, or nothing is configured. No queue alert can fire.",
    ),
    Case(
        name="CredentialsRejected",
        severity="warning",
        trouble=Trouble(counters={errors("auth"): 1}),
        labels={"source": "stats"},
        onset_s=(2 * STEP_S, 4 * STEP_S),
        clears_s=seconds(t.AUTH_WINDOW) + 60,
        description="10 read(s) of stats were refused with 401 or 403 in the last 10m. This does not heal by itself.",
    ),
    Case(
        name="ApiErrors",
        severity="warning",
        trouble=Trouble(counters={errors("server"): 1}),
        labels={"source": "stats"},
        onset_s=(STEP_S, 5 * STEP_S),
        clears_s=seconds(t.ERROR_WINDOW) + 60,
        description="90% of the calls to stats ended in a failed read in the last 15m. Environments that cannot be "
        "read show nothing.",
    ),
    Case(
        name="BudgetExhausted",
        severity="warning",
        trouble=Trouble(counters={THROTTLED: 1}),
        labels={"source": "list"},
        onset_s=(0, 2 * STEP_S),
        clears_s=seconds(t.THROTTLED_WINDOW) + 60,
        description="20 call(s) for list were not made in the last 10m, and some in every 10m for 30m: the budget is "
        "spent or the API answers 429. Numbers grow old.",
    ),
    Case(
        name="ConfigReloadFailed",
        severity="warning",
        trouble=Trouble(gauges={RELOADED: 0}),
        silent_without=((RELOADED,),),
        description="An exporter of the job managed-agents could not load its configuration and runs with the one before. "
        "It would not start again with the new one.",
    ),
    Case(
        name="SchemaDrift",
        severity="info",
        trouble=Trouble(counters={DRIFT: 1}),
        labels={"field": "state"},
        onset_s=(0, 2 * STEP_S),
        clears_s=seconds(t.DRIFT_WINDOW) + 60,
        description="14 value(s) of the field state were not understood in the last 1h. Numbers that rest on them are "
        "incomplete.",
    ),
)


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)


def run_scenarios(tmp_path: Path, *scenarios: dict[str, Any]) -> None:
    groups = [group["name"] for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"]]
    order = sorted(groups, key=lambda name: name != "managed-agents-recording")
    document = {
        "rule_files": [str(path) for path in RULE_FILES],
        "evaluation_interval": f"{STEP_S}s",
        "group_eval_order": order,
        "tests": scenarios,
    }
    path = tmp_path / "scenarios.yml"
    path.write_text(json.dumps(document))
    done = promtool("test", "rules", path)
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


def _expected_alert(case: Case, severity: str, description: str) -> dict[str, Any]:
    alert = _alert(case.name, severity)
    environment_labels = {"environment_id": "env_alpha", "environment_name": "alpha"}
    subject = environment_labels if alert.subject == "environment" else {}
    dashboard = {
        "environment": "/d/managed-agents-environment?var-environment_name=alpha",
        "exporter": "/d/managed-agents-exporter?var-job=managed-agents",
    }[alert.subject]
    return {
        "exp_labels": {"job": "managed-agents", "severity": severity, **subject, **case.labels},
        "exp_annotations": {
            "summary": alert.summary,
            "description": description,
            "runbook_url": alert.runbook_url,
            "dashboard": dashboard,
        },
    }


def _silent(case: Case, *, at_s: int) -> dict[str, Any]:
    """Expect silence of this alert only; others may fire, for what is missing has alerts of its own."""
    selector = f'ALERTS{{alertstate="firing",alertname="{case.alert.full_name}",severity="{case.severity}"}}'
    return {"promql_expr_test": [{"expr": selector, "eval_time": f"{at_s}s", "exp_samples": []}]}


@pytest.fixture(params=CASES, ids=lambda case: f"{case.name}-{case.severity}")
def case(request: pytest.FixtureRequest) -> Case:
    return request.param  # type: ignore[no-any-return]  # pytest knows no type of a parameter


def test_every_alert_has_its_trouble() -> None:
    assert sorted((c.name, c.severity) for c in CASES) == sorted((a.name, a.severity) for a in rules.ALERTS)


@pytest.mark.e2e
def test_alert_fires_with_numbers_a_human_can_act_on_and_clears(case: Case, tmp_path: Path) -> None:
    firing = {(case.name, case.severity), *case.also}
    same_name = {severity: text for (name, severity), text in case.also.items() if name == case.name}
    expected = [
        _expected_alert(case, severity, text)
        for severity, text in {case.severity: case.description, **same_name}.items()
    ]
    timeline = case.timeline()
    run_scenarios(
        tmp_path,
        scenario(
            "calm, trouble, calm",
            samples(case.trouble, timeline),
            {CALM_S: set(), case.fires_s: firing, timeline.end_s: set()},
            alert_rule_test=[
                {"alertname": case.alert.full_name, "eval_time": f"{case.fires_s}s", "exp_alerts": expected}
            ],
        ),
    )


@pytest.mark.e2e
def test_alert_does_not_fire_before_its_time(case: Case, tmp_path: Path) -> None:
    drawn = samples(case.trouble, case.timeline())
    sooner = {key for key in case.also if seconds(_alert(*key).hold) < case.hold_s}
    run_scenarios(tmp_path, scenario("too early", drawn, {case.too_early_s: sooner}))


@pytest.mark.e2e
def test_alert_fires_once_when_two_exporters_see_the_trouble(case: Case, tmp_path: Path) -> None:
    drawn = samples(case.trouble, case.timeline())
    firing = {(case.name, case.severity), *case.also}
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
    busy = Trouble(gauges={DEPTH: 3, PENDING: 4, OLDEST_AGE: 12, items("active"): 40})
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
    run_scenarios(tmp_path, scenario("gap", drawn, {1500: {("WorkersSaturated", "warning")}}))


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
def test_one_exporter_of_two_that_answers_is_enough(tmp_path: Path) -> None:
    down = samples(Trouble(gauges={**NOTHING_EXPORTED, SCRAPED: 0}), Timeline(trouble_s=3000, end_s=3600))
    up = samples(Trouble(), Timeline(trouble_s=0, end_s=3600))
    both = scenario("half down", down, {3300: set()})
    both["input_series"] += input_series(up, instances=("b:9831",))
    run_scenarios(tmp_path, both)


@pytest.mark.e2e
def test_an_exporter_that_is_no_longer_listed_counts_as_down(tmp_path: Path) -> None:
    gone = samples(Trouble(gauges={**NOTHING_EXPORTED, SCRAPED: None}), Timeline(trouble_s=3000, end_s=3600))
    down = {("ExporterDown", "critical")}
    run_scenarios(
        tmp_path,
        scenario("target gone", gone, {1200: down, 3300: down}),
        scenario("never there", {"unrelated{}": [1.0] * 60}, {600: down}),
    )


@pytest.mark.e2e
def test_a_single_failed_scrape_fires_nothing(tmp_path: Path) -> None:
    drawn = samples(Trouble(), Timeline(trouble_s=0, end_s=1800, missed_at_s=900))
    run_scenarios(tmp_path, scenario("one miss", drawn, {at_s: set() for at_s in range(900, 1200, STEP_S)}))


@pytest.mark.e2e
def test_reads_that_fail_every_other_time_do_not_hide_a_trouble(tmp_path: Path) -> None:
    trouble = CASES[0].trouble
    drawn = samples(trouble, Timeline(trouble_s=1200, end_s=1800))
    for series in QUEUE_SERIES:
        drawn[series] = [None if k % 2 else value for k, value in enumerate(drawn[series])]
    drawn[READABLE] = [0.0 if k % 2 else 1.0 for k in range(len(drawn[READABLE]))]
    run_scenarios(tmp_path, scenario("flapping", drawn, {CASES[0].fires_s: {("NobodyPolling", "critical")}}))


@pytest.mark.e2e
def test_numbers_that_grow_old_until_they_are_withdrawn_fire_before_the_environment_counts_as_unreadable(
    tmp_path: Path,
) -> None:
    withdrawn = {
        STATS_READ: lambda s: CALM_S if s < 300 else None,
        READABLE: lambda s: float(s < 300),
        **{series: _until_withdrawn(CALM_GAUGES[series]) for series in QUEUE_SERIES},
    }
    drawn = samples(Trouble(gauges=withdrawn), Timeline(trouble_s=1200, end_s=1800))
    firing = {
        CALM_S + 240: {("NumbersOld", "warning")},
        CALM_S + 660: {("EnvironmentUnreadable", "warning")},
    }
    run_scenarios(tmp_path, scenario("429 without end", drawn, firing))


def _until_withdrawn(level: Any) -> Any:
    return lambda since: level if since < 300 else None


@pytest.mark.e2e
def test_promtool_finds_no_fault_with_the_rules_and_the_configuration() -> None:
    for done in (
        promtool("check", "rules", "--lint=all", "--lint-fatal", *RULE_FILES),
        promtool("check", "config", ROOT / "config/prometheus/prometheus.yml"),
    ):
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_rule_files_say_what_the_rules_say() -> None:
    """Recorded names, expressions and `for` as a YAML reader sees them, both ways."""
    groups = [group for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"]]
    read = [rule for group in groups for rule in group["rules"]]
    recorded = [(rule["record"], rule["expr"]) for rule in read if "record" in rule]
    alerts = [(rule["alert"], rule["labels"], rule["for"], rule["expr"]) for rule in read if "alert" in rule]
    assert recorded == [(rule.record, rule.expr) for rule in rules.RECORDINGS]
    assert alerts == [(a.full_name, {"severity": a.severity}, a.hold, a.expr) for a in rules.ALERTS]
    described = [rule["annotations"]["description"] for rule in read if "alert" in rule]
    assert described == [alert.description for alert in rules.ALERTS]


RECORDED_NAME = re.compile(r"[a-z_]+:[a-z_]+:[a-z0-9_]+")


def test_recording_rules_are_named_level_metric_operation() -> None:
    assert [rule.record for rule in rules.RECORDINGS if not RECORDED_NAME.fullmatch(rule.record)] == []


def test_expressions_name_only_metrics_of_the_catalogue_and_rules_that_stand_above() -> None:
    known = {"up", *exposed()}
    for rule in rules.RECORDINGS:
        assert set(metric_names(rule.expr)) <= known, rule.record
        known.add(rule.record)
    for alert in rules.ALERTS:
        assert set(metric_names(alert.expr)) <= known, alert.full_name


def test_every_recording_is_used() -> None:
    used = " ".join([*(rule.expr for rule in rules.RECORDINGS), *(a.expr + a.description for a in rules.ALERTS)])
    assert [rule.record for rule in rules.RECORDINGS if rule.record not in used] == []


@pytest.mark.e2e
def test_amtool_accepts_the_alertmanager_configuration() -> None:
    done = subprocess.run(
        ["amtool", "check-config", str(ROOT / "config/alertmanager/alertmanager.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (("severity=critical", "alertname=ManagedAgentsNobodyPolling"), "pager"),
        (("severity=warning", "alertname=ManagedAgentsBacklogAgeing"), "chat"),
        (("severity=info", "alertname=ManagedAgentsWorkersUnknown"), "notes"),
    ],
)
def test_severity_decides_who_is_told(labels: tuple[str, ...], receiver: str) -> None:
    config = str(ROOT / "config/alertmanager/alertmanager.yml")
    told = subprocess.run(
        ["amtool", "config", "routes", "test", f"--config.file={config}", *labels],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == receiver


@pytest.mark.e2e
def test_the_tools_of_prometheus_are_installed() -> None:
    assert all(shutil.which(tool) for tool in ("promtool", "amtool"))
