"""The only outbound calls: which credential travels, what an answer means, what is tried again.

Exactly three GET paths exist here. `GET …/work/poll` claims work, so nothing that comes from outside may choose a path: an
environment id is checked against `env_[A-Za-z0-9_]{1,96}` before it enters one, and no worker id is ever sent.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar, get_args
from weakref import WeakKeyDictionary

from exporter.api.admission import Admission, CallRequest, Evicted, Throttled
from exporter.api.drift import DriftMemory
from exporter.api.server_clock import ClockReading, ServerClock, http_date
from exporter.api.transport import HttpResponse, TransportError
from exporter.api.wire import (
    EnvironmentPage,
    WireError,
    WorkPage,
    WorkStats,
    parse_environment_page,
    parse_stats,
    parse_work_page,
    speaks_of_workspaces,
)
from exporter.config.model import ENVIRONMENT_ID
from exporter.config.secret import SecretError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from exporter.api.transport import Body, Transport
    from exporter.clock import Clock
    from exporter.config.model import ApiConfig, Config
    from exporter.config.secret import Secret, SecretSource
    from exporter.log import Log

Source = Literal["stats", "list", "environments"]
Reason = Literal[
    "timeout",
    "connect",
    "tls",
    "auth",
    "not_found",
    "bad_request",
    "rate_limited",
    "server",
    "bad_payload",
    "too_large",
    "protocol",
    "internal",
]
SOURCES: tuple[Source, ...] = get_args(Source)
REASONS: tuple[Reason, ...] = get_args(Reason)
CredentialName = Literal["api_key", "environment_key"]

T = TypeVar("T")
MOST_CALLS_PER_READ = 5
"""Two credentials, each once more where its source has a new one when it was refused; and one of these calls repeated."""
OK = 200
TOO_MANY_REQUESTS, OVERLOADED = 429, 529
SERVER_ERROR = 500
REFUSALS = frozenset({400, 401, 403})
"""With which an API may refuse a key of the organisation that names no workspace."""
REASON_BY_STATUS: Mapping[int, Reason] = {401: "auth", 403: "auth", 404: "not_found", 429: "rate_limited"}
REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
SECONDS = re.compile(r"[0-9]{1,99}(\.[0-9]{1,99})?\Z")
AGE = re.compile(r"[0-9]{1,99}\Z")
AGE_LIMIT_S = 2.0**31
"""What a cache says that cannot count further (RFC 9111, 1.2.2)."""


class ApiError(Exception):
    """A call that failed, for one of a closed set of reasons. The text holds nothing that the server or a user sent.

    `transient`: worth one more try at once. `status`: None when there was no answer.
    """

    def __init__(
        self,
        reason: Reason,
        text: str,
        *,
        status: int | None = None,
        request_id: str | None = None,
        transient: bool = False,
    ) -> None:
        super().__init__(text)
        self.reason: Reason = reason
        self.status = status
        self.request_id = request_id
        self.transient = transient


class WorkspaceMissing(ApiError):  # noqa: N818 -- named after what is wrong
    """A call that was refused because it names no workspace."""

    def __init__(self, reason: Reason, status: int, request_id: str | None) -> None:
        text = f"the API answered {status} because the call names no workspace: set api.workspace_id or discovery.workspaces"
        super().__init__(reason, text, status=status, request_id=request_id)


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """A value read. `received_at`: the exporter's wall clock; `server_ahead_s`: how far the server's clock is ahead of it.

    `age_s`: how long a cache had kept the answer; `received_at` is earlier by that much, as if it had come straight from the server.
    """

    value: T
    received_at: float
    server_ahead_s: float
    age_s: float = 0.0


class Observer(Protocol):
    """Receives every call and every read that failed."""

    def request_sent(self, source: Source, code: str, duration_s: float) -> None: ...
    def request_throttled(self, source: Source) -> None: ...
    def read_failed(self, source: Source, reason: Reason) -> None: ...
    def schema_drifted(self, fields: Sequence[str]) -> None: ...
    def clock_compared(self, offset_s: float) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """What all clients share. `config` is asked for at each call, for a reload may have changed it."""

    config: Callable[[], Config]
    admission: Admission
    observer: Observer
    clock: Clock
    log: Log
    drift: DriftMemory = field(default_factory=DriftMemory, repr=False)
    _problem_by_source: WeakKeyDictionary[SecretSource, str] = field(default_factory=WeakKeyDictionary, repr=False)

    def reveal(self, source: SecretSource) -> Secret:
        """Read the secret as it is now; log when its source goes bad and the last good one is used, and when it recovers."""
        try:
            secret = source.read()
        except SecretError as problem:
            raise ApiError("auth", str(problem)) from None
        problem_before = self._problem_by_source.pop(source, None)
        if source.problem is not None:
            self._problem_by_source[source] = source.problem
        if source.problem != problem_before:
            if source.problem is None:
                self.log.info("secret_recovered", was=problem_before)
            else:
                self.log.warning("secret_refused", detail=f"{source.problem}; the last good one is used")
        return secret


@dataclass(frozen=True, slots=True)
class Credential:
    name: CredentialName
    source: SecretSource


@dataclass(slots=True)
class _ApiRequest(Generic[T]):
    """One read: where it goes, what for, and how its answer is understood. `repeatable`: no call of it was repeated yet."""

    source: Source
    path: str
    query: Mapping[str, str]
    call: CallRequest
    parse: Callable[[Body], T]
    repeatable: bool = True


@dataclass(slots=True)
class _BackOff:
    """How long a source that answered 529 is left alone. `waits`: how often it did in a row."""

    until: float = float("-inf")
    waits: int = 0

    def check(self, now: float) -> None:
        """Raise Throttled while the source is to be left alone."""
        if now < self.until:
            raise Throttled


class _RetryingCaller:
    """Makes calls over one transport, MOST_CALLS_PER_READ for one read at most. Every one takes its slot and its token.

    All of them name the workspace, whichever credential they carry, unless its id is empty.
    """

    def __init__(self, context: ApiContext, transport: Transport, workspace_id: str) -> None:
        self._context = context
        self._transport = transport
        self._workspace_id = workspace_id
        self._server_clock = ServerClock()
        self.timed_out = False
        self.sent_by_source: Counter[Source] = Counter()
        self._back_off_by_target: dict[tuple[str, Source], _BackOff] = defaultdict(_BackOff)

    async def read(
        self, request: _ApiRequest[T], credentials: Iterable[Credential]
    ) -> tuple[Reading[T], CredentialName]:
        """Read with the first credential that is not refused, and name it. Raises ApiError, Throttled."""
        refusal = ApiError("auth", "no credential is configured for the environment")
        # To the end of the read: a reload in between gives no server another one's secret.
        api = self._context.config().api
        for credential in credentials:
            try:
                return await self._read_with(request, credential, api), credential.name
            except ApiError as failed:
                if failed.reason != "auth" and not isinstance(failed, WorkspaceMissing):
                    raise
                refusal = failed
        raise refusal

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _read_with(self, request: _ApiRequest[T], credential: Credential, api: ApiConfig) -> Reading[T]:
        """Read with one credential; where it was refused and has changed at its source since, with the new one."""
        sent = self._context.reveal(credential.source)
        try:
            return await self._read_repeatedly(request, _headers(api, self._workspace_id, credential.name, sent), api)
        except ApiError as failed:
            if failed.reason != "auth":
                raise
            credential.source.forget()
            renewed = self._context.reveal(credential.source)
            if renewed == sent:
                raise
        return await self._read_repeatedly(request, _headers(api, self._workspace_id, credential.name, renewed), api)

    async def _read_repeatedly(self, request: _ApiRequest[T], headers: Mapping[str, str], api: ApiConfig) -> Reading[T]:
        """Make the call, once more after a transient failure."""
        try:
            return await self._read_once(request, headers, api)
        except ApiError as failed:
            # The directory answers once an interval, whatever its answer is.
            final = request.source == "environments" and failed.status is not None
            if final or not failed.transient or not request.repeatable:
                raise
            first = failed
        request.repeatable = False
        try:
            return await self._read_once(request, headers, api)
        except Throttled:
            raise first from None

    async def _read_once(self, request: _ApiRequest[T], headers: Mapping[str, str], api: ApiConfig) -> Reading[T]:
        clock = self._context.clock
        try:
            self._back_off_by_target[api.base_url, request.source].check(clock.monotonic())
            async with self._context.admission.slot(request.call):
                sent = ClockReading(clock.wall(), clock.monotonic())
                answer = await self._send(request, headers, api)
        except Throttled:
            self._context.observer.request_throttled(request.source)
            raise
        except Evicted:
            raise ApiError("timeout", "no answer while other environments waited for the slot") from None
        received = ClockReading(clock.wall(), clock.monotonic())
        try:
            self._check(request, answer, received.wall, api.base_url)
            value = self._understand(request, answer)
        finally:
            answer.drop_body()
        age_s = _age_s(answer)
        date = answer.headers.get("date")
        ahead_s = self._server_clock.ahead_s(date, sent.before(age_s), received.before(age_s))
        if http_date(date) is not None:
            self._context.observer.clock_compared(ahead_s)
        return Reading(value, received.wall - age_s, ahead_s, age_s)

    async def _send(self, request: _ApiRequest[T], headers: Mapping[str, str], api: ApiConfig) -> HttpResponse:
        monotonic = self._context.clock.monotonic
        started = monotonic()
        self.sent_by_source[request.source] += 1
        code = "timeout"  # also when the scrape's deadline cuts the call short
        try:
            answer = await self._transport.get(
                f"{api.base_url}{request.path}",
                query={**api.query, **request.query},
                headers=headers,
                timeout_s=api.timeout_s,
            )
            code = str(answer.status)
        except TransportError as failed:
            code = str(failed.status or failed.fault)
            raise ApiError(failed.fault, str(failed), status=failed.status, transient=failed.unanswered) from None
        finally:
            self.timed_out = code == "timeout"
            self._context.observer.request_sent(request.source, code, monotonic() - started)
        return answer

    def _check(self, request: _ApiRequest[T], answer: HttpResponse, received_at: float, base_url: str) -> None:
        # What a server asks for that is not asked any more, since a reload during the call, concerns no other one.
        if base_url == self._context.config().api.base_url and self._stops_everybody(request, answer, received_at):
            self._context.log.warning(
                "calls_paused",
                source=request.source,
                status=answer.status,
                request_id=_request_id(answer),
                wait_s=round(self._context.admission.wait_s, 1),
            )
        if answer.status != OK:
            raise _failure(answer, workspace_id=self._workspace_id)

    def _stops_everybody(self, request: _ApiRequest[T], answer: HttpResponse, received_at: float) -> bool:
        """Take note of who may be called from now on. Return whether nobody may, and that is news."""
        admission, base_url = self._context.admission, self._context.config().api.base_url
        back_off = self._back_off_by_target[base_url, request.source]
        after_s = retry_after_s(answer.headers, received_at)
        if answer.status == TOO_MANY_REQUESTS:
            return admission.rate_limited(after_s)
        if answer.status == OVERLOADED:
            back_off.waits += 1
            back_off.until = self._context.clock.monotonic() + admission.back_off_s(after_s, back_off.waits)
            return admission.overloaded(request.call.environment_id, after_s)
        back_off.waits = 0
        if answer.status < SERVER_ERROR:
            admission.answered()
        return False

    def _understand(self, request: _ApiRequest[T], answer: HttpResponse) -> T:
        try:
            value = request.parse(answer.body)
        except WireError as problem:
            self._report_drift(request.path, problem.drift)
            raise ApiError("bad_payload", str(problem), status=OK, request_id=_request_id(answer)) from None
        self._report_drift(request.path, getattr(value, "drift", ()), getattr(value, "drift_subjects", ()))
        return value

    def _report_drift(self, path: str, fields: Sequence[str], subjects: Sequence[str] = ()) -> None:
        place = f"{self._workspace_id} {path}"
        self._context.observer.schema_drifted(self._context.drift.new_fields(place, fields, subjects))


class WorkApi:
    """`stats` and `list` of one environment.

    `stats` prefers the organisation's API key and `list` the environment's: the vendor's pages disagree on which call takes
    which. The one that worked last comes first; a 401 or 403 leads to the other one, once a read, whatever has worked before.
    """

    def __init__(
        self,
        environment_id: str,
        context: ApiContext,
        transport: Transport,
        *,
        environment_key: SecretSource | None,
        workspace_id: str = "",
    ) -> None:
        if not ENVIRONMENT_ID.fullmatch(environment_id):
            raise ValueError("not an environment id")
        self._environment_id = environment_id
        self._context = context
        self._caller = _RetryingCaller(context, transport, workspace_id)
        self._environment_key = environment_key
        self.credential_by_source: dict[Source, CredentialName] = {}
        self._fell_back: set[Source] = set()

    @property
    def timed_out(self) -> bool:
        """Whether the last call got no answer in time."""
        return self._caller.timed_out

    def sent(self, source: Source) -> int:
        """Return how many calls of `source` have been sent."""
        return self._caller.sent_by_source[source]

    def begin(self, source: Source) -> None:
        """Start a new read of `source`: the other credential may be tried again."""
        self._fell_back.discard(source)

    async def stats(self, call: CallRequest) -> Reading[WorkStats]:
        """Read the queue's numbers. Raises ApiError, Throttled."""
        return await self._read(_ApiRequest("stats", self._path("work/stats"), {}, call, parse_stats))

    async def page(self, cursor: str | None, limit: int, call: CallRequest) -> Reading[WorkPage]:
        """Read up to `limit` items from `cursor` on, or from the start. Raises ApiError, Throttled."""
        query = {"limit": str(limit)} | ({} if cursor is None else {"page": cursor})

        def parse(body: Body) -> WorkPage:
            return parse_work_page(body, environment_id=self._environment_id)

        return await self._read(_ApiRequest("list", self._path("work"), query, call, parse))

    async def aclose(self) -> None:
        await self._caller.aclose()

    def _path(self, rest: str) -> str:
        return f"/environments/{self._environment_id}/{rest}"

    async def _read(self, request: _ApiRequest[T]) -> Reading[T]:
        source = request.source
        try:
            reading, self.credential_by_source[source] = await self._caller.read(request, self._candidates(source))
        except ApiError as failed:
            raise self._advised(source, failed) if failed.reason == "auth" else failed from None
        return reading

    def _advised(self, source: Source, refusal: ApiError) -> ApiError:
        """Name the likely remedy: many servers take no API key for the list."""
        if source != "list" or self._environment_key is not None or refusal.status is None:
            return refusal
        if isinstance(refusal, WorkspaceMissing):
            return refusal
        text = f"{refusal} to the API key: give the environment a key of its own, environment_key_file"
        return ApiError("auth", text, status=refusal.status, request_id=refusal.request_id)

    def _candidates(self, source: Source) -> Iterator[Credential]:
        """Yield the credentials to try in this read, one more each time the one before was refused."""
        worked = self.credential_by_source.get(source)
        ours = sorted(self._credentials(source), key=lambda each: each.name != worked)
        for position, credential in enumerate(ours):
            if position and source in self._fell_back:
                return
            if position:
                self._fell_back.add(source)
            yield credential

    def _credentials(self, source: Source) -> list[Credential]:
        api_key = self._context.config().api.api_key
        ours = [] if api_key is None else [Credential("api_key", api_key)]
        if self._environment_key is not None:
            ours.append(Credential("environment_key", self._environment_key))
        return ours if source == "stats" else ours[::-1]


class EnvironmentsApi:
    """One workspace's environments. Takes the API key alone. `workspace_id` is empty for that of the key."""

    def __init__(self, context: ApiContext, transport: Transport, *, workspace_id: str = "") -> None:
        self.workspace_id = workspace_id
        self._context = context
        self._caller = _RetryingCaller(context, transport, workspace_id)

    @property
    def timed_out(self) -> bool:
        """Whether the last call got no answer in time."""
        return self._caller.timed_out

    async def page(self, cursor: str | None, limit: int, call: CallRequest) -> Reading[EnvironmentPage]:
        """Read up to `limit` environments from `cursor` on, or from the start. Raises ApiError, Throttled."""
        api = self._context.config().api
        if api.api_key is None:
            raise ApiError("auth", "discovery needs an API key")
        query = {"limit": str(limit)} | ({} if cursor is None else {"page": cursor})
        parse = partial(parse_environment_page, workspace_id=self.workspace_id)
        request = _ApiRequest("environments", "/environments", query, call, parse)
        reading, _ = await self._caller.read(request, [Credential("api_key", api.api_key)])
        return reading

    async def aclose(self) -> None:
        await self._caller.aclose()


def _headers(api: ApiConfig, workspace_id: str, name: CredentialName, secret: Secret) -> dict[str, str]:
    headers = {"anthropic-version": api.version, "anthropic-beta": api.beta}
    if workspace_id:
        headers["anthropic-workspace-id"] = workspace_id
    if name == "api_key" and api.auth_style == "x-api-key":
        headers["x-api-key"] = secret.reveal()
    else:
        headers["authorization"] = f"Bearer {secret.reveal()}"
    return headers


def _failure(answer: HttpResponse, *, workspace_id: str) -> ApiError:
    status, request_id = answer.status, _request_id(answer)
    reason = REASON_BY_STATUS.get(status)
    if reason is None:
        kinds: tuple[Reason, ...] = ("protocol", "protocol", "protocol", "protocol", "bad_request", "server")
        reason = kinds[min(status // 100, len(kinds) - 1)]
    if status in REFUSALS and not workspace_id and speaks_of_workspaces(answer.body):
        return WorkspaceMissing(reason, status, request_id)
    transient = reason == "server" and status != OVERLOADED and "retry-after" not in answer.headers
    return ApiError(reason, f"the API answered {status}", status=status, request_id=request_id, transient=transient)


def _age_s(answer: HttpResponse) -> float:
    """Read how long a cache between here and the API has kept the answer; where several say it, what the nearest one says."""
    given = answer.headers.get("age", "").split(",")[0].strip()
    return min(float(given), AGE_LIMIT_S) if AGE.match(given) else 0.0


def _request_id(answer: HttpResponse) -> str | None:
    given = answer.headers.get("request-id", "")
    return given if REQUEST_ID.match(given) else None


def retry_after_s(headers: Mapping[str, str], received_at: float) -> float | None:
    """Read how long to wait, in seconds or until a date of the server's clock; None when absent or not legible."""
    given = headers.get("retry-after", "").strip()
    if SECONDS.match(given):
        return float(given)
    until = http_date(given)
    if until is None:
        return None
    return max(0.0, until - (http_date(headers.get("date")) or received_at))
