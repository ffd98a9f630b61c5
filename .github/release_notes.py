"""Print the changelog's section of a version, or say why it cannot be released: python3 .github/release_notes.py v1.2.3."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


def release_notes(tag: str, *, version: str, changelog: str) -> str:
    """Return the text of the version's section. Raise ValueError where tag, package and changelog disagree."""
    if tag != f"v{version}":
        raise ValueError(f"the tag is {tag}, but the package's version is {version}")
    section = re.search(
        rf"^## \[{re.escape(version)}\] - ([^\n]+)\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL
    )
    if section is None:
        raise ValueError(f"CHANGELOG.md has no section for {version}")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", section[1]):
        raise ValueError(f"CHANGELOG.md says {section[1]} where the date of {version} belongs")
    return section[2].strip() + "\n"


def main(tag: str) -> int:
    source = (ROOT / "exporter/__init__.py").read_text()
    (version,) = re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    try:
        sys.stdout.write(release_notes(tag, version=version, changelog=(ROOT / "CHANGELOG.md").read_text()))
    except ValueError as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
