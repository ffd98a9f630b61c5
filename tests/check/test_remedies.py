"""Every failure has a remedy, as a sentence."""

from __future__ import annotations

from typing import get_args

import pytest

from exporter.api.client import REASONS, CredentialName
from exporter.check.remedies import (
    CLOUD,
    NO_LIST,
    NO_STATS,
    NO_WORKSPACE,
    REMEDY_BY_REASON,
    RENEW_BY_CREDENTIAL,
    UNFINISHED,
)


def test_every_reason_and_every_credential_has_a_remedy() -> None:
    assert set(REMEDY_BY_REASON) == set(REASONS)
    assert set(RENEW_BY_CREDENTIAL) == set(get_args(CredentialName))


@pytest.mark.parametrize(
    "remedy",
    [*REMEDY_BY_REASON.values(), *RENEW_BY_CREDENTIAL.values(), CLOUD, NO_LIST, NO_STATS, NO_WORKSPACE, UNFINISHED],
)
def test_a_remedy_is_a_sentence(remedy: str) -> None:
    assert remedy[0].isupper()
    assert remedy.endswith(".")
    assert "  " not in remedy
