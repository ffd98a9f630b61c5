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

    def muted(self, firing: Collection[Labels]) -> set[Labels]:
        """Return which of these alerts this rule mutes.

        Alertmanager: an alert that matches both sides is not muted by another one of which the same is true.
        """
        sides = [(alert, *self._sides(dict(alert))) for alert in firing]
        speaking = {self._shared(alert) for alert, is_source, _ in sides if is_source}
        speaking_only = {self._shared(alert) for alert, is_source, is_target in sides if is_source and not is_target}
        return {
            alert
            for alert, is_source, is_target in sides
            if is_target and self._shared(alert) in (speaking_only if is_source else speaking)
        }

    def _sides(self, labels: Mapping[str, str]) -> tuple[bool, bool]:
        return self._is(self.sources, labels), self._is(self.targets, labels)

    def _shared(self, alert: Labels) -> tuple[str, ...]:
        labels = dict(alert)
        return tuple(labels.get(name, "") for name in self.equal)

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

    def muted(self, firing: Collection[Labels]) -> set[Labels]:
        """Return which of the alerts that fire another one speaks for."""
        return {alert for inhibition in self.inhibitions for alert in inhibition.muted(firing)}
