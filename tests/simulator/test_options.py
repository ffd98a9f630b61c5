"""Who is let in, how long an answer takes, and the record of what was asked."""

from __future__ import annotations

from exporter.simulator import Call, Credential, Options
from exporter.simulator.options import CALLS_KEPT, CallRecord, Calls, documented_credentials


def record(at: float, environment_id: str | None, call: Call) -> CallRecord:
    return CallRecord(at, environment_id, call, {}, ())


def test_every_call_takes_some_credential() -> None:
    accepted = documented_credentials()
    assert accepted.keys() == set(Call)
    assert all(accepted.values())


def test_an_environment_may_have_credentials_and_a_latency_of_its_own() -> None:
    own = {"env_a": {Call.LIST: frozenset({Credential.API_KEY})}}
    options = Options(accepted_by_environment=own, latency_s=1.0, latency_by_environment={"env_a": 2.0})
    assert options.accepts(Call.LIST, "env_a") == {Credential.API_KEY}
    assert options.accepts(Call.STATS, "env_a") == options.accepts(Call.STATS, "env_b") == options.accepted[Call.STATS]
    assert [options.latency(each) for each in ("env_a", "env_b", None)] == [2.0, 1.0, 1.0]


def test_calls_are_counted_by_call_and_by_environment() -> None:
    calls = Calls()
    for asked in (("env_a", Call.STATS), ("env_a", Call.LIST), ("env_b", Call.STATS), (None, Call.ENVIRONMENTS)):
        calls.add(record(0.0, *asked))
    assert [calls.count(), calls.count("stats"), calls.count("stats", "env_a"), calls.count("poll")] == [4, 2, 1, 0]
    assert calls.count(environment_id="env_a") == 2
    calls.clear()
    assert calls.count() == len(calls.records) == 0


def test_a_span_of_time_includes_its_start_and_not_its_end() -> None:
    calls = Calls()
    for at in (1.0, 2.0, 3.0):
        calls.add(record(at, "env_a", Call.STATS))
    calls.add(record(2.0, "env_b", Call.STATS))
    assert [each.at for each in calls.between(1.0, 3.0)] == [1.0, 2.0, 2.0]
    assert [each.environment_id for each in calls.between(1.0, 3.0, environment_id="env_b")] == ["env_b"]


def test_only_the_last_calls_are_kept_in_detail_and_all_are_counted() -> None:
    calls = Calls()
    for number in range(CALLS_KEPT + 5):
        calls.add(record(float(number), None, Call.STATS))
    assert calls.count() == CALLS_KEPT + 5
    assert (len(calls.records), calls.records[0].at) == (CALLS_KEPT, 5.0)
