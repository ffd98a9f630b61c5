"""Two real Prometheus servers share the environments between them, with the configurations that are shipped for it."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from exporter.metrics import catalogue
from exporter.simulator import Options, World
from exporter.simulator.options import ORGANISATION, Call
from tests.exported import exporter_process, write_config
from tests.prometheus_server import Prometheus, prometheus_server
from tests.simulated import Running, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config/prometheus/prometheus-sharded.yml"
SERVERS = 2
INTERVAL_S = 2.0
WEBHOOK_INTERVAL_S = 4.0
WATCHED_S = 8.0
# Prometheus is punctual, but the machine that runs the tests may be busy.
EARLY_S = 1.2


def shipped(target: str, *, shard: int) -> dict[str, Any]:
    """Load the shipped file as one of the servers would have it, with addresses and times of the test."""
    text = CONFIG.read_text().replace("exporter:9831", target)
    text = re.sub(r'(shard: |regex: )"0"', rf'\g<1>"{shard}"', text)
    for shipped_time, test_time in (("interval: 15s", "2s"), ("timeout: 10s", "2s"), ("interval: 1m", "1s")):
        text = text.replace(shipped_time, f"{shipped_time.partition(':')[0]}: {test_time}")
    text = text.replace("replacement: 60s", "replacement: 4s").replace("rules/*.yml", f"{CONFIG.parent}/rules/*.yml")
    document: dict[str, Any] = yaml.safe_load(text)
    del document["alerting"]
    return document


@contextmanager
def shards(target: str, directory: Path) -> Iterator[list[Prometheus]]:
    with (
        prometheus_server(shipped(target, shard=0), directory) as first,
        prometheus_server(shipped(target, shard=1), directory) as second,
    ):
        yield [first, second]


def resource(name: str, target: str) -> dict[str, Any]:
    """Load the spec of a shipped custom resource, with the test's address and times."""
    text = (ROOT / f"config/kubernetes/{name}.yaml").read_text().replace("managed-agents-exporter:9831", target)
    text = re.sub(r"(?i)(interval|timeout): \w+$", r"\1: 1s", text, flags=re.MULTILINE)
    spec: dict[str, Any] = yaml.safe_load(text)["spec"]
    return spec


def relabelled(spec: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rules of a custom resource as Prometheus' file has them."""
    names = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
    return [{names.get(key, key): value for key, value in rule.items()} for rule in spec]


def of_the_shard(label: str, shard: int) -> list[dict[str, Any]]:
    """Return what the Prometheus operator (0.79 and later) appends to the rules of each job when it has shards."""
    hashed = "__tmp_hash"
    return [
        {"source_labels": [label, hashed], "regex": "(.+);", "replacement": "$1", "target_label": hashed},
        {"source_labels": [hashed], "modulus": SERVERS, "action": "hashmod", "target_label": hashed},
        {"source_labels": [hashed, "__tmp_disable_sharding"], "regex": f"{shard};|.+;.+", "action": "keep"},
    ]


def operators_scrape_config(target: str, shard: int, _: set[str]) -> dict[str, Any]:
    spec = resource("scrapeconfig", target)
    (discovery,) = spec["httpSDConfigs"]
    rules = [
        {"source_labels": ["job"], "target_label": "__tmp_prometheus_job_name"},
        {"target_label": "job", "replacement": spec["jobName"]},
        *relabelled(spec["relabelings"]),
        *of_the_shard("__address__", shard),
    ]
    found = {"http_sd_configs": [{"url": discovery["url"], "refresh_interval": discovery["refreshInterval"]}]}
    return {"metrics_path": spec["metricsPath"], "scheme": spec["scheme"].lower(), **found, "relabel_configs": rules}


def operators_probe(target: str, shard: int, ids: set[str]) -> dict[str, Any]:
    prober = resource("probe", target)["prober"]
    rules = [
        {"source_labels": ["__address__"], "target_label": "__param_target"},
        {"source_labels": ["__param_target"], "target_label": "instance"},
        {"target_label": "__address__", "replacement": prober["url"]},
        {"target_label": "job", "replacement": resource("probe", target)["jobName"]},
        *of_the_shard("__param_target", shard),
    ]
    found = {"static_configs": [{"targets": sorted(ids)}]}
    return {"metrics_path": prober["path"], "scheme": prober["scheme"], **found, "relabel_configs": rules}


def operators_job(job: dict[str, Any]) -> dict[str, Any]:
    times = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    return {"global": times, "scrape_configs": [{"job_name": "operator/job", **job}]}


def world_of(count: int) -> World:
    """Make environments `env_0` to `env_<count-1>` that differ in what waits and what is claimed."""
    world = World(time.time)
    for number in range(count):
        environment = world.add_environment(f"env_{number}", name=f"name-{number}", key=f"key-{number}")
        for _ in range(number + 2):
            environment.create()
        for _ in range(number % 3):
            environment.poll(worker_id=f"worker-{number}")
    return world


def organisation_lists() -> Options:
    """Let the API key list too: discovered environments have no key of their own."""
    options = Options()
    options.accepted[Call.LIST] = ORGANISATION
    return options


def scraped_ids(prometheus: Prometheus) -> set[str]:
    return set(prometheus.by("managed_agents_up == 1", "environment_id"))


def together(servers: list[Prometheus], expected: set[str]) -> bool:
    """Tell whether every environment is scraped, each by exactly one server."""
    shares = [scraped_ids(server) for server in servers]
    return set().union(*shares) == expected and sum(map(len, shares)) == len(expected)


def assert_true_numbers(prometheus: Prometheus, simulator: Running) -> None:
    ids = scraped_ids(prometheus)
    truths = {each: simulator.call(simulator.world.truth, each) for each in ids}
    numbers: dict[str, Callable[[str], float]] = {
        "managed_agents_queue_depth": lambda each: truths[each].stats.depth,
        "managed_agents_queue_pending": lambda each: truths[each].stats.pending,
        'managed_agents_work_items{state="queued"}': lambda each: truths[each].listed["queued"],
        "managed_agents_list_up": lambda _: 1,
    }
    for expression, truth in numbers.items():
        assert prometheus.by(expression, "environment_id") == {each: truth(each) for each in ids}, expression
        assert prometheus.by(expression, "instance") == {each: truth(each) for each in ids}, expression


def assert_one_read_per_interval(simulator: Running, environment_id: str, interval_s: float, since: float) -> None:
    records = simulator.call(simulator.calls.between, since, since + WATCHED_S, environment_id=environment_id)
    for call in (Call.STATS, Call.LIST):
        times = [record.at for record in records if record.call == call]
        assert abs(len(times) - WATCHED_S / interval_s) <= 1, (environment_id, call, times)
        assert all(later - earlier > interval_s - EARLY_S for earlier, later in pairwise(times)), times


def assert_exporter_is_watched_too(prometheus: Prometheus, target: str) -> None:
    own = f'{{job="managed-agents",instance="{target}"}}'
    assert prometheus.query(f"up{own} == 1")
    assert prometheus.query(f"managed_agents_exporter_build_info{own}")
    assert prometheus.query(f"process_resident_memory_bytes{own}")
    assert not prometheus.query(f"managed_agents_up{own}")


def test_every_metric_of_the_exporter_itself_is_asked_for() -> None:
    (own,) = (job for job in shipped("exporter:9831", shard=0)["scrape_configs"] if "params" in job)
    asked = {re.sub(r"_(bucket|count|sum)$", "", name) for name in own["params"]["name[]"]}
    assert {name for name in asked if not name.startswith("process_")} == {metric.name for metric in catalogue.EXPORTER}


def test_two_servers_share_forty_environments(tmp_path: Path) -> None:
    with running(world_of(40)) as simulator:
        config = write_config(tmp_path, simulator)
        webhook = {"env_7", "env_21"}
        document = yaml.safe_load(config.read_text())
        for environment in document["environments"]:
            environment["worker_mode"] = "webhook" if environment["id"] in webhook else "always_on"
        config.write_text(yaml.safe_dump(document))
        expected = {environment.id for environment in simulator.world.environments()}
        with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter:
            target = exporter.base_url.removeprefix("http://")
            with shards(target, tmp_path) as servers:
                servers[0].wait_for(lambda: together(servers, expected))
                since = time.time()
                time.sleep(WATCHED_S)
                for environment_id in expected:
                    interval_s = WEBHOOK_INTERVAL_S if environment_id in webhook else INTERVAL_S
                    assert_one_read_per_interval(simulator, environment_id, interval_s, since)
                assert together(servers, expected)
                for server in servers:
                    assert len(scraped_ids(server)) >= len(expected) / 4, "a hash that splits as badly as that is wrong"
                    assert_true_numbers(server, simulator)
                    assert_exporter_is_watched_too(server, target)
                    assert not server.complaints()


def test_servers_follow_environments_that_appear_and_disappear(tmp_path: Path) -> None:
    with running(world_of(6), organisation_lists()) as simulator:
        config = write_config(tmp_path, simulator, discovery={"enabled": True, "interval": "1s"})
        document = yaml.safe_load(config.read_text())
        del document["environments"]
        config.write_text(yaml.safe_dump(document))
        before = {environment.id for environment in simulator.world.environments()}
        with (
            exporter_process(f"--config.file={config}", directory=tmp_path) as exporter,
            shards(exporter.base_url.removeprefix("http://"), tmp_path) as servers,
        ):
            servers[0].wait_for(lambda: together(servers, before))
            for number in range(90, 94):
                simulator.call(simulator.world.add_environment, f"env_{number}", key=f"key-{number}")
            simulator.call(simulator.world.archive, "env_0")
            simulator.call(simulator.world.delete_environment, "env_1")
            after = before - {"env_0", "env_1"} | {f"env_{number}" for number in range(90, 94)}
            servers[0].wait_for(lambda: together(servers, after))
            for server in servers:
                assert_true_numbers(server, simulator)
                assert not server.query('managed_agents_up{environment_id=~"env_[01]"}')


@pytest.mark.parametrize("operators", [operators_scrape_config, operators_probe])
def test_an_operators_shards_share_the_environments(
    operators: Callable[[str, int, set[str]], dict[str, Any]], tmp_path: Path
) -> None:
    with running(world_of(12)) as simulator:
        config = write_config(tmp_path, simulator)
        ids = {environment.id for environment in simulator.world.environments()}
        with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter:
            target = exporter.base_url.removeprefix("http://")
            with (
                prometheus_server(operators_job(operators(target, 0, ids)), tmp_path) as first,
                prometheus_server(operators_job(operators(target, 1, ids)), tmp_path) as second,
            ):
                first.wait_for(lambda: together([first, second], ids))
                for server in (first, second):
                    assert len(scraped_ids(server)) >= len(ids) / 4, "a hash that splits as badly as that is wrong"
                    assert set(server.by("managed_agents_up", "job")) == {"managed-agents"}
                    assert_true_numbers(server, simulator)
