"""The files that a web configuration names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme

from tests.web.web_files import issue

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Path:
    """Make the files that the configurations here name."""
    issue(authority, tmp_path, "localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    (tmp_path / "junk").write_text("no certificate\n")
    (tmp_path / "directory").mkdir()
    other = authority.issue_cert("other")
    other.private_key_pem.write_to_path(tmp_path / "other.key")
    return tmp_path
