"""What an expression selects and how: read with promql-parser, for the tests of rules, dashboards and runbooks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import promql_parser
from promql_parser import AggregateExpr, BinaryExpr, Call, MatrixSelector, ParenExpr, VectorSelector

from exporter.metrics import catalogue

if TYPE_CHECKING:
    from datetime import timedelta

HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")
COMPARISONS = frozenset(("==", "!=", ">", ">=", "<", "<="))
ABSENCES = frozenset(("absent", "absent_over_time"))
TARGET_LABELS = frozenset({"job", "instance"})


@dataclass(frozen=True, slots=True)
class Selection:
    """A selector, and what stands around it from the outside in."""

    name: str
    labels: frozenset[str]
    matchers: frozenset[tuple[str, str, str]]
    window: timedelta | None
    calls: tuple[str, ...]
    # Operator and labels of every aggregation around the selector.
    aggregations: tuple[tuple[str, frozenset[str]], ...]


def selections(expr: str) -> list[Selection]:
    found: list[Selection] = []
    around: list[promql_parser.Expr] = []

    def enter(node: promql_parser.Expr) -> None:
        if isinstance(node, VectorSelector):
            found.append(_selection(node, around))
        around.append(node)

    def leave(_: promql_parser.Expr) -> None:
        around.pop()

    promql_parser.walk(promql_parser.parse(expr), enter, leave)
    return found


def _selection(node: VectorSelector, around: list[promql_parser.Expr]) -> Selection:
    matchers = node.matchers.matchers
    windows = [outer.range for outer in around if isinstance(outer, MatrixSelector)]
    return Selection(
        name=node.name or "",
        labels=frozenset(m.name for m in matchers),
        matchers=frozenset((m.name, str(m.op).removeprefix("MatchOp."), m.value) for m in matchers),
        window=windows[-1] if windows else None,
        calls=tuple(outer.func.name for outer in around if isinstance(outer, Call)),
        aggregations=tuple(_aggregation(outer) for outer in around if isinstance(outer, AggregateExpr)),
    )


def _aggregation(node: AggregateExpr) -> tuple[str, frozenset[str]]:
    return str(node.op).split(maxsplit=1)[0], frozenset(node.modifier.labels if node.modifier else ())


def metric_names(expr: str) -> list[str]:
    return [selection.name for selection in selections(expr)]


def grouped_labels(expr: str) -> set[str]:
    return {label for selection in selections(expr) for _, labels in selection.aggregations for label in labels}


def decides(expr: str) -> bool:
    """Tell whether the expression has a value only where a comparison holds, something is absent, or an alert fires."""
    return _decides(promql_parser.parse(expr))


def _decides(node: promql_parser.Expr) -> bool:
    match node:
        case ParenExpr() | AggregateExpr():
            return _decides(node.expr)
        case Call():
            return node.func.name in ABSENCES
        case VectorSelector():
            return node.name == "ALERTS"
        case BinaryExpr():
            either, both = _decides(node.lhs), _decides(node.lhs) and _decides(node.rhs)
            compared = str(node.op) in COMPARISONS and not (node.modifier and node.modifier.return_bool)
            return {"and": either or _decides(node.rhs), "or": both, "unless": either}.get(str(node.op), compared)
        case _:
            return False


def exposed() -> dict[str, frozenset[str]]:
    """Every name the catalogue's metrics are queried by, with its labels."""
    names: dict[str, frozenset[str]] = {}
    for metric in catalogue.CATALOGUE:
        labels = frozenset(metric.labels) | TARGET_LABELS
        if metric.type != "histogram":
            names[metric.name] = labels
            continue
        names |= {
            metric.name + suffix: labels | ({"le"} if suffix == "_bucket" else set()) for suffix in HISTOGRAM_SUFFIXES
        }
    return names
