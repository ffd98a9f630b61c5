"""What came of the incidents, as rows: compared by the tests, kept in outcomes.json, shown in docs/alerts.md."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dashboards import rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.incidents.incidents import Incident
    from tests.incidents.laboratory import Spell

DOCUMENTATION: Final = Path(__file__).parents[2] / "docs/alerts.md"
BEGINS: Final = "<!-- the table of incidents: written by python -m tests.incidents -->\n"
ENDS: Final = "<!-- end of the table of incidents -->"
OUTCOMES: Final = Path(__file__).with_name("outcomes.json")
SUBJECTS: Final = ("environment_name", "instance", "field", "workspace_id", "reason", "source")
FEW: Final = 3
WATCHDOG: Final = f"{rules.ALERT_PREFIX}Watchdog"


@dataclass(frozen=True, slots=True)
class Row:
    """A spell of one alert. `notified`: the minute of the first notification, None where it was inhibited all the time."""

    alert: str
    severity: str
    of: str
    first: float
    last: float
    notified: float | None

    @property
    def key(self) -> str:
        return f"{self.alert} {self.severity} {self.of}".strip()


def rows(spells: Iterable[Spell]) -> tuple[Row, ...]:
    """Make a row of each spell, one of all where the same happened to many environments."""
    found = sorted((_row(spell) for spell in spells if spell.label("alertname") != WATCHDOG), key=_alike)
    return tuple(sorted(_merged(found), key=lambda row: (row.first, row.key)))


def _row(spell: Spell) -> Row:
    name = spell.label("alertname").removeprefix(rules.ALERT_PREFIX)
    of = next((spell.label(label) for label in SUBJECTS if spell.label(label)), "")
    return Row(name, spell.label("severity"), of, spell.first, spell.last, spell.notified_at)


def _alike(row: Row) -> tuple[str, str, bool]:
    return row.alert, row.severity, row.notified is None


def _merged(found: Iterable[Row]) -> Iterator[Row]:
    for (alert, severity, _), group in groupby(found, key=_alike):
        alike = list(group)
        if len({row.of for row in alike}) <= FEW:
            yield from alike
            continue
        notified = [row.notified for row in alike if row.notified is not None]
        of = f"{len({row.of for row in alike})} environments"
        first, last = min(row.first for row in alike), max(row.last for row in alike)
        yield Row(alert, severity, of, first, last, min(notified, default=None))


def kept() -> dict[str, tuple[Row, ...]]:
    """Read the rows of every incident, by its name."""
    outcomes: Mapping[str, list[dict[str, object]]] = json.loads(OUTCOMES.read_text(encoding="utf-8"))
    return {name: tuple(Row(**row) for row in listed) for name, listed in outcomes.items()}  # type: ignore[arg-type]


def keep(rows_by_incident: Mapping[str, Iterable[Row]]) -> None:
    lines = [
        f"  {json.dumps(name)}: [\n" + ",\n".join(f"    {json.dumps(asdict(row))}" for row in listed) + "\n  ]"
        for name, listed in rows_by_incident.items()
    ]
    OUTCOMES.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def documented(page: str, incidents: Iterable[Incident]) -> str:
    """Put the kept rows into their place of the page."""
    before, _, rest = page.partition(BEGINS)
    _, end, after = rest.partition(ENDS)
    lines = ["| incident | alert | severity | of | first | last | notified |", "|---|---|---|---|---|---|---|"]
    found = kept()
    for incident in incidents:
        lines += _documented_rows(incident, found.get(incident.name, ()))
    return f"{before}{BEGINS}{chr(10).join(lines)}\n{end}{after}"


def _documented_rows(incident: Incident, listed: tuple[Row, ...]) -> Iterator[str]:
    bound = (
        "nobody is paged"
        if incident.page_by is None
        else f"a page between {incident.begins:g} and {incident.page_by:g}"
    )
    heading = f"**{incident.title}** ({incident.play.minutes} min; {bound})"
    if not listed:
        yield f"| {heading} | none | | | | | |"
    for row in listed:
        notified = "muted" if row.notified is None else f"{row.notified:g}"
        yield f"| {heading} | {row.alert} | {row.severity} | {row.of} | {row.first:g} | {row.last:g} | {notified} |"
        heading = ""
