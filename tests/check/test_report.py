"""What is made of the calls that were tried: a verdict for each environment, and a remedy for each failure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from exporter.check.remedies import NO_LIST, NO_STATS, NO_WORKSPACE, REMEDY_BY_REASON, RENEW_BY_CREDENTIAL, UNFINISHED
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
        (
            # A key of another workspace sees nothing here. The exporter stops at its answer, whatever the next key could do.
            (
                trial("stats", "api_key", "not_found"),
                trial("stats", "environment_key"),
                trial("list", "environment_key"),
            ),
            (REMEDY_BY_REASON["not_found"],),
        ),
        ((trial("stats", "api_key"), trial("stats", "environment_key", "not_found")), ()),
        (
            (trial("stats", "api_key"), trial("list", "environment_key", "server"), trial("list", "api_key")),
            (REMEDY_BY_REASON["server"],),
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
    report = Report(environment_lists=(), environments=(), server_ahead_s=None)
    assert not report.fine
    assert list(report.lines()) == ["0 of 0 environments can be exported in full"]


WITHOUT_WORKSPACE = (
    Trial("stats", "api_key", 0.01, "bad_request", 400, lacks_workspace=True),
    Trial("list", "api_key", 0.01, "bad_request", 400, lacks_workspace=True),
)


def test_a_key_of_the_organisation_without_a_workspace_has_a_sentence_of_its_own() -> None:
    assert environment_report(*WITHOUT_WORKSPACE).remedies() == (NO_WORKSPACE,)
    own_key = (trial("stats", "environment_key"), trial("list", "environment_key"))
    assert environment_report(*WITHOUT_WORKSPACE, *own_key).remedies() == (NO_WORKSPACE,)


def test_a_missing_workspace_hides_no_other_fault() -> None:
    revoked = (trial("stats", "environment_key", "auth"), trial("list", "environment_key", "auth"))
    found = environment_report(*WITHOUT_WORKSPACE, *revoked).remedies()
    assert found == (NO_WORKSPACE, RENEW_BY_CREDENTIAL["environment_key"])


def test_each_workspaces_list_has_its_line_and_its_remedy() -> None:
    lists = (
        EnvironmentList(workspace_id="wrkspc_1", trial=trial("environments", "api_key"), needed=True, self_hosted=2),
        EnvironmentList(workspace_id="wrkspc_2", trial=trial("environments", "api_key", "auth"), needed=True),
        EnvironmentList(workspace_id="wrkspc_3", trial=trial("environments", "api_key", "server"), needed=False),
        EnvironmentList(workspace_id="", trial=replace(WITHOUT_WORKSPACE[0], source="environments"), needed=True),
    )
    assert [line for each in lists for line in each.lines()] == [
        "environments of wrkspc_1: API key works (10 ms): 2 self-hosted, 0 other",
        "FAILED: environments of wrkspc_2: API key is refused (403)",
        f"  remedy: {RENEW_BY_CREDENTIAL['api_key']}",
        "environments of wrkspc_3: API key fails: server; discovery does not need it",
        "FAILED: environments: API key fails: bad_request (400)",
        f"  remedy: {NO_WORKSPACE}",
    ]


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
