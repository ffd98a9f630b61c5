"""The live items as a page, as JSON and as a table of text: the same, and nothing that misleads."""

from __future__ import annotations

import json
from dataclasses import replace

from exporter.api.wire import State
from exporter.environments.live_items import STATES, LiveItem, LiveItems
from exporter.web.items import address, as_json, as_page, as_table

HOSTILE = LiveItem(
    id='work_<script>"&\u202e\x1b[2J',
    session_id=None,
    type="healthcheck",
    state=State.ACTIVE,
    since=1_782_893_701.0,
    for_s=3_700.0,
    latest_heartbeat_at=1_782_897_000.5,
    heartbeat_age_s=400.5,
    overdue=True,
)
TIMELESS = LiveItem(
    id="work_2",
    session_id="session_2",
    type="session",
    state=State.STOPPING,
    since=None,
    for_s=None,
    latest_heartbeat_at=None,
    heartbeat_age_s=None,
    overdue=False,
)
ITEMS = LiveItems(
    environment_id="env_1",
    environment_name="pro<duction",
    read_at=1_782_897_401.0,
    age_s=12.0,
    total=7,
    items=(HOSTILE, TIMELESS),
)


def test_json_has_every_field_and_null_for_what_is_not_known() -> None:
    read = json.loads(as_json(ITEMS))
    first, second = read.pop("items")
    assert read == {
        "environment_id": "env_1",
        "environment_name": "pro<duction",
        "read_at": "2026-07-01T09:16:41.000Z",
        "age_seconds": 12.0,
        "total": 7,
    }
    assert first == {
        "id": HOSTILE.id,
        "session_id": None,
        "type": "healthcheck",
        "state": "active",
        "since": "2026-07-01T08:15:01.000Z",
        "for_seconds": 3700.0,
        "latest_heartbeat_at": "2026-07-01T09:10:00.500Z",
        "heartbeat_overdue": True,
    }
    assert (second["since"], second["for_seconds"], second["session_id"]) == (None, None, "session_2")


def test_a_table_is_aligned_and_holds_no_control_character() -> None:
    head, *rows = as_table(ITEMS).splitlines()
    assert head.split() == ["ITEM", "SESSION", "TYPE", "STATE", "FOR", "LAST", "HEARTBEAT"]
    assert rows[0].split("  ")[0] == 'work_<script>"&[2J'
    assert rows[0].endswith("active    1 h 1 min  6 min ago, overdue")
    assert rows[1].split() == ["work_2", "session_2", "session", "stopping", "unknown", "none"]
    assert rows[0].index("active") == rows[1].index("stopping") == head.index("STATE")


def test_a_table_without_items_is_a_sentence() -> None:
    empty = LiveItems(environment_id="e", environment_name="x", read_at=0.0, age_s=0.0, total=0, items=())
    assert as_table(empty) == "No such item in x.\n"


def test_the_page_escapes_what_comes_from_the_api_and_says_how_old_it_is() -> None:
    page = as_page(ITEMS, STATES, 100, link_base="./")
    assert "<script>" not in page
    assert "work_&lt;script&gt;&quot;&amp;[2J" in page
    assert "\u202e" not in page
    assert "<title>Items of pro&lt;duction</title>" in page
    assert "7 items, the 2 that are longest in their state; read 12 s ago." in page
    assert '<b class="bad">6 min ago, overdue</b>' in page


def test_the_page_links_to_each_state_to_json_and_to_all_environments() -> None:
    page = as_page(ITEMS, (State.STARTING,), 100, link_base="/exporter/")
    assert '<a href="/exporter/">All environments</a>' in page
    assert '<a href="/exporter/items?target=env_1">any state</a>' in page
    assert '<a href="/exporter/items?target=env_1&amp;state=queued">queued</a>' in page
    assert "<b>starting</b>" in page
    assert '<a href="/exporter/items?target=env_1&amp;state=starting&amp;format=json">JSON</a>' in page


def test_a_limit_is_kept_by_every_link() -> None:
    page = as_page(ITEMS, (State.STARTING,), 7, link_base="./")
    assert '<a href="./items?target=env_1&amp;limit=7">any state</a>' in page
    assert '<a href="./items?target=env_1&amp;state=queued&amp;limit=7">queued</a>' in page
    assert '<a href="./items?target=env_1&amp;state=starting&amp;limit=7&amp;format=json">JSON</a>' in page


def test_more_are_one_click_away_where_there_are_more() -> None:
    more = '<a href="./items?target=env_1&amp;state=starting&amp;limit=1000">Show up to 1,000.</a>'
    assert more in as_page(ITEMS, (State.STARTING,), 100, link_base="./")
    assert "Show up to" not in as_page(ITEMS, STATES, 1000, link_base="./")
    assert "Show up to" not in as_page(replace(ITEMS, total=len(ITEMS.items)), STATES, 100, link_base="./")


def test_an_address_quotes_the_environment() -> None:
    assert address("./", "env_a&b", State.ACTIVE) == "./items?target=env_a%26b&state=active"
