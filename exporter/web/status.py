"""What the status page says of the exporter itself, gathered from its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter import __version__
from exporter.web.status_page import BudgetStatus, DiscoveryFailure, DiscoveryStatus, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.api.budget import Budget
    from exporter.api.tls_reload import ConnectOptionsSource
    from exporter.clock import Clock
    from exporter.config.reload import ReloadingConfig
    from exporter.environments.discovery import Discovery
    from exporter.web.web_config_reload import ReloadingWebConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusSource:
    """`started_at` is on the monotonic clock."""

    telemetry_path: str
    started_at: float
    clock: Clock
    config: ReloadingConfig
    budget: Budget
    discovery: Discovery
    connect_options: ConnectOptionsSource
    web_config: ReloadingWebConfig

    def status(self) -> Status:
        now = self.clock.monotonic()
        return Status(
            version=__version__,
            telemetry_path=self.telemetry_path,
            uptime_s=now - self.started_at,
            in_force_s=now - self.config.in_force_at,
            budget=self._budget(now),
            discovery=self._discovery(),
            refused=self.config.problems,
            warnings=tuple(self._stale_files()),
            items_shown=self.config.current.work.items,
            heartbeat_overdue_s=self.config.current.work.heartbeat_overdue_s,
        )

    def _budget(self, now: float) -> BudgetStatus:
        waits_until = self.budget.waits_until(now)
        return BudgetStatus(
            limit_per_minute=self.budget.limit_per_minute(now),
            available=self.budget.available(now),
            waits_s=None if waits_until is None else waits_until - now,
        )

    def _discovery(self) -> DiscoveryStatus | None:
        if not self.config.current.discovery.enabled:
            return None
        listings, now = self.discovery.listings, self.clock.monotonic()
        listed = any(listing.found is not None for listing in listings)
        return DiscoveryStatus(
            found=len(self.discovery.environments) if listed else None,
            due_in_s=self.discovery.due_in_s,
            workspaces=len(listings),
            failures=tuple(
                DiscoveryFailure(
                    workspace_id=listing.workspace_id,
                    problem=listing.problem,
                    kept=None if listing.found is None else len(listing.found),
                    listed_ago_s=now - listing.found_at,
                )
                for listing in listings
                if listing.problem is not None
            ),
        )

    def _stale_files(self) -> Iterator[str]:
        """Yield a sentence for each file that has become unusable, so that what was read before is still in use."""
        config = self.config.current
        keys = [("api", config.api.api_key), *((each.name, each.environment_key) for each in config.environments)]
        for owner, key in keys:
            if key is not None and key.problem is not None:
                yield f"{owner}: {key.problem}; the last good key is used"
        if self.connect_options.problem is not None:
            yield self.connect_options.problem
        yield from self.web_config.problems
