"""What is made of the calls that were tried: a verdict for each environment, and a remedy for each failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.check.remedies import NO_LIST, NO_STATS, REMEDY_BY_REASON, RENEW_BY_CREDENTIAL, UNFINISHED
from exporter.check.report import EnvironmentList, EnvironmentReport, ItemCount, Report, Trial
from exporter.environments.snapshot import Environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.api.client import CredentialName, Reason, Source


def trial(source: Source, credential: CredentialName, reason: Reason | None = None) -> Trial:
    return Trial(source, credential, 0.01, reason, 403 if reason == "auth" else None)


def environment_report(*trials: Trial, finished: bool = True, api_key_serves: bool = False) -> EnvironmentReport:
    return EnvironmentReport(
        environment=Environment(id="env_1", name="env_1"),
        kind="self-hosted",
        trials=trials,
        listing_enabled=True,
        finished=finished,
        api_key_serves=api_key_serves,
    )


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        ((trial("stats", "api_key"), trial("list", "api_key")), ()),
        ((trial("stats", "api_key"), trial("list", "api_key", "auth")), (NO_LIST,)),
        ((trial("stats", "api_key", "auth"), trial("list", "api_key", "auth")), (RENEW_BY_CREDENTIAL["api_key"],)),
        ((trial("stats", "api_key", "bad_payload"),), (REMEDY_BY_REASON["bad_payload"],)),
        (
            (trial("stats", "api_key"), trial("list", "environment_key", "auth"), trial("list", "api_key", "auth")),
            (RENEW_BY_CREDENTIAL["environment_key"],),
        ),
        (
            (trial("stats", "api_key"), trial("list", "environment_key", "too_large")),
            (REMEDY_BY_REASON["too_large"],),
        ),
    ],
)
def test_every_failure_has_its_remedy_once(trials: Sequence[Trial], expected: tuple[str, ...]) -> None:
    found = environment_report(*trials).remedies()
    assert found[: len(expected)] == expected
    assert len(found) == len(set(found))
    assert bool(found) == bool(expected)


OWN_KEY_READS_ALL = (
    trial("stats", "api_key", "auth"),
    trial("stats", "environment_key"),
    trial("list", "environment_key"),
    trial("list", "api_key", "auth"),
)


def test_an_api_key_that_serves_elsewhere_is_no_fault_where_it_is_refused() -> None:
    assert environment_report(*OWN_KEY_READS_ALL, api_key_serves=True).remedies() == ()
    assert environment_report(*OWN_KEY_READS_ALL).remedies() == (RENEW_BY_CREDENTIAL["api_key"],)


def test_an_api_key_that_serves_elsewhere_excuses_no_environment_that_nothing_can_read() -> None:
    refused = (trial("stats", "api_key", "auth"), trial("list", "api_key", "auth"))
    assert environment_report(*refused, api_key_serves=True).remedies() == (NO_STATS, NO_LIST)


def test_a_check_that_the_budget_ended_is_no_success() -> None:
    assert environment_report(trial("stats", "api_key"), finished=False).remedies() == (UNFINISHED,)


def test_nothing_to_check_is_no_success() -> None:
    environment_list = EnvironmentList(trial=None, needed=False)
    report = Report(environment_list=environment_list, environments=(), server_ahead_s=None)
    assert not report.fine
    assert list(report.lines()) == ["0 of 0 environments can be exported in full"]


def test_a_list_that_was_counted_in_part_says_so() -> None:
    def lines(items: ItemCount) -> list[str]:
        report = EnvironmentReport(
            environment=Environment(id="env_1", name="one"),
            kind="self-hosted",
            trials=(trial("stats", "api_key"), trial("list", "environment_key")),
            listing_enabled=True,
            items=items,
        )
        return list(report.lines())

    assert lines(ItemCount(12, complete=True)) == [
        "ok: one (env_1)",
        "  type: self-hosted",
        "  stats: API key works (10 ms)",
        "  list: environment key works (10 ms)",
        "  listing: 12 items",
    ]
    assert lines(ItemCount(500, complete=False))[-1] == "  listing: more than 500 items"
