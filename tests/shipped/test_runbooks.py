"""One runbook per alert, each with its parts, whose queries are real and whose quoted rules are the rules."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import yaml

from dashboards import rules
from dashboards.rules import AT_ONCE
from exporter.simulator import World
from tests.ample import AMPLE_S
from tests.exported import exporter_process
from tests.shipped.documentation import page
from tests.shipped.promql_reading import exposed, selections
from tests.simulated import Running, running

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ENVIRONMENT_KEY = "sk-ant-oat01-runbook"
BOOKS = sorted((ROOT / "docs/runbooks").glob("*.md"))
ALERT_RULES = [
    rule
    for name in ("alerts", "objectives", "absent")
    for group in yaml.safe_load((ROOT / f"config/prometheus/rules/{name}.yml").read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
QUOTED = re.compile(r"^([^\n]+) \*\*(\w+)\*\* after (\w+) of\n\n```promql\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`", re.DOTALL)
LINK = re.compile(r"\]\(([^)#]*)(?:#([^)]*))?\)")
PROCESS = {"process_start_time_seconds", "process_resident_memory_bytes"}
PROMETHEUS = {"ALERTS", "prometheus_notifications_errors_total"}
NAMES = {"up", *PROCESS, *PROMETHEUS, *exposed(), *(rule.record for rule in rules.RECORDINGS)}
COMMAND = re.compile(r"(api|items|curl|managed-agents-exporter) ")


@pytest.fixture(params=BOOKS, ids=lambda path: path.stem)
def runbook(request: pytest.FixtureRequest) -> Path:
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


def test_runbook_quotes_its_rules_as_they_are(runbook: Path) -> None:
    """Summary, severity, `for` and the expression with its threshold, for every severity of the alert."""
    quoted = QUOTED.findall(runbook.read_text())
    assert quoted == [
        (rule["annotations"]["summary"], rule["labels"]["severity"], rule.get("for", AT_ONCE), rule["expr"])
        for rule in ALERT_RULES
        if rule["alert"] == runbook.stem
    ]


def test_runbook_has_its_parts_in_order(runbook: Path) -> None:
    text = runbook.read_text()
    assert text.startswith(f"# {runbook.stem}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Meaning", "Impact", "Diagnosis", "Mitigation"]
    diagnosis, mitigation = section(text, "Diagnosis"), section(text, "Mitigation")
    steps = [int(number) for number in re.findall(r"^(\d+)\. ", diagnosis, re.MULTILINE)]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= 3
    assert re.search(r"^1\. ", mitigation, re.MULTILINE)
    assert re.search(r"\nWhat not to do:\n\n- Don't ", mitigation)


def inline_code(text: str) -> list[str]:
    without_blocks = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [" ".join(code.split()) for code in INLINE.findall(without_blocks)]


def queries(text: str) -> list[str]:
    """Find inline code that names a metric and does more than name it."""
    return [
        each
        for each in inline_code(text)
        if re.search(
            r"managed_agents_\w+[{\[ )]|^\w+\(.*(managed_agents|process)_|^up\{|managed_agents_\w+$|^ALERTS\{", each
        )
        and not COMMAND.match(each)
    ]


def test_queries_of_the_diagnosis_are_promql_over_metrics_that_exist(runbook: Path) -> None:
    asked = queries(section(runbook.read_text(), "Diagnosis"))
    assert asked
    for query in asked:
        for selected in selections(query):
            assert selected.name in NAMES, query
            assert selected.labels <= exposed().get(selected.name, selected.labels), query


def test_calls_by_hand_only_read(runbook: Path) -> None:
    """Nothing in a diagnosis claims, stops or changes an item; `poll` is named only as what not to call."""
    text = runbook.read_text()
    assert "POST" not in section(text, "Diagnosis").replace("`POST /-/reload`", "")
    for line in text.splitlines():
        assert "/poll" not in line or line.startswith("- Don't"), line


def test_links_lead_somewhere(runbook: Path) -> None:
    for source in (runbook, ROOT / "docs/alerts.md"):
        for target, anchor in LINK.findall(source.read_text()):
            if target.startswith("http"):
                continue
            path = (source.parent / target).resolve()
            assert path.exists(), f"{source.name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
                assert anchor in {heading.lower().replace(" ", "-").replace("'", "") for heading in headings}


def commands(text: str) -> list[str]:
    return [code for code in inline_code(text) if COMMAND.match(code)]


@pytest.fixture(scope="module")
def queue() -> Iterator[Running]:
    """Serve an API with an environment that has an item in every state."""
    world = World(time.time)
    environment = world.add_environment("env_1", name="production", key=ENVIRONMENT_KEY)
    for item in [environment.create() for _ in range(4)]:
        environment.poll()
        environment.ack(item.id)
    for item in list(environment.items())[:3]:
        environment.heartbeat(item.id, expected="NO_HEARTBEAT")
    (first, second, *_) = environment.items()
    environment.stop(first.id)
    environment.stop(second.id, force=True)
    environment.create()
    with running(world) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def exporter(queue: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Run an exporter of that API; yield its address and its configuration file."""
    directory = tmp_path_factory.mktemp("exporter")
    (directory / "key").write_text(ENVIRONMENT_KEY)
    (directory / "api-key").write_text(queue.options.api_key)
    config = directory / "config.yml"
    config.write_text(
        f"api: {{base_url: {queue.base_url}, api_key_file: api-key}}\n"
        "environments: [{id: env_1, name: production, environment_key_file: key}]\n"
    )
    with exporter_process(f"--config.file={config}", directory=directory) as process:
        process.scrape()
        yield process.base_url.removeprefix("http://"), config


@pytest.mark.e2e
def test_commands_work_as_they_are_written(
    runbook: Path, queue: Running, exporter: tuple[str, Path], tmp_path: Path
) -> None:
    """With the functions and the credential that docs/alerts.md names; only the placeholders are filled in."""
    address, config = exporter
    functions = next(block.text for block in page("docs/alerts.md").blocks("sh") if "api()" in block.text)
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ANTHROPIC_BASE_URL": queue.base_url.removesuffix("/v1"),
        "ANTHROPIC_ENVIRONMENT_KEY": ENVIRONMENT_KEY,
    }
    for command in commands(runbook.read_text()):
        line = command.replace("env_…", "env_1").replace("EXPORTER:9831", address).replace("file …", f"file {config}")
        if line.startswith("managed-agents-exporter") and "--config.file" not in line:
            line += f" --config.file={config}"
        done = subprocess.run(
            ["bash", "-euc", "-o", "pipefail", f"{functions}\n{line}"],
            capture_output=True,
            text=True,
            env=environ,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        assert done.stdout.strip(), command
        assert '"type":"error"' not in done.stdout.replace(" ", ""), f"{command}: {done.stdout}"


@pytest.mark.e2e
def test_pages_of_the_exporter_answer_where_they_are_named(runbook: Path, exporter: tuple[str, Path]) -> None:
    address, _ = exporter
    for code in inline_code(runbook.read_text()):
        if code.startswith("http://EXPORTER:9831/"):
            answer = httpx.get(code.replace("EXPORTER:9831", address).replace("env_…", "env_1"), timeout=AMPLE_S)
            assert answer.status_code == 200, f"{code}: {answer.text}"


def test_runbooks_have_commands() -> None:
    assert sum(len(commands(path.read_text())) for path in BOOKS) >= 20
