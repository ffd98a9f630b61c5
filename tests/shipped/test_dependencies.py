"""docs/dependencies.md: every dependency with its reason and licence, and the versions that are tested."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.shipped.documentation import Page

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/dependencies.md"
ROWS = {
    name: (why, licence, Version(lowest), Version(newest))
    for name, why, licence, lowest, newest in Page(PAGE, PAGE.read_text()).rows(
        "package", "for", "licence", "lowest tested", "newest tested"
    )
}


def requirements() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {each.name: each for each in map(Requirement, project["dependencies"])}


def test_every_dependency_is_listed_and_no_other() -> None:
    assert list(ROWS) == sorted(requirements())


def test_newest_is_what_the_lock_file_holds() -> None:
    locked = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", (ROOT / "requirements/run.lock").read_text(), re.MULTILINE))
    assert {name: newest for name, (_, _, _, newest) in ROWS.items()} == {name: Version(locked[name]) for name in ROWS}


def test_lowest_is_allowed_and_nothing_between_it_and_the_bound_could_be_had() -> None:
    for name, requirement in requirements().items():
        lowest = ROWS[name][2]
        (bound,) = (Version(each.version) for each in requirement.specifier if each.operator == ">=")
        assert lowest in requirement.specifier
        assert lowest.release[:2] == (*bound.release, 0)[:2], name


@pytest.mark.parametrize("name", ROWS)
def test_the_licence_is_what_the_newest_release_says(name: str) -> None:
    _, licence, _, newest = ROWS[name]
    if Version(metadata.version(name)) != newest:
        pytest.skip("an older release is installed, which may name its licence in words of its own")
    said = metadata.metadata(name)
    assert licence in [*(said.get_all("License-Expression") or []), *(said.get_all("License") or [])]
