"""From a slow wait on a graph to the session: what Prometheus keeps of the exemplars."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from exporter.simulator import World
from tests.exported import exporter_process, write_config
from tests.prometheus_server import prometheus_server, scrape_config
from tests.simulated import running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e


def test_prometheus_names_the_session_of_the_latest_wait_and_of_the_latest_outcome(tmp_path: Path) -> None:
    world = World(time.time)
    queue = world.add_environment("env_1", name="production", key="key-1")
    with running(world) as simulator:
        config = write_config(tmp_path, simulator)
        with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter:
            exporter.scrape()  # the baseline: what happens from now on is counted
            simulator.call(queue.create)
            item = simulator.call(queue.poll)
            assert item is not None
            simulator.call(queue.ack, item.id)
            simulator.call(queue.stop, item.id, force=True)
            target = exporter.base_url.removeprefix("http://")
            with prometheus_server(scrape_config(target), tmp_path, "--enable-feature=exemplar-storage") as prometheus:

                def exemplars(selector: str) -> list[dict[str, Any]]:
                    end = time.time() + 60
                    path = f"query_exemplars?query={selector}&start={end - 3600}&end={end}"
                    return [each for series in prometheus.api(path) for each in series["exemplars"]]

                for selector in (
                    "managed_agents_work_queue_wait_seconds_bucket",
                    "managed_agents_work_finished_total",
                ):
                    prometheus.wait_for(lambda: exemplars(selector))  # noqa: B023 -- called at once
                    (exemplar,) = exemplars(selector)
                    assert exemplar["labels"] == {"work_id": item.id, "session_id": f"session_{item.id[5:]}"}
                assert prometheus.complaints() == []
