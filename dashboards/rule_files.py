"""Rules → the text of Prometheus' rule files and of what the documentation quotes of them. Pure."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Final

from dashboards.rules import ALERT_GROUPS, ALERTS, RECORDINGS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dashboards.rules import Alert, Recording

_HEADER: Final = (
    "# Written by `python -m dashboards.generate` from dashboards/rules.py and dashboards/thresholds.py. Change those and generate\n"
    "# again: dashboards and documentation follow.\n"
)


def recording_rules() -> str:
    rules = "".join(_recording(rule) for rule in RECORDINGS)
    return f"{_HEADER}groups:\n  - name: managed-agents-recording\n    rules:\n{rules}"


def alerting_rules() -> str:
    groups = (
        f"  - name: {name}\n    rules:\n{''.join(_alert(alert) for alert in alerts)}"
        for name, alerts in ALERT_GROUPS.items()
    )
    return f"{_HEADER}groups:\n{''.join(groups)}"


def alert_table() -> str:
    rows = (f"| [{a.full_name}](runbooks/{a.full_name}.md) | {a.severity} | {a.hold} | {a.summary} |" for a in ALERTS)
    return "\n".join(("| alert | severity | for | meaning |", "|---|---|---|---|", *rows))


def runbook_heads() -> dict[str, str]:
    """Give what a runbook quotes of its rules, by the alert's name."""
    heads: dict[str, list[str]] = {}
    for alert in ALERTS:
        quoted = f"{alert.summary} **{alert.severity}** after {alert.hold} of\n\n```promql\n{alert.expr}\n```"
        heads.setdefault(alert.full_name, []).append(quoted)
    return {name: "\n\n".join(quoted) for name, quoted in heads.items()}


def _recording(rule: Recording) -> str:
    return f"      - record: {rule.record}\n        expr: {_block(rule.expr)}\n"


def _alert(alert: Alert) -> str:
    lines = (
        f"      - alert: {alert.full_name}",
        f"        expr: {_block(alert.expr)}",
        f"        for: {alert.hold}",
        "        labels:",
        f"          severity: {alert.severity}",
        "        annotations:",
        f"          summary: {json.dumps(alert.summary)}",
        f"          description: {_folded(alert.description)}",
        f"          runbook_url: {json.dumps(alert.runbook_url)}",
        f"          dashboard: {json.dumps(alert.dashboard)}",
    )
    return "\n".join(lines) + "\n"


def _block(expr: str) -> str:
    return _indented("|-", expr.splitlines(), by=10)


def _folded(text: str) -> str:
    # A folded block joins its lines with one space, so lines may break wherever the text has one, inside templates too.
    lines = textwrap.wrap(text, width=108, break_long_words=False, break_on_hyphens=False)
    return _indented(">-", lines, by=12)


def _indented(marker: str, lines: Iterable[str], *, by: int) -> str:
    return "\n".join((marker, *(" " * by + line for line in lines)))
