import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from exporter.check.plan import Row, duration, plan
from exporter.config.load import parse
from exporter.config.model import ApiConfig, Config, DiscoveryConfig, EnvironmentConfig, ListingConfig, ScrapeConfig

WORKERS = (
    "workers: an idle one polls 15 to 30 times a minute; one for each environment that isn't woken by webhook makes"
)
SHARED = "from the same 600 to 1,200 calls a minute that the organisation has in all"


def config(
    *,
    per_minute: int = 120,
    min_interval_s: float = 10.0,
    listing: bool = True,
    discovery_s: float | None = None,
    max_age_s: float = 300.0,
) -> Config:
    return Config(
        api=ApiConfig(requests_per_minute=per_minute),
        scrape=ScrapeConfig(min_interval_s=min_interval_s, max_age_s=max_age_s),
        listing=ListingConfig(enabled=listing),
        discovery=DiscoveryConfig(enabled=discovery_s is not None, interval_s=discovery_s or 300.0),
    )


def test_a_budget_that_suffices_is_said_row_by_row() -> None:
    assert plan(config(discovery_s=300.0), environments=6).lines() == (
        "budget: 120 calls a minute, at most 60 in one scrape",
        "environments: 6, and those that discovery finds every 5m, which are not counted here",
        "scraped every 15s: stats 24 + list 24 to 72 + environments 0.2 = 48.2 to 96.2 calls a minute, room for 14 environments: fits",
        "scraped every 30s: stats 12 + list 12 to 36 + environments 0.2 = 24.2 to 48.2 calls a minute, room for 29 environments: fits",
        "scraped every 1m: stats 6 + list 6 to 18 + environments 0.2 = 12.2 to 24.2 calls a minute, room for 29 environments: fits",
        "resync: a full walk of each list, every 1h, spread out over calls that nothing else wants",
        f"{WORKERS} 90 to 180, {SHARED}",
    )


def test_a_budget_that_is_too_small_for_the_list_says_how_old_it_gets_and_what_helps() -> None:
    assert plan(config(), environments=20).lines() == (
        "budget: 120 calls a minute, at most 60 in one scrape",
        "environments: 20",
        "scraped every 15s: stats 80 + list 80 to 240 = 160 to 320 calls a minute, room for 15 environments: list up to 30s old",
        "scraped every 30s: stats 40 + list 40 to 120 = 80 to 160 calls a minute, room for 30 environments: fits; with much live work the list is up to 45s old",
        "scraped every 1m: stats 20 + list 20 to 60 = 40 to 80 calls a minute, room for 30 environments: fits; with much live work the list is up to 1m30s old",
        "resync: a full walk of each list, every 1h, spread out over calls that nothing else wants",
        f"{WORKERS} 300 to 600, {SHARED}",
        "warning: scraped every 15s the budget is too small (list up to 30s old): set api.requests_per_minute to 160 or more, or scrape.min_interval to 20s or more, or listing.enabled to false",
    )


def test_stats_that_do_not_fit_are_as_old_as_environments_divided_by_the_budget() -> None:
    rows = plan(config(), environments=1000).rows
    assert [row.stats_age_s for row in rows] == [500.0, 500.0, 1000.0]  # a minute's scrape spends half of the budget
    assert [row.list_age_s for row in rows] == [(math.inf, math.inf)] * 3


def test_stats_beyond_max_age_are_warned_about() -> None:
    warnings = plan(config(per_minute=4, max_age_s=60.0, listing=False), environments=10).warnings()
    assert warnings[0] == (
        "scraped every 15s the budget is too small (stats up to 2m30s old, beyond scrape.max_age 1m: environments go to"
        " up 0 in turn): set api.requests_per_minute to 40 or more"
    )


def test_every_workspace_costs_a_call_and_every_full_page_one_more() -> None:
    settings = replace(config(), discovery=DiscoveryConfig(enabled=True, interval_s=60, workspaces=("a", "b", "c")))
    expected = "environments: {}, and those that discovery finds in 3 workspaces every 1m, which are not counted here"
    for environments, calls in ((0, 3), (6, 3), (100, 3), (101, 4), (301, 6)):
        made = plan(settings, environments=environments)
        assert made.lines()[1] == expected.format(environments)
        assert [row.environments_calls for row in made.rows] == [calls] * 3


def test_a_budget_of_one_call_that_discovery_eats_is_said_to_read_nothing() -> None:
    (first, *_) = plan(config(per_minute=1, discovery_s=1.0, listing=False), environments=5).warnings()
    assert first == (
        "scraped every 15s the budget is too small (stats never read, beyond scrape.max_age 5m: environments go to up 0"
        " in turn): set api.requests_per_minute to 80 or more"
    )


def test_a_budget_that_does_not_even_cover_discovery_is_said_so() -> None:
    (first, *_) = plan(config(per_minute=3, discovery_s=1.0, listing=False), environments=0).warnings()
    assert (
        first
        == "scraped every 15s the budget is too small (discovery comes late): set api.requests_per_minute to 60 or more"
    )


def test_scrapes_that_share_a_read_cost_one() -> None:
    rows = plan(config(min_interval_s=30.0), environments=10).rows
    assert [(row.scrape_interval_s, row.read_interval_s, row.calls) for row in rows] == [
        (15.0, 30.0, (40.0, 80.0)),
        (30.0, 30.0, (40.0, 80.0)),
        (60.0, 60.0, (20.0, 40.0)),
    ]


def test_without_the_listing_only_stats_are_paid_for() -> None:
    result = plan(config(listing=False), environments=30)
    assert [row.calls for row in result.rows] == [(120.0, 120.0), (60.0, 60.0), (30.0, 30.0)]
    assert [row.room for row in result.rows] == [30, 60, 60]
    assert result.warnings() == ()
    assert not any("list" in line for line in result.lines())


def test_environments_woken_by_webhook_are_not_expected_to_poll() -> None:
    environments = tuple(
        EnvironmentConfig(id=f"env_{mode}", name=mode, worker_mode=mode) for mode in ("always_on", "webhook", "unknown")
    )
    assert plan(replace(config(), environments=environments), environments=5).workers_polls == (60, 120)


def test_a_budget_that_could_crowd_out_the_workers_is_warned_about() -> None:
    assert plan(config(per_minute=300), environments=1).warnings() == ()
    assert plan(config(per_minute=1_000_000), environments=1).warnings() == (
        "a budget of 1,000,000 is more than half of the organisation's limit in the vendor's older documents, 600, and the workers share it: lower api.requests_per_minute unless the limit is known to be higher",
    )


def test_intervals_of_zero_are_said_in_words() -> None:
    settings = replace(config(discovery_s=1.0, min_interval_s=0.0), listing=ListingConfig(resync_interval_s=0.0))
    lines = plan(settings, environments=1).lines()
    assert lines[1] == "environments: 1, and those that discovery finds every 1s, which are not counted here"
    assert lines[5].startswith("resync: a full walk of each list, all the time, ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "0.5s"),
        (15.0, "15s"),
        (59.9994, "59.999s"),
        (60.0, "1m"),
        (100.2, "1m41s"),
        (3600.0, "1h"),
        (90061.0, "25h1m1s"),
    ],
)
def test_durations_read_like_those_of_the_configuration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


configs = st.builds(
    config,
    per_minute=st.integers(1, 3000),
    min_interval_s=st.sampled_from([0.0, 10.0, 40.0, 90.0]),
    listing=st.booleans(),
    discovery_s=st.sampled_from([None, 1.0, 10.0, 300.0]),
    max_age_s=st.sampled_from([0.0, 300.0]),
)


def row(settings: Config, environments: int, scrape_interval_s: float) -> Row:
    rows = plan(settings, environments=environments).rows
    return next(one for one in rows if one.scrape_interval_s == scrape_interval_s)


# Discovery's calls between two reads that are far apart leave too little of the burst.
@example(
    settings=config(per_minute=262, min_interval_s=0.0, listing=False, discovery_s=1.0, max_age_s=0.0),
    environments=101,
    scrape_interval_s=15.0,
)
@given(configs, st.integers(0, 3000), st.sampled_from([15.0, 30.0, 60.0]))
def test_every_remedy_on_its_own_makes_it_fit(settings: Config, environments: int, scrape_interval_s: float) -> None:
    before = row(settings, environments, scrape_interval_s)
    assume(before.remedies)
    for remedy in before.remedies:
        key, value = re.findall(r"^([a-z_.]+) to (\w+)", remedy)[0]
        after = row(changed(settings, key, value), environments, scrape_interval_s)
        assert after.remedies == ()
        assert after.stats_age_s == after.read_interval_s


def changed(settings: Config, key: str, value: str) -> Config:
    """Return the settings with one key set as a file would set it."""
    section, _, name = key.partition(".")
    text = f"{section}: {{{name}: {value}}}\nenvironments: [{{id: env_a, environment_key_env: KEY}}]"
    said = parse(text, directory=Path(), environ={"KEY": "key"})
    match name:
        case "requests_per_minute":
            return replace(settings, api=said.api)
        case "min_interval":
            return replace(settings, scrape=replace(settings.scrape, min_interval_s=said.scrape.min_interval_s))
        case _:
            return replace(settings, listing=said.listing)


@given(configs, st.integers(0, 3000))
def test_a_plan_never_promises_more_than_the_budget(settings: Config, environments: int) -> None:
    for one in plan(settings, environments=environments).rows:
        assert one.stats_age_s >= one.read_interval_s
        assert one.list_age_s[0] <= one.list_age_s[1]
        if not one.remedies:
            assert one.calls[0] <= settings.api.requests_per_minute + 1e-9
            assert environments <= one.room
