"""The documentation and the code tell the same: nothing is left out, nothing is made up, and every example works."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trustme
import yaml

import exporter
from dashboards import rules
from exporter import flags
from exporter.api.client import REASONS
from exporter.api.httpx_transport import tls_context
from exporter.api.wire import State
from exporter.check.plan import plan
from exporter.config import load as config
from exporter.config.model import Config, EnvironmentConfig
from exporter.listing.tally import OUTCOMES
from exporter.metrics import catalogue
from exporter.web import web_config
from exporter.web.routes import Parts, Routes, WebSettings
from tests.shipped.documentation import ROOT, SPAN, Block, Page, page, pages
from tests.shipped.promql_reading import exposed, metric_names

README = page("README.md")
METRICS = page("docs/metrics.md")
CONFIGURATION = page("docs/configuration.md")
PAGES = pages()

NAMES = {"up", *exposed(), *(recording.record for recording in rules.RECORDINGS)}
SECTION_KEYS = {"api", "scrape", "listing", "work", "discovery", "environments"}
PROMETHEUS_KEYS = {"global", "rule_files", "alerting", "scrape_configs"}
OTHER_PROGRAMS_FLAGS = {
    "--enable-feature",
    "--check",  # the generator of dashboards and rules
    "--flag",  # stands for any
}


@pytest.fixture(params=PAGES, ids=lambda each: each.name)
def any_page(request: pytest.FixtureRequest) -> Page:
    found: Page = request.param
    return found


def blocks(*languages: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{each.name}-{number}")
        for each in PAGES
        for number, block in enumerate(each.blocks(*languages))
    ]


def written(metric: catalogue.Metric) -> str:
    """Write a metric as the tables do: the labels beyond those of every environment in braces."""
    labels = ", ".join(label for label in metric.labels if label not in catalogue.ENVIRONMENT_LABELS)
    return f"`{metric.name}{{{labels}}}`" if labels else f"`{metric.name}`"


# ---- metrics


def test_the_readme_lists_every_metric_with_its_type_and_labels() -> None:
    listed = [(name, kind) for name, kind, _ in README.rows("metric", "type", "meaning")]
    assert listed == [(written(metric), metric.type) for metric in catalogue.CATALOGUE]


def test_the_page_of_metrics_has_a_section_for_each_with_its_type_and_an_example() -> None:
    sections = re.findall(
        r"^### (`managed_agents_[^\n]*)\n\n(\w+)(.*?)(?=^##|\Z)", METRICS.text, re.MULTILINE | re.DOTALL
    )
    assert [(name, kind) for name, kind, _ in sections] == [(written(m), m.type) for m in catalogue.CATALOGUE]
    for name, _, text in sections:
        metric = name.strip("`").partition("{")[0]
        examples = re.findall(r"```promql\n(.*?)```", text, re.DOTALL)
        assert any(metric in example for example in examples), f"no example of {metric}"


GONE = {
    "environment:managed_agents_work_queue_wait_seconds:p95_rate1h",
    "environment:managed_agents_work_queue_wait_seconds_count:max_increase1h",
    "job:managed_agents_exporter_scraped:max",
    "job_source:managed_agents_exporter_api_errors_total_auth:max_increase10m",
    "job_source:managed_agents_exporter_api_throttled_total:max_increase10m",
}
"""What earlier versions recorded: the upgrade notes alone name it."""


def test_what_the_upgrade_notes_call_gone_is_gone() -> None:
    notes = (ROOT / "docs/upgrading.md").read_text()
    assert all(name in notes for name in GONE)
    assert not GONE & NAMES


def test_no_page_names_a_metric_that_does_not_exist(any_page: Page) -> None:
    for name in re.findall(r"(?<![\w:])(?:\w+:)?managed_agents_\w*[a-z0-9](?::\w+)?(?!\w|…)", any_page.text):
        known = NAMES | {metric.name for metric in catalogue.CATALOGUE}
        if any_page.name == "docs/upgrading.md":
            known |= GONE
        assert name in known, f"{any_page.name} names {name}"
    for start in re.findall(r"`(managed_agents_\w*_)\*`", any_page.text):
        assert any(known.startswith(start) for known in NAMES), f"{any_page.name} names {start}*"


@pytest.mark.parametrize("block", blocks("promql"))
def test_every_expression_parses_and_names_what_exists(block: Block) -> None:
    names = metric_names(block.text)
    assert names or block.text.strip() == "vector(1)"
    assert set(names) <= NAMES | {"ALERTS"}


def test_every_reason_state_and_outcome_is_explained() -> None:
    assert [reason.strip("`") for reason, _ in METRICS.rows("reason", "what happened")] == list(REASONS)
    assert {state.value for state in State} <= set(METRICS.spans)
    assert set(OUTCOMES) <= set(METRICS.spans)


# ---- configuration


def test_every_key_of_the_file_is_listed_once_and_no_other() -> None:
    listed = [key.strip("`") for key, _, _ in CONFIGURATION.rows("key", "default", "meaning")]
    assert len(listed) == len(set(listed))
    assert set(listed) == set(config.keys()) - SECTION_KEYS


def test_the_defaults_listed_are_those_of_the_example_file() -> None:
    example = yaml.safe_load((ROOT / "config/exporter.yml").read_text())
    without_default = {"api.api_key_file", "api.api_key_env"}
    for key, default, _ in CONFIGURATION.rows("key", "default", "meaning"):
        place = key.strip("`")
        if place.startswith("environments") or place in without_default:
            continue
        section, name = place.split(".")
        assert yaml.safe_load(default.strip("`")) == example[section][name], place


def test_no_page_names_a_key_that_does_not_exist(any_page: Page) -> None:
    known = set(config.keys()) | set(web_config.keys())
    for span in any_page.spans:
        if re.fullmatch(r"(?:api|scrape|listing|work|discovery|environments\[\]|tls_server_config)\.[a-z_.]+", span):
            assert span in known, f"{any_page.name} names {span}"


def test_every_key_of_the_web_file_is_listed_and_no_other() -> None:
    listed = {key.strip("`") for key, _ in CONFIGURATION.rows("key", "meaning")}
    assert listed == set(web_config.keys()) - {"tls_server_config", "http_server_config"}


def test_every_environment_variable_is_listed_and_no_other() -> None:
    listed = {name.strip("`") for name, _ in CONFIGURATION.rows("variable", "meaning")}
    source = "".join(path.read_text() for path in (ROOT / "exporter/config").glob("*.py"))
    assert listed == set(re.findall(r'"(ANTHROPIC_[A-Z_]+)"', source))
    for each in PAGES:
        assert set(re.findall(r"\bANTHROPIC_[A-Z_]+\b", each.text)) <= listed, each.name


def test_the_system_s_own_variable_adds_an_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [name for name, _ in CONFIGURATION.rows("inherited variable", "what happens to it")]
    assert "`SSL_CERT_FILE`, `SSL_CERT_DIR`, `OPENSSL_CONF`" in listed
    trustme.CA(organization_name="An authority").cert_pem.write_to_path(tmp_path / "ca.pem")
    usual = len(tls_context().get_ca_certs())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    trusted = tls_context().get_ca_certs()
    assert any("An authority" in str(authority["subject"]) for authority in trusted)
    assert len(trusted) > usual / 2


# ---- command line


def actions() -> dict[str, argparse.Action]:
    return {action.option_strings[-1]: action for action in flags.parser()._actions}


def test_the_readme_lists_every_flag_with_its_default_and_no_other() -> None:
    listed = {
        flag.strip("`").split()[0]: default.strip("`") for flag, default, _ in README.rows("flag", "default", "meaning")
    }
    expected = {
        flag: str(action.default) if action.default not in {None, False, argparse.SUPPRESS} else ""
        for flag, action in actions().items()
    }
    assert listed == expected | {"--web.listen-address": flags.DEFAULT_ADDRESS}


def test_a_page_that_names_the_image_names_that_of_this_version() -> None:
    named = re.findall(r"managed-agents-exporter:(\d[\w.]*)", "".join(each.text for each in PAGES))
    assert set(named) == {exporter.__version__}


def test_no_page_names_a_flag_that_does_not_exist(any_page: Page) -> None:
    for span in any_page.spans:
        named = re.match(r"(?:managed-agents-exporter )?(--[a-z][a-z.-]*)", span)
        if named:
            assert named[1] in {*actions(), *OTHER_PROGRAMS_FLAGS}, f"{any_page.name} names {named[1]}"


def test_the_commands_shown_use_flags_and_targets_that_exist(any_page: Page) -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in any_page.commands():
        words = shlex.split(command, comments=True)
        if words[:1] == ["make"]:
            assert set(words[1:]) <= targets, command
        if words and Path(words[0]).name == "managed-agents-exporter":
            assert_accepted(words[1:])
    for target in re.findall(r"`make ([a-z0-9]+)`", any_page.text):
        assert target in targets, f"{any_page.name} names make {target}"


def assert_accepted(arguments: list[str]) -> None:
    try:
        flags.parser().parse_args(arguments)
    except flags.UsageError:
        pytest.fail(f"the command line refuses {arguments}")


def test_the_plan_shown_is_the_one_that_is_printed() -> None:
    (shown,) = (block.text for block in README.blocks("text") if block.text.startswith("budget:"))
    one = Config(environments=(EnvironmentConfig(id="env_1", name="one"),))
    assert shown.splitlines() == list(plan(one, environments=1).lines())[: len(shown.splitlines())]


# ---- HTTP


def test_the_readme_lists_every_path_and_no_other() -> None:
    listed = {path.strip("`") for path, _ in README.rows("path", "answer")}
    app = Routes(cast("Parts", SimpleNamespace(web=WebSettings()))).app()
    assert listed == {getattr(route, "path", None) for route in app.routes}


# ---- the log


def test_every_event_is_listed_with_its_level_and_no_other() -> None:
    listed = [(event.strip("`"), level) for event, level, _ in CONFIGURATION.rows("event", "level", "when")]
    assert len(listed) == len(set(listed))
    assert set(listed) == {*logged_events(), ("message", "any")}


def logged_events() -> set[tuple[str, str]]:
    """Find the calls of a log, whatever it is called there, whose first argument is an event and no sentence."""
    word_by_method = {"debug": "debug", "info": "info", "warning": "warn", "error": "error"}
    found = set()
    for path in (ROOT / "exporter").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr=method), args=[ast.Constant(value=str(event)), *_]):
                    if method in word_by_method and re.fullmatch(r"[a-z_]+", event):
                        found.add((event, word_by_method[method]))
                case _:
                    pass
    return found


# ---- YAML


@pytest.mark.parametrize("block", blocks("yaml"))
def test_every_yaml_example_loads(block: Block, tmp_path: Path) -> None:
    read = yaml.safe_load(block.text)
    assert isinstance(read, dict)
    if set(read) <= SECTION_KEYS:
        text = with_files(block.text, tmp_path)
        environ = dict.fromkeys(re.findall(r"_env: (\w+)", text), "made-up-secret")
        assert config.parse(text, directory=tmp_path, environ=environ).environments or read["discovery"]["enabled"]
    elif set(read) <= {"tls_server_config", "http_server_config", "basic_auth_users"}:
        file = tmp_path / "web.yml"
        file.write_text(with_files(block.text, tmp_path))
        assert web_config.load(file).tls
    elif set(read) <= PROMETHEUS_KEYS:
        check_with_promtool(block.text, tmp_path)


def with_files(text: str, directory: Path) -> str:
    """Put made-up secrets and certificates where the example's files are."""
    authority = trustme.CA()
    pair = authority.issue_cert("exporter.example.com")
    text = text.replace("/run/secrets/", "")
    for name in re.findall(r"_file: ([\w.-]+)", text):
        content = b"made-up-secret\n"
        if name.endswith("-key.pem"):
            content = pair.private_key_pem.bytes()
        elif name.endswith("-ca.pem"):
            content = authority.cert_pem.bytes()
        elif name.endswith(".pem"):
            content = pair.cert_chain_pems[0].bytes()
        (directory / name).write_bytes(content)
    return text


def check_with_promtool(text: str, directory: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    file = directory / "prometheus.yml"
    file.write_text(text)
    checked = subprocess.run(
        [promtool, "check", "config", "--syntax-only", str(file)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_scrape_job_shown_has_the_name_that_the_alerts_ask_for() -> None:
    (shown,) = (block for block in README.blocks("yaml") if "scrape_configs" in block.text)
    assert [job["job_name"] for job in yaml.safe_load(shown.text)["scrape_configs"]] == ["managed-agents"]


# ---- pages


def test_every_relative_link_leads_somewhere(any_page: Page) -> None:
    for link in any_page.links:
        if re.match(r"https?://", link):
            continue
        target, _, anchor = link.partition("#")
        path = (any_page.path.parent / target).resolve() if target else any_page.path
        assert path.exists(), f"{any_page.name} links to {link}"
        assert path.is_relative_to(ROOT), f"{any_page.name} links to {link}"
        if anchor:
            assert anchor in Page(path, path.read_text()).anchors, f"{any_page.name} links to {link}"


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (each.path.parent / link.partition("#")[0]).resolve()
        for each in PAGES
        for link in each.links
        if not link.startswith("http")
    }
    for each in PAGES:
        assert each == README or each.path in linked, f"nothing links to {each.name}"


def test_paths_named_in_backticks_exist(any_page: Page) -> None:
    for span in any_page.spans:
        if re.fullmatch(r"(?:exporter|config|dashboards|docs|tests|\.ci)/[\w./-]*", span):
            assert (ROOT / span).exists(), f"{any_page.name} names {span}"


# ---- the repository


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a checkout")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


def test_nothing_is_marked_as_unfinished() -> None:
    marks = re.compile(
        "|".join(rf"\b{first}{second}\b" for first, second in (("TO", "DO"), ("FIX", "ME"), ("X", "XX")))
    )
    for path in tracked_files():
        if path.suffix in {".png", ".lock"} or not path.is_file():
            continue
        found = marks.search(path.read_text())
        assert found is None, f"{path.relative_to(ROOT)} is marked as unfinished"


def test_the_spans_of_a_page_are_closed(any_page: Page) -> None:
    for paragraph in any_page.prose.split("\n\n"):
        assert "`" not in SPAN.sub("", paragraph.replace("\n", " ")), f"{any_page.name}: {paragraph[:80]}"
