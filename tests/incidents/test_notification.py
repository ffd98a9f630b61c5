"""The shipped Alertmanager configuration: each inhibition mutes what follows from its alert, and nothing else."""

from __future__ import annotations

import re
import subprocess
from itertools import product
from typing import TYPE_CHECKING

import pytest

from dashboards import rules
from tests.incidents.notification import CONFIG, Alertmanager

if TYPE_CHECKING:
    from tests.incidents.notification import Labels

BY_KEY: dict[tuple[str, str], rules.Alert] = {(alert.name, alert.severity): alert for alert in rules.ALERTS}

# Every alert, and what it mutes where it fires for the same job and Prometheus (and environment, where it speaks of one).
MUTED: dict[tuple[str, str], set[tuple[str, str]]] = {
    ("NobodyPolling", "critical"): {
        ("NobodyPolling", "warning"),
        ("WorkersLeaving", "critical"),
        ("WorkersSaturated", "warning"),
        ("FleetAbsent", "warning"),
        ("BacklogAgeing", "warning"),
        ("BacklogAgeing", "critical"),
        ("BacklogGrowing", "warning"),
        ("WaitObjectiveMissed", "warning"),
        ("WaitObjectiveMissed", "critical"),
        ("HeartbeatsOverdue", "warning"),
        ("HeartbeatsOverdue", "critical"),
    },
    ("NobodyPolling", "warning"): {
        ("WorkersSaturated", "warning"),
        ("BacklogAgeing", "warning"),
        ("BacklogGrowing", "warning"),
        ("WaitObjectiveMissed", "warning"),
    },
    ("WorkersLeaving", "critical"): {
        ("WorkersSaturated", "warning"),
        ("BacklogAgeing", "warning"),
        ("BacklogGrowing", "warning"),
        ("WaitObjectiveMissed", "warning"),
    },
    ("WorkersSaturated", "warning"): {
        ("BacklogAgeing", "warning"),
        ("BacklogGrowing", "warning"),
        ("WaitObjectiveMissed", "warning"),
    },
    ("BacklogAgeing", "critical"): {("BacklogAgeing", "warning")},
    ("ClaimedNotAcknowledged", "critical"): {
        ("ClaimedNotAcknowledged", "warning"),
        ("BacklogAgeing", "warning"),
        ("BacklogAgeing", "critical"),
        ("BacklogGrowing", "warning"),
        ("WaitObjectiveMissed", "warning"),
        ("WaitObjectiveMissed", "critical"),
    },
    ("NothingStarts", "critical"): {("StuckStarting", "warning"), ("StoppedWithoutStarting", "warning")},
    ("HeartbeatsOverdue", "critical"): {("HeartbeatsOverdue", "warning")},
    ("WaitObjectiveMissed", "critical"): {
        ("WaitObjectiveMissed", "warning"),
        ("BacklogAgeing", "warning"),
        ("BacklogGrowing", "warning"),
    },
    ("ApiUnavailable", "critical"): {
        ("EnvironmentUnreadable", "warning"),
        ("EnvironmentUnreadable", "critical"),
        ("CredentialsRejected", "warning"),
        ("NumbersOld", "warning"),
        ("ListingIncomplete", "warning"),
        ("WorkersUnknown", "info"),
        ("DiscoveryFailing", "warning"),
        ("RateLimited", "warning"),
        ("BudgetExhausted", "warning"),
    },
    ("EnvironmentUnreadable", "critical"): {
        ("EnvironmentUnreadable", "warning"),
        ("NumbersOld", "warning"),
        ("ListingIncomplete", "warning"),
        ("WorkersUnknown", "info"),
    },
    ("EnvironmentUnreadable", "warning"): {
        ("NumbersOld", "warning"),
        ("ListingIncomplete", "warning"),
        ("WorkersUnknown", "info"),
    },
    ("EnvironmentNotFound", "warning"): {
        ("NumbersOld", "warning"),
        ("ListingIncomplete", "warning"),
        ("WorkersUnknown", "info"),
    },
    ("CredentialsRejected", "warning"): {("EnvironmentUnreadable", "warning"), ("ListingIncomplete", "warning")},
    ("ExporterDown", "critical"): {
        ("EnvironmentsUnwatched", "critical"),
        ("ReplicaDown", "warning"),
        ("ExporterRestarting", "warning"),
        ("NoEnvironments", "warning"),
    },
    ("ExporterMissing", "critical"): {
        ("ReplicaDown", "warning"),
        ("ExporterRestarting", "warning"),
        ("NoEnvironments", "warning"),
    },
    ("EnvironmentsUnwatched", "critical"): {("ReplicaDown", "warning"), ("ExporterMissing", "critical")},
    ("RateLimited", "warning"): {
        ("NumbersOld", "warning"),
        ("ListingIncomplete", "warning"),
        ("ApiErrors", "warning"),
        ("BudgetExhausted", "warning"),
    },
    ("BudgetExhausted", "warning"): {("NumbersOld", "warning"), ("ListingIncomplete", "warning")},
}


def labels(
    key: tuple[str, str], *, job: str = "managed-agents", environment: str = "alpha", shard: str = "0"
) -> Labels:
    alert = BY_KEY[key]
    found = {"alertname": alert.full_name, "severity": alert.severity, "job": job, "shard": shard}
    if alert.subject == "environment":
        found |= {"environment_id": f"env_{environment}", "environment_name": environment}
    return frozenset(found.items())


def muted_by(source: tuple[str, str], **elsewhere: str) -> set[tuple[str, str]]:
    alertmanager = Alertmanager.shipped()
    others = {key: labels(key, **elsewhere) for key in BY_KEY if key != source}
    return {key for key, other in others.items() if other in alertmanager.muted([other, labels(source)])}


@pytest.mark.parametrize("source", BY_KEY, ids="-".join)
def test_an_alert_mutes_what_follows_from_it_and_nothing_else(source: tuple[str, str]) -> None:
    assert muted_by(source) == MUTED.get(source, set())


@pytest.mark.parametrize("elsewhere", [{"job": "other"}, {"shard": "1"}], ids=str)
def test_no_alert_mutes_what_another_prometheus_or_job_says(elsewhere: dict[str, str]) -> None:
    assert [source for source in BY_KEY if muted_by(source, **elsewhere)] == []


def test_an_environments_alert_mutes_nothing_of_another_environment() -> None:
    sources = [key for key, alert in BY_KEY.items() if alert.subject == "environment"]
    assert [source for source in sources if muted_by(source, environment="beta")] == []


def test_inhibitions_name_alerts_that_exist() -> None:
    names = {alert.full_name for alert in rules.ALERTS}
    for inhibition in Alertmanager.shipped().inhibitions:
        for matcher in (*inhibition.sources, *inhibition.targets):
            if matcher.name == "alertname":
                assert alternatives(matcher.value) <= names


def alternatives(value: str) -> set[str]:
    prefix, _, words = value.partition("(")
    return {"".join(parts) for parts in product([prefix], re.split(r"\|", words.rstrip(")")))}


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("name", "severity", "receiver"),
    [
        ("NobodyPolling", "critical", "pager"),
        ("BacklogAgeing", "warning", "chat"),
        ("WorkersUnknown", "info", "notes"),
        ("Watchdog", "none", "deadman"),
    ],
)
def test_severity_decides_who_is_notified(name: str, severity: str, receiver: str) -> None:
    command = ["amtool", "config", "routes", "test", f"--config.file={CONFIG}"]
    matchers = [f"severity={severity}", f"alertname=ManagedAgents{name}"]
    done = subprocess.run([*command, *matchers], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == receiver


@pytest.mark.e2e
def test_amtool_accepts_the_configuration() -> None:
    done = subprocess.run(["amtool", "check-config", str(CONFIG)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
