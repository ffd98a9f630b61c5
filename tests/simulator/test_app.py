"""The simulated API as a caller sees it."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal

import httpx
import pytest

from exporter.simulator import Call, Credential, Options, Rules, Simulator, World, make_app
from tests.simulated_time import SIMULATED_TIME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

START_AT = 1_780_000_000.0
HEADERS = {"anthropic-version": "2023-06-01", "anthropic-beta": "managed-agents-2026-04-01"}
ORGANISATION = {**HEADERS, "x-api-key": "org-key"}
WORKER = {**HEADERS, "authorization": "Bearer key-a"}

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.at = START_AT

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return SIMULATED_TIME


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(clock: Clock) -> Simulator:
    world = World(clock)
    world.add_environment("env_a", name="alpha", key="key-a")
    world.add_environment("env_b", name="beta", key="key-b")
    world.add_environment("env_cloud", name="cloud", kind="cloud", key="key-cloud")
    return make_app(world, Options(api_key="org-key"))


@pytest.fixture
async def client(app: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://simulator/v1") as client:
        yield client


async def test_the_index_tells_how_to_get_in(app: Simulator, client: httpx.AsyncClient) -> None:
    app.world.place("wrkspc_1", "env_b")
    app.options.workspace_by_api_key = {"workspace-key": "wrkspc_1"}
    index = (await client.get("http://simulator/")).json()
    assert index["api_key"] == "org-key"
    assert index["workspace_by_api_key"] == {"workspace-key": "wrkspc_1"}
    assert index["base_path"] == "/v1"
    assert index["environments"] == [
        {"id": "env_a", "name": "alpha", "type": "self_hosted", "environment_key": "key-a", "workspace_id": ""},
        {"id": "env_b", "name": "beta", "type": "self_hosted", "environment_key": "key-b", "workspace_id": "wrkspc_1"},
        {"id": "env_cloud", "name": "cloud", "type": "cloud", "environment_key": "key-cloud", "workspace_id": ""},
    ]
    assert index["credentials"]["list"] == ["environment-key"]
    assert set(index["credentials"]) == {call.value for call in Call}


@pytest.mark.parametrize(
    ("key", "workspace_id", "seen"),
    [
        ({"x-api-key": "org-key"}, "wrkspc_1", ["env_b", "env_a"]),
        ({"authorization": "Bearer org-key"}, "wrkspc_2", ["env_cloud"]),
        ({"x-api-key": "org-key"}, "", 400),
        ({"x-api-key": "org-key"}, "wrkspc_3", 403),
        ({"x-api-key": "key-of-2"}, "", ["env_cloud"]),
        ({"x-api-key": "key-of-2"}, "wrkspc_2", ["env_cloud"]),
        ({"x-api-key": "key-of-2"}, "wrkspc_1", 403),
    ],
)
async def test_a_list_of_environments_is_one_workspaces(
    app: Simulator, client: httpx.AsyncClient, key: dict[str, str], workspace_id: str, seen: list[str] | int
) -> None:
    app.world.place("wrkspc_1", "env_a", "env_b")
    app.world.place("wrkspc_2", "env_cloud")
    app.options.workspace_by_api_key = {"key-of-2": "wrkspc_2"}
    named = {"anthropic-workspace-id": workspace_id} if workspace_id else {}
    answer = await client.get("/environments", headers={**HEADERS, **key, **named})
    assert answer.status_code == (seen if isinstance(seen, int) else 200), answer.text
    assert seen == answer.status_code or seen == [each["id"] for each in answer.json()["data"]]


@pytest.mark.parametrize(
    ("key", "workspace_id", "status"),
    [
        (ORGANISATION, "wrkspc_1", 200),
        (ORGANISATION, "wrkspc_2", 404),
        (ORGANISATION, "", 403),
        (WORKER, "", 200),
        (WORKER, "wrkspc_1", 200),
        (WORKER, "wrkspc_2", 403),
    ],
)
async def test_an_environment_is_in_one_workspace(
    app: Simulator, client: httpx.AsyncClient, key: dict[str, str], workspace_id: str, status: int
) -> None:
    app.world.place("wrkspc_1", "env_a")
    app.world.place("wrkspc_2", "env_b")
    app.options.unnamed_workspace_status = 403
    named = {"anthropic-workspace-id": workspace_id} if workspace_id else {}
    answer = await client.get("/environments/env_a/work/stats", headers={**key, **named})
    assert answer.status_code == status, answer.text
    assert [record.workspace_id for record in app.calls.records] == [workspace_id]


async def test_without_workspaces_nobody_looks_at_the_one_that_a_call_names(client: httpx.AsyncClient) -> None:
    for named in ({}, {"anthropic-workspace-id": "wrkspc_1"}):
        answer = await client.get("/environments", headers={**ORGANISATION, **named})
        assert len(answer.json()["data"]) == 3


async def test_stats_have_exactly_the_documented_fields(app: Simulator, client: httpx.AsyncClient) -> None:
    queue = app.world.environment("env_a")
    queue.create()
    queue.poll(worker_id="w1")
    queue.create()
    response = await client.get("/environments/env_a/work/stats", headers=ORGANISATION)
    assert response.status_code == 200
    assert response.json() == {
        "type": "work_queue_stats",
        "depth": 1,
        "pending": 1,
        "oldest_queued_at": "2026-05-28T20:26:40.000000Z",
        "workers_polling": 1,
    }


async def test_an_item_has_exactly_the_documented_fields(app: Simulator, client: httpx.AsyncClient) -> None:
    item = app.world.environment("env_a").create(kind="healthcheck", metadata={"k": "v"})
    response = await client.get(f"/environments/env_a/work/{item.id}", headers=ORGANISATION)
    assert response.json() == {
        "type": "work",
        "id": item.id,
        "environment_id": "env_a",
        "state": "queued",
        "data": {"type": "healthcheck", "id": item.data_id},
        "metadata": {"k": "v"},
        "secret": None,
        "created_at": "2026-05-28T20:26:40.000000Z",
        "acknowledged_at": None,
        "started_at": None,
        "latest_heartbeat_at": None,
        "stop_requested_at": None,
        "stopped_at": None,
    }


async def test_an_environment_has_exactly_the_documented_fields(app: Simulator, client: httpx.AsyncClient) -> None:
    app.world.archive("env_b")
    listed = (await client.get("/environments", headers=ORGANISATION)).json()
    everything = (await client.get("/environments?include_archived=true", headers=ORGANISATION)).json()
    archived = (await client.get("/environments/env_b", headers=ORGANISATION)).json()
    assert [environment["id"] for environment in listed["data"]] == ["env_cloud", "env_a"]
    assert [environment["id"] for environment in everything["data"]] == ["env_cloud", "env_b", "env_a"]
    assert archived == {
        "type": "environment",
        "id": "env_b",
        "name": "beta",
        "description": None,
        "config": {"type": "self_hosted"},
        "metadata": {},
        "archived_at": "2026-05-28T20:26:40.000000Z",
        "created_at": "2026-05-28T20:26:40.000000Z",
        "updated_at": "2026-05-28T20:26:40.000000Z",
        "scope": "organization",
    }


async def test_environments_come_in_pages(client: httpx.AsyncClient) -> None:
    first = (await client.get("/environments?limit=2", headers=ORGANISATION)).json()
    second = (await client.get(f"/environments?limit=2&page={first['next_page']}", headers=ORGANISATION)).json()
    assert [len(page["data"]) for page in (first, second)] == [2, 1]
    assert second["next_page"] is None


async def test_the_list_comes_in_pages(app: Simulator, client: httpx.AsyncClient) -> None:
    app.world.environment("env_a").add_finished(30)
    first = (await client.get("/environments/env_a/work", headers=WORKER)).json()
    second = (await client.get(f"/environments/env_a/work?page={first['next_page']}", headers=WORKER)).json()
    assert [len(page["data"]) for page in (first, second)] == [20, 10]
    assert set(first) == {"data", "next_page"}
    assert second["next_page"] is None


async def test_some_servers_tell_more_about_a_page(app: Simulator, client: httpx.AsyncClient) -> None:
    queue = app.world.environment("env_a")
    queue.rules = Rules(has_more=True)
    empty = (await client.get("/environments/env_a/work", headers=WORKER)).json()
    assert empty == {"data": [], "next_page": None, "first_id": None, "last_id": None, "has_more": False}
    queue.add_finished(3)
    page = (await client.get("/environments/env_a/work?limit=2", headers=WORKER)).json()
    assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][1]["id"])
    assert page["has_more"] is True


async def test_a_whole_life_over_http(app: Simulator, client: httpx.AsyncClient) -> None:
    queue = app.world.environment("env_a")
    work = f"/environments/env_a/work/{queue.create().id}"
    claimed = await client.get("/environments/env_a/work/poll", headers={**WORKER, "anthropic-worker-id": "w1"})
    assert work.endswith(claimed.json()["id"])
    assert (await client.post(f"{work}/ack", headers=WORKER)).json()["state"] == "starting"
    beat = await client.post(f"{work}/heartbeat?expected_last_heartbeat=NO_HEARTBEAT", headers=WORKER)
    assert beat.json() == {
        "type": "work_heartbeat",
        "last_heartbeat": "2026-05-28T20:26:40.000000Z",
        "lease_extended": True,
        "state": "active",
        "ttl_seconds": 300,
    }
    updated = await client.post(work, headers=ORGANISATION, json={"metadata": {"a": "1"}})
    assert updated.json()["metadata"] == {"a": "1"}
    assert (await client.post(f"{work}/stop", headers=WORKER)).json()["state"] == "stopping"
    assert (await client.post(f"{work}/stop", headers=WORKER, json={"force": True})).json()["state"] == "stopped"
    assert (await client.get("/environments/env_a/work/poll", headers=WORKER)).json() is None


async def test_a_failed_expectation_answers_412_with_the_lease(app: Simulator, client: httpx.AsyncClient) -> None:
    queue = app.world.environment("env_a")
    item = queue.create()
    queue.poll()
    queue.ack(item.id)
    response = await client.post(
        f"/environments/env_a/work/{item.id}/heartbeat?expected_last_heartbeat=2026-01-01T00:00:00Z", headers=WORKER
    )
    assert response.status_code == 412
    assert response.json()["error"]["details"] == {
        "error_code": "heartbeat_precondition_failed",
        "current_state": {"last_heartbeat": None, "lease_extended": False, "state": "starting", "ttl_seconds": 300},
    }


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "work/poll?block_ms=0", None),
        ("GET", "work/poll?block_ms=1000", None),
        ("GET", "work/poll?block_ms=soon", None),
        ("GET", "work/poll?reclaim_older_than_ms=0", None),
        ("GET", "work?limit=0", None),
        ("GET", "work?limit=1001", None),
        ("GET", "work?page=nonsense", None),
        ("POST", "work/ID", {"metadata": {"a": 1}}),
        ("POST", "work/ID", {"metadata": {"a": ["b"]}}),
        ("POST", "work/ID", {"metadata": None}),
        ("POST", "work/ID", ["metadata"]),
        ("POST", "work/ID/stop", {"force": "yes"}),
        ("POST", "work/ID/heartbeat?desired_ttl_seconds=0", None),
    ],
)
async def test_nonsense_is_refused_and_changes_nothing(
    app: Simulator, client: httpx.AsyncClient, method: str, path: str, body: object
) -> None:
    app.options.accepted = dict.fromkeys(Call, frozenset(Credential))
    item = app.world.environment("env_a").create(metadata={"kept": "yes"})
    url = f"/environments/env_a/{path.replace('ID', item.id)}"
    response = await client.request(method, url, headers=WORKER, json=body)
    error = response.json()
    assert response.status_code == 400
    assert (error["type"], error["error"]["type"]) == ("error", "invalid_request_error")
    assert error["request_id"] == response.headers["request-id"]
    assert (item.state, item.metadata) == ("queued", {"kept": "yes"})


async def test_a_body_that_is_no_json_is_refused(app: Simulator, client: httpx.AsyncClient) -> None:
    item = app.world.environment("env_a").create()
    response = await client.post(f"/environments/env_a/work/{item.id}", headers=ORGANISATION, content=b"{")
    assert response.status_code == 400


@pytest.mark.parametrize("path", ["", "/work/stats", "/work/work_0000000000000000"])
async def test_what_does_not_exist_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(f"/environments/env_nowhere{path}", headers=ORGANISATION)
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "not_found_error"


async def test_a_deleted_environment_is_not_found_even_with_its_own_key(
    app: Simulator, client: httpx.AsyncClient
) -> None:
    app.world.delete_environment("env_a")
    for path in ("work", "work/stats", "work/poll"):
        assert (await client.get(f"/environments/env_a/{path}", headers=WORKER)).status_code == 404


async def test_other_paths_and_methods_answer_the_envelope(client: httpx.AsyncClient) -> None:
    for response in (
        await client.get("/messages", headers=ORGANISATION),
        await client.delete("/environments/env_a", headers=ORGANISATION),
    ):
        assert response.status_code in {404, 405}
        assert response.json()["request_id"] == response.headers["request-id"]


async def test_a_cloud_environment_misleads_as_the_real_one_does(client: httpx.AsyncClient) -> None:
    worker = {**HEADERS, "authorization": "Bearer key-cloud"}
    stats = await client.get("/environments/env_cloud/work/stats", headers=worker)
    assert stats.json() == {
        "type": "work_queue_stats",
        "depth": 0,
        "pending": 0,
        "oldest_queued_at": None,
        "workers_polling": None,
    }
    assert (await client.get("/environments/env_cloud/work", headers=worker)).status_code == 404
    assert (await client.get("/environments/env_cloud/work/poll", headers=worker)).status_code == 404


CREDENTIALS = {
    "x-api-key": {"x-api-key": "org-key"},
    "bearer-api-key": {"authorization": "Bearer org-key"},
    "environment-key": {"authorization": "Bearer key-a"},
    "foreign-key": {"authorization": "Bearer key-b"},
    "unknown": {"authorization": "Bearer who"},
    "wrong-scheme": {"authorization": "Basic key-a"},
    "none": {},
}


@pytest.mark.parametrize("call", ["stats", "list", "environment", "retrieve", "poll"])
async def test_every_call_takes_its_documented_credentials(
    app: Simulator, client: httpx.AsyncClient, call: str
) -> None:
    item = app.world.environment("env_a").create()
    paths = {"stats": "/work/stats", "list": "/work", "environment": "", "retrieve": f"/work/{item.id}"}
    path = f"/environments/env_a{paths.get(call, '/work/poll')}"
    answers = {
        name: (await client.get(path, headers={**HEADERS, **credential})).status_code
        for name, credential in CREDENTIALS.items()
    }
    organisation = 403 if call in {"list", "poll"} else 200
    worker = 403 if call in {"environment", "retrieve"} else 200
    assert answers == {
        "x-api-key": organisation,
        "bearer-api-key": organisation,
        "environment-key": worker,
        "foreign-key": 403,
        "unknown": 401,
        "wrong-scheme": 401,
        "none": 401,
    }


async def test_accepted_credentials_can_be_switched_per_environment(app: Simulator, client: httpx.AsyncClient) -> None:
    app.options.accepted_by_environment["env_a"] = {Call.LIST: frozenset({Credential.API_KEY})}
    app.options.refusal_status = 401
    assert (await client.get("/environments/env_a/work", headers=ORGANISATION)).status_code == 200
    assert (await client.get("/environments/env_a/work", headers=WORKER)).status_code == 401
    assert (await client.get("/environments/env_b/work", headers=ORGANISATION)).status_code == 401


@pytest.mark.parametrize("missing", ["anthropic-version", "anthropic-beta"])
async def test_the_version_headers_are_needed_unless_switched_off(
    app: Simulator, client: httpx.AsyncClient, missing: str
) -> None:
    headers = {name: value for name, value in ORGANISATION.items() if name != missing}
    assert (await client.get("/environments", headers=headers)).status_code == 400
    app.options.check_headers = False
    assert (await client.get("/environments", headers=headers)).status_code == 200


async def test_a_server_may_demand_the_beta_query(app: Simulator, client: httpx.AsyncClient) -> None:
    app.options.require_beta_query = True
    assert (await client.get("/environments", headers=ORGANISATION)).status_code == 400
    assert (await client.get("/environments?beta=true", headers=ORGANISATION)).status_code == 200


async def test_the_base_path_can_be_another(clock: Clock) -> None:
    app = make_app(World(clock), Options(prefix="/api/v1/cloud", api_key="org-key"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://simulator") as client:
        assert (await client.get("/api/v1/cloud/environments", headers=ORGANISATION)).status_code == 200
        assert (await client.get("/v1/environments", headers=ORGANISATION)).status_code == 404


async def test_dates_follow_the_clock_of_the_world(app: Simulator, client: httpx.AsyncClient) -> None:
    async def date() -> str | None:
        response = await client.get("/environments", headers=ORGANISATION)
        return dict(response.headers).get("date")

    assert await date() == "Thu, 28 May 2026 20:26:40 GMT"
    app.world.clock_skew_s = 3600.0
    assert await date() == "Thu, 28 May 2026 21:26:40 GMT"
    app.options.date_skew_s = -60.0
    assert await date() == "Thu, 28 May 2026 21:25:40 GMT"
    app.options.date = "absent"
    assert await date() is None
    app.options.date = "nonsense"
    assert await date() == "half past nine"


async def test_the_rate_limit_is_shared_and_comes_back(app: Simulator, client: httpx.AsyncClient, clock: Clock) -> None:
    app.options.requests_per_minute = 3
    paths = ["/environments/env_a/work/stats", "/environments/env_b/work/stats", "/environments"]
    for path in paths:
        assert (await client.get(path, headers=ORGANISATION)).status_code == 200
        clock.at += 10
    refused = await client.get("/environments/env_a/work", headers=WORKER)
    assert refused.status_code == 429
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert refused.headers["retry-after"] == "30"
    clock.at += 30
    assert (await client.get("/environments/env_a/work", headers=WORKER)).status_code == 200


@pytest.mark.parametrize(("polls_count", "status"), [(True, 429), (False, 200)])
async def test_polls_may_or_may_not_count(
    app: Simulator,
    client: httpx.AsyncClient,
    polls_count: bool,  # noqa: FBT001 - a parameter of the test
    status: int,
) -> None:
    app.options.requests_per_minute, app.options.polls_count = 1, polls_count
    await client.get("/environments/env_a/work/poll", headers=WORKER)
    assert (await client.get("/environments/env_a/work/poll", headers=WORKER)).status_code == status


@pytest.mark.parametrize(
    ("style", "text"),
    [("seconds", "60"), ("date", "Thu, 28 May 2026 20:27:40 GMT"), ("absent", None), ("nonsense", "in a while")],
)
async def test_retry_after_comes_in_many_forms(
    app: Simulator,
    client: httpx.AsyncClient,
    style: Literal["seconds", "date", "absent", "nonsense"],
    text: str | None,
) -> None:
    app.options.requests_per_minute, app.options.retry_after = 0, style
    refused = await client.get("/environments", headers=ORGANISATION)
    assert (refused.status_code, refused.headers.get("retry-after")) == (429, text)


async def test_retry_after_can_be_a_day(app: Simulator, client: httpx.AsyncClient) -> None:
    app.options.requests_per_minute, app.options.retry_after_s = 0, 86_400.0
    refused = await client.get("/environments", headers=ORGANISATION)
    assert refused.headers["retry-after"] == "86400"
    app.options.retry_after = "date"
    refused = await client.get("/environments", headers=ORGANISATION)
    assert parsedate_to_datetime(refused.headers["retry-after"]).timestamp() == START_AT + 86_400


async def test_a_long_poll_ends_with_the_arrival_of_work(app: Simulator, client: httpx.AsyncClient) -> None:
    queue = app.world.environment("env_a")
    polls = [
        asyncio.create_task(client.get("/environments/env_a/work/poll?block_ms=999", headers=WORKER)) for _ in range(2)
    ]
    while len(queue.arrivals) < 2:  # noqa: ASYNC110 - the simulator has no event for "somebody waits"
        await asyncio.sleep(0)
    item = queue.create()
    await asyncio.wait(polls, return_when=asyncio.FIRST_COMPLETED, timeout=0.5)
    answered = [poll.result().json()["id"] for poll in polls if poll.done()]
    assert answered == [item.id]
    second = queue.create()
    others = [(await poll).json()["id"] for poll in polls]
    assert sorted(others) == sorted([item.id, second.id])
    assert not queue.arrivals


async def test_a_long_poll_without_arrival_answers_null(app: Simulator, client: httpx.AsyncClient) -> None:
    response = await client.get("/environments/env_a/work/poll?block_ms=1", headers=WORKER)
    assert (response.status_code, response.json()) == (200, None)
    assert not app.world.environment("env_a").arrivals


async def test_a_secret_opens_its_own_item_only(app: Simulator, client: httpx.AsyncClient) -> None:
    queue = app.world.environment("env_a")
    queue.rules.secrets = True
    item, other = queue.create(), queue.create()
    claimed = (await client.get("/environments/env_a/work/poll", headers=WORKER)).json()
    assert claimed["secret"]
    listed = (await client.get("/environments/env_a/work", headers=WORKER)).json()
    assert {entry["secret"] for entry in listed["data"]} == {None}
    session = {**HEADERS, "authorization": f"Bearer sk-ant-session-{item.id}"}
    assert (await client.post(f"/environments/env_a/work/{item.id}/ack", headers=session)).status_code == 200
    assert (await client.post(f"/environments/env_a/work/{other.id}/ack", headers=session)).status_code == 401


async def test_latency_is_waited_out_per_environment(app: Simulator, client: httpx.AsyncClient) -> None:
    app.options.latency_by_environment["env_a"] = 0.05
    loop = asyncio.get_running_loop()
    began = loop.time()
    await client.get("/environments/env_b/work/stats", headers=ORGANISATION)
    between = loop.time()
    await client.get("/environments/env_a/work/stats", headers=ORGANISATION)
    assert between - began < 0.05 <= loop.time() - between


async def test_an_answer_is_as_old_as_its_latency(app: Simulator, client: httpx.AsyncClient) -> None:
    app.options.latency_s = 0.05
    depths: list[int] = []

    async def ask() -> None:
        depths.append((await client.get("/environments/env_a/work/stats", headers=ORGANISATION)).json()["depth"])

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask())
        await asyncio.sleep(0.025)
        app.world.environment("env_a").create()
    await ask()
    assert depths[1] == depths[0] + 1


async def test_every_call_is_remembered(app: Simulator, client: httpx.AsyncClient, clock: Clock) -> None:
    await client.get("/environments/env_a/work/stats", headers=ORGANISATION)
    clock.at += 10
    await client.get("/environments/env_a/work?limit=7", headers=WORKER)
    await client.get("/environments/env_b/work/stats", headers=HEADERS)
    calls = app.calls
    assert [calls.count(), calls.count("stats"), calls.count("stats", "env_a"), calls.count("poll")] == [3, 2, 1, 0]
    assert calls.count(environment_id="env_a") == 2
    record = calls.records[1]
    assert (record.at, record.call, record.query, record.credentials) == (
        START_AT + 10,
        "list",
        {"limit": "7"},
        ("environment-key",),
    )
    assert [record.call for record in calls.between(START_AT, START_AT + 10)] == ["stats"]
    assert len(calls.between(START_AT, START_AT + 11, environment_id="env_b")) == 1
    calls.clear()
    assert calls.count() == len(calls.records) == 0
