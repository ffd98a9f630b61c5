"""Another distribution whose package is called `exporter` too, installed for real into a virtual environment."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import sysconfig
import venv
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from exporter.process import installation

ROOT = Path(__file__).parents[2]
OTHER = {"exporter/__init__.py": b"from .export import export\n", "exporter/export.py": b"export = print\n"}
SENTENCE = (
    "managed-agents-exporter: the distribution exporter has exporter/__init__.py as well, which belongs to this program: "
    "install managed-agents-exporter, alone, into an environment of its own"
)


def own_files() -> dict[str, bytes]:
    return {
        str(path.relative_to(ROOT)): path.read_bytes()
        for path in (ROOT / "exporter").rglob("*")
        if path.suffix in {".py", ".css"}
    }


def write_wheel(directory: Path, name: str, version: str, files: dict[str, bytes], **more: bytes) -> Path:
    info = f"{name}-{version}.dist-info"
    metadata = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **{f"{info}/{key}.txt": content for key, content in more.items()},
    }
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, content in {**files, **metadata}.items():
            wheel.writestr(file, content)
        lines = [f"{file},{digest(content)},{len(content)}" for file, content in {**files, **metadata}.items()]
        wheel.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,", ""]))
    return path


def digest(content: bytes) -> str:
    return "sha256=" + urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


class Installed:
    """A virtual environment with this program's dependencies, and what is installed into it."""

    def __init__(self, directory: Path) -> None:
        self._bin = directory / "venv" / "bin"
        venv.create(directory / "venv", with_pip=False)
        (site,) = (directory / "venv" / "lib").glob("python*/site-packages")
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        scripts = b"[console_scripts]\nmanaged-agents-exporter = exporter.__main__:main\n"
        self.own = write_wheel(directory, "managed_agents_exporter", "0.1.0", own_files(), entry_points=scripts)
        self.other = write_wheel(directory, "exporter", "0.0.4", OTHER)

    def pip(self, *arguments: str | Path) -> None:
        command = [sys.executable, "-m", "pip", "--python", str(self._bin / "python"), "--quiet", *map(str, arguments)]
        subprocess.run(command, check=True, timeout=120, capture_output=True)

    def install(self, wheel: Path) -> None:
        self.pip("install", "--no-index", "--no-deps", wheel)

    def run(self) -> tuple[int, list[str]]:
        """Start the program; return its exit code and the lines on stderr."""
        command = [str(self._bin / "managed-agents-exporter"), "--version"]
        ended = subprocess.run(command, check=False, timeout=120, capture_output=True, text=True)
        return ended.returncode, ended.stderr.splitlines()


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path)


def test_another_distribution_that_replaces_a_file_is_named_in_one_sentence(installed: Installed) -> None:
    installed.install(installed.own)
    assert installed.run() == (0, [])
    installed.install(installed.other)
    assert installed.run() == (1, [SENTENCE])


def test_another_distribution_whose_file_was_replaced_is_named_and_the_program_runs(installed: Installed) -> None:
    installed.install(installed.other)
    installed.install(installed.own)
    assert installed.run() == (0, [SENTENCE])


def test_a_file_that_went_with_another_distribution_is_named(installed: Installed) -> None:
    installed.install(installed.other)
    installed.install(installed.own)
    installed.pip("uninstall", "--yes", "exporter")
    code, lines = installed.run()
    assert code == 1
    assert lines == [
        (
            "managed-agents-exporter: exporter/__init__.py of this program is missing, as if uninstalled with another "
            "distribution: install managed-agents-exporter, alone, into an environment of its own"
        )
    ]


def test_a_checkout_has_no_record_and_no_conflict() -> None:
    assert installation.conflict(ROOT) is None


def test_a_file_that_was_replaced_is_found_behind_one_that_was_not(tmp_path: Path) -> None:
    same, replaced = {"exporter/__init__.py": b"one"}, {"exporter/cli.py": b"own"}
    for wheel in (
        write_wheel(tmp_path, "managed_agents_exporter", "0.1.0", same | replaced),
        write_wheel(tmp_path, "exporter", "0.0.4", same | {"exporter/cli.py": b"other"}),
    ):
        zipfile.ZipFile(wheel).extractall(tmp_path)
    found = installation.conflict(tmp_path)
    assert found is not None
    assert (found.fatal, "has exporter/cli.py as well" in found.sentence) == (True, True)


def test_another_distribution_with_other_files_only_is_no_conflict(tmp_path: Path) -> None:
    for name, file in (("managed_agents_exporter", "app.py"), ("exporter", "export.py")):
        info = tmp_path / f"{name}-1.dist-info"
        info.mkdir()
        (info / "RECORD").write_text(f"exporter/{file},{digest(b'')},0\n")
    (tmp_path / "exporter").mkdir()
    (tmp_path / "exporter" / "app.py").touch()
    assert installation.conflict(tmp_path) is None
