"""Which credential travels, what an answer means, what is tried again, and what never leaks."""

from __future__ import annotations

import contextlib
import itertools
import json
import traceback
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import httpcore
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st
from respx.mocks import HTTPCoreMocker

from exporter.api.admission import CallRequest, Throttled
from exporter.api.budget import Priority
from exporter.api.client import (
    MOST_CALLS_PER_READ,
    REASONS,
    ApiError,
    EnvironmentsApi,
    WorkApi,
    WorkspaceMissing,
    retry_after_s,
)
from exporter.api.httpx_transport import ConnectOptions, HttpxTransport, tls_context
from exporter.api.transport import HttpResponse, TransportError
from exporter.config.secret import EnvSecret, FileSecret
from tests.api.api_context import API_KEY, BASE_URL, ENVIRON, ENVIRONMENT_KEY, LIST_CALL, STATS_CALL, Surroundings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
    from pathlib import Path

    from exporter.api.client import Reason
    from exporter.api.transport import Fault

pytestmark = pytest.mark.anyio

ENVIRONMENT_ID = "env_011CZkZ9X2dpNyB7HsEFoRfW"
STATS_PATH = f"/environments/{ENVIRONMENT_ID}/work/stats"
LIST_PATH = f"/environments/{ENVIRONMENT_ID}/work"
STATS = b'{"depth":3,"pending":1,"oldest_queued_at":null,"workers_polling":2}'
PAGE = b'{"data":[],"next_page":null}'
CANARY = "canary-from-the-server-8e21"
BY_API_KEY = {"x-api-key": API_KEY}
BY_BEARER = {"authorization": f"Bearer {API_KEY}"}
BY_ENVIRONMENT_KEY = {"authorization": f"Bearer {ENVIRONMENT_KEY}"}


@dataclass(frozen=True)
class Sent:
    url: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    timeout_s: float

    @property
    def credentials(self) -> dict[str, str]:
        return {name: value for name, value in self.headers.items() if name in {"x-api-key", "authorization"}}


@dataclass
class Script:
    """A transport that answers what its script says, the last answer for ever."""

    outcomes: Iterable[HttpResponse | TransportError]
    sent: list[Sent] = field(default_factory=list)

    def __post_init__(self) -> None:
        outcomes = list(self.outcomes)
        self._outcomes = itertools.chain(outcomes, itertools.repeat(outcomes[-1]))

    async def get(
        self, url: str, *, query: Mapping[str, str], headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        self.sent.append(Sent(url, dict(query), dict(headers), timeout_s))
        outcome = next(self._outcomes)
        if isinstance(outcome, TransportError):
            raise outcome
        return outcome

    async def aclose(self) -> None: ...


def answer(status: int = 200, body: bytes = STATS, headers: Mapping[str, str] | None = None) -> HttpResponse:
    return HttpResponse(status, headers or {}, body)


def cut(fault: Fault = "connect", *, unanswered: bool = True) -> TransportError:
    return TransportError(fault, "no answer", unanswered=unanswered)


def work_api(around: Surroundings, transport: Any, *, environment_key: bool = True) -> WorkApi:
    key = EnvSecret("ENVIRONMENT_KEY", ENVIRON) if environment_key else None
    return WorkApi(ENVIRONMENT_ID, around.context, transport, environment_key=key)


async def outcome_of(api: WorkApi) -> ApiError | None:
    """Read stats anew; return the failure, or None."""
    api.begin("stats")
    try:
        await api.stats(STATS_CALL)
    except ApiError as failed:
        return failed
    return None


# ---- which credential travels


async def test_stats_take_the_api_key_and_the_list_the_environment_key() -> None:
    around, script = Surroundings(), Script([answer(), answer(body=PAGE)])
    api = work_api(around, script)
    await api.stats(STATS_CALL)
    await api.page(None, 1000, LIST_CALL)
    assert [each.credentials for each in script.sent] == [BY_API_KEY, BY_ENVIRONMENT_KEY]
    assert api.credential_by_source == {"stats": "api_key", "list": "environment_key"}


async def test_a_single_credential_serves_both() -> None:
    around, script = Surroundings(), Script([answer(), answer(body=PAGE)])
    api = work_api(around, script, environment_key=False)
    await api.stats(STATS_CALL)
    await api.page(None, 1000, LIST_CALL)
    assert [each.credentials for each in script.sent] == [BY_API_KEY, BY_API_KEY]


async def test_without_an_api_key_the_environment_key_serves_both() -> None:
    around, script = Surroundings(), Script([answer(), answer(body=PAGE)])
    around.change(api_key=None)
    api = work_api(around, script)
    await api.stats(STATS_CALL)
    await api.page(None, 1000, LIST_CALL)
    assert [each.credentials for each in script.sent] == [BY_ENVIRONMENT_KEY, BY_ENVIRONMENT_KEY]


async def test_the_api_key_travels_as_the_configuration_says_and_the_environment_key_as_bearer() -> None:
    around, script = Surroundings(), Script([answer(), answer(body=PAGE)])
    around.change(auth_style="bearer")
    api = work_api(around, script)
    await api.stats(STATS_CALL)
    await api.page(None, 1000, LIST_CALL)
    assert [each.credentials for each in script.sent] == [BY_BEARER, BY_ENVIRONMENT_KEY]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_credential_leads_to_the_other_and_what_worked_is_remembered(status: int) -> None:
    around, script = Surroundings(), Script([answer(status), answer()])
    api = work_api(around, script)
    for _ in range(3):
        assert await outcome_of(api) is None
    assert [each.credentials for each in script.sent] == [BY_API_KEY, *[BY_ENVIRONMENT_KEY] * 3]


async def test_a_key_that_is_revoked_after_it_has_worked_leads_to_the_other_as_in_a_fresh_process() -> None:
    around, script = Surroundings(), Script([answer(), answer(401), answer(), answer()])
    api = work_api(around, script)
    for _ in range(3):
        assert await outcome_of(api) is None
    assert [each.credentials for each in script.sent] == [BY_API_KEY, BY_API_KEY, *[BY_ENVIRONMENT_KEY] * 2]


async def test_which_one_works_may_change_back_and_forth() -> None:
    around, script = Surroundings(), Script([answer(403), answer(), answer(401), answer(), answer(403), answer()])
    api = work_api(around, script)
    for _ in range(3):
        assert await outcome_of(api) is None
    by_turns = [BY_API_KEY, *[BY_ENVIRONMENT_KEY] * 2, *[BY_API_KEY] * 2, BY_ENVIRONMENT_KEY]
    assert [each.credentials for each in script.sent] == by_turns


async def test_a_list_whose_key_is_revoked_between_two_pages_goes_on_with_the_other() -> None:
    around, script = Surroundings(), Script([answer(body=PAGE), answer(401), answer(body=PAGE)])
    api = work_api(around, script)
    api.begin("list")
    for _ in range(3):
        await api.page(None, 1000, LIST_CALL)
    assert [each.credentials for each in script.sent] == [*[BY_ENVIRONMENT_KEY] * 2, *[BY_API_KEY] * 2]


async def test_both_are_tried_in_every_read_however_often_either_has_worked() -> None:
    around, script = Surroundings(), Script([answer(), answer(401)])
    api = work_api(around, script)
    assert await outcome_of(api) is None
    for _ in range(3):
        failed = await outcome_of(api)
        assert failed is not None
        assert failed.reason == "auth"
    assert [each.credentials for each in script.sent] == [BY_API_KEY, *[BY_API_KEY, BY_ENVIRONMENT_KEY] * 3]


async def test_both_are_tried_once_in_each_read_while_none_has_worked() -> None:
    around, script = Surroundings(), Script([answer(403)])
    api = work_api(around, script)
    for _ in range(2):
        assert (await outcome_of(api)) is not None
    assert [each.credentials for each in script.sent] == [BY_API_KEY, BY_ENVIRONMENT_KEY] * 2


async def test_the_pages_of_one_read_fall_back_only_once() -> None:
    around, script = Surroundings(), Script([answer(403)])
    api = work_api(around, script)
    api.begin("list")
    for _ in range(3):
        with pytest.raises(ApiError):
            await api.page(None, 1000, LIST_CALL)
    assert [each.credentials for each in script.sent].count(BY_API_KEY) == 1


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_nothing_but_a_refused_credential_leads_to_the_other(status: int) -> None:
    around, script = Surroundings(), Script([answer(status)])
    await outcome_of(work_api(around, script))
    assert all(each.credentials == BY_API_KEY for each in script.sent)


async def test_no_call_ever_carries_two_credentials() -> None:
    around, script = Surroundings(), Script([answer(401)])
    api = work_api(around, script)
    await outcome_of(api)
    with pytest.raises(ApiError):
        await api.page(None, 1000, LIST_CALL)
    assert [len(each.credentials) for each in script.sent] == [1] * 4


async def test_an_environment_without_any_credential_makes_no_call() -> None:
    around, script = Surroundings(), Script([answer()])
    around.change(api_key=None)
    failed = await outcome_of(work_api(around, script, environment_key=False))
    assert failed is not None
    assert (failed.reason, script.sent) == ("auth", [])


async def test_a_key_that_was_replaced_in_its_file_is_used_at_once(tmp_path: Path) -> None:
    around, script = Surroundings(), Script([answer(), answer(401), answer()])
    file = tmp_path / "key"
    file.write_text("first")
    around.change(api_key=FileSecret(file))
    api = work_api(around, script, environment_key=False)
    assert await outcome_of(api) is None
    file.write_text("other")
    assert await outcome_of(api) is not None
    file.unlink()
    file.write_text("third")
    assert await outcome_of(api) is None
    assert [each.credentials["x-api-key"] for each in script.sent] == ["first", "other", "third"]


async def test_a_refused_key_is_looked_at_again_even_if_its_file_seems_unchanged() -> None:
    around, script = Surroundings(), Script([answer(401), answer()])
    environ = {"API_KEY": "old"}

    class Remembering(EnvSecret):
        """Sticks to what it has read until it is asked to forget, like a file that seems unchanged."""

        def forget(self) -> None:
            environ["API_KEY"] = "new"

    around.change(api_key=Remembering("API_KEY", environ))
    assert await outcome_of(work_api(around, script)) is None
    assert [each.credentials["x-api-key"] for each in script.sent] == ["old", "new"]


async def test_a_secret_that_cannot_be_read_fails_the_read_and_leads_to_the_other(tmp_path: Path) -> None:
    around, script = Surroundings(), Script([answer()])
    around.change(api_key=FileSecret(tmp_path / "absent"))
    api = work_api(around, script)
    assert await outcome_of(api) is None
    assert [each.credentials for each in script.sent] == [BY_ENVIRONMENT_KEY]
    failed = await outcome_of(work_api(around, script, environment_key=False))
    assert failed is not None
    assert failed.reason == "auth"
    assert "no such file" in str(failed)


class Rotating(EnvSecret):
    """A key that is another one each time it is read anew."""

    def __init__(self, variable: str) -> None:
        self._rotating = {variable: f"{variable}-0"}
        super().__init__(variable, self._rotating)

    def forget(self) -> None:
        for variable, key in self._rotating.items():
            self._rotating[variable] = f"{key}0"


@pytest.mark.parametrize("rotating", [False, True])
async def test_one_read_sends_a_bounded_number_of_calls_whatever_goes_wrong(*, rotating: bool) -> None:
    most = 0
    wrongs: tuple[HttpResponse | TransportError, ...] = (answer(401), answer(503), cut("timeout", unanswered=False))
    for outcomes in itertools.product(wrongs, repeat=MOST_CALLS_PER_READ + 1):
        around, script = Surroundings(), Script(outcomes)
        around.change(api_key=Rotating("A") if rotating else EnvSecret("API_KEY", ENVIRON))
        key = Rotating("E") if rotating else EnvSecret("ENVIRONMENT_KEY", ENVIRON)
        assert await outcome_of(WorkApi(ENVIRONMENT_ID, around.context, script, environment_key=key)) is not None
        most = max(most, len(script.sent))
    assert most == (MOST_CALLS_PER_READ if rotating else 3)


# ---- what is sent


async def test_each_call_says_what_the_api_needs_and_no_more() -> None:
    around, script = Surroundings(), Script([answer(), answer(body=PAGE), answer(body=PAGE)])
    around.change(workspace_id="wrkspc_of_others", query={"beta": "true"}, timeout_s=3.0)
    key = EnvSecret("ENVIRONMENT_KEY", ENVIRON)
    api = WorkApi(ENVIRONMENT_ID, around.context, script, environment_key=key, workspace_id="wrkspc_1")
    await api.stats(STATS_CALL)
    await api.page(None, 1000, LIST_CALL)
    await api.page("a/b?c", 100, LIST_CALL)
    common = {
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "managed-agents-2026-04-01",
        "anthropic-workspace-id": "wrkspc_1",
    }
    by_key = {**common, **BY_ENVIRONMENT_KEY}
    assert script.sent == [
        Sent(BASE_URL + STATS_PATH, {"beta": "true"}, {**common, **BY_API_KEY}, 3.0),
        Sent(BASE_URL + LIST_PATH, {"beta": "true", "limit": "1000"}, by_key, 3.0),
        Sent(BASE_URL + LIST_PATH, {"beta": "true", "limit": "100", "page": "a/b?c"}, by_key, 3.0),
    ]


@pytest.mark.parametrize(
    "environment_id",
    [
        "",
        "env_",
        "env_a/work/poll?",
        "env_../x",
        "env_a%2f",
        "env_a\n",
        "env_a#",
        "work_a",
        "env_\u0430",
        "env_" + "a" * 97,
    ],
)
def test_an_id_that_could_change_a_path_is_refused_before_any_call(environment_id: str) -> None:
    with pytest.raises(ValueError, match="not an environment id"):
        WorkApi(environment_id, Surroundings().context, Script([answer()]), environment_key=None)


async def test_the_directory_takes_the_api_key_alone() -> None:
    around, script = Surroundings(), Script([answer(body=PAGE)])
    reading = await EnvironmentsApi(around.context, script).page("c", 100, STATS_CALL)
    assert reading.value.environments == ()
    assert script.sent[0].url == f"{BASE_URL}/environments"
    assert script.sent[0].query == {"limit": "100", "page": "c"}
    assert script.sent[0].credentials == BY_API_KEY
    assert "anthropic-workspace-id" not in script.sent[0].headers


async def test_the_directory_of_a_workspace_names_it_and_knows_whose_environments_it_has() -> None:
    around, script = Surroundings(), Script([answer(body=b'{"data":[{"id":"env_a","config":{"type":"self_hosted"}}]}')])
    reading = await EnvironmentsApi(around.context, script, workspace_id="wrkspc_1").page(None, 100, STATS_CALL)
    assert [each.workspace_id for each in reading.value.environments] == ["wrkspc_1"]
    assert script.sent[0].headers["anthropic-workspace-id"] == "wrkspc_1"


async def test_what_one_workspace_has_told_is_news_from_another() -> None:
    around, script = Surroundings(), Script([answer(body=b'{"data":[],"next_page":7}')])
    for workspace_id in ("wrkspc_1", "wrkspc_2", "wrkspc_1"):
        with pytest.raises(ApiError):
            await EnvironmentsApi(around.context, script, workspace_id=workspace_id).page(None, 100, STATS_CALL)
    assert around.observer.drifted == ["next_page", "next_page"]


ASKS_FOR_WORKSPACE = (
    b'{"type":"error","error":{"type":"invalid_request_error","message":"Anthropic-Workspace-Id: required"}}'
)


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refusal_for_want_of_a_workspace_has_a_sentence_of_its_own(status: int) -> None:
    around, script = Surroundings(), Script([answer(status, body=ASKS_FOR_WORKSPACE)])
    for read in (work_api(around, script, environment_key=False).page, EnvironmentsApi(around.context, script).page):
        with pytest.raises(WorkspaceMissing) as caught:
            await read(None, 100, LIST_CALL)
        assert caught.value.reason == ("bad_request" if status == 400 else "auth")
        assert str(caught.value) == (
            f"the API answered {status} because the call names no workspace: set api.workspace_id or discovery.workspaces"
        )


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_an_api_key_that_lacks_a_workspace_leads_to_the_environments_own(status: int) -> None:
    around, script = Surroundings(), Script([answer(status, body=ASKS_FOR_WORKSPACE), answer()])
    api = work_api(around, script)
    assert [await outcome_of(api) for _ in range(2)] == [None, None]
    assert [each.credentials for each in script.sent] == [BY_API_KEY, BY_ENVIRONMENT_KEY, BY_ENVIRONMENT_KEY]


@pytest.mark.parametrize(
    ("workspace_id", "status", "body"),
    [("wrkspc_1", 403, ASKS_FOR_WORKSPACE), ("", 404, ASKS_FOR_WORKSPACE), ("", 403, b"workspace"), ("", 400, b"{}")],
)
async def test_any_other_refusal_is_a_plain_one(workspace_id: str, status: int, body: bytes) -> None:
    around, script = Surroundings(), Script([answer(status, body=body)])
    with pytest.raises(ApiError) as caught:
        await EnvironmentsApi(around.context, script, workspace_id=workspace_id).page(None, 100, STATS_CALL)
    assert (type(caught.value), str(caught.value)) == (ApiError, f"the API answered {status}")


async def test_the_directory_cannot_be_read_without_an_api_key() -> None:
    around, script = Surroundings(), Script([answer(body=PAGE)])
    around.change(api_key=None)
    with pytest.raises(ApiError, match="needs an API key"):
        await EnvironmentsApi(around.context, script).page(None, 100, STATS_CALL)
    assert script.sent == []


# ---- what an answer means

REASON_BY_STATUS: dict[int, Reason] = {401: "auth", 403: "auth", 404: "not_found", 429: "rate_limited"}


@pytest.mark.parametrize("status", range(201, 600))
async def test_every_status_but_200_has_a_reason_of_the_closed_set(status: int) -> None:
    around, script = Surroundings(), Script([answer(status, headers={"request-id": "req_1"})])
    failed = await outcome_of(work_api(around, script, environment_key=False))
    assert failed is not None
    default = "protocol" if status < 400 else "bad_request" if status < 500 else "server"
    assert failed.reason == REASON_BY_STATUS.get(status, default)
    assert failed.reason in REASONS
    assert (failed.status, failed.request_id) == (status, "req_1")
    assert set(around.observer.sent) == {("stats", str(status))}


async def test_a_body_that_is_not_what_was_asked_for_is_a_bad_payload() -> None:
    around, script = Surroundings(), Script([answer(body=b"<html>maintenance</html>")])
    failed = await outcome_of(work_api(around, script))
    assert failed is not None
    assert (failed.reason, failed.status, len(script.sent)) == ("bad_payload", 200, 1)


async def test_what_this_version_does_not_know_is_counted() -> None:
    around, script = Surroundings(), Script([answer(body=b'{"depth":1,"pending":0,"oldest_queued_at":"soon"}')])
    assert await outcome_of(work_api(around, script)) is None
    assert around.observer.drifted == ["oldest_queued_at"]
    wrong = Script([answer(body=b'{"depth":-1,"pending":0}')])
    assert await outcome_of(work_api(around, wrong)) is not None
    assert around.observer.drifted == ["oldest_queued_at", "depth"]


async def test_an_item_that_is_read_again_is_not_counted_again_as_unknown() -> None:
    body = b'{"data":[{"id":"w1","state":"new","data":{"type":"session"}}]}'
    around, script = Surroundings(), Script([answer(body=body)])
    for _ in range(3):
        await work_api(around, script).page(None, 100, LIST_CALL)
    assert around.observer.drifted == ["state"]


@pytest.mark.parametrize("fault", ["timeout", "connect", "tls", "protocol", "too_large"])
async def test_a_fault_of_the_transport_is_the_reason_and_the_code(fault: Fault) -> None:
    around, script = Surroundings(), Script([cut(fault, unanswered=False)])
    failed = await outcome_of(work_api(around, script))
    assert failed is not None
    assert (failed.reason, failed.status) == (fault, None)
    assert around.observer.sent == [("stats", fault)]


async def test_of_an_answer_that_broke_off_the_status_is_the_code() -> None:
    around, script = Surroundings(), Script([TransportError("too_large", "more than enough", status=200)])
    failed = await outcome_of(work_api(around, script))
    assert failed is not None
    assert (failed.reason, failed.status) == ("too_large", 200)
    assert around.observer.sent == [("stats", "200")]


async def test_a_request_id_that_could_be_anything_is_not_repeated() -> None:
    around, script = Surroundings(), Script([answer(400, headers={"request-id": f"<script>{CANARY}"})])
    failed = await outcome_of(work_api(around, script))
    assert failed is not None
    assert failed.request_id is None


async def test_the_client_remembers_whether_its_last_call_timed_out() -> None:
    around, script = Surroundings(), Script([cut("timeout", unanswered=False), answer()])
    api = work_api(around, script)
    await outcome_of(api)
    assert api.timed_out
    await outcome_of(api)
    assert not api.timed_out


# ---- what is tried again


@pytest.mark.parametrize("first", [cut(), cut("protocol"), answer(500), answer(502), answer(503), answer(504)])
async def test_a_transient_failure_is_tried_once_more(first: HttpResponse | TransportError) -> None:
    around, script = Surroundings(), Script([first, answer()])
    assert await outcome_of(work_api(around, script)) is None
    assert len(script.sent) == 2


@pytest.mark.parametrize("outcome", [cut(), answer(500), answer(503)])
async def test_a_failure_that_lasts_is_tried_twice_and_no_more(outcome: HttpResponse | TransportError) -> None:
    around, script = Surroundings(), Script([outcome])
    assert await outcome_of(work_api(around, script)) is not None
    assert len(script.sent) == len(around.observer.sent) == 2


@pytest.mark.parametrize(
    "outcome",
    [
        answer(400),
        answer(404),
        answer(409),
        answer(429),
        answer(429, headers={"retry-after": "1"}),
        answer(503, headers={"retry-after": "1"}),
        answer(500, headers={"retry-after": "nonsense"}),
        answer(529),
        answer(301, headers={"location": "http://example.com/"}),
        answer(204),
        answer(body=b"{}"),
        cut("timeout", unanswered=False),
        cut("tls", unanswered=False),
        cut("protocol", unanswered=False),
    ],
)
async def test_nothing_else_is_tried_again(outcome: HttpResponse | TransportError) -> None:
    around, script = Surroundings(), Script([outcome])
    assert await outcome_of(work_api(around, script)) is not None
    assert len(script.sent) == 1


async def test_a_repeated_call_takes_a_token_and_without_one_the_first_failure_stands() -> None:
    around, script = Surroundings(per_minute=2), Script([answer(500)])
    failed = await outcome_of(work_api(around, script))
    assert failed is not None
    assert (failed.reason, len(script.sent)) == ("server", 1)
    assert around.observer.throttled == ["stats"]


async def test_a_call_without_a_token_is_not_made_and_raises_throttled() -> None:
    around, script = Surroundings(per_minute=2), Script([answer()])
    api = work_api(around, script)
    await api.stats(STATS_CALL)
    with pytest.raises(Throttled):
        await api.stats(STATS_CALL)
    assert (len(script.sent), around.observer.throttled) == (1, ["stats"])


# ---- 429 and 529

DATE = "Wed, 01 Jul 2026 08:15:01 GMT"
MINUTE_LATER = "Wed, 01 Jul 2026 08:16:01 GMT"


async def test_a_wait_is_logged_once_until_the_api_answers_something_else(caplog: pytest.LogCaptureFixture) -> None:
    full = answer(429, headers={"retry-after": "7"})
    around, script = Surroundings(), Script([full, full, answer(), full])
    api = work_api(around, script)
    logged = []
    for _ in range(4):
        caplog.clear()
        await outcome_of(api)
        logged.append([record.__dict__["fields"]["wait_s"] for record in caplog.records])
        around.now += 60
    assert logged == [[7.0], [], [], [7.0]]


WAITS = pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7.5 "}, 7.5),
        ({"retry-after": "0"}, 1.0),
        ({"retry-after": "86400"}, 300.0),
        ({"retry-after": "9" * 40}, 300.0),
        ({"retry-after": MINUTE_LATER, "date": DATE}, 60.0),
        ({"retry-after": DATE, "date": MINUTE_LATER}, 1.0),
        ({"retry-after": "Fri, 01 Jul 2044 08:16:01 GMT", "date": DATE}, 300.0),
        ({"retry-after": "soon"}, 3.75),
        ({"retry-after": "-5"}, 3.75),
        ({"retry-after": "1e3"}, 3.75),
        ({"retry-after": "nan"}, 3.75),
        ({"retry-after": "\u0665"}, 3.75),
        ({"retry-after": ""}, 3.75),
        ({}, 3.75),
    ],
)


@WAITS
async def test_a_429_is_waited_out_by_everybody_as_long_as_it_says(headers: dict[str, str], wait_s: float) -> None:
    around, script = Surroundings(), Script([answer(429, headers=headers)])
    api = work_api(around, script)
    failed = await outcome_of(api)
    assert failed is not None
    assert around.budget.waits_until(around.now) == pytest.approx(around.now + wait_s)
    with pytest.raises(Throttled):
        await api.stats(STATS_CALL)
    assert len(script.sent) == 1


@WAITS
async def test_a_529_leaves_its_own_source_alone_as_long_as_it_says(headers: dict[str, str], wait_s: float) -> None:
    around, script = Surroundings(), Script([answer(529, headers=headers), answer()])
    api = work_api(around, script)
    failed = await outcome_of(api)
    assert failed is not None
    assert (failed.reason, failed.status) == ("server", 529)
    assert around.budget.waits_until(around.now) is None
    around.now += wait_s - 0.01
    with pytest.raises(Throttled):
        await api.stats(STATS_CALL)
    assert around.observer.throttled == ["stats"]
    around.now += 0.02
    await api.stats(STATS_CALL)
    assert len(script.sent) == 2


async def test_a_source_that_answers_529_again_and_again_is_asked_ever_more_rarely_until_it_answers() -> None:
    around, script = Surroundings(), Script([*[answer(529)] * 8, answer(), answer(529)])
    api = work_api(around, script)
    asked_at: list[float] = []
    while len(script.sent) < 11:
        with contextlib.suppress(Throttled):
            sent = len(script.sent)
            await outcome_of(api)
            asked_at += [around.now] * (len(script.sent) - sent)
        around.now += 0.25
    waits = [later - earlier for earlier, later in itertools.pairwise(asked_at)]
    assert waits == [3.75, 7.5, 15, 30, 60, 120, 225, 225, 0.25, 3.75]


async def test_one_environment_s_529_concerns_neither_its_other_source_nor_anybody_else() -> None:
    around = Surroundings()
    around.budget.register_demand([ENVIRONMENT_ID, "env_b"], now=around.now)
    overloaded, sound = Script([answer(529), answer(body=PAGE)]), Script([answer()])
    sick, healthy = work_api(around, overloaded), WorkApi("env_b", around.context, sound, environment_key=None)
    for _ in range(20):
        with contextlib.suppress(Throttled):
            await outcome_of(sick)
        assert await outcome_of(healthy) is None
        around.now += 15
    assert (await sick.page(None, 1000, LIST_CALL)).value.items == ()
    assert len(sound.sent) == 20
    assert around.budget.limit_per_minute(around.now) == around.per_minute


OTHER_URL = "https://other.example.com/v1"


@dataclass
class ReloadedDuringTheCall(Script):
    """A transport during whose first call another server is configured."""

    around: Surroundings = field(kw_only=True)

    async def get(
        self, url: str, *, query: Mapping[str, str], headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        self.around.change(base_url=OTHER_URL, api_key=None)
        return await super().get(url, query=query, headers=headers, timeout_s=timeout_s)


@pytest.mark.parametrize("status", [429, 529])
async def test_what_a_server_asks_for_that_is_no_longer_configured_delays_no_other(status: int) -> None:
    around = Surroundings()
    script = ReloadedDuringTheCall([answer(status, headers={"retry-after": "60"}), answer()], around=around)
    api = work_api(around, script)
    assert await outcome_of(api) is not None
    assert around.budget.waits_until(around.now) is None
    assert await outcome_of(api) is None
    assert script.sent[-1].url.startswith(OTHER_URL)


async def test_a_529_of_discovery_delays_no_other_server() -> None:
    around = Surroundings()
    script = Script([answer(529, headers={"retry-after": "60"}), answer(body=b'{"data":[],"next_page":null}')])
    api = EnvironmentsApi(around.context, script)
    with pytest.raises(ApiError):
        await api.page(None, 100, LIST_CALL)
    around.change(base_url=OTHER_URL)
    assert (await api.page(None, 100, LIST_CALL)).value.environments == ()


@pytest.mark.parametrize("refusal", [answer(401), cut()], ids=["the other credential", "one more try"])
async def test_a_read_that_began_before_a_reload_gives_no_other_server_its_secret(
    refusal: HttpResponse | TransportError,
) -> None:
    around = Surroundings()
    script = ReloadedDuringTheCall([refusal, answer()], around=around)
    await work_api(around, script).stats(STATS_CALL)
    assert [each.url.startswith(BASE_URL) for each in script.sent] == [True, True]


def overloaded_fleet(around: Surroundings, environments: int) -> list[WorkApi]:
    around.budget.register_demand([f"env_{number}" for number in range(environments)], now=around.now)
    script = Script([answer(529, headers={"retry-after": "20"})])
    return [WorkApi(f"env_{number}", around.context, script, environment_key=None) for number in range(environments)]


def call_of(number: int) -> CallRequest:
    return CallRequest(priority=Priority.STATS, environment_id=f"env_{number}")


async def waits_after(around: Surroundings, api: WorkApi, number: int) -> bool:
    with pytest.raises(ApiError):
        await api.stats(call_of(number))
    return around.budget.waits_until(around.now) is not None


@pytest.mark.parametrize(("environments", "several"), [(3, 3), (5, 3), (10, 5), (16, 8), (40, 8)])
async def test_several_environments_that_answer_529_in_a_row_let_everybody_wait(
    environments: int, several: int
) -> None:
    around = Surroundings()
    fleet = overloaded_fleet(around, environments)
    waits = [await waits_after(around, fleet[number], number) for number in range(several)]
    assert waits == [False] * (several - 1) + [True]
    assert around.budget.waits_until(around.now) == around.now + 20


async def test_a_good_answer_in_between_begins_the_row_anew() -> None:
    around = Surroundings()
    fleet = overloaded_fleet(around, 6)
    sound = work_api(around, Script([answer()]))
    for number in (0, 1):
        assert not await waits_after(around, fleet[number], number)
    assert await outcome_of(sound) is None
    assert [await waits_after(around, fleet[number], number) for number in (2, 3, 4)] == [False, False, True]


@pytest.mark.parametrize("status", [500, 503])
async def test_a_failure_of_the_server_is_no_good_answer(status: int) -> None:
    around = Surroundings()
    fleet = overloaded_fleet(around, 3)
    for number in (0, 1):
        assert not await waits_after(around, fleet[number], number)
    assert await outcome_of(work_api(around, Script([answer(status)]))) is not None
    assert await waits_after(around, fleet[2], 2)


async def test_one_environment_alone_is_not_several_however_often_it_says_so() -> None:
    around = Surroundings()
    fleet = overloaded_fleet(around, 3)
    for _ in range(5):
        assert not await waits_after(around, fleet[0], 0)
        around.now += 300


def test_a_date_without_the_server_s_clock_is_held_against_ours() -> None:
    assert retry_after_s({"retry-after": formatdate(1_000_060, usegmt=True)}, 1_000_000.0) == 60


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_header_is_a_wait_that_is_not_negative_or_none(retry_after: str, date: str) -> None:
    wait_s = retry_after_s({"retry-after": retry_after, "date": date}, 0.0)
    assert wait_s is None or wait_s >= 0


# ---- the server's clock


async def test_a_reply_tells_how_far_the_server_is_ahead() -> None:
    around = Surroundings()
    script = Script([answer(headers={"date": formatdate(around.now + 3600, usegmt=True)})])
    reading = await work_api(around, script).stats(STATS_CALL)
    assert (reading.received_at, reading.server_ahead_s) == (around.now, 3600.5)


# ---- a cache in between


@pytest.mark.parametrize(
    ("age", "age_s"),
    [
        *(("100", 100.0), (" 7 ", 7.0), ("0", 0.0)),
        *(("", 0.0), ("-5", 0.0), ("soon", 0.0), ("1e9", 0.0), ("100.5", 0.0)),
        *(("100, 100", 100.0), ("100,7", 100.0), ("soon, 100", 0.0)),  # two caches; the client joins their headers
        *(("2147483648", 2.0**31), ("9" * 40, 2.0**31)),
    ],
)
async def test_an_answer_from_a_cache_is_as_old_as_the_cache_says(age: str, age_s: float) -> None:
    around = Surroundings()
    written_at = around.now - age_s
    script = Script([answer(headers={"age": age, "date": formatdate(written_at, usegmt=True)})])
    reading = await work_api(around, script).stats(STATS_CALL)
    assert (reading.age_s, reading.received_at, reading.server_ahead_s) == (age_s, around.now - age_s, 0.0)


# ---- memory


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500, 529])
@pytest.mark.parametrize("content", [STATS, b"[" * 1000, b'{"depth": "\\ud800"}', b'{"depth": -1}'])
async def test_no_body_outlives_its_read_whoever_keeps_the_failure(status: int, content: bytes) -> None:
    around, body = Surroundings(), bytearray(content)
    kept = await outcome_of(work_api(around, Script([HttpResponse(status, {}, body)]), environment_key=False))
    assert (kept is None) == (status == 200 and content == STATS)
    assert body == b""


# ---- nothing leaks


def shown_by(failed: BaseException) -> str:
    """Return all that a log, a page or a careless handler could make of the exception."""
    shown = [repr(failed), str(failed), repr(failed.__dict__), "".join(traceback.format_exception(failed))]
    return "\n".join(shown)


HOSTILE: dict[str, HttpResponse] = {
    "an error": answer(400, json.dumps({"error": {"message": CANARY}}).encode(), {"request-id": f"{CANARY} {API_KEY}"}),
    "a refusal": answer(401, CANARY.encode()),
    "a wait": answer(429, CANARY.encode(), {"retry-after": CANARY, "date": CANARY}),
    "a redirection": answer(301, b"", {"location": f"http://{CANARY}/{API_KEY}"}),
    "no JSON": answer(200, CANARY.encode()),
    "a wrong shape": answer(200, json.dumps({"depth": CANARY, "pending": {CANARY: API_KEY}}).encode()),
    "a surrogate": answer(200, b'{"depth":"\\ud800' + CANARY.encode() + b'"}'),
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_no_failure_repeats_what_the_server_or_the_credential_said(kind: str) -> None:
    failed = await outcome_of(work_api(Surroundings(), Script([HOSTILE[kind]])))
    assert failed is not None
    shown = shown_by(failed)
    for secret in (CANARY, API_KEY, ENVIRONMENT_KEY):
        assert secret not in shown


# ---- over httpx


@pytest.fixture
def wire() -> Iterator[respx.MockRouter]:
    HTTPCoreMocker.add_targets("exporter.api.http11.Http11Connection")
    with respx.mock(base_url=BASE_URL, assert_all_called=False) as router:
        yield router


@pytest.fixture(scope="module")
def options() -> ConnectOptions:
    return ConnectOptions(tls=tls_context(), proxy_url=None, max_response_bytes=10_000)


@pytest.fixture
async def transport(options: ConnectOptions) -> AsyncIterator[HttpxTransport]:
    transport = HttpxTransport(lambda: options)
    yield transport
    await transport.aclose()


async def test_a_request_on_the_wire_is_what_the_api_expects(wire: respx.MockRouter, transport: HttpxTransport) -> None:
    called = wire.get(LIST_PATH).respond(content=PAGE)
    around = Surroundings()
    around.change(query={"beta": "true"})
    await work_api(around, transport).page("a b&c=d/\u00e9", 1000, LIST_CALL)
    request = called.calls.last.request
    assert dict(request.url.params) == {"beta": "true", "limit": "1000", "page": "a b&c=d/\u00e9"}
    assert request.url.path == f"/v1{LIST_PATH}"
    headers = dict(request.headers)
    assert headers.pop("user-agent").startswith("managed-agents-exporter/")
    assert headers == {
        "host": "127.0.0.1:9",
        "accept": "application/json",
        "accept-encoding": "identity",
        "cache-control": "no-cache",
        "connection": "keep-alive",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "managed-agents-2026-04-01",
        "authorization": f"Bearer {ENVIRONMENT_KEY}",
    }


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(wire: respx.MockRouter, transport: HttpxTransport, status: int) -> None:
    wire.get(STATS_PATH).respond(status, headers={"location": "http://127.0.0.1:9/v1/elsewhere"})
    elsewhere = wire.get("/elsewhere").respond(content=STATS)
    failed = await outcome_of(work_api(Surroundings(), transport))
    assert failed is not None
    assert (failed.reason, elsewhere.called) == ("protocol", False)


@pytest.mark.parametrize(
    "location",
    ["http://[", "http://\x00", "//", "http://a:99999999/", "\u2028", "http://" + "a" * 70_000, "http://\u00df.x"],
)
async def test_a_redirect_to_nowhere_is_no_other_failure(
    wire: respx.MockRouter, transport: HttpxTransport, location: str
) -> None:
    wire.get(STATS_PATH).respond(302, headers={b"location": location.encode()})
    failed = await outcome_of(work_api(Surroundings(), transport))
    assert failed is not None
    assert failed.reason == "protocol"


async def test_cookies_are_neither_kept_nor_sent(wire: respx.MockRouter, transport: HttpxTransport) -> None:
    called = wire.get(STATS_PATH).respond(content=STATS, headers={"set-cookie": f"session={CANARY}; Path=/"})
    api = work_api(Surroundings(), transport)
    for _ in range(2):
        assert await outcome_of(api) is None
    assert "cookie" not in called.calls.last.request.headers


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "GZIP", "identity, gzip", "x"])
async def test_a_compressed_answer_is_refused(wire: respx.MockRouter, transport: HttpxTransport, encoding: str) -> None:
    wire.get(STATS_PATH).respond(content=b"", headers={"content-encoding": encoding})
    failed = await outcome_of(work_api(Surroundings(), transport))
    assert failed is not None
    assert failed.reason == "protocol"


@pytest.mark.parametrize("encoding", ["", "identity", "IDENTITY", " Identity ", "identity, identity", ","])
async def test_an_answer_that_says_in_whatever_way_that_it_is_not_compressed_is_read(
    wire: respx.MockRouter, transport: HttpxTransport, encoding: str
) -> None:
    wire.get(STATS_PATH).respond(content=STATS, headers={"content-encoding": encoding})
    assert await outcome_of(work_api(Surroundings(), transport)) is None


@pytest.mark.parametrize("status", [200, 500])
async def test_an_answer_over_the_limit_is_too_large_whatever_its_status(
    wire: respx.MockRouter, transport: HttpxTransport, status: int
) -> None:
    wire.get(STATS_PATH).respond(status, content=b" " * 10_001)
    failed = await outcome_of(work_api(Surroundings(), transport))
    assert failed is not None
    assert (failed.reason, failed.status) == ("too_large", status)


async def test_an_answer_of_exactly_the_limit_is_read(wire: respx.MockRouter, transport: HttpxTransport) -> None:
    wire.get(STATS_PATH).respond(content=STATS.ljust(10_000))
    assert await outcome_of(work_api(Surroundings(), transport)) is None


LIBRARY_FAULTS: dict[type[Exception], Reason] = {
    httpcore.ConnectError: "connect",
    httpcore.ProxyError: "connect",
    httpcore.ConnectTimeout: "timeout",
    httpcore.ReadTimeout: "timeout",
    httpcore.PoolTimeout: "timeout",
    httpcore.ReadError: "protocol",
    httpcore.WriteError: "protocol",
    httpcore.RemoteProtocolError: "protocol",
    httpcore.LocalProtocolError: "protocol",
    httpcore.UnsupportedProtocol: "protocol",
    httpcore.ConnectionNotAvailable: "protocol",
}


@pytest.mark.parametrize("fault", LIBRARY_FAULTS)
async def test_a_fault_of_the_library_has_a_reason_and_its_text_goes_nowhere(
    wire: respx.MockRouter, transport: HttpxTransport, fault: type[Exception]
) -> None:
    wire.get(STATS_PATH).mock(side_effect=fault(f"Illegal header value b'{API_KEY}' {CANARY}"))
    failed = await outcome_of(work_api(Surroundings(), transport))
    assert failed is not None
    assert failed.reason == LIBRARY_FAULTS[fault]
    assert API_KEY not in shown_by(failed)
    assert CANARY not in shown_by(failed)


async def test_a_client_never_holds_a_credential_of_its_own(wire: respx.MockRouter, transport: HttpxTransport) -> None:
    wire.get(STATS_PATH).respond(content=STATS)
    await outcome_of(work_api(Surroundings(), transport))
    assert transport._shared is not None
    kept = [vars(transport._shared), vars(transport)]
    assert "canary" not in repr(kept)
