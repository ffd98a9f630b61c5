"""What the online check found, and what to do about it, in plain lines. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.api.client import CredentialName, Reason, Source
    from exporter.environments.snapshot import Environment
    from exporter.listing.ledger import Listing

Kind = Literal["self-hosted", "cloud", "unknown"]

WORDS: Final[Mapping[CredentialName, str]] = {"api_key": "API key", "environment_key": "environment key"}
CLOCK_TOLERANCE_S: Final = 2.0
REMEDY_BY_REASON: Final[Mapping[Reason, str]] = {
    "timeout": "no answer in time: look for a firewall that drops packets between here and api.base_url, or raise api.timeout",
    "connect": "nothing answers there: check the host and port of api.base_url, its name in DNS, firewalls, and api.proxy_url",
    "tls": "the connection is not trusted: give a private gateway's authority as api.ca_file, and check the name in its certificate",
    "rate_limited": "the organisation's limit is spent: wait a minute; if it happens again, lower api.requests_per_minute",
    "server": "the API itself fails: try again later",
    "bad_request": "the API refuses the form of the request: check api.version, api.beta and api.query",
    "not_found": "no such environment for these credentials: check its id, api.workspace_id, which organisation the key is of,"
    " and the path of api.base_url, which ends in /v1 at the vendor",
    "bad_payload": "what answers there is not the Work API: check the path of api.base_url, which ends in /v1 at the vendor",
    "protocol": "what answers there is not the Work API: check api.base_url, and that no proxy redirects or compresses",
    "too_large": "the answer is too large even in small pages: raise api.max_response_bytes",
}
RENEW: Final[Mapping[CredentialName, str]] = {
    "api_key": "the API key is refused: check what api.api_key_file or api_key_env holds, api.workspace_id, and api.auth_style"
    " (x-api-key or bearer)",
    "environment_key": "the environment key is refused: issue a new one for this very environment in the vendor's console and"
    " put it where environment_key_file or environment_key_env says",
}
NO_LIST: Final = (
    "no credential may list the work: give the environment's own key as environment_key_file or environment_key_env, or set"
    " listing.enabled: false"
)
NO_STATS: Final = (
    "no credential may read the queue: give api.api_key_file, or the environment's own as environment_key_file"
)
CLOUD: Final = "take it out of environments: a cloud environment has neither a queue of its own nor workers to watch"
UNFINISHED: Final = "the budget did not suffice for its calls: raise api.requests_per_minute, or try again in a minute"


@dataclass(frozen=True, slots=True)
class Trial:
    """One call with one credential. `reason` is None where it worked; `status` is that of a refusal."""

    source: Source
    credential: CredentialName
    latency_s: float
    reason: Reason | None = None
    status: int | None = None

    def line(self) -> str:
        said = f"{WORDS[self.credential]} "
        if self.reason is None:
            return f"{said}works ({self.latency_s * 1000:.0f} ms)"
        if self.reason == "auth":
            return f"{said}is refused" + (f" ({self.status})" if self.status else "")
        return f"{said}fails: {self.reason}" + (f" ({self.status})" if self.status else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentReport:
    """One environment. `finished` is False where the budget ended it early."""

    environment: Environment
    kind: Kind
    trials: tuple[Trial, ...]
    listing_enabled: bool
    listing: Listing | None = None
    finished: bool = True

    def remedies(self) -> tuple[str, ...]:
        """Return what to do so that it can be exported in full; nothing where it can."""
        return tuple(dict.fromkeys(self._remedies()))

    def lines(self) -> Iterator[str]:
        remedies = self.remedies()
        name, environment_id = self.environment.name, self.environment.id
        shown = environment_id if name == environment_id else f"{name} ({environment_id})"
        yield f"{'FAILED' if remedies else 'ok'}: {shown}"
        yield f"  type: {self.kind}"
        for source in ("stats", "list"):
            tried = [trial.line() for trial in self.trials if trial.source == source]
            if tried:
                yield f"  {source}: {', '.join(tried)}"
        if self.listing is not None:
            yield f"  {_listing_line(self.listing)}"
        yield from (f"  remedy: {remedy}" for remedy in remedies)

    def _remedies(self) -> Iterator[str]:
        if not self.finished:
            yield UNFINISHED
        if self.kind == "cloud":
            yield CLOUD
            return
        refused = [name for name in WORDS if self._is_refused(name)]
        yield from (RENEW[name] for name in refused)
        explained = "environment_key" in refused
        yield from self._remedies_of("stats", NO_STATS, explained=explained)
        yield from self._remedies_of("list", NO_LIST, explained=explained)

    def _is_refused(self, name: CredentialName) -> bool:
        """Tell whether a credential that is configured serves for nothing."""
        reasons = {trial.reason for trial in self.trials if trial.credential == name}
        return reasons == {"auth"}

    def _remedies_of(self, source: Source, advice: str, *, explained: bool) -> Iterator[str]:
        reasons = [trial.reason for trial in self.trials if trial.source == source]
        if not reasons or None in reasons:
            return
        others = [REMEDY_BY_REASON[reason] for reason in reasons if reason is not None and reason != "auth"]
        yield from others
        if not others and not explained:
            yield advice


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentList:
    """The list of environments. `trial` is None where there is no API key to ask with."""

    trial: Trial | None
    needed: bool
    self_hosted: int = 0
    others: int = 0

    def remedies(self) -> tuple[str, ...]:
        if not self.needed or self.trial is None or self.trial.reason is None:
            return ()
        reason = self.trial.reason
        return (RENEW["api_key"] if reason == "auth" else REMEDY_BY_REASON[reason],)

    def lines(self) -> Iterator[str]:
        if self.trial is None:
            return
        found = f": {self.self_hosted} self-hosted, {self.others} other" if self.trial.reason is None else ""
        spare = "" if self.needed or not self.trial.reason else "; only discovery needs it, and it is off"
        yield f"{'FAILED: ' if self.remedies() else ''}environments: {self.trial.line()}{found}{spare}"
        yield from (f"  remedy: {remedy}" for remedy in self.remedies())


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`server_ahead_s`: how far the API's clock is ahead of this machine's, None where no answer told."""

    environment_list: EnvironmentList
    environments: Sequence[EnvironmentReport]
    server_ahead_s: float | None

    @property
    def fine(self) -> bool:
        failed = any(environment.remedies() for environment in self.environments)
        return bool(self.environments) and not failed and not self.environment_list.remedies()

    def lines(self) -> Iterator[str]:
        yield from self.environment_list.lines()
        for environment in self.environments:
            yield from environment.lines()
        if self.server_ahead_s is not None:
            yield _clock_line(self.server_ahead_s)
        fine = sum(not environment.remedies() for environment in self.environments)
        yield f"{fine} of {len(self.environments)} environments can be exported in full"


def _listing_line(listing: Listing) -> str:
    order = {
        "unknown": "not learnt yet, for want of items",
        "neither": "none, so it is walked as a whole each time",
    }.get(listing.order.value, listing.order.value.replace("_", " "))
    cursors = {
        "key": "stay with their item",
        "position": "count from the start",
        "unknown": "not learnt yet, for nothing moved",
    }[listing.cursor_kind.value]
    count = sum(listing.count_by_state.values())
    items = f"{count} items" if listing.complete else "more items than this check walks along"
    return f"listing: {items}; order: {order}; cursors: {cursors}"


def _clock_line(server_ahead_s: float) -> str:
    if abs(server_ahead_s) <= CLOCK_TOLERANCE_S:
        return "clock: in step with the API's"
    where = "ahead of" if server_ahead_s > 0 else "behind"
    return (
        f"warning: clock: the API's is {abs(server_ahead_s):.0f} s {where} this machine's; ages stay right, for they are measured"
        " on the API's, but managed_agents_data_timestamp_seconds is on this one: set it, with NTP for instance"
    )
