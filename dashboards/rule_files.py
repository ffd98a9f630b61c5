"""Rules → the text of Prometheus' rule files and of what the documentation quotes of them. Pure."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Final

from dashboards import recordings, rules
from dashboards.recordings import Recording
from dashboards.rules import AT_ONCE
from exporter.metrics.catalogue import READ_FAILURE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dashboards.rules import Alert

_HEADER: Final = (
    "# Written by `python -m dashboards.generate` from dashboards/rules.py, recordings.py and thresholds.py. Change those and\n"
    "# generate again: dashboards and documentation follow.\n"
)
# What pint, the linter of rules, is to pass over: the check by the rule, and why it is right so.
_PASSED_OVER: Final = {
    f"{rules.ALERT_PREFIX}Watchdog": ("alerts/comparison", "It is meant to fire always."),
    recordings.FAILURE.record: (f"promql/series({READ_FAILURE.name})", "Absent while everything can be read."),
}
_ABSENT_NOTE: Final = "# Only for the one Prometheus that scrapes the exporter: any other one has no series of it, and that means nothing there.\n"


def rule_files() -> dict[str, str]:
    """Return the text of every file, by its name. Each can be loaded without those behind it."""
    return {
        "recording.yml": _file(recordings.GROUPS),
        "alerts.yml": _file(rules.ALERT_GROUPS),
        "objectives.yml": _file({**recordings.OBJECTIVE_GROUPS, **rules.OBJECTIVE_ALERT_GROUPS}),
        "absent.yml": _file(rules.ABSENT_ALERT_GROUPS, note=_ABSENT_NOTE),
    }


def alert_table() -> str:
    rows = (
        f"| [{a.full_name}](runbooks/{a.full_name}.md) | {a.severity} | {a.hold} | {a.summary} |" for a in rules.ALERTS
    )
    return "\n".join(("| alert | severity | for | meaning |", "|---|---|---|---|", *rows))


def runbook_heads() -> dict[str, str]:
    """Give what a runbook quotes of its rules, by the alert's name."""
    heads: dict[str, list[str]] = {}
    for alert in rules.ALERTS:
        quoted = f"{alert.summary} **{alert.severity}** after {alert.hold} of\n\n```promql\n{alert.expr}\n```"
        heads.setdefault(alert.full_name, []).append(quoted)
    return {name: "\n\n".join(quoted) for name, quoted in heads.items()}


def _file(rules_by_group: Mapping[str, Iterable[Recording | Alert]], *, note: str = "") -> str:
    groups = (_group(name, rules_of_group) for name, rules_of_group in rules_by_group.items())
    return f"{_HEADER}{note}groups:\n{''.join(groups)}"


def _group(name: str, rules_of_group: Iterable[Recording | Alert]) -> str:
    interval = recordings.INTERVAL_BY_GROUP.get(name)
    head = f"  - name: {name}\n" + (f"    interval: {interval}\n" if interval else "")
    return f"{head}    rules:\n" + "".join(map(_rule, rules_of_group))


def _rule(rule: Recording | Alert) -> str:
    if isinstance(rule, Recording):
        return f"{_passed_over(rule.record)}      - record: {rule.record}\n        expr: {_block(rule.expr)}\n"
    lines = (
        f"{_passed_over(rule.full_name)}      - alert: {rule.full_name}",
        f"        expr: {_block(rule.expr)}",
        *([f"        for: {rule.hold}"] if rule.hold != AT_ONCE else []),
        "        labels:",
        f"          severity: {rule.severity}",
        "        annotations:",
        f"          summary: {json.dumps(rule.summary)}",
        f"          description: {_folded(rule.text)}",
        f"          runbook_url: {json.dumps(rule.runbook_url)}",
        f"          dashboard_url: {json.dumps(rule.dashboard_url)}",
        *([f"          items_url: {json.dumps(rule.items_url)}"] if rule.items_url else []),
    )
    return "\n".join(lines) + "\n"


def _passed_over(name: str) -> str:
    check, why = _PASSED_OVER.get(name, ("", ""))
    return f"      # {why}\n      # pint disable {check}\n" if check else ""


def _block(expr: str) -> str:
    return _indented("|-", expr.splitlines(), by=10)


def _folded(text: str) -> str:
    # A folded block joins its lines with one space, so lines may break wherever the text has one, inside templates too.
    lines = textwrap.wrap(text, width=108, break_long_words=False, break_on_hyphens=False)
    return _indented(">-", lines, by=12)


def _indented(marker: str, lines: Iterable[str], *, by: int) -> str:
    return "\n".join((marker, *(" " * by + line for line in lines)))
