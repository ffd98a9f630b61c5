"""The incidents in VictoriaMetrics' vmalert: it reads PromQL in its own way, and must come to the same alerts."""

from __future__ import annotations

import shutil

import pytest

from tests.incidents.incidents import INCIDENTS, Incident
from tests.incidents.laboratory import evaluate_in_vmalert, record
from tests.incidents.table import kept, rows

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("vmalert-tool") is None, reason=".ci/vmalert-tool builds vmalert-tool"),
]
SAME_MIN = 2.5
"""What its windows make of their edges, in minutes: `changes`, for one, counts from the sample before the window."""


@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.name)
def test_vmalert_comes_to_the_same_alerts(incident: Incident) -> None:
    spells = evaluate_in_vmalert(record(incident.play), incident.play.judges)
    found, shown = (
        sorted((row for row in listed if row.key not in incident.may), key=lambda row: (row.key, row.first))
        for listed in (rows(spells), kept()[incident.name])
    )
    assert [row.key for row in found] == [row.key for row in shown]
    for here, there in zip(found, shown, strict=True):
        assert (here.first, here.last) == pytest.approx((there.first, there.last), abs=SAME_MIN), there
