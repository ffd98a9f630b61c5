"""What each path answers, without a socket and without an API."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from exporter.api.wire import State, WorkItem
from exporter.clock import Clock
from exporter.config.model import Config, ScrapeConfig, WorkConfig
from exporter.environments.snapshot import Environment, ReadTimes, Snapshot, Work
from exporter.listing.ledger import Listing
from exporter.web.routes import TAKEN_PATHS, Parts, Routes, WebSettings, scrape_timeout_s
from exporter.web.status_page import DOCUMENTATION, BudgetStatus, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.environments.reader import EnvironmentReader
    from exporter.environments.roster import Roster
    from exporter.environments.scraper import Scraper

ENVIRONMENTS = (
    Environment(id="env_a", name="production", worker_mode="always_on"),
    Environment(id="env_b", name="batch", workspace_id="wrkspc_1"),
)


class FakeReader:
    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.work: Work | None = None

    def snapshot(self, *, asked_at: float) -> Snapshot:
        del asked_at
        return Snapshot(environment=self.environment, listing_enabled=True, queue=None, work=self.work, tally=None)


class FakeRoster:
    def __init__(self) -> None:
        self.readers = tuple(map(FakeReader, ENVIRONMENTS))

    def find(self, target: str) -> FakeReader | None:
        found = (each for each in self.readers if target in {each.environment.id, each.environment.name})
        return next(found, None)


class FakeScraper:
    """Notes who is read and for how long."""

    def __init__(self) -> None:
        self.scrapes: list[tuple[list[str], float]] = []

    async def scrape(self, readers: Sequence[EnvironmentReader], *, timeout_s: float) -> tuple[Snapshot, ...]:
        self.scrapes.append(([reader.environment.id for reader in readers], timeout_s))
        return tuple(reader.snapshot(asked_at=0.0) for reader in readers)


def client(web: WebSettings | None = None, **changed: Any) -> tuple[TestClient, FakeScraper]:
    scraper = FakeScraper()

    async def settle(_: float) -> None:
        return

    async def reload() -> tuple[str, ...]:
        return ()

    parts = Parts(
        web=web or WebSettings(),
        config=Config,
        clock=Clock(wall=lambda: 0.0, monotonic=lambda: 0.0),
        roster=cast("Roster", FakeRoster()),
        scraper=cast("Scraper", scraper),
        registry=CollectorRegistry(),
        settle=settle,
        unlisted=lambda: (),
        reload=reload,
        status=lambda: Status(
            version="1",
            telemetry_path="/metrics",
            uptime_s=0,
            in_force_s=0,
            budget=BudgetStatus(limit_per_minute=1, available=1),
        ),
    )
    return TestClient(Routes(replace(parts, **changed)).app(), follow_redirects=False), scraper


def test_the_health_endpoints_read_nothing() -> None:
    http, scraper = client()
    answers = [http.get(path) for path in ("/-/healthy", "/-/ready")]
    assert [(each.status_code, each.text) for each in answers] == [
        (200, "The exporter is alive.\n"),
        (200, "The exporter is configured and serving.\n"),
    ]
    assert scraper.scrapes == []


def test_a_scrape_reads_every_environment_within_the_scrapers_timeout() -> None:
    http, scraper = client()
    answer = http.get("/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": "10"})
    assert answer.status_code == 200
    assert answer.text.count("managed_agents_up{") == 2
    assert scraper.scrapes == [(["env_a", "env_b"], 9.5)]


def test_a_scrape_of_the_exporters_own_metrics_reads_no_environment() -> None:
    http, scraper = client()
    http.get("/metrics", params={"name[]": "process_open_fds"})
    assert scraper.scrapes == [([], 9.0)]


@pytest.mark.parametrize("target", ["env_a", "production"])
def test_a_probe_reads_the_environment_of_that_id_or_name(target: str) -> None:
    http, scraper = client()
    answer = http.get("/probe", params={"target": target})
    assert (answer.status_code, scraper.scrapes) == (200, [(["env_a"], 9.0)])
    assert "env_b" not in answer.text


@pytest.mark.parametrize("query", ["", "target=", "target=nobody", "target=env_a&target=env_b"])
def test_a_probe_without_exactly_one_known_target_is_a_bad_request(query: str) -> None:
    http, scraper = client()
    answer = http.get(f"/probe?{query}")
    assert (answer.status_code, scraper.scrapes) == (400, [])
    assert answer.text == "The probe needs exactly one target: the id or name of an environment that /sd lists.\n"


def test_more_scrapes_at_once_than_allowed_get_503_and_health_does_not() -> None:
    http, scraper = client(WebSettings(max_requests=0))
    assert [http.get(path).status_code for path in ("/metrics", "/probe?target=env_a", "/-/healthy")] == [503, 503, 200]
    assert scraper.scrapes == []


def test_service_discovery_lists_the_environments_as_targets() -> None:
    http, _ = client()
    answer = http.get("/sd")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == [
        {
            "targets": [environment.id],
            "labels": {
                "__meta_managed_agents_environment_id": environment.id,
                "__meta_managed_agents_environment_name": environment.name,
                "__meta_managed_agents_worker_mode": environment.worker_mode,
                "__meta_managed_agents_workspace_id": environment.workspace_id,
            },
        }
        for environment in ENVIRONMENTS
    ]


def test_service_discovery_fails_rather_than_list_nothing_before_the_environments_are_known() -> None:
    for unlisted, where in (("",), ""), (("wrkspc_1", "wrkspc_2"), " in wrkspc_1, wrkspc_2"):
        http, _ = client(unlisted=lambda unlisted=unlisted: unlisted)
        answer = http.get("/sd")
        assert (answer.status_code, answer.text) == (
            503,
            f"The environments have not been listed yet{where}, and a part of them must not be taken for the whole.\n",
        )


def test_a_scrape_waits_for_discovery_half_of_its_time_at_most() -> None:
    waits: list[float] = []

    async def settle(timeout_s: float) -> None:
        waits.append(timeout_s)

    http, _ = client(settle=settle)
    for path in ("/metrics", "/sd"):
        http.get(path)
    assert waits == [4.5, 9.0]


def with_items() -> FakeRoster:
    """Return a roster whose first environment has a list: one item that starts and one that is queued."""
    items = (
        WorkItem("work_1", State.QUEUED, created_at=90.0, type="session", session_id="session_1"),
        WorkItem("work_2", State.STARTING, acknowledged_at=40.0, type="session", session_id="session_2"),
    )
    listing = Listing(
        complete=True, count_by_state={}, oldest_at_by_state={}, heartbeats=(), oldest_read_at=None, unfinished=items
    )
    times = ReadTimes(read_at=100.0, server_at=100.0, monotonic_at=-7.0, duration_s=0.1)
    roster = FakeRoster()
    roster.readers[0].work = Work(listing, times)
    return roster


def test_the_items_of_an_environment_are_shown_without_a_read() -> None:
    http, scraper = client(roster=with_items())
    page = http.get("/items", params={"target": "production"})
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; ")
    assert page.text.index("work_2") < page.text.index("work_1")
    assert "2 items; read 7 s ago." in page.text
    assert scraper.scrapes == []


@pytest.mark.parametrize(
    ("query", "accept"),
    [("&format=json", "text/html"), ("", "application/json"), ("", "text/html;q=0.5, application/json")],
)
def test_the_items_are_json_for_whoever_asks_for_it(query: str, accept: str) -> None:
    http, _ = client(roster=with_items())
    answer = http.get(f"/items?target=env_a&state=starting&limit=1{query}", headers={"accept": accept})
    assert answer.headers["content-type"] == "application/json"
    read = answer.json()
    assert ([each["id"] for each in read["items"]], read["total"], read["age_seconds"]) == (["work_2"], 1, 7.0)


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("", 400, "The items need exactly one target: the id or name of an environment that /sd lists.\n"),
        (
            "target=nothing",
            400,
            "The items need exactly one target: the id or name of an environment that /sd lists.\n",
        ),
        (
            "target=env_a&state=stopped",
            400,
            "state: 'stopped' is none of queued, starting, active, stopping, unknown; finished items are not kept one by one\n",
        ),
        ("target=env_a&limit=0", 400, "limit: '0' is not a whole number from 1 to 1000\n"),
        ("target=env_a&limit=1001", 400, "limit: '1001' is not a whole number from 1 to 1000\n"),
        ("target=env_a&limit=²", 400, "limit: '²' is not a whole number from 1 to 1000\n"),
        ("target=env_a&format=xml", 400, "format: 'xml' is neither json nor html\n"),
        (
            "target=env_b",
            503,
            "The list is not complete yet, or no scrape has read it for longer than scrape.max_age.\n",
        ),
    ],
)
def test_items_that_can_not_be_shown_are_a_sentence(query: str, status: int, sentence: str) -> None:
    answer = client(roster=with_items())[0].get(f"/items?{query}")
    assert (answer.status_code, answer.text) == (status, sentence)


def test_the_configuration_turns_the_items_off() -> None:
    http, _ = client(roster=with_items(), config=lambda: Config(work=WorkConfig(items=False)))
    answer = http.get("/items?target=env_a")
    assert (answer.status_code, answer.text) == (404, "The items are not shown: work.items is false.\n")


def test_a_reload_has_to_be_allowed_and_says_what_is_wrong() -> None:
    problems: list[str] = []

    async def reload() -> tuple[str, ...]:
        return tuple(problems)

    http, _ = client(reload=reload)
    assert http.post("/-/reload").status_code == 403
    http, _ = client(WebSettings(enable_lifecycle=True), reload=reload)
    assert (http.get("/-/reload").status_code, http.post("/-/reload").status_code) == (405, 200)
    problems += ["api.timeout: bad", "scrape: bad"]
    answer = http.post("/-/reload")
    assert answer.status_code == 500
    assert answer.text == "The old configuration stays in force:\napi.timeout: bad\nscrape: bad\n"


def test_a_problem_with_a_file_whose_name_is_no_utf_8_can_be_answered() -> None:
    async def reload() -> tuple[str, ...]:
        return ("/etc/\udcff.yml: no such file",)

    http, _ = client(WebSettings(enable_lifecycle=True), reload=reload)
    answer = http.post("/-/reload")
    assert answer.status_code == 500
    assert answer.text == "The old configuration stays in force:\n/etc/\\udcff.yml: no such file\n"


def test_the_status_page_may_not_be_framed_or_kept() -> None:
    http, _ = client()
    answer = http.get("/")
    assert answer.status_code == 200
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"
    assert "production" in answer.text


BEHIND_PROXY = WebSettings(external_url="https://example.com/exporter", route_prefix="/exporter")
STRIPPED_BY_PROXY = WebSettings(external_url="https://example.com/exporter")


def test_every_route_is_served_under_the_prefix_and_nowhere_else() -> None:
    http, _ = client(BEHIND_PROXY)
    paths = ("/metrics", "/probe?target=env_a", "/sd", "/-/healthy", "/-/ready")
    assert [http.get(f"/exporter{path}").status_code for path in (*paths, "/")] == [200] * 6
    assert [http.get(path).status_code for path in paths] == [404] * 5


@pytest.mark.parametrize(
    ("web", "path", "location"),
    [
        (BEHIND_PROXY, "/", "/exporter/"),
        (BEHIND_PROXY, "/exporter", "/exporter/"),
        (WebSettings(route_prefix="/p"), "/", "/p/"),
        (WebSettings(external_url="https://example.com/e", route_prefix="/p"), "/p", "/e/"),
    ],
)
def test_the_root_leads_to_the_page_whatever_the_host_header_says(web: WebSettings, path: str, location: str) -> None:
    http, _ = client(web)
    answer = http.get(path, headers={"Host": "elsewhere.example"})
    assert (answer.status_code, answer.headers["location"]) == (302, location)


@pytest.mark.parametrize(
    ("web", "path", "base"),
    [(WebSettings(), "/", "./"), (BEHIND_PROXY, "/exporter/", "/exporter/"), (STRIPPED_BY_PROXY, "/", "/exporter/")],
)
def test_the_links_of_the_page_lead_through_the_proxy(web: WebSettings, path: str, base: str) -> None:
    http, _ = client(web)
    links = [each for each in re.findall('href="([^"]*)"', http.get(path).text) if each != DOCUMENTATION]
    groups = [f"?state={group}" for group in ("failing", "trouble", "fine")]
    paths = ["metrics", "sd", "-/healthy", *groups, "probe?target=env_a", "probe?target=env_b"]
    assert links == [f"{base}{path}" for path in paths]


def test_the_page_may_be_narrowed_to_a_group() -> None:
    http, _ = client()
    assert "probe?target=" in http.get("/?state=trouble").text
    assert "None of them is failing." in http.get("/?state=failing").text
    answer = http.get("/?state=down")
    assert (answer.status_code, answer.text) == (400, "state: 'down' is none of failing, trouble, fine\n")


@pytest.mark.parametrize(
    ("web", "path", "more"),
    [
        (WebSettings(route_prefix="/p"), "/p/sd", {"__metrics_path__": "/p/probe"}),
        (STRIPPED_BY_PROXY, "/sd", {"__meta_managed_agents_external_url": "https://example.com/exporter/"}),
        (
            BEHIND_PROXY,
            "/exporter/sd",
            {
                "__metrics_path__": "/exporter/probe",
                "__meta_managed_agents_external_url": "https://example.com/exporter/",
            },
        ),
    ],
)
def test_service_discovery_says_where_the_probe_and_the_page_are(
    web: WebSettings, path: str, more: dict[str, str]
) -> None:
    http, _ = client(web)
    for group in http.get(path).json():
        assert {key: value for key, value in group["labels"].items() if key.endswith(("path__", "url"))} == more


@pytest.mark.parametrize("path", ["/metrics/", "/nothing", "/probe/"])
def test_any_other_path_is_not_found_and_redirects_nowhere(path: str) -> None:
    http, _ = client()
    assert http.get(path).status_code == 404


@pytest.mark.parametrize(
    ("header", "offset_s", "timeout_s"),
    [
        ("10", 0.5, 9.5),
        ("10", 0.0, 10.0),
        ("1", 0.9, 0.5),
        ("0.1", 60.0, 0.05),
        (None, 0.5, 9.0),
        ("", 0.5, 9.0),
        ("soon", 0.5, 9.0),
        ("nan", 0.5, 9.0),
        ("inf", 0.5, 9.0),
        ("-1", 0.5, 9.0),
        ("0", 0.5, 9.0),
    ],
)
def test_a_scrape_may_take_the_scrapers_timeout_minus_the_offset(
    header: str | None, offset_s: float, timeout_s: float
) -> None:
    config = Config(scrape=ScrapeConfig(timeout_s=9.0, timeout_offset_s=offset_s))
    assert scrape_timeout_s(header, config) == pytest.approx(timeout_s)


def test_paths_that_a_flag_may_not_take_are_those_that_answer_something_else() -> None:
    app = Routes(cast("Parts", SimpleNamespace(web=WebSettings()))).app()
    paths = {getattr(route, "path", None) for route in app.routes}
    assert paths - {"/", "/metrics"} == TAKEN_PATHS
