"""One runbook per alert, each with its parts, whose queries are real and whose quoted rules are the rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from dashboards import rules
from tests.shipped.promql_reading import exposed, selections

ROOT = Path(__file__).parents[2]
BOOKS = sorted((ROOT / "docs/runbooks").glob("*.md"))
ALERT_RULES = [
    rule
    for group in yaml.safe_load((ROOT / "config/prometheus/rules/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
QUOTED = re.compile(r"^([^\n]+) \*\*(\w+)\*\* after (\w+) of\n\n```promql\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`", re.DOTALL)
LINK = re.compile(r"\]\(([^)#]*)(?:#([^)]*))?\)")
NAMES = {"up", *exposed(), *(rule.record for rule in rules.RECORDINGS)}


@pytest.fixture(params=BOOKS, ids=lambda path: path.stem)
def book(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def section(text: str, heading: str) -> str:
    return text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert {path.stem for path in BOOKS} == {rule["alert"] for rule in ALERT_RULES}


def test_runbook_urls_lead_to_the_files() -> None:
    for rule in ALERT_RULES:
        path = rule["annotations"]["runbook_url"].removeprefix(f"{rules.REPOSITORY_URL}/blob/main/")
        assert (ROOT / path).is_file(), path


def test_runbook_quotes_its_rules_as_they_are(book: Path) -> None:
    """Summary, severity, `for` and the expression with its threshold, for every severity of the alert."""
    quoted = QUOTED.findall(book.read_text())
    assert quoted == [
        (rule["annotations"]["summary"], rule["labels"]["severity"], rule["for"], rule["expr"])
        for rule in ALERT_RULES
        if rule["alert"] == book.stem
    ]


def test_runbook_has_its_parts_in_order(book: Path) -> None:
    text = book.read_text()
    assert text.startswith(f"# {book.stem}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Meaning", "Impact", "Diagnosis", "Mitigation"]
    diagnosis, mitigation = section(text, "Diagnosis"), section(text, "Mitigation")
    steps = [int(number) for number in re.findall(r"^(\d+)\. ", diagnosis, re.MULTILINE)]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= 3
    assert re.search(r"^1\. ", mitigation, re.MULTILINE)
    assert re.search(r"\nWhat not to do:\n\n- Don't ", mitigation)


def queries(text: str) -> list[str]:
    """Find inline code that names a metric and does more than name it."""
    code = [" ".join(inline.split()) for inline in INLINE.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL))]
    return [
        each
        for each in code
        if re.search(r"managed_agents_\w+[{\[ )]|^\w+\(.*managed_agents|^up\{|managed_agents_\w+$", each)
    ]


def test_queries_of_the_diagnosis_are_promql_over_metrics_that_exist(book: Path) -> None:
    asked = queries(section(book.read_text(), "Diagnosis"))
    assert asked
    for query in asked:
        for selected in selections(query):
            assert selected.name in NAMES, query
            assert selected.labels <= exposed().get(selected.name, selected.labels), query


def test_calls_by_hand_only_read(book: Path) -> None:
    """Nothing in a diagnosis claims, stops or changes an item; `poll` is named only as what not to call."""
    text = book.read_text()
    assert "POST" not in section(text, "Diagnosis").replace("`POST /-/reload`", "")
    for line in text.splitlines():
        assert "/poll" not in line or line.startswith("- Don't"), line


def test_links_lead_somewhere(book: Path) -> None:
    for page in (book, ROOT / "docs/alerts.md"):
        for target, anchor in LINK.findall(page.read_text()):
            if target.startswith("http"):
                continue
            path = (page.parent / target).resolve()
            assert path.exists(), f"{page.name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
                assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_inhibitions_name_alerts_that_exist() -> None:
    config = yaml.safe_load((ROOT / "config/alertmanager/alertmanager.yml").read_text())
    names = {rule["alert"] for rule in ALERT_RULES}
    for rule in config["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            if matched := re.fullmatch(r'alertname=~?"(.+)"', matcher):
                prefix, _, alternatives = matched[1].partition("(")
                words = alternatives.rstrip(")").split("|") if alternatives else [""]
                assert prefix == "ManagedAgents.+" or {prefix + word for word in words} <= names, matcher
