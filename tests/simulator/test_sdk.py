"""The proof: the vendor's own SDK takes the simulated API for the real one."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import TYPE_CHECKING

import anthropic
import httpx2
import pytest

from exporter.simulator import Call, Credential, Rules, World
from tests.simulated import Running, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anthropic import Anthropic, AsyncAnthropic

    from exporter.simulator import Environment
    from exporter.simulator.item import Item

KEY = "key-a"


@pytest.fixture
def sim(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ANTHROPIC_CUSTOM_HEADERS"):
        monkeypatch.delenv(name, raising=False)
    world = World(time.time)
    world.add_environment("env_a", name="alpha", key=KEY)
    world.add_environment("env_cloud", name="cloud", kind="cloud")
    with running(world) as sim:
        yield sim


@pytest.fixture
def queue(sim: Running) -> Environment:
    return sim.world.environment("env_a")


@pytest.fixture
def organisation(sim: Running) -> Iterator[Anthropic]:
    with anthropic.Anthropic(api_key=sim.options.api_key, base_url=root(sim), max_retries=0) as client:
        yield client


@pytest.fixture
def worker(sim: Running) -> Iterator[Anthropic]:
    with anthropic.Anthropic(auth_token=KEY, base_url=root(sim), max_retries=0) as client:
        yield client


def root(sim: Running) -> str:
    return sim.base_url.removesuffix("/v1")


def test_environments_are_listed_and_retrieved(organisation: Anthropic) -> None:
    listed = list(organisation.beta.environments.list(limit=1))
    assert [(environment.id, environment.config.type) for environment in listed] == [
        ("env_cloud", "cloud"),
        ("env_a", "self_hosted"),
    ]
    environment = organisation.beta.environments.retrieve("env_a")
    assert (environment.name, environment.archived_at, environment.type) == ("alpha", None, "environment")


def test_an_organisations_key_names_a_workspace_and_a_workspaces_key_need_not(
    sim: Running, organisation: Anthropic, worker: Anthropic
) -> None:
    sim.call(sim.world.place, "wrkspc_1", "env_a")
    sim.call(sim.world.place, "wrkspc_2", "env_cloud")
    sim.options.workspace_by_api_key = {"key-of-2": "wrkspc_2"}
    environments = organisation.beta.environments
    for workspace_id, seen in (("wrkspc_1", ["env_a"]), ("wrkspc_2", ["env_cloud"])):
        assert [each.id for each in environments.list(workspace_id=workspace_id)] == seen
    of_workspace = organisation.copy(api_key="key-of-2").beta.environments
    assert [each.id for each in of_workspace.list()] == ["env_cloud"]
    with pytest.raises(anthropic.BadRequestError, match="anthropic-workspace-id"):
        list(environments.list())
    with pytest.raises(anthropic.PermissionDeniedError):
        list(environments.list(workspace_id="wrkspc_3"))
    with pytest.raises(anthropic.PermissionDeniedError):
        list(of_workspace.list(workspace_id="wrkspc_1"))
    with pytest.raises(anthropic.NotFoundError):
        environments.retrieve("env_a", workspace_id="wrkspc_2")
    named = {"anthropic-workspace-id": "wrkspc_1"}
    for client in (organisation, worker):
        assert client.beta.environments.work.stats("env_a", extra_headers=named).depth == 0
    assert worker.beta.environments.work.stats("env_a").depth == 0
    sim.options.unnamed_workspace_status = 403
    with pytest.raises(anthropic.PermissionDeniedError, match="anthropic-workspace-id"):
        organisation.beta.environments.work.stats("env_a")


def test_stats_are_read_with_either_credential(
    sim: Running, queue: Environment, organisation: Anthropic, worker: Anthropic
) -> None:
    sim.call(queue.create)
    for client in (organisation, worker):
        stats = client.beta.environments.work.stats("env_a")
        assert (stats.type, stats.depth, stats.pending, stats.workers_polling) == ("work_queue_stats", 1, 0, None)
        assert stats.oldest_queued_at is not None


def test_the_list_is_walked_to_its_end(sim: Running, queue: Environment, worker: Anthropic) -> None:
    sim.call(queue.add_finished, 55)
    sim.call(queue.create)
    states = Counter(item.state for item in worker.beta.environments.work.list("env_a", limit=10))
    assert states == {"queued": 1, "stopped": 55}
    assert sim.calls.count("list") == 6


def test_an_item_is_retrieved_and_its_metadata_merged(
    sim: Running, queue: Environment, organisation: Anthropic
) -> None:
    item = sim.call(queue.create, metadata={"a": "1", "b": "2"})
    work = organisation.beta.environments.work
    assert work.retrieve(item.id, environment_id="env_a").metadata == {"a": "1", "b": "2"}
    updated = work.update(item.id, environment_id="env_a", metadata={"a": None, "c": "3"})
    assert updated.metadata == {"b": "2", "c": "3"}


def test_every_step_of_a_life_is_taken_by_hand(sim: Running, queue: Environment, worker: Anthropic) -> None:
    created = sim.call(queue.create)
    work = worker.beta.environments.work
    claimed = work.poll("env_a", block_ms=100, anthropic_worker_id="w1")
    assert claimed is not None
    assert (claimed.id, claimed.state, claimed.data.type) == (created.id, "queued", "session")
    assert work.ack(claimed.id, environment_id="env_a").state == "starting"
    first = work.heartbeat(claimed.id, environment_id="env_a", expected_last_heartbeat="NO_HEARTBEAT")
    assert (first.state, first.lease_extended, first.ttl_seconds) == ("active", True, 300)
    second = work.heartbeat(
        claimed.id, environment_id="env_a", expected_last_heartbeat=first.last_heartbeat, desired_ttl_seconds=60
    )
    assert second.ttl_seconds == 60
    assert work.stop(claimed.id, environment_id="env_a").state == "stopping"
    assert work.stop(claimed.id, environment_id="env_a", force=True).state == "stopped"
    assert work.poll("env_a") is None
    assert work.stats("env_a").workers_polling == 1
    assert sim.call(queue.truth).finished() == {"ran": 1, "never_started": 0, "never_acknowledged": 0}


def test_a_stolen_lease_is_the_sdks_own_error(sim: Running, queue: Environment, worker: Anthropic) -> None:
    sim.call(queue.create)
    work = worker.beta.environments.work
    claimed = work.poll("env_a")
    assert claimed is not None
    work.ack(claimed.id, environment_id="env_a")
    work.heartbeat(claimed.id, environment_id="env_a", expected_last_heartbeat="NO_HEARTBEAT")
    with pytest.raises(anthropic.PreconditionFailedError) as caught:
        work.heartbeat(claimed.id, environment_id="env_a", expected_last_heartbeat="NO_HEARTBEAT")
    assert caught.value.error_code == "heartbeat_precondition_failed"


def test_refusals_are_the_sdks_own_errors(sim: Running, organisation: Anthropic, worker: Anthropic) -> None:
    with pytest.raises(anthropic.PermissionDeniedError):
        list(organisation.beta.environments.work.list("env_a"))
    with pytest.raises(anthropic.NotFoundError):
        organisation.beta.environments.work.stats("env_nowhere")
    with pytest.raises(anthropic.BadRequestError):
        worker.beta.environments.work.poll("env_a", block_ms=0)
    with pytest.raises(anthropic.AuthenticationError):
        worker.copy(auth_token="wrong").beta.environments.work.stats("env_a")
    sim.options.requests_per_minute = 0
    with pytest.raises(anthropic.RateLimitError) as caught:
        worker.beta.environments.work.stats("env_a")
    assert caught.value.response.headers["retry-after"] == "60"
    assert caught.value.request_id == caught.value.response.headers["request-id"]


@pytest.mark.anyio
async def test_the_sdks_poller_takes_items_until_the_queue_is_empty(sim: Running, queue: Environment) -> None:
    created = [sim.call(queue.create).id for _ in range(3)]
    async with anthropic.AsyncAnthropic(api_key=sim.options.api_key, base_url=root(sim), max_retries=0) as client:
        poller = client.beta.environments.work.poller(
            environment_id="env_a", environment_key=KEY, block_ms=None, drain=True
        )
        seen = [(item.id, sim.call(queue.item, item.id).state) async for item in poller]
    assert seen == [(work_id, "starting") for work_id in created]
    truth = sim.call(queue.truth)
    assert truth.listed == {"queued": 0, "starting": 0, "active": 0, "stopping": 3, "stopped": 0}
    assert truth.stats.workers_polling == 1
    assert {record.credentials for record in sim.calls.records} == {(Credential.ENVIRONMENT_KEY,)}


class Sessions(httpx2.AsyncBaseTransport):
    """The sessions that a worker serves, which are not part of the Work API: each ends once its item is active."""

    def __init__(self, sim: Running) -> None:
        self.sim = sim
        self.network = httpx2.AsyncHTTPTransport()
        self.queue = sim.world.environment("env_a")
        self.authorizations: set[str] = set()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if not request.url.path.startswith("/v1/sessions/"):
            return await self.network.handle_async_request(request)
        self.authorizations.add(request.headers["authorization"])
        if request.url.path.endswith("/events"):
            return httpx2.Response(200, json={"data": [], "next_page": None})
        if not request.url.path.endswith("/events/stream"):
            return httpx2.Response(200, json=self.session(request.url.path.rsplit("/", 1)[1]))
        await self.until_active()
        event = {"type": "session.status_terminated", "id": "evt_1", "processed_at": "2026-07-01T08:15:01Z"}
        content = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, text=content)

    async def until_active(self) -> None:
        def active() -> int:
            return self.queue.truth().existing["active"]

        while not self.sim.call(active):  # noqa: ASYNC110 - the simulator lives in another thread
            await asyncio.sleep(0.005)

    def session(self, session_id: str) -> dict[str, object]:
        agent = {"type": "agent", "id": "agent_1", "version": 1, "name": "agent", "skills": [], "tools": []}
        return {"type": "session", "id": session_id, "status": "running", "agent": agent, "resources": []}

    async def aclose(self) -> None:
        await self.network.aclose()


async def work_off(client: AsyncAnthropic, sim: Running, items: list[Item], workdir: Path) -> None:
    """Let the SDK's worker run until every item has stopped."""
    worker = client.beta.environments.work.worker(
        environment_id="env_a",
        environment_key=KEY,
        workdir=workdir,
        tools=[],
        max_idle=1.0,
        memory_sync_interval=None,
        worker_id="w1",
    )
    running_worker = asyncio.create_task(worker.run())
    while sim.call(lambda: any(item.state != "stopped" for item in items)):
        await asyncio.sleep(0.01)
        assert not running_worker.done()
    running_worker.cancel()
    await asyncio.wait([running_worker])


@pytest.mark.anyio
@pytest.mark.parametrize("secrets", [False, True])
async def test_the_sdks_worker_serves_sessions_from_queue_to_end(
    sim: Running,
    queue: Environment,
    tmp_path: Path,
    secrets: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    queue.rules = Rules(secrets=secrets)
    items = [sim.call(queue.create), sim.call(queue.create, kind="healthcheck"), sim.call(queue.create)]
    sessions = Sessions(sim)
    http_client = httpx2.AsyncClient(transport=sessions)
    async with anthropic.AsyncAnthropic(
        api_key=sim.options.api_key, base_url=root(sim), http_client=http_client, max_retries=0
    ) as client:
        await work_off(client, sim, items, tmp_path)

    truth = sim.call(queue.truth)
    assert truth.listed == {"queued": 0, "starting": 0, "active": 0, "stopping": 0, "stopped": 3}
    assert truth.finished() == {"ran": 2, "never_started": 1, "never_acknowledged": 0}
    assert [len(truth.durations(kind)) for kind in ("wait", "startup", "run")] == [3, 2, 2]
    beats = [record for record in sim.calls.records if record.call == Call.HEARTBEAT]
    assert [record.query["expected_last_heartbeat"] for record in beats] == ["NO_HEARTBEAT", "NO_HEARTBEAT"]
    expected = Credential.WORK_SECRET if secrets else Credential.ENVIRONMENT_KEY
    assert {record.credentials for record in beats} == {(expected,)}
    assert sessions.authorizations.isdisjoint({f"Bearer {sim.options.api_key}"})
