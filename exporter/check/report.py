"""What the online check found, and what to do about it, in plain lines. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from exporter.check.remedies import (
    CLOUD,
    NO_LIST,
    NO_STATS,
    NO_WORKSPACE,
    REMEDY_BY_REASON,
    RENEW_BY_CREDENTIAL,
    UNFINISHED,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.api.client import CredentialName, Reason, Source
    from exporter.environments.snapshot import Environment

Kind = Literal["self-hosted", "cloud", "unknown"]

WORDS: Final[Mapping[CredentialName, str]] = {"api_key": "API key", "environment_key": "environment key"}
CLOCK_TOLERANCE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One call with one credential. `reason` is None where it worked; `status` is that of a refusal.

    `lacks_workspace`: it was refused because it named no workspace.
    """

    source: Source
    credential: CredentialName
    latency_s: float
    reason: Reason | None = None
    status: int | None = None
    lacks_workspace: bool = False

    def line(self) -> str:
        subject = WORDS[self.credential]
        if self.reason is None:
            return f"{subject} works ({self.latency_s * 1000:.0f} ms)"
        if self.reason == "auth":
            return f"{subject} is refused" + (f" ({self.status})" if self.status else "")
        return f"{subject} fails: {self.reason}" + (f" ({self.status})" if self.status else "")


@dataclass(frozen=True, slots=True)
class ItemCount:
    """How many items the first pages of a list hold; `complete`: they are all pages there are."""

    count: int
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentReport:
    """One environment. `items` is None where no list could be read; `finished` is False where the budget ended the check early.

    `api_key_serves`: the API key is taken for some call, of discovery or of another environment.
    """

    environment: Environment
    kind: Kind
    trials: tuple[Trial, ...]
    listing_enabled: bool
    items: ItemCount | None = None
    finished: bool = True
    api_key_serves: bool = False

    def remedies(self) -> tuple[str, ...]:
        """Return what to do so that it can be exported in full; nothing where it can."""
        return tuple(dict.fromkeys(self._remedies()))

    def lines(self) -> Iterator[str]:
        remedies = self.remedies()
        name, environment_id = self.environment.name, self.environment.id
        title = environment_id if name == environment_id else f"{name} ({environment_id})"
        yield f"{'FAILED' if remedies else 'ok'}: {title}"
        yield f"  type: {self.kind}"
        for source in ("stats", "list"):
            tried = [trial.line() for trial in self.trials if trial.source == source]
            if tried:
                yield f"  {source}: {', '.join(tried)}"
        if self.items is not None:
            yield f"  listing: {'' if self.items.complete else 'more than '}{self.items.count} items"
        yield from (f"  remedy: {remedy}" for remedy in remedies)

    def _remedies(self) -> Iterator[str]:
        if not self.finished:
            yield UNFINISHED
        if self.kind == "cloud":
            yield CLOUD
            return
        if any(trial.lacks_workspace for trial in self.trials):
            yield NO_WORKSPACE
        refused = [name for name in WORDS if self._is_refused(name)]
        yield from (RENEW_BY_CREDENTIAL[name] for name in refused)
        explained = "environment_key" in refused
        yield from self._remedies_of("stats", NO_STATS, explained=explained)
        yield from self._remedies_of("list", NO_LIST, explained=explained)

    def _is_refused(self, name: CredentialName) -> bool:
        """Return whether the credential was tried, and refused for everything."""
        if name == "api_key" and self.api_key_serves:
            return False
        trials = [trial for trial in self.trials if trial.credential == name]
        return {trial.reason for trial in trials} == {"auth"} and not any(trial.lacks_workspace for trial in trials)

    def _remedies_of(self, source: Source, advice: str, *, explained: bool) -> Iterator[str]:
        trials = [trial for trial in self.trials if trial.source == source and not trial.lacks_workspace]
        # In the exporter's order: a refusal leads it to the next credential, and nothing else does.
        reached = next((trial for trial in trials if trial.reason != "auth"), None)
        if reached is not None and reached.reason is not None:
            yield REMEDY_BY_REASON[reached.reason]
        elif reached is None and trials and not explained:
            yield advice


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentList:
    """One workspace's list of environments; its id is empty where the call names none. `needed`: for discovery."""

    workspace_id: str
    trial: Trial
    needed: bool
    self_hosted: int = 0
    others: int = 0

    def remedies(self) -> tuple[str, ...]:
        if not self.needed or self.trial.reason is None:
            return ()
        if self.trial.lacks_workspace:
            return (NO_WORKSPACE,)
        reason = self.trial.reason
        return (RENEW_BY_CREDENTIAL["api_key"] if reason == "auth" else REMEDY_BY_REASON[reason],)

    def lines(self) -> Iterator[str]:
        found = f": {self.self_hosted} self-hosted, {self.others} other" if self.trial.reason is None else ""
        spare = "" if self.needed or not self.trial.reason else "; discovery does not need it"
        of = f" of {self.workspace_id}" if self.workspace_id else ""
        yield f"{'FAILED: ' if self.remedies() else ''}environments{of}: {self.trial.line()}{found}{spare}"
        yield from (f"  remedy: {remedy}" for remedy in self.remedies())


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`server_ahead_s`: how far the API's clock is ahead of this machine's, None where no answer has shown it."""

    environment_lists: Sequence[EnvironmentList]
    environments: Sequence[EnvironmentReport]
    server_ahead_s: float | None

    @property
    def fine(self) -> bool:
        listed = not any(environment_list.remedies() for environment_list in self.environment_lists)
        exported = not any(environment.remedies() for environment in self.environments)
        return bool(self.environments) and listed and exported

    def lines(self) -> Iterator[str]:
        for environment_list in self.environment_lists:
            yield from environment_list.lines()
        for environment in self.environments:
            yield from environment.lines()
        if self.server_ahead_s is not None:
            yield _clock_line(self.server_ahead_s)
        fine = sum(not environment.remedies() for environment in self.environments)
        yield f"{fine} of {len(self.environments)} environments can be exported in full"


def _clock_line(server_ahead_s: float) -> str:
    if abs(server_ahead_s) <= CLOCK_TOLERANCE_S:
        return "clock: in step with the API's"
    where = "ahead of" if server_ahead_s > 0 else "behind"
    return (
        f"warning: clock: the API's is {abs(server_ahead_s):.0f} s {where} this machine's; ages stay right, for they are measured"
        " on the API's, but managed_agents_data_timestamp_seconds is on this one: set it, with NTP for instance"
    )
