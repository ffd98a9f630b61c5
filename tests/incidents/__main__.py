"""Play every incident and write what came of it: tests/incidents/outcomes.json, and the table of docs/alerts.md.

python -m tests.incidents [NAME ...]
"""

from __future__ import annotations

import logging
import sys
from concurrent.futures import ProcessPoolExecutor

from tests.incidents.incidents import INCIDENTS
from tests.incidents.laboratory import course_of
from tests.incidents.table import DOCUMENTATION, OUTCOMES, Row, documented, keep, kept, rows


def outcome(name: str) -> tuple[Row, ...]:
    logging.disable(logging.CRITICAL)
    (incident,) = (each for each in INCIDENTS if each.name == name)
    return rows(course_of(incident.play).spells)


def main(wanted: list[str]) -> None:
    names = [incident.name for incident in INCIDENTS]
    before = kept() if OUTCOMES.exists() else {}
    with ProcessPoolExecutor(2) as pool:
        chosen = [name for name in names if not wanted or name in wanted]
        for name, found in zip(chosen, pool.map(outcome, chosen), strict=True):
            before[name] = found
            sys.stdout.write(f"{name}\n" + "".join(f"  {row}\n" for row in found))
            sys.stdout.flush()
            keep({each: before[each] for each in names if each in before})
    DOCUMENTATION.write_text(documented(DOCUMENTATION.read_text(encoding="utf-8"), INCIDENTS), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
