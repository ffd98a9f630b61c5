"""What an expression selects and how: read with promql-parser, for the tests of rules, dashboards and runbooks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import promql_parser
from promql_parser import AggregateExpr, Call, MatrixSelector, VectorSelector

from exporter.metrics import catalogue

if TYPE_CHECKING:
    from datetime import timedelta

HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")
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
