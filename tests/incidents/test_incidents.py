"""Every incident: who is paged, by when, who is told what else, and that nothing else is said.

The shipped rules decide over what a real exporter exposed in simulated hours; promtool evaluates them.
"""

from __future__ import annotations

import re

import pytest

from dashboards import rules
from tests.incidents.incidents import INCIDENTS, Incident
from tests.incidents.laboratory import Course, course_of
from tests.incidents.table import DOCUMENTATION, WATCHDOG, Row, documented, kept, rows

pytestmark = pytest.mark.e2e

SAME_MIN = 1.0
# Numbers that nobody reads, templates that failed, and words that stand for a number that was not there.
ILLEGIBLE = re.compile(r"e[+-]\d\d|\d\.\d{4,}|<no value>|<error|NaN|Inf|%!")


@pytest.fixture(scope="module", params=INCIDENTS, ids=lambda incident: incident.name)
def incident(request: pytest.FixtureRequest) -> Incident:
    found: Incident = request.param
    return found


@pytest.fixture(scope="module")
def course(incident: Incident) -> Course:
    return course_of(incident.play)


def test_incident_says_what_is_expected_and_nothing_else(incident: Incident, course: Course) -> None:
    found = rows(course.spells)
    assert {row.key for row in found if row.notified is not None} == set(incident.told)
    assert {row.key for row in found} - set(incident.told) == set(incident.muted)


def test_incident_pages_in_time(incident: Incident, course: Course) -> None:
    pages = [row.notified for row in rows(course.spells) if row.severity == "critical" and row.notified is not None]
    if incident.page_by is None:
        assert pages == []
    else:
        assert incident.begins <= min(pages) <= incident.page_by


def test_nothing_resolves_while_the_trouble_lasts(incident: Incident, course: Course) -> None:
    told = [row for row in rows(course.spells) if row.notified is not None and row.key not in incident.passing]
    assert [row for row in told if row.last < incident.ends - SAME_MIN] == []


def test_texts_are_legible(course: Course) -> None:
    assert [text for texts in course.texts.values() for text in texts if ILLEGIBLE.search(text)] == []


def test_the_watchdog_never_stops(incident: Incident, course: Course) -> None:
    if incident.play.groups is not None:
        pytest.skip("judged without it")
    (spell,) = [spell for spell in course.spells if spell.label("alertname") == WATCHDOG]
    assert (spell.first, spell.last) == (0.5, incident.play.minutes)


def test_incident_went_as_the_documentation_shows(incident: Incident, course: Course) -> None:
    """Within a minute: when this fails for a good reason, `python -m tests.incidents` writes the new table."""
    shown = kept()[incident.name]
    assert [row.key for row in sorted(rows(course.spells), key=_key)] == [row.key for row in sorted(shown, key=_key)]
    for now, then in zip(sorted(rows(course.spells), key=_key), sorted(shown, key=_key), strict=True):
        assert (now.first, now.last) == pytest.approx((then.first, then.last), abs=SAME_MIN), then


def _key(row: Row) -> tuple[str, float]:
    return row.key, row.first


def test_the_documentation_shows_the_table_as_it_is_kept() -> None:
    page = DOCUMENTATION.read_text(encoding="utf-8")
    assert page == documented(page, INCIDENTS)


def test_every_alert_but_the_rarest_is_in_some_incident() -> None:
    """What no incident causes is tested by scenarios alone; that shall not become the rule."""
    seen = {(row.alert, row.severity) for listed in kept().values() for row in listed}
    unseen = {(alert.name, alert.severity) for alert in rules.ALERTS} - seen - {("Watchdog", "none")}
    assert unseen <= SCENARIOS_ONLY


SCENARIOS_ONLY = {
    ("FleetAbsent", "warning"),
    ("WorkersUnknown", "info"),
    ("StuckStopping", "warning"),
    ("NoEnvironments", "warning"),
    ("ConfigReloadFailed", "warning"),
    ("ExporterMissing", "critical"),
    ("BudgetExhausted", "warning"),
    ("ApiErrors", "warning"),
}
