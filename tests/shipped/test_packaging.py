"""The image's recipe and the systemd unit: nothing more than is needed, and true to the program they start."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from exporter import flags
from tests.ample import AMPLE_S

ROOT = Path(__file__).parents[2]
COMMAND = "/opt/managed-agents-exporter/bin/managed-agents-exporter"
UNIT = ROOT / "config/systemd/managed-agents-exporter.service"


@dataclass(frozen=True, slots=True)
class Instruction:
    name: str
    value: str

    def exec_form(self) -> list[str]:
        words: list[str] = json.loads(self.value)
        return words


def stages() -> list[list[Instruction]]:
    """Read the Dockerfile's instructions, a list for each stage; those before the first FROM belong to it."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    instructions = [Instruction(*line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]
    found: list[list[Instruction]] = [[]]
    for instruction in instructions:
        if instruction.name == "FROM" and any(each.name == "FROM" for each in found[-1]):
            found.append([])
        found[-1].append(instruction)
    return found


def values(stage: list[Instruction], name: str) -> list[str]:
    return [instruction.value for instruction in stage if instruction.name == name]


def test_the_image_is_built_in_one_stage_and_runs_in_another() -> None:
    build, final = stages()
    assert values(build, "FROM") == ["python:${PYTHON} AS build"]
    assert values(final, "FROM") == ["python:${PYTHON}"]
    assert values(final, "RUN") == []
    assert values(final, "COPY") == ["--from=build /opt/managed-agents-exporter /opt/managed-agents-exporter"]


def test_the_base_is_pinned_to_a_release_that_the_package_supports() -> None:
    (python,) = values(stages()[0], "ARG")
    pinned = re.fullmatch(r"PYTHON=(3)\.(\d+)\.\d+-slim-\w+", python)
    assert pinned is not None
    least = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert least == ">=3.11"
    assert int(pinned[2]) >= 11


def test_packages_are_installed_by_hash_and_the_exporter_without_any() -> None:
    installs = [run.exec_form()[2:] for run in stages()[0] if run.name == "RUN" and "install" in run.value]
    assert installs == [["--no-deps", "--require-hashes", "--requirement=requirements/run.lock"], ["--no-deps", "."]]
    lock = (ROOT / "requirements/run.lock").read_text()
    pinned = re.findall(r"^[A-Za-z0-9_.-]+==", lock, re.MULTILINE)
    assert len(pinned) >= 10
    assert lock.count("--hash=sha256:") >= len(pinned)
    assert "://" not in lock


def test_every_command_is_in_exec_form() -> None:
    commands = [each for stage in stages() for each in stage if each.name in {"RUN", "ENTRYPOINT", "CMD"}]
    assert len(commands) >= 4
    assert all(command.exec_form() for command in commands)


def test_the_image_runs_the_command_as_nobody() -> None:
    final = stages()[-1]
    (user,) = values(final, "USER")
    assert re.fullmatch(r"[1-9]\d{4,}:[1-9]\d{4,}", user)
    (entrypoint,) = (each.exec_form() for each in final if each.name == "ENTRYPOINT")
    assert entrypoint == [COMMAND]
    assert values(final, "EXPOSE") == [flags.DEFAULT_ADDRESS.removeprefix(":")]
    assert [each.name for each in final].index("USER") > [each.name for each in final].index("COPY")


def test_nothing_secret_is_built_in_and_nothing_is_fetched() -> None:
    everything = [each for stage in stages() for each in stage]
    assert not [each for each in everything if each.name == "ADD"]
    for each in everything:
        assert not re.search(r"curl|wget|apt-get|KEY|TOKEN|PASSWORD", each.value), each


def test_only_what_is_copied_reaches_the_build() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {word for value in values(stages()[0], "COPY") for word in value.split()[:-1]}
    assert let_in == copied
    assert all((ROOT / path).exists() for path in copied)


def test_the_image_has_what_the_package_is_built_from() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml"}
    needed |= set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert needed <= {word for value in values(stages()[0], "COPY") for word in value.split()[:-1]}


# ---- systemd


def unit() -> dict[str, list[str]]:
    lines = [line for line in UNIT.read_text().splitlines() if line and line[0] not in "#["]
    settings: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.partition("=")
        settings.setdefault(key, []).append(value)
    return settings


def test_the_unit_starts_what_is_installed_and_reloads_by_signal() -> None:
    (start,) = unit()["ExecStart"]
    command, *arguments = start.split()
    assert command == COMMAND
    options = flags.parse(arguments)
    assert isinstance(options, flags.Options)
    assert options.config_file == Path("/etc/managed-agents-exporter/exporter.yml")
    assert unit()["ExecReload"] == ["/bin/kill -HUP $MAINPID"]


def test_credentials_come_from_systemd_and_not_from_the_environment() -> None:
    assert unit()["LoadCredential"] == ["api-key:/etc/managed-agents-exporter/api-key"]
    assert "Environment" not in unit()
    assert "EnvironmentFile" not in unit()
    assert "/run/credentials/managed-agents-exporter.service/api-key" in UNIT.read_text()


@pytest.mark.parametrize(
    ("setting", "value"),
    {
        "DynamicUser": "yes",
        "CapabilityBoundingSet": "",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "PrivateDevices": "yes",
        "PrivateUsers": "yes",
        "ProtectKernelModules": "yes",
        "ProtectKernelTunables": "yes",
        "ProtectControlGroups": "yes",
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
        "RestrictNamespaces": "yes",
        "RestrictSUIDSGID": "yes",
        "LockPersonality": "yes",
        "MemoryDenyWriteExecute": "yes",
        "SystemCallArchitectures": "native",
        "SystemCallErrorNumber": "EPERM",
    }.items(),
)
def test_the_unit_has_no_rights(setting: str, value: str) -> None:
    assert unit()[setting] == [value]


def test_the_unit_has_descriptors_for_every_connection_of_many_environments() -> None:
    (descriptors,) = unit()["LimitNOFILE"]
    assert int(descriptors) >= 2 * 10_000


@pytest.fixture
def installed_unit(tmp_path: Path) -> Path:
    """Give the unit a command that this machine has: systemd-analyze looks for it."""
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace(COMMAND, "/bin/true"))
    return path


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze knows every setting")
def test_systemd_finds_nothing_wrong_and_little_exposed(installed_unit: Path) -> None:
    verified = analyze("verify", "--man=no", str(installed_unit))
    assert (verified.returncode, verified.stderr) == (0, "")
    rated = analyze("security", "--offline=yes", "--no-pager", str(installed_unit))
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", rated.stdout)
    assert exposure is not None, rated.stdout + rated.stderr
    assert float(exposure[1]) <= 1.5


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=AMPLE_S)


def test_the_compose_file_builds_the_same_image() -> None:
    services = yaml.safe_load((ROOT / "config/compose.yml").read_text())["services"]
    assert services["exporter"]["build"] == {"context": ".."}
