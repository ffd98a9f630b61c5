"""A checked and frozen configuration, and the rules for names and ids that the whole exporter follows."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from exporter.config.secret import SecretSource


ENVIRONMENT_ID = re.compile(r"env_[A-Za-z0-9_]{1,96}")
"""To be matched in full."""
ID_EXPECTED = "env_ and 1 to 96 letters, digits or underscores"
HEADER = re.compile(r"[!-~](?:[ -~]{0,4094}[!-~])?")
"""The value of an HTTP header, to be matched in full."""
HEADER_EXPECTED = "visible ASCII characters, as in a header"
NAME_LENGTH_LIMIT = 128
WORKSPACE_ID = re.compile(r"(?!sk-ant-)[A-Za-z0-9_.:-]{1,128}")
"""To be matched in full. It becomes a label, so what begins as the vendor's keys do is none."""
WORKSPACE_ID_EXPECTED = (
    "a workspace's id of 1 to 128 letters, digits and _ . : -, such as wrkspc_011CZkZaBF1tNoB5wlCeusgy"
)

AuthStyle = Literal["x-api-key", "bearer"]
WorkerMode = Literal["always_on", "webhook", "unknown"]
DISCOVERY_PAGE_SIZE = 100
DISCOVERY_LEAST_INTERVAL_S = 1.0
"""A shorter interval means this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiConfig:
    """`timeout_s` is infinite where there is no limit."""

    base_url: str = "https://api.anthropic.com/v1"
    api_key: SecretSource | None = None
    auth_style: AuthStyle = "x-api-key"
    version: str = "2023-06-01"
    beta: str = "managed-agents-2026-04-01"
    workspace_id: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    proxy_url: str | None = field(default=None, repr=False)  # may carry credentials
    allow_http: bool = False
    timeout_s: float = 5.0
    max_response_bytes: int = 8 * 1024 * 1024
    requests_per_minute: int = 120
    concurrency: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrapeConfig:
    """`timeout_s` is infinite where there is no limit."""

    timeout_s: float = 9.0
    timeout_offset_s: float = 0.5
    min_interval_s: float = 10.0
    max_age_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingConfig:
    enabled: bool = True
    page_size: int = 1000
    resync_interval_s: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkConfig:
    heartbeat_overdue_s: float = 90.0
    duration_buckets: tuple[float, ...] = (
        *(1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 450, 600, 900),
        *(1200, 1800, 2700, 3600, 5400, 7200, 14400),
    )
    wait_objective_s: float = 120.0
    items: bool = True
    exemplars: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryConfig:
    """`workspaces`: those whose environments are listed; none for that of `api`."""

    enabled: bool = False
    interval_s: float = 300.0
    workspaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentConfig:
    """One environment of the file. `id` matches `env_[A-Za-z0-9_]{1,96}`; `name` is unique within a `Config`.

    `workspace_id`: None for that of `api`; `wait_objective_s`: None for that of `work`.
    """

    id: str
    name: str
    environment_key: SecretSource | None = None
    worker_mode: WorkerMode = "unknown"
    workspace_id: str | None = None
    wait_objective_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    api: ApiConfig = field(default_factory=ApiConfig)
    scrape: ScrapeConfig = field(default_factory=ScrapeConfig)
    listing: ListingConfig = field(default_factory=ListingConfig)
    work: WorkConfig = field(default_factory=WorkConfig)
    discovery: DiscoveryConfig = field(default_factory=DiscoveryConfig)
    environments: tuple[EnvironmentConfig, ...] = ()

    @property
    def discovered_workspaces(self) -> tuple[str, ...]:
        """Return the workspaces whose environments are to be found; an empty id stands for calls that name none."""
        if not self.discovery.enabled:
            return ()
        return self.discovery.workspaces or (self.api.workspace_id or "",)

    def workspace_of(self, environment: EnvironmentConfig) -> str:
        """Return the workspace that the file gives an environment of it, empty for none."""
        return environment.workspace_id or self.api.workspace_id or ""


def without_controls(text: str) -> str:
    """Drop what must not reach a label, a log or a page: control, format (bidi), surrogate characters, line separators."""
    if text.isprintable():  # then it has none, which is seen at once
        return text
    return "".join(each for each in text if unicodedata.category(each) not in {"Cc", "Cf", "Cs", "Zl", "Zp"})


class ConfigError(Exception):
    """A configuration that can't be used. `problems`: every one found, each a sentence that starts with its place."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
