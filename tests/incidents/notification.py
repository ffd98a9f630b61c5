"""The shipped Alertmanager configuration, as far as it decides who hears of which alert: inhibition and routes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

CONFIG = Path(__file__).parents[2] / "config/alertmanager/alertmanager.yml"
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"(.*)"')

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Matcher:
    name: str
    operator: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Matcher:
        match = MATCHER.fullmatch(text)
        assert match, text
        return cls(*match.groups())

    def matches(self, labels: Mapping[str, str]) -> bool:
        actual = labels.get(self.name, "")
        same = bool(re.fullmatch(self.value, actual)) if "~" in self.operator else actual == self.value
        return same != self.operator.startswith("!")


@dataclass(frozen=True, slots=True)
class Inhibition:
    sources: tuple[Matcher, ...]
    targets: tuple[Matcher, ...]
    equal: tuple[str, ...]

    def mutes(self, target: Mapping[str, str], source: Mapping[str, str]) -> bool:
        if not self._is(self.targets, target) or not self._is(self.sources, source):
            return False
        # Alertmanager: an alert that matches both sides is not muted by another one of which the same is true.
        if self._is(self.sources, target) and self._is(self.targets, source):
            return False
        return all(target.get(name, "") == source.get(name, "") for name in self.equal)

    @staticmethod
    def _is(matchers: tuple[Matcher, ...], labels: Mapping[str, str]) -> bool:
        return all(matcher.matches(labels) for matcher in matchers)


@dataclass(frozen=True, slots=True)
class Alertmanager:
    inhibitions: tuple[Inhibition, ...]

    @classmethod
    def shipped(cls) -> Alertmanager:
        config: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
        return cls(
            tuple(
                Inhibition(
                    tuple(map(Matcher.parse, rule["source_matchers"])),
                    tuple(map(Matcher.parse, rule["target_matchers"])),
                    tuple(rule.get("equal", ())),
                )
                for rule in config["inhibit_rules"]
            )
        )

    def mutes(self, alert: Labels, firing: Collection[Labels]) -> bool:
        target = dict(alert)
        return any(
            inhibition.mutes(target, dict(other))
            for other in firing
            if other != alert
            for inhibition in self.inhibitions
        )
