"""Whether the files of this program are still its own.

The package is called `exporter`, and so is another distribution's on PyPI. Whichever is installed last replaces files of the other
one, and whichever is uninstalled takes files of the other one with it.
"""

from __future__ import annotations

import csv
import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DISTRIBUTION: Final = "managed_agents_exporter"
PACKAGE: Final = "exporter/"
REMEDY: Final = "install managed-agents-exporter, alone, into an environment of its own"


@dataclass(frozen=True, slots=True)
class Conflict:
    """`sentence` names the file and the distribution. `fatal`: the file's content is not this program's any more."""

    sentence: str
    fatal: bool


def conflict(site: Path = Path(__file__).parents[2]) -> Conflict | None:
    """Look for another owner of this package in the folder it is installed in. A checkout has no record, thus no conflict."""
    own = next(site.glob(f"{DISTRIBUTION}-*.dist-info/RECORD"), None)
    digest_by_file = _recorded(own) if own else {}
    if not digest_by_file:
        return None
    for record in site.glob("*.dist-info/RECORD"):
        other = record.parent.name.partition("-")[0]
        shared = sorted(digest_by_file.keys() & _recorded(record).keys()) if other != DISTRIBUTION else []
        altered = [file for file in shared if _digest(site / file) != digest_by_file[file]]
        if shared:
            file = (altered or shared)[0]
            sentence = f"the distribution {other} has {file} as well, which belongs to this program: {REMEDY}"
            return Conflict(sentence, fatal=bool(altered))
    for file in digest_by_file:
        if not (site / file).exists():
            sentence = f"{file} of this program is missing, as if uninstalled with another distribution: {REMEDY}"
            return Conflict(sentence, fatal=True)
    return None


def _recorded(record: Path) -> dict[str, str]:
    """Return the digests of the package's files by path, from a distribution's RECORD."""
    try:
        with record.open(encoding="utf-8", newline="") as file:
            lines = [line for line in file if line.startswith(PACKAGE)]
    except (OSError, UnicodeDecodeError):
        return {}
    return {path: digest for path, digest, _ in csv.reader(lines) if digest}


def _digest(file: Path) -> str:
    try:
        digest = hashlib.sha256(file.read_bytes()).digest()
    except OSError:
        return ""
    return f"sha256={urlsafe_b64encode(digest).rstrip(b'=').decode()}"
