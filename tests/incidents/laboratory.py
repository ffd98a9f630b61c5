"""Play an incident, let promtool evaluate the shipped rules over what Prometheus would have scraped, and say who is notified of what."""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import yaml

from exporter.app import OBJECTS_BETWEEN_COLLECTIONS
from tests.incidents.notification import Alertmanager
from tests.incidents.stage import JOB, SCRAPE_S, Exporter, Site, Stage, curtain
from tests.shipped.promql_reading import metric_names
from tests.simulated_time import SimulatedTimeLoop

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]
RULE_FILES = sorted((ROOT / "config/prometheus/rules").glob("*.yml"))
LOOK_S = 30
"""How often the rules are evaluated, and who fires is looked at: half as often as prometheus.yml does."""
FIRING = 'ALERTS{alertstate="firing"}'
SAMPLE = re.compile(r"\{(__name__=\"ALERTS\"[^}]*)\} 1E\+00")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
TIME = re.compile(r"^    expr: .*, time: (?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?,")
TEXTS_EVERY_MIN = 5
RECORD = re.compile(r"[a-z_]+:[a-z0-9_]+:[a-z0-9_]+")
LAVISH = {"GOGC": "400"}
"""promtool spends a fifth of its time on collecting garbage that would fit into memory many times."""

Labels = frozenset[tuple[str, str]]
Event = tuple[float, Callable[[Stage], Awaitable[None]]]


@dataclass(frozen=True, slots=True)
class Recorded:
    """The samples of every series by the number of the scrape; a scrape that never happened is in `unseen`."""

    scrapes: int
    samples: Mapping[str, Mapping[int, float]]
    unseen: frozenset[int] = frozenset()
    every: int = 1

    def input_series(self) -> list[dict[str, str]]:
        return [{"series": name, "values": self._notation(values)} for name, values in self.samples.items()]

    def _notation(self, values: Mapping[int, float]) -> str:
        """Write promtool's notation: runs in short, and a series that ends is marked stale as Prometheus does it."""
        words: list[str] = []
        was_there = False
        for number in range(self.scrapes):
            value = values.get(number)
            if value is not None:
                words.append(repr(value))
            elif number in self.unseen or number % self.every or not was_there:
                words.append("_")
                continue
            else:
                words.append("stale")
            was_there = value is not None
        return " ".join(_shortened(words))


def _shortened(words: Sequence[str]) -> Iterator[str]:
    start = 0
    for index in range(1, len(words) + 1):
        if index == len(words) or words[index] != words[start]:
            count, word = index - start, words[start]
            if word == "stale" or count == 1:
                yield from [word] * count
            else:
                yield f"_x{count}" if word == "_" else f"{word}x{count - 1}"
            start = index


@dataclass(frozen=True, slots=True)
class Spell:
    """A time for which an alert fired without a pause, in minutes. `notified_at`: when it first was not inhibited."""

    labels: Labels
    first: float
    last: float
    notified_at: float | None

    def label(self, name: str) -> str:
        return dict(self.labels).get(name, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What happened: spells in order of time, and the texts that a reader got, by alert name."""

    spells: tuple[Spell, ...]
    texts: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judges:
    """The alerts of some groups, and the recording rules that these or their texts read. `metrics`: what all of them read.

    Whatever only a dashboard reads is left out: it would be half of the samples and of the time.
    """

    groups: tuple[dict[str, Any], ...]
    metrics: frozenset[str]

    @classmethod
    @cache
    def of(cls, names: frozenset[str] | None, files: frozenset[str]) -> Judges:
        """Choose the groups of these names, or all, of these files."""
        groups = [group for path in RULE_FILES if path.name in files for group in _groups(path)]
        expr_by_record = {
            rule["record"]: rule["expr"] for group in groups for rule in group["rules"] if "record" in rule
        }
        judging = {group["name"] for group in groups if names is None or group["name"] in names}
        alerts = [rule for group in groups if group["name"] in judging for rule in group["rules"] if "alert" in rule]
        read = {name for rule in alerts for name in metric_names(rule["expr"])}
        read |= {name for rule in alerts for name in RECORD.findall(str(rule["annotations"]))}
        unfollowed = read & expr_by_record.keys()
        while unfollowed:
            more = set(metric_names(expr_by_record[unfollowed.pop()])) - read
            read |= more
            unfollowed |= more & expr_by_record.keys()
        kept = [
            {**group, "rules": [rule for rule in group["rules"] if rule.get("record") in read or rule in alerts]}
            for group in groups
        ]
        return cls(tuple(group for group in kept if group["rules"]), frozenset(n for n in read if ":" not in n))


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """What is put on the stage: who is there, for how long, and what happens at which minute."""

    sites: tuple[Site, ...]
    exporters: tuple[Exporter, ...] = (Exporter(),)
    minutes: int = 90
    events: tuple[Event, ...] = ()
    prometheus_away: tuple[float, float] | None = None
    # promtool loads 10,000 samples in a query at most, so hundreds of environments are judged by some groups of rules alone.
    groups: frozenset[str] | None = None
    rule_files: frozenset[str] = frozenset(path.name for path in RULE_FILES)
    # Every how many intervals of 15 s there is a scrape.
    every: int = 1

    @property
    def judges(self) -> Judges:
        return Judges.of(self.groups, self.rule_files)


def record(play: Play) -> Recorded:
    thresholds = gc.get_threshold()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    try:
        return anyio.run(_record, play, backend_options={"loop_factory": SimulatedTimeLoop})
    finally:
        gc.set_threshold(*thresholds)


async def _record(play: Play) -> Recorded:
    samples: dict[str, dict[int, float]] = defaultdict(dict)
    unseen = set()
    due = sorted(play.events, key=lambda event: event[0])
    async with curtain(play.sites, play.exporters) as stage:
        for number in range(play.minutes * 60 // SCRAPE_S + 1):
            await stage.until(number * SCRAPE_S)
            while due and due[0][0] <= stage.minute:
                await due.pop(0)[1](stage)
            if play.prometheus_away and play.prometheus_away[0] <= stage.minute < play.prometheus_away[1]:
                unseen.add(number)
                continue
            for exporter in play.exporters if number % play.every == 0 else ():
                if exporter.instance not in stage.targets:
                    continue
                await _scrape(stage, exporter.instance, number, samples, play.judges.metrics)
    return Recorded(play.minutes * 60 // SCRAPE_S + 1, samples, frozenset(unseen), play.every)


async def _scrape(
    stage: Stage, instance: str, number: int, samples: dict[str, dict[int, float]], wanted: frozenset[str]
) -> None:
    target = f'job="{JOB}",instance="{instance}"'
    exposed = await stage.scrape(instance, wanted)
    samples[f"up{{{target}}}"][number] = float(exposed is not None)
    for series, value in exposed or ():
        name, brace, labels = series.partition("{")
        samples[f"{name}{{{target}{',' if brace else '}'}{labels}"][number] = value


def course_of(play: Play) -> Course:
    """Play it, and let the rules judge it."""
    return evaluate(record(play), play.judges)


def evaluate(recorded: Recorded, judges: Judges) -> Course:
    """Let promtool say which alerts fire at every half minute, and what they say."""
    text = _failed(["promtool", "test", "rules"], _document(recorded, judges.groups), judges)
    return Course(spells=tuple(_spells_of(text, recorded)), texts=_texts(text))


def evaluate_in_vmalert(recorded: Recorded, judges: Judges) -> tuple[Spell, ...]:
    """Let VictoriaMetrics' vmalert say which alerts fire at every half minute."""
    document = _document(recorded, judges.groups)
    (test,) = document["tests"]
    del test["alert_rule_test"]
    test["metricsql_expr_test"] = [
        {**each, "exp_samples": [{"labels": '{other=""}', "value": 1}]} for each in test.pop("promql_expr_test")
    ]
    text = _failed(["vmalert-tool", "unittest", "--disableAlertgroupLabel", "--files"], document, judges)
    return tuple(_spells_of(text, recorded))


def _failed(command: Sequence[str], document: dict[str, Any], judges: Judges) -> str:
    """Run a test that must fail, because nothing that it expects is so, and return what it says is so instead."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "rules.yml").write_text(json.dumps({"groups": judges.groups}))
        path = Path(directory) / "test.yml"
        path.write_text(json.dumps(document))
        done = subprocess.run([*command, path], capture_output=True, text=True, check=False, env=os.environ | LAVISH)
    text = done.stdout + done.stderr
    assert "FAILED" in text, text
    assert ", err: " not in text, text
    return text


def _spells_of(text: str, recorded: Recorded) -> Iterator[Spell]:
    unseen = {number * SCRAPE_S // LOOK_S * LOOK_S for number in recorded.unseen}
    firing = {at: alerts for at, alerts in _firing(text) if at not in unseen}
    assert firing, text
    yield from _spells(firing)


def _document(recorded: Recorded, groups: Sequence[dict[str, Any]]) -> dict[str, Any]:
    minutes = (recorded.scrapes - 1) * SCRAPE_S // 60
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    test = {
        "interval": f"{SCRAPE_S}s",
        "input_series": recorded.input_series(),
        "promql_expr_test": [
            {"expr": FIRING, "eval_time": f"{at}s", "exp_samples": [{"labels": "other", "value": 1}]}
            for at in range(LOOK_S, minutes * 60 + 1, LOOK_S)
        ],
        "alert_rule_test": [
            {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": []}
            for name in sorted(alerts)
            for minute in range(TEXTS_EVERY_MIN, minutes, TEXTS_EVERY_MIN)
        ],
    }
    return {
        "rule_files": ["rules.yml"],
        "evaluation_interval": f"{LOOK_S}s",
        "group_eval_order": sorted(
            (group["name"] for group in groups), key=lambda name: not name.endswith("-recording")
        ),
        "tests": [test],
    }


def _groups(path: Path) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = yaml.safe_load(path.read_text())["groups"]
    return groups


def _firing(text: str) -> Iterator[tuple[int, frozenset[Labels]]]:
    at = None
    for line in text.splitlines():
        if match := TIME.match(line):
            hours, minutes, seconds = (int(part or 0) for part in match.groups())
            at = hours * 3600 + minutes * 60 + seconds
        elif at is not None and line.startswith("        got:"):
            yield at, frozenset(frozenset(_labels(found[1])) for found in SAMPLE.finditer(line))
            at = None


def _labels(text: str) -> Iterator[tuple[str, str]]:
    for name, value in LABEL.findall(text):
        if name not in {"__name__", "alertstate"}:
            yield name, value


def _spells(firing: Mapping[int, frozenset[Labels]]) -> Iterator[Spell]:
    alertmanager = Alertmanager.shipped()
    moments = sorted(firing)
    notified = {at: firing[at] - alertmanager.muted(firing[at]) for at in moments}
    began: dict[Labels, int] = {}
    spells = []
    for before, now in pairwise([None, *moments, None]):
        here = firing[now] if now is not None else frozenset()
        for alert in [each for each in began if each not in here]:
            first = began.pop(alert)
            notified_at = _notified_at(alert, [at for at in moments if first <= at <= (before or 0)], notified)
            spells.append(Spell(alert, first / 60, (before or 0) / 60, notified_at))
        for alert in here:
            began.setdefault(alert, now or 0)
    yield from sorted(spells, key=lambda spell: (spell.first, sorted(spell.labels)))


def _notified_at(alert: Labels, moments: Sequence[int], notified: Mapping[int, frozenset[Labels]]) -> float | None:
    """Return the minute of the first notification: the pager's group waits 10 s, that of the others as long as two looks are apart."""
    waits = 0 if ("severity", "critical") in alert else 1
    for index, at in enumerate(moments):
        if all(alert in notified[each] for each in moments[index : index + 1 + waits]) and index + waits < len(moments):
            return at / 60
    return None


def _texts(text: str) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    name = ""
    for line in text.splitlines():
        if line.startswith("    alertname: "):
            name = line.removeprefix("    alertname: ").partition(",")[0]
        if line.strip().startswith("Annotations:"):
            found[name].add(dict(LABEL.findall(line)).get("description", ""))
    return {name: frozenset(texts) for name, texts in found.items()}
