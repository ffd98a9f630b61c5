"""Which environments are exported right now, each with the reader that remembers it.

A reader lives as long as its environment is exported with the same key: a reload or a new answer of discovery that leaves it
alone leaves its ledger and its counters alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.api.client import WorkApi
from exporter.environments.naming import name_environments
from exporter.environments.reader import EnvironmentReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exporter.api.client import ApiContext
    from exporter.api.transport import Transport
    from exporter.api.wire import RemoteEnvironment
    from exporter.config.model import Config
    from exporter.config.secret import SecretSource
    from exporter.environments.snapshot import Environment


class Roster:
    def __init__(self, context: ApiContext, new_transport: Callable[[], Transport]) -> None:
        self._context = context
        self._new_transport = new_transport
        self._reader_by_id: dict[str, EnvironmentReader] = {}
        self._memorable_by_id: dict[str, object] = {}

    @property
    def readers(self) -> tuple[EnvironmentReader, ...]:
        return tuple(self._reader_by_id.values())

    def find(self, target: str) -> EnvironmentReader | None:
        """Find an exported environment by its id or its name."""
        by_id = self._reader_by_id.get(target)
        return by_id or next((reader for reader in self.readers if reader.environment.name == target), None)

    def apply(self, config: Config, found: Iterable[RemoteEnvironment]) -> list[EnvironmentReader]:
        """Export what the configuration and discovery name now. Return the readers that are no longer needed."""
        environments = name_environments(config, found)
        before = self._reader_by_id
        readers: dict[str, EnvironmentReader] = {}
        memorables: dict[str, object] = {}
        key_by_id = {each.id: each.environment_key for each in config.environments}
        for environment in environments:
            key = key_by_id.get(environment.id)
            memorable = _memorable(config, key, environment.workspace_id)
            reader = before.get(environment.id)
            if reader is None or memorable != self._memorable_by_id[environment.id]:
                reader = self._new_reader(environment, key)
            else:
                reader.environment = environment
            readers[environment.id], memorables[environment.id] = reader, memorable
        self._reader_by_id, self._memorable_by_id = readers, memorables
        kept = {id(reader) for reader in self.readers}
        return [reader for reader in before.values() if id(reader) not in kept]

    def _new_reader(self, environment: Environment, key: SecretSource | None) -> EnvironmentReader:
        api = WorkApi(
            environment.id,
            self._context,
            self._new_transport(),
            environment_key=key,
            workspace_id=environment.workspace_id,
        )
        return EnvironmentReader(environment, api, self._context)


def _memorable(config: Config, key: SecretSource | None, workspace_id: str) -> object:
    """Return what a reader's memory rests on: where it changes, what is remembered may be of something else."""
    api = config.api
    credentials = (repr(api.api_key), repr(key))
    return (api.base_url, workspace_id, api.query, credentials, config.listing, config.work.duration_buckets)
