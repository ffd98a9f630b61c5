"""The status page as text and as structure; how it looks is tested in a browser."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.addresses import REPOSITORY_URL
from exporter.api.client import REASONS, Reason
from exporter.api.wire import State, WorkStats
from exporter.check.remedies import REMEDY_BY_REASON
from exporter.environments.snapshot import Environment, Problem, Queue, ReadTimes, Snapshot, Work
from exporter.listing.ledger import Listing
from exporter.web import status_page
from exporter.web.markup import POLICY
from exporter.web.status_page import NONE, BudgetStatus, DiscoveryFailure, DiscoveryStatus, Status, View, render

WALL, MONOTONIC = 1_800_000_000.0, 5000.0
STATUS = Status(
    version="1.2.3",
    telemetry_path="/metrics",
    uptime_s=7325,
    in_force_s=90061,
    budget=BudgetStatus(limit_per_minute=120, available=59.7),
)
ENVIRONMENT = Environment(id="env_a", name="production")


def times(*, age_s: float) -> ReadTimes:
    """Read `age_s` ago from a server whose clock is an hour ahead."""
    return ReadTimes(
        read_at=WALL - age_s, server_at=WALL - age_s + 3600, monotonic_at=MONOTONIC - age_s, duration_s=0.1
    )


def queue(*, oldest_s: float | None = 75.0, workers: int | None = 3) -> Queue:
    oldest_at = None if oldest_s is None else WALL + 3600 - oldest_s
    return Queue(WorkStats(depth=1234, pending=5, oldest_queued_at=oldest_at, workers_polling=workers), times(age_s=4))


def work(**counts: int) -> Work:
    count_by_state = {state: counts.get(state.value, 0) for state in State}
    listing = Listing(
        complete=True, count_by_state=count_by_state, oldest_at_by_state={}, heartbeats=(), oldest_read_at=None
    )
    return Work(listing, times(age_s=65))


def problem(reason: Reason = "auth", text: str = "the API answered 401", **more: Any) -> Problem:
    return Problem(reason, text, WALL - 300, **more)


def snapshot(environment: Environment = ENVIRONMENT, **parts: Any) -> Snapshot:
    known: dict[str, Any] = {"listing_enabled": True, "queue": None, "work": None, "tally": None}
    return Snapshot(environment=environment, **(known | parts))


class _Reader(HTMLParser):
    """Reads a page as a browser would: its elements with their attributes, and its text, a piece an entry."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.said: list[str] = []
        self._in_head = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(attrs)))
        self._in_head = tag == "head" or (self._in_head and tag != "body")

    def handle_data(self, data: str) -> None:
        if not self._in_head and data.strip():
            self.said.append(data)


def said(status: Status = STATUS, *snapshots: Snapshot) -> list[str]:
    return _Reader(render(status, snapshots, View(), wall=WALL, monotonic=MONOTONIC)).said


def row(each: Snapshot) -> list[str]:
    """Return what the page says of one environment, after its name and id."""
    everything = said(STATUS, each)
    return everything[everything.index(each.environment.id) + 1 :]


# ---- the exporter itself

HEAD = ["managed-agents-exporter", "Metrics", "Service discovery", "Health", "Documentation"]
FACTS = ["Version", "1.2.3", "Running for", "2 h 2 min", "API calls", "120 a minute", "59 left now", "Discovery", "off"]
NOTHING = ["No environments", NONE]


def test_the_page_begins_with_the_exporter_itself() -> None:
    assert said() == [*HEAD, *FACTS, "Configuration", "in force for 1 d 1 h", *NOTHING]


def test_a_wait_that_the_api_asked_for_is_shown() -> None:
    budget = BudgetStatus(limit_per_minute=60, available=0, waits_s=12.4)
    everything = said(Status(version="1", telemetry_path="/m", uptime_s=0, in_force_s=0, budget=budget))
    place = everything.index("API calls")
    assert everything[place + 1 : place + 3] == ["60 a minute", "none for 12 s: the API asks to wait"]


@pytest.mark.parametrize(
    ("discovery", "expected"),
    [
        (DiscoveryStatus(found=None, due_in_s=0), ["nothing found yet, next in 0 s"]),
        (DiscoveryStatus(found=1200, due_in_s=299.6), ["1,200 found, next in 5 min"]),
        (
            DiscoveryStatus(
                found=0,
                due_in_s=5,
                failures=(DiscoveryFailure(workspace_id="", problem="no key", kept=None, listed_ago_s=math.inf),),
            ),
            [
                "0 found, next in 5 s",
                "no key",
                "never listed: its environments are not known, and service discovery answers 503",
            ],
        ),
        (
            DiscoveryStatus(
                found=1300,
                due_in_s=5,
                workspaces=3,
                failures=(DiscoveryFailure(workspace_id="b", problem="403", kept=1200, listed_ago_s=720),),
            ),
            ["1,300 found in 3 workspaces, next in 5 s", "b: 403", "listed 12 min ago: the 1,200 found then are kept"],
        ),
    ],
)
def test_discovery_says_what_it_found_and_when_it_asks_again(discovery: DiscoveryStatus, expected: list[str]) -> None:
    everything = said(
        Status(
            version="1",
            telemetry_path="/m",
            uptime_s=0,
            in_force_s=0,
            budget=STATUS.budget,
            discovery=discovery,
        )
    )
    assert everything[everything.index("Discovery") + 1 : everything.index("Configuration")] == expected


def test_a_refused_reload_and_stale_files_are_shown_with_all_their_problems() -> None:
    everything = said(
        Status(
            version="1",
            telemetry_path="/m",
            uptime_s=0,
            in_force_s=0,
            budget=STATUS.budget,
            refused=("api.timeout: expected a duration", "listing.page_size: expected a whole number"),
            warnings=("api: no such file: /run/key; the last good key is used",),
        )
    )
    assert everything[everything.index("Configuration") + 1 :] == [
        "in force for 0 s",
        "last reload refused",
        "api.timeout: expected a duration",
        "listing.page_size: expected a whole number",
        "api: no such file: /run/key; the last good key is used",
        *NOTHING,
    ]


# ---- the environments

TABLE_HEAD = ["Environment", "State", "Waiting", "Not acknowledged", "Longest wait", "Workers polling", "Work listed"]


def test_a_row_names_the_workspace_where_there_is_one() -> None:
    everything = said(STATUS, snapshot(Environment(id="env_a", name="production", workspace_id="wrkspc_1")))
    place = everything.index("production")
    assert everything[place : place + 3] == ["production", "env_a", "wrkspc_1"]


def test_every_environment_has_a_row() -> None:
    batch = Environment(id="env_b", name="batch")
    everything = said(STATUS, snapshot(queue=queue(), work=work(queued=2, active=1)), snapshot(batch))
    assert everything[everything.index("1 of 2 environments are fine") + 1 :] == [
        *("all: 2", "failing: 0", "trouble: 1", "fine: 1"),
        *TABLE_HEAD,
        *("batch", "env_b", "no numbers", status_page.NOT_READ, "not complete"),
        *("production", "env_a", "fine", "read 4 s ago", "1,234", "5", "1 min", "3"),
        *("2 queued", ", ", "1 active", "read 1 min ago"),
    ]


def test_those_in_trouble_come_first_and_say_why() -> None:
    waiting = queue(oldest_s=3600, workers=0)
    each = [
        snapshot(Environment(id="env_fine", name="fine"), queue=queue()),
        snapshot(Environment(id="env_bad", name="bad"), queue=waiting, work=work(queued=9)),
        snapshot(Environment(id="env_down", name="down"), queue_problem=problem()),
    ]
    everything = said(STATUS, *each)
    assert [text for text in everything if text.startswith("env_")] == ["env_down", "env_bad", "env_fine"]
    place = everything.index("env_bad")
    assert everything[place + 1 : place + 3] == ["Work waits, and nobody polls.", "Work waits far too long."]
    only = _Reader(render(STATUS, each, View(only="trouble"), wall=WALL, monotonic=MONOTONIC)).said
    assert [text for text in only if text.startswith("env_")] == ["env_bad"]


def test_what_is_not_known_is_not_shown_as_zero() -> None:
    each = snapshot(queue=queue(oldest_s=None, workers=None), work=work())
    assert row(each)[2:] == ["1,234", "5", "none", "unknown", "nothing", "read 1 min ago"]


def test_an_age_is_never_negative() -> None:
    assert row(snapshot(queue=queue(oldest_s=-30)))[4] == "0 s"


@pytest.mark.parametrize("reason", REASONS)
def test_a_failure_says_for_how_long_why_and_what_to_do(reason: Reason) -> None:
    failed = problem(reason, "the API answered 500", request_id="req_1")
    assert row(snapshot(queue_problem=failed, work_problem=problem(reason))) == [
        f"down: {reason}",
        "for 5 min: the API answered 500 (request req_1)",
        REMEDY_BY_REASON[reason],
        f"failed: {reason}",
    ]


def test_the_list_fails_by_itself() -> None:
    each = snapshot(queue=queue(), work_problem=problem("timeout", "no answer in time"))
    assert row(each)[6:] == [
        "failed: timeout",
        "for 5 min: no answer in time",
        REMEDY_BY_REASON["timeout"],
    ]


def test_a_list_that_is_off_says_so() -> None:
    assert row(snapshot(queue=queue(), listing_enabled=False))[6:] == ["off"]


# ---- structure


def test_the_page_links_to_the_metrics_and_each_environments_probe() -> None:
    each = snapshot(Environment(id="env_a", name="x"))
    for base in ("./", "/exporter/"):
        text = render(STATUS, [each], View(base), wall=WALL, monotonic=MONOTONIC)
        links = [dict(attributes)["href"] for tag, attributes in _Reader(text).elements if tag == "a"]
        assert links == [
            *(f"{base}{path}" for path in ("metrics", "sd", "-/healthy")),
            f"{REPOSITORY_URL}/tree/main/docs",
            *(f"{base}?state={group}" for group in ("failing", "trouble", "fine")),
            f"{base}probe?target=env_a",
        ]


def test_the_policy_names_the_style_that_the_page_has_and_nothing_else() -> None:
    text = render(STATUS, [], View(), wall=WALL, monotonic=MONOTONIC)
    style = re.search("<style>(.*)</style>", text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert POLICY.split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert "<script" not in text
    assert " style=" not in text


anything = st.text(min_size=1).filter(str.strip)


@given(name=anything, identity=anything, detail=anything, note=anything, version=anything)
def test_whatever_a_name_holds_it_stays_text(name: str, identity: str, detail: str, note: str, version: str) -> None:
    def structure(name: str, identity: str, detail: str, note: str, version: str) -> list[tuple[str, list[str]]]:
        status = Status(
            version=version,
            telemetry_path="/metrics",
            uptime_s=0,
            in_force_s=0,
            budget=STATUS.budget,
            discovery=DiscoveryStatus(
                found=1,
                due_in_s=1,
                failures=(DiscoveryFailure(workspace_id=f"w{identity}", problem=note, kept=1, listed_ago_s=1),),
            ),
            refused=(note,),
        )
        failed = problem("auth", detail, request_id=note)
        each = snapshot(Environment(id=identity, name=name), queue_problem=failed)
        text = render(status, [each], View(), wall=WALL, monotonic=MONOTONIC)
        return [(tag, [key for key, _ in attributes]) for tag, attributes in _Reader(text).elements]

    assert structure(name, identity, detail, note, version) == structure("a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    "attack", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onclick='x", "&lt;b&gt;"]
)
def test_markup_in_a_name_is_shown_as_it_is(attack: str) -> None:
    text = render(STATUS, [snapshot(Environment(id="env_a", name=attack))], View(), wall=WALL, monotonic=MONOTONIC)
    assert attack in _Reader(text).said
    assert attack not in text
