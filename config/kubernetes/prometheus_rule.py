"""Writes prometheusrule.yaml, the Prometheus operator's form of config/prometheus/rules/. With --check only compares.

Run it from the root of the repository, after the rules have changed: python -m config.kubernetes.prometheus_rule
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE: Final = Path(__file__).parent
RULES: Final = HERE.parent / "prometheus" / "rules"
TARGET: Final = HERE / "prometheusrule.yaml"
HEADER: Final = """\
# Written by `python -m config.kubernetes.prometheus_rule` from config/prometheus/rules/. Change those and write it again.
"""
# A longer line would be folded, and an expression read worse.
WIDTH: Final = 10_000


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as such."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def rule_groups(directory: Path) -> list[dict[str, Any]]:
    """Return the groups of every rule file, in the order of the files' names."""
    files = sorted(directory.glob("*.yml"))
    return [group for file in files for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]


def rendered(groups: Sequence[dict[str, Any]]) -> str:
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "managed-agents-exporter"},
        "spec": {"groups": list(groups)},
    }
    return HEADER + yaml.dump(resource, Dumper=_Dumper, sort_keys=False, width=WIDTH, allow_unicode=True)


def main(arguments: Sequence[str] | None = None, *, target: Path = TARGET) -> int:
    parser = argparse.ArgumentParser(description="Write the PrometheusRule, or compare it with the rules.")
    parser.add_argument("--check", action="store_true", help="write nothing, end with 1 where it is not up to date")
    check = parser.parse_args(arguments).check
    text = rendered(rule_groups(RULES))
    if not check:
        target.write_text(text, encoding="utf-8")
        return 0
    if target.is_file() and target.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{target} is not what the rules say: run python -m config.kubernetes.prometheus_rule\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
