"""The exporter one would write in an afternoon, for comparison: correct, and it reads everything again at every scrape.

One environment after the other, one call after the other, the whole list in the largest pages there are.
"""

from __future__ import annotations

import argparse
import json
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterable

PAGE_SIZE = 1000
STATES = ("queued", "starting", "active", "stopping", "stopped")
HEADERS = {"anthropic-version": "2023-06-01", "anthropic-beta": "managed-agents-2026-04-01"}


class NaiveCollector:
    def __init__(self, base_url: str, key_by_environment: dict[str, str]) -> None:
        self._base_url = base_url
        self._key_by_environment = key_by_environment
        self._client = httpx.Client(headers=HEADERS, timeout=30)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        depth = GaugeMetricFamily("naive_queue_depth", "Items waiting.", labels=["environment_id"])
        pending = GaugeMetricFamily("naive_queue_pending", "Items claimed.", labels=["environment_id"])
        items = GaugeMetricFamily("naive_work_items", "Items by state.", labels=["environment_id", "state"])
        for environment_id in self._key_by_environment:
            stats = self._get(environment_id, "work/stats")
            depth.add_metric([environment_id], stats["depth"])
            pending.add_metric([environment_id], stats["pending"])
            counts = self._count(environment_id)
            for state in STATES:
                items.add_metric([environment_id, state], counts[state])
        return [depth, pending, items]

    def _count(self, environment_id: str) -> Counter[str]:
        counts: Counter[str] = Counter()
        cursor: str | None = None
        while True:
            page = self._get(environment_id, "work", limit=PAGE_SIZE, page=cursor)
            counts.update(item["state"] for item in page["data"])
            cursor = page["next_page"]
            if cursor is None:
                return counts

    def _get(self, environment_id: str, path: str, **query: str | int | None) -> dict[str, Any]:
        response = self._client.get(
            f"{self._base_url}/environments/{environment_id}/{path}",
            params={name: value for name, value in query.items() if value is not None},
            headers={"authorization": f"Bearer {self._key_by_environment[environment_id]}"},
        )
        response.raise_for_status()
        body: dict[str, Any] = response.json()
        return body


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--keys", type=Path, required=True, help="JSON file: environment id to key")
    arguments = parser.parse_args()
    registry = CollectorRegistry()
    registry.register(NaiveCollector(arguments.base_url, json.loads(arguments.keys.read_text())))
    start_http_server(arguments.port, addr="127.0.0.1", registry=registry)
    threading.Event().wait()


if __name__ == "__main__":
    main()
