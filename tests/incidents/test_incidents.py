"""Every incident: who is paged, by when, who is notified of what else, and that nothing else is said.

The shipped rules decide over what a real exporter exposed in simulated hours; promtool evaluates them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from dashboards import rules
from tests.incidents.incidents import INCIDENTS, Incident
from tests.incidents.laboratory import Course, course_of
from tests.incidents.table import DOCUMENTATION, WATCHDOG, Row, documented, kept, rows

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.e2e

SAME_MIN = 1.0
# Numbers that nobody reads, templates that failed, and words that stand for a number that was not there.
ILLEGIBLE = re.compile(r"e[+-]\d\d|\d\.\d{4,}|<no value>|<error|NaN|Inf|%!")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of an incident. `resolved`: alerts that ended while the trouble lasted."""

    notified: frozenset[str]
    muted: frozenset[str]
    paged_in_time: bool
    resolved: frozenset[str] = frozenset()
    illegible: frozenset[str] = frozenset()
    watchdog_from_to: tuple[float, float] | None = None


def judged(incident: Incident, course: Course) -> Verdict:
    found = _certain(rows(course.spells), incident)
    notified = [row for row in found if row.notified is not None]
    pages = [row.notified for row in notified if row.severity == "critical" and row.notified is not None]
    watchdog = next((each for each in course.spells if each.label("alertname") == WATCHDOG), None)
    return Verdict(
        notified=frozenset(row.key for row in notified),
        muted=frozenset(row.key for row in found) - {row.key for row in notified},
        paged_in_time=_in_time(pages, incident),
        resolved=frozenset(
            row.key for row in notified if row.key not in incident.passing and row.last < incident.ends - SAME_MIN
        ),
        illegible=frozenset(text for texts in course.texts.values() for text in texts if ILLEGIBLE.search(text)),
        watchdog_from_to=None if watchdog is None else (watchdog.first, watchdog.last),
    )


def _certain(listed: Iterable[Row], incident: Incident) -> list[Row]:
    return [row for row in listed if row.notified is not None or row.key not in incident.may]


def _in_time(pages: list[float], incident: Incident) -> bool:
    if incident.page_by is None:
        return not pages
    return bool(pages) and incident.begins <= min(pages) <= incident.page_by


@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.name)
def test_incident_says_what_it_may_in_time_and_until_its_end_and_nothing_else(incident: Incident) -> None:
    """And it went as the documentation shows, within a minute: `python -m tests.incidents` writes a new table."""
    course = course_of(incident.play)
    assert judged(incident, course) == Verdict(
        notified=frozenset(incident.notified),
        muted=frozenset(incident.muted),
        paged_in_time=True,
        watchdog_from_to=None if incident.play.groups else (0.5, incident.play.minutes),
    )
    both = (rows(course.spells), kept()[incident.name])
    found, shown = (sorted(_certain(listed, incident), key=_key) for listed in both)
    assert [row.key for row in found] == [row.key for row in shown]
    for now, then in zip(found, shown, strict=True):
        assert (now.first, now.last) == pytest.approx((then.first, then.last), abs=SAME_MIN), then


def _key(row: Row) -> tuple[str, float]:
    return row.key, row.first


def test_the_documentation_shows_the_table_as_it_is_kept() -> None:
    page = DOCUMENTATION.read_text(encoding="utf-8")
    assert page == documented(page, INCIDENTS)


def test_every_alert_is_in_some_incident() -> None:
    seen = {(row.alert, row.severity) for listed in kept().values() for row in listed}
    assert {(alert.name, alert.severity) for alert in rules.ALERTS} - seen == {("Watchdog", "none")}
