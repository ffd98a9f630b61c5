"""What GitHub runs: the same commands as a developer, with actions that cannot change and no right that is not needed."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from dashboards import rules

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PINNED = re.compile(r"[\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
CHANGELOG = "# Changelog\n\n## [1.1.0] - 2026-02-03\n\n### Added\n\n- New.\n\n## [1.0.0] - 2026-01-02\n\n- Old.\n"


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def workflow(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read(path)["jobs"]
    return found


def test_the_workflows_are_those_that_the_documentation_describes() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "release.yml"]
    development = (ROOT / "docs/development.md").read_text()
    assert all(f".github/workflows/{path.name}" in development for path in WORKFLOWS)


def test_every_action_is_pinned_to_a_commit_and_says_its_version(workflow: Path) -> None:
    used = re.findall(r"^\s*(?:- )?uses: (.+)$", workflow.read_text(), re.MULTILINE)
    assert used
    for action in used:
        assert action.startswith("./") or PINNED.fullmatch(action), action


def test_one_action_has_one_version() -> None:
    used = re.findall(r"uses: ([^.].+)$", "\n".join(path.read_text() for path in WORKFLOWS), re.MULTILINE)
    assert len(set(used)) == len({action.partition("@")[0] for action in used})


def test_no_right_is_given_to_a_whole_workflow(workflow: Path) -> None:
    assert read(workflow)["permissions"] == {}


def test_a_job_may_write_only_what_it_makes() -> None:
    written = {
        (path.name, name): {right for right, level in job["permissions"].items() if level == "write"}
        for path in WORKFLOWS
        for name, job in jobs(path).items()
    }
    assert {job: rights for job, rights in written.items() if rights} == {
        ("release.yml", "build"): {"id-token", "attestations"},
        ("release.yml", "publish"): {"id-token"},
        ("release.yml", "image"): {"id-token", "attestations", "packages"},
        ("release.yml", "chart"): {"packages"},
        ("release.yml", "announce"): {"contents"},
    }


def test_every_job_ends_and_a_newer_push_takes_the_place_of_an_older_one(workflow: Path) -> None:
    assert read(workflow)["concurrency"]["group"]
    for name, job in jobs(workflow).items():
        assert "uses" in job or 5 <= job["timeout-minutes"] <= 60, name


def test_a_checkout_leaves_no_credentials_behind(workflow: Path) -> None:
    steps = [step for job in jobs(workflow).values() for step in job.get("steps", [])]
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"] == {"persist-credentials": False} for step in checkouts)


def test_nothing_that_somebody_else_writes_becomes_part_of_a_command(workflow: Path) -> None:
    for job in jobs(workflow).values():
        for step in job.get("steps", []):
            assert "${{" not in step.get("run", "")


def test_the_tests_run_with_every_python_that_the_package_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [each.rpartition(" :: ")[2] for each in project["classifiers"] if "Python :: 3." in each]
    matrix = jobs(ROOT / ".github/workflows/ci.yml")["unit"]["strategy"]["matrix"]["python"]
    assert matrix == named
    assert project["requires-python"] == f">={named[0]}"


def test_the_commands_are_the_ones_of_the_makefile(workflow: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for job in jobs(workflow).values():
        for step in job.get("steps", []):
            for words in re.findall(r"^make (.+)$", step.get("run", ""), re.MULTILINE):
                assert set(words.split()) <= targets
            for script in re.findall(r"^(?:python3 )?(\.(?:ci|github)/\S+)", step.get("run", ""), re.MULTILINE):
                assert (ROOT / script).is_file()


def test_everything_that_make_test_runs_is_run() -> None:
    run = "\n".join(
        step.get("run", "") for job in jobs(ROOT / ".github/workflows/ci.yml").values() for step in job["steps"]
    )
    assert {"make lint types", "make unit", ".ci/run"} <= set(run.splitlines())


def test_what_needs_tools_that_few_machines_have_is_run_where_they_are() -> None:
    run = "\n".join(
        step.get("run", "") for job in jobs(ROOT / ".github/workflows/ci.yml").values() for step in job["steps"]
    )
    assert {
        "make lowest",
        '.ci/promtool "$RUNNER_TEMP/tools"',
        '.ci/vmalert-tool "$RUNNER_TEMP/tools"',
        "make rules",
        '.ci/kubernetes-tools "$RUNNER_TEMP/tools"',
        "make chart",
        "sudo .ci/image",
    } <= set(run.splitlines())


def test_nothing_is_published_before_the_tests_have_passed() -> None:
    release = jobs(ROOT / ".github/workflows/release.yml")
    assert release["ci"]["uses"] == "./.github/workflows/ci.yml"
    assert release["build"]["needs"] == "ci"
    assert release["publish"]["needs"] == release["image"]["needs"] == "build"
    assert release["chart"]["needs"] == "image"
    assert release["announce"]["needs"] == ["publish", "image", "chart"]
    assert all(f"needs.{job}.result != 'failure'" in release["announce"]["if"] for job in ("image", "chart"))


def test_the_image_is_made_for_both_processors_with_its_origin_and_its_parts() -> None:
    (push,) = (
        step for step in jobs(ROOT / ".github/workflows/release.yml")["image"]["steps"] if "platforms" in str(step)
    )
    assert push["with"]["platforms"] == "linux/amd64,linux/arm64"
    assert push["with"]["provenance"] == "mode=max"
    assert push["with"]["sbom"] is True


def test_no_package_registry_is_named(workflow: Path) -> None:
    assert not re.search(r"\b(?:pypi\.org|ghcr\.io|docker\.io|quay\.io)\b", workflow.read_text())


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not installed; CI runs it")
def test_actionlint_finds_nothing() -> None:
    checked = subprocess.run(["actionlint", *map(str, WORKFLOWS)], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_every_kind_of_dependency_is_kept_up_to_date() -> None:
    updates = read(ROOT / ".github/dependabot.yml")["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"pip", "github-actions", "docker"}
    assert all(update["cooldown"] == {"default-days": 7} for update in updates)


def test_the_hooks_before_a_commit_are_the_linters_of_the_lock() -> None:
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    lint = re.search(r"^lint:.*\n((?:\t.+\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert lint is not None
    commands = [line.strip().removesuffix(" .").replace("$(BIN)", ".venv/bin") for line in lint[1].splitlines()]
    assert [hook["entry"] for hook in repository["hooks"]] == [*commands, ".venv/bin/mypy"]
    assert all(hook["language"] == "system" for hook in repository["hooks"])


# ---- forms


def test_the_bug_form_asks_for_what_finds_a_bug_and_warns_of_secrets() -> None:
    form = read(ROOT / ".github/ISSUE_TEMPLATE/bug.yml")
    text = str(form)
    assert all(word in text for word in ("--version", "--config.check", "managed_agents_", "secret"))
    required = [field["id"] for field in form["body"] if field.get("validations", {}).get("required")]
    assert required == ["version", "what", "check"]


def test_questions_and_vulnerabilities_are_led_elsewhere() -> None:
    config = read(ROOT / ".github/ISSUE_TEMPLATE/config.yml")
    assert config["blank_issues_enabled"] is False
    assert [link["url"].rpartition("/")[2] for link in config["contact_links"]] == ["discussions", "new"]


def test_every_link_to_the_project_leads_to_its_one_address() -> None:
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.*")]
    named = {
        url
        for file in files
        for url in re.findall(r"https://github\.com/[^/\s]+/managed-agents-exporter", file.read_text())
    }
    assert named == {rules.REPOSITORY_URL}


# ---- the release's notes


@pytest.fixture
def notes() -> Callable[..., str]:
    function: Callable[..., str] = runpy.run_path(str(ROOT / ".github/release_notes.py"))["release_notes"]
    return function


def test_the_notes_of_a_release_are_its_section_of_the_changelog(notes: Callable[..., str]) -> None:
    assert notes("v1.1.0", version="1.1.0", changelog=CHANGELOG) == "### Added\n\n- New.\n"
    assert notes("v1.0.0", version="1.0.0", changelog=CHANGELOG) == "- Old.\n"


@pytest.mark.parametrize(
    ("tag", "version", "changelog", "problem"),
    [
        ("v1.2.0", "1.1.0", CHANGELOG, "the tag is v1.2.0, but the package's version is 1.1.0"),
        ("1.1.0", "1.1.0", CHANGELOG, "the tag is 1.1.0, but the package's version is 1.1.0"),
        ("v1.2.0", "1.2.0", CHANGELOG, "CHANGELOG.md has no section for 1.2.0"),
        (
            "v1.1.0",
            "1.1.0",
            CHANGELOG.replace("2026-02-03", "Unreleased"),
            "CHANGELOG.md says Unreleased where the date of 1.1.0 belongs",
        ),
    ],
)
def test_a_release_that_is_not_ready_is_refused(
    notes: Callable[..., str], tag: str, version: str, changelog: str, problem: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}$"):
        notes(tag, version=version, changelog=changelog)


def test_the_changelog_has_a_section_for_this_version() -> None:
    version = re.findall(r'"(.+)"', (ROOT / "exporter/__init__.py").read_text())[0]
    assert f"## [{version}] - " in (ROOT / "CHANGELOG.md").read_text()
