"""Each named fault goes over a real socket once, so that what the client's tests order is what they get."""

from __future__ import annotations

import gzip
import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from exporter.simulator import Options, World
from tests.ample import AMPLE_S
from tests.simulated import Running, running
from tests.simulator.faults import (
    LIST_FAULTS,
    STATUSES,
    Faults,
    FaultySimulator,
    alterations,
    fault_names,
    replacements,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

HEADERS = {
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "managed-agents-2026-04-01",
    "authorization": "Bearer key-a",
}
UNFINISHED = {"hang", "stall", "drip-body", "endless-body", "endless-spaces"}
NOT_JSON = {
    "html-200",
    "html-502",
    "no-content",
    "empty-body",
    "not-utf8",
    "truncated-json",
    "redirect-301",
    "redirect-307",
    "gzip",
    "gzip-bomb",
    "nested-gzip-bomb",
    "unknown-encoding",
}


@pytest.fixture(scope="module")
def sim() -> Iterator[Running]:
    world = World(time.time)
    queue = world.add_environment("env_a", key="key-a")
    queue.add_finished(8)
    queue.create()
    queue.poll(worker_id="w1")
    queue.create()
    with running(world) as sim:
        yield sim


@pytest.fixture(autouse=True)
def _healed(sim: Running) -> Iterator[None]:
    yield
    sim.call(sim.faults.heal)


@pytest.fixture(scope="module")
def client(sim: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{sim.base_url}/environments/env_a", headers=HEADERS, timeout=AMPLE_S) as client:
        yield client


def raw(client: httpx.Client, path: str) -> tuple[httpx.Response, bytes]:
    with client.stream("GET", path) as response:
        return response, b"".join(response.iter_raw())


def page(client: httpx.Client, cursor: str | None = None) -> dict[str, Any]:
    cursors = {} if cursor is None else {"page": cursor}
    body: dict[str, Any] = client.get("/work", params={"limit": "4", **cursors}).json()
    return body


def received_in_time(client: httpx.Client) -> int:
    """Read for a fifth of a second; answer the bytes that came, or raise because the body has ended."""
    received = 0
    deadline = time.monotonic() + 0.2
    try:
        with client.stream("GET", "/work", timeout=0.2) as response:
            for chunk in response.iter_raw():
                received += len(chunk)
                if time.monotonic() > deadline:
                    return received
    except httpx.ReadTimeout:
        return received
    raise AssertionError("the body has ended")


@pytest.mark.parametrize("fault", sorted(UNFINISHED))
def test_an_answer_that_never_ends_keeps_its_caller_waiting(sim: Running, client: httpx.Client, fault: str) -> None:
    sim.call(sim.faults.inject, fault)
    assert (received_in_time(client) == 0) == (fault == "hang")
    sim.call(sim.faults.heal)
    assert client.get("/work/stats").status_code == 200


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_comes_in_the_envelope(sim: Running, client: httpx.Client, status: int) -> None:
    sim.call(sim.faults.inject, f"status-{status}")
    response = client.get("/work/stats")
    assert response.status_code == status
    assert response.json()["type"] == "error"
    assert response.json()["request_id"] == response.headers["request-id"]


@pytest.mark.parametrize("fault", sorted(fault_names() - UNFINISHED - NOT_JSON - {"huge-body", "nested"}))
@pytest.mark.parametrize("path", ["/work/stats", "/work"])
def test_the_other_faults_are_json_that_differs_from_the_truth(
    sim: Running, client: httpx.Client, fault: str, path: str
) -> None:
    right = client.get(path)
    sim.call(sim.faults.inject, fault)
    wrong = client.get(path)
    json.loads(wrong.content)
    harmless_here = {
        *LIST_FAULTS,
        "huge-cursor",
        "cursor-of-wrong-type",
        "unknown-state",
        "foreign-items",
        "surrogates",
    }
    harmless_here |= {"control-characters", "secrets"}
    if path == "/work":
        harmless_here = {"item-on-two-pages", "negative", "fraction"}
    differs = (wrong.content, wrong.headers["content-type"]) != (right.content, right.headers["content-type"])
    assert differs == (fault not in harmless_here)


@pytest.mark.parametrize("fault", sorted(NOT_JSON))
def test_what_is_no_json_cannot_be_read(sim: Running, client: httpx.Client, fault: str) -> None:
    sim.call(sim.faults.inject, fault)
    response, body = raw(client, "/work")
    assert response.headers["request-id"]
    with pytest.raises(ValueError, match=r"Expecting|decode|Unterminated"):
        json.loads(body)


def test_a_redirect_leads_to_another_host(sim: Running, client: httpx.Client) -> None:
    sim.call(sim.faults.inject, "redirect-301")
    response = client.get("/work")
    assert (response.status_code, response.next_request and response.next_request.url.host) == (
        301,
        "elsewhere.invalid",
    )


def test_gzip_carries_the_truth(sim: Running, client: httpx.Client) -> None:
    right = client.get("/work").json()
    sim.call(sim.faults.inject, "gzip")
    response, body = raw(client, "/work")
    assert response.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(body)) == right


@pytest.mark.parametrize(("fault", "encoding"), [("gzip-bomb", "gzip"), ("nested-gzip-bomb", "gzip, gzip")])
def test_a_bomb_is_small_on_the_wire(sim: Running, client: httpx.Client, fault: str, encoding: str) -> None:
    sim.call(sim.faults.inject, fault)
    response, body = raw(client, "/work")
    assert response.headers["content-encoding"] == encoding
    assert len(body) < 100_000


def test_a_huge_body_is_legal_and_huge(sim: Running, client: httpx.Client) -> None:
    sim.call(sim.faults.inject, "huge-body")
    with client.stream("GET", "/work/stats") as response:
        assert sum(len(chunk) for chunk in response.iter_raw()) > 64 * 2**20


def test_nesting_is_ten_thousand_deep(sim: Running, client: httpx.Client) -> None:
    sim.call(sim.faults.inject, "nested")
    assert client.get("/work").content.count(b"[") == 10_000


def test_a_repeated_cursor_leads_to_itself(sim: Running, client: httpx.Client) -> None:
    sim.call(sim.faults.inject, "repeated-cursor")
    first = page(client)
    assert page(client, first["next_page"]) == first


@pytest.mark.parametrize(("fault", "size"), [("endless-pages", 4), ("endless-empty-pages", 0)])
def test_endless_pages_have_ever_new_cursors(sim: Running, client: httpx.Client, fault: str, size: int) -> None:
    sim.call(sim.faults.inject, fault)
    cursors: list[str | None] = [None]
    for _ in range(5):
        body = page(client, cursors[-1])
        assert len(body["data"]) == size
        cursors.append(body["next_page"])
    assert len(set(cursors)) == 6


def test_an_item_can_show_on_two_pages(sim: Running, client: httpx.Client) -> None:
    sim.call(sim.faults.inject, "item-on-two-pages")
    first = page(client)
    second = page(client, first["next_page"])
    assert [item["id"] for item in second["data"]].count(first["data"][0]["id"]) == 1
    assert len(second["data"]) == 5


def test_foreign_items_may_be_one_or_all(sim: Running, client: httpx.Client) -> None:
    sim.call(sim.faults.inject, "foreign-item")
    owners = [item["environment_id"] for item in page(client)["data"]]
    assert owners == ["env_someone_else", *["env_a"] * 4]
    sim.call(sim.faults.inject, "foreign-items")
    owners = [item["environment_id"] for item in page(client)["data"]]
    assert owners == ["env_someone_else"] * 4


@pytest.mark.parametrize("fault", sorted(replacements().keys() - LIST_FAULTS - UNFINISHED - {"huge-body"}))
def test_a_poll_that_is_answered_with_a_fault_claims_nothing(sim: Running, client: httpx.Client, fault: str) -> None:
    before = sim.call(sim.world.truth, "env_a").stats
    sim.call(sim.faults.inject, fault)
    raw(client, "/work/poll")
    after = sim.call(sim.world.truth, "env_a").stats
    assert (after.depth, after.pending) == (before.depth, before.pending)


def test_no_name_is_used_twice() -> None:
    assert replacements().keys().isdisjoint(alterations().keys())


def test_an_unknown_fault_is_refused_when_it_is_ordered() -> None:
    with pytest.raises(ValueError, match="no such fault: gremlins"):
        Faults().inject("gremlins")
    with pytest.raises(ValueError, match="dance"):
        Faults().inject("hang", call="dance")


@pytest.fixture
def app() -> FaultySimulator:
    world = World(time.time)
    for name in ("env_a", "env_b"):
        world.add_environment(name)
    return FaultySimulator(world, Options(api_key="org-key", check_headers=False))


@pytest.fixture
async def inside(app: FaultySimulator) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client that calls the app without a socket."""
    transport = httpx.ASGITransport(app)
    headers = {"x-api-key": "org-key"}
    async with httpx.AsyncClient(transport=transport, base_url="http://simulator/v1", headers=headers) as inside:
        yield inside


@pytest.mark.anyio
async def test_a_fault_meets_its_calls_only_and_heals(app: FaultySimulator, inside: httpx.AsyncClient) -> None:
    paths = ("/environments/env_a/work/stats", "/environments/env_b/work/stats", "/environments")

    async def statuses() -> list[int]:
        return [(await inside.get(path)).status_code for path in paths]

    app.faults.inject("status-503", environment_id="env_a", call="stats")
    assert await statuses() == [503, 200, 200]
    app.faults.inject("status-529", call="environments")
    app.faults.inject("status-500", environment_id="env_a", times=1)
    assert await statuses() == [500, 200, 529]
    assert await statuses() == [503, 200, 529]
    app.faults.heal("env_a")
    assert await statuses() == [200, 200, 529]
    app.faults.heal()
    assert await statuses() == [200, 200, 200]


@pytest.mark.anyio
async def test_the_list_of_environments_can_be_broken_like_any_list(
    app: FaultySimulator, inside: httpx.AsyncClient
) -> None:
    app.faults.inject("repeated-cursor", call="environments")
    first = (await inside.get("/environments")).json()
    again = (await inside.get(f"/environments?page={first['next_page']}")).json()
    assert first == again
    assert len(first["data"]) == 2
