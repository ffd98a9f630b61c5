"""Bytes of the API become checked values or a WireError, whatever the bytes are."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.api.wire import (
    COUNT_LIMIT,
    CURSOR_LENGTH_LIMIT,
    ID_LENGTH_LIMIT,
    State,
    WireError,
    WorkItem,
    WorkStats,
    clean_name,
    parse_environment_page,
    parse_stats,
    parse_work_page,
    speaks_of_workspaces,
)
from exporter.config.model import ENVIRONMENT_ID, NAME_LENGTH_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

CANARY = "canary-9d41f0"
OURS = "env_ours"
INSTANT = "2026-07-01T08:15:01Z"
AT = datetime(2026, 7, 1, 8, 15, 1, tzinfo=UTC).timestamp()
STATS: dict[str, Any] = {
    "type": "work_queue_stats",
    "depth": 3,
    "pending": 1,
    "oldest_queued_at": INSTANT,
    "workers_polling": 2,
}
ITEM: dict[str, Any] = {
    "type": "work",
    "id": "work_1",
    "environment_id": OURS,
    "state": "active",
    "data": {"type": "session", "id": "session_1"},
    "metadata": {"k": CANARY},
    "secret": None,
    "created_at": INSTANT,
    "acknowledged_at": "2026-07-01T08:15:02Z",
    "started_at": "2026-07-01T08:15:03Z",
    "latest_heartbeat_at": "2026-07-01T08:15:04Z",
    "stop_requested_at": None,
    "stopped_at": None,
}
ENVIRONMENT: dict[str, Any] = {
    "type": "environment",
    "id": OURS,
    "name": "production",
    "config": {"type": "self_hosted"},
    "metadata": {"k": CANARY},
    "archived_at": None,
}
PARSERS: dict[str, Callable[[bytes], object]] = {
    "stats": parse_stats,
    "list": lambda body: parse_work_page(body, environment_id=OURS),
    "environments": parse_environment_page,
}
GOOD: dict[str, dict[str, Any]] = {
    "stats": STATS,
    "list": {"data": [ITEM, ITEM | {"id": "work_2", "state": "queued"}], "next_page": "next"},
    "environments": {"data": [ENVIRONMENT], "next_page": None, "has_more": False},
}


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


def work_page(*items: dict[str, Any], **rest: object) -> bytes:
    return encoded({"data": list(items), "next_page": None, **rest})


def item_with(**fields: object) -> bytes:
    return work_page({**ITEM, **fields})


every_parser = pytest.mark.parametrize("kind", PARSERS)


# ---- stats


def test_stats_are_read_as_documented() -> None:
    assert parse_stats(encoded(STATS)) == WorkStats(depth=3, pending=1, oldest_queued_at=AT, workers_polling=2)


def test_an_idle_queue_has_no_oldest_item_and_may_not_know_its_workers() -> None:
    idle = STATS | {"depth": 0, "pending": 0, "oldest_queued_at": None, "workers_polling": None}
    assert parse_stats(encoded(idle)) == WorkStats(depth=0, pending=0, oldest_queued_at=None, workers_polling=None)


def test_the_optional_fields_of_stats_may_be_missing() -> None:
    assert parse_stats(b'{"depth":0,"pending":0}') == WorkStats(0, 0, None, None)


@pytest.mark.parametrize("field", ["depth", "pending"])
def test_stats_without_their_counts_are_refused(field: str) -> None:
    with pytest.raises(WireError, match="unexpected shape"):
        parse_stats(encoded({key: value for key, value in STATS.items() if key != field}))


@pytest.mark.parametrize("field", ["depth", "pending", "workers_polling"])
@pytest.mark.parametrize("value", [-1, -1.0, 1.5, 1e300, True, "1", [], {}, COUNT_LIMIT + 1, 10**30])
def test_what_is_no_count_is_refused_and_named(field: str, value: object) -> None:
    with pytest.raises(WireError) as caught:
        parse_stats(encoded(STATS | {field: value}))
    assert str(caught.value) == f"{field} is not a count"
    assert caught.value.drift == (field,)


@pytest.mark.parametrize("field", ["depth", "pending", "workers_polling"])
@pytest.mark.parametrize(
    ("written", "count"),
    [("3.0", 3), ("1e1", 10), ("0.0", 0), ("-0.0", 0), ("1E+2", 100), ("9007199254740992.0", 2**53)],
)
def test_a_whole_number_may_be_written_with_a_point_or_an_exponent(field: str, written: str, count: int) -> None:
    body = encoded(STATS | {field: 7}).replace(f'"{field}": 7'.encode(), f'"{field}": {written}'.encode())
    read = getattr(parse_stats(body), field)
    assert (read, type(read)) == (count, int)


@pytest.mark.parametrize(
    "written", ["3.5", "1e400", "-1e0", "9007199254740994.0", "NaN", "1e-1", "1e-400", "1e9999999999999999999999"]
)
def test_another_number_is_no_count(written: str) -> None:
    with pytest.raises(WireError):
        parse_stats(encoded(STATS | {"depth": 7}).replace(b'"depth": 7', f'"depth": {written}'.encode()))


def test_the_largest_count_is_exact() -> None:
    assert parse_stats(encoded(STATS | {"depth": COUNT_LIMIT})).depth == 2**53


@pytest.mark.parametrize("value", ["yesterday", 1_780_000_000, [], {}, True, False])
def test_an_illegible_oldest_instant_spoils_nothing_else(value: object) -> None:
    stats = parse_stats(encoded(STATS | {"oldest_queued_at": value}))
    assert stats == WorkStats(3, 1, None, 2, oldest_known=False, drift=("oldest_queued_at",))


# ---- instants

LEGIBLE = {
    "2026-07-01T08:15:01Z": AT,
    "2026-07-01t08:15:01z": AT,
    "2026-07-01T08:15:01+00:00": AT,
    "2026-07-01T10:15:01+02:00": AT,
    "2026-07-01T02:45:01-05:30": AT,
    "2026-07-01T08:15:01.5Z": AT + 0.5,
    "2026-07-01T08:15:01.000001Z": AT + 0.000001,
    "2026-07-01T08:15:01.1234567890123456789Z": AT + 0.123457,
    "2026-07-01T08:15:01.9999999999Z": AT + 1,
    "1971-01-01T00:00:00Z": 31_536_000.0,
    "2199-12-31T23:59:59Z": 7_258_118_399.0,
}
UNSET = [
    "0001-01-01T00:00:00Z",  # Go's time.Time{}
    "0001-01-01T00:00:00",  # .NET's DateTime.MinValue
    "0001-01-01T00:00:00+00:00",
    "1970-01-01T00:00:00Z",
    "1970-01-01T01:00:00+01:00",
    "1969-12-31T23:59:59Z",
    "1900-01-01T00:00:00Z",
    "0000-00-00T00:00:00Z",  # MySQL's zero date
    "0000-00-00 00:00:00",
    "1970-12-31T23:59:59.999Z",
    "9999-12-31T23:59:59Z",  # .NET's DateTime.MaxValue, and "never" in many databases
    "9999-12-31T23:59:59.9999999Z",
    "9999-12-31T23:59:59.9999999",
    "2262-04-11T23:47:16.854775807Z",  # the last of Go's nanoseconds
    "2200-01-01T00:00:00Z",
    "0000-01-01T00:00:00Z",
    "0001-01-01 00:00:00 +0000 UTC",  # Go's Time.String()
    "-0001-11-30T00:00:00+00:00",  # PHP's reading of MySQL's zero date
    "1970-01-01",
    "",
    0,
    0.0,
    -62_135_596_800,  # year 1 in Unix seconds
]
INSTANTS_OF_AN_ITEM = (
    *("created_at", "acknowledged_at", "started_at"),
    *("latest_heartbeat_at", "stop_requested_at", "stopped_at"),
)
ILLEGIBLE = [
    "2026-07-01T08:15:01",
    "2026-07-01",
    "2026-W27-3T08:15:01Z",
    "20260701T081501Z",
    "2026-07-01T08:15Z",
    "2026-07-01T08:15:01.Z",
    "2026-07-01T08:15:01,5Z",
    "2026-07-01T08:15:01+24:00",
    "2026-07-01T24:00:00Z",
    "2026-02-30T08:15:01Z",
    "2026-13-01T08:15:01Z",
    " 2026-07-01T08:15:01Z",
    "2026-07-01T08:15:01Z ",
    "\u0662026-07-01T08:15:01Z",
    "1782893701",
    "now",
]


@pytest.mark.parametrize("text", LEGIBLE)
def test_an_instant_with_a_time_zone_is_read_whatever_its_precision(text: str) -> None:
    assert parse_stats(encoded(STATS | {"oldest_queued_at": text})).oldest_queued_at == pytest.approx(LEGIBLE[text])


@pytest.mark.parametrize("unset", UNSET)
def test_an_instant_that_is_not_set_is_null_and_no_drift(unset: object) -> None:
    idle = STATS | {"depth": 0, "pending": 0, "oldest_queued_at": unset}
    assert parse_stats(encoded(idle)) == WorkStats(depth=0, pending=0, oldest_queued_at=None, workers_polling=2)
    page = parse_work_page(item_with(**dict.fromkeys(INSTANTS_OF_AN_ITEM, unset)), environment_id=OURS)
    (item,) = page.items
    assert {getattr(item, name) for name in INSTANTS_OF_AN_ITEM} == {None}
    assert page.drift == ()


@pytest.mark.parametrize("text", ILLEGIBLE)
def test_an_instant_that_is_not_rfc_3339_is_not_guessed_at(text: str) -> None:
    stats = parse_stats(encoded(STATS | {"oldest_queued_at": text}))
    assert (stats.oldest_queued_at, stats.oldest_known) == (None, False)


@given(
    at=st.datetimes(min_value=datetime(1971, 1, 3), max_value=datetime(2199, 12, 30)),  # noqa: DTZ001 -- the zone is drawn
    offset_minutes=st.integers(-1439, 1439),
    digits=st.integers(0, 9),
)
def test_any_instant_of_any_offset_and_precision_is_read_back(at: datetime, offset_minutes: int, digits: int) -> None:
    zoned = at.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    fraction = f".{at.microsecond:06d}000"[: digits + 1] if digits else ""
    hours, minutes = divmod(abs(offset_minutes), 60)
    text = f"{at:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + fraction
    text += f"{'-' if offset_minutes < 0 else '+'}{hours:02d}:{minutes:02d}"
    read = parse_stats(encoded(STATS | {"oldest_queued_at": text})).oldest_queued_at
    assert read is not None
    assert abs(read - zoned.timestamp()) <= 10.0**-digits + 5e-5


# ---- the list


def test_an_item_is_read_as_documented() -> None:
    page = parse_work_page(work_page(ITEM), environment_id=OURS)
    item = WorkItem(
        id="work_1",
        state=State.ACTIVE,
        created_at=AT,
        acknowledged_at=AT + 1,
        started_at=AT + 2,
        latest_heartbeat_at=AT + 3,
        type="session",
        session_id="session_1",
    )
    assert (page.items, page.next_cursor, page.drift) == ((item,), None, ())


@pytest.mark.parametrize(
    ("data", "kind", "session_id"),
    [
        ({"type": "session", "id": "session_9"}, "session", "session_9"),
        ({"type": "healthcheck", "id": "check_9"}, "healthcheck", None),
        ({"type": "batch", "id": "batch_9"}, "unknown", None),
        ({"type": "session"}, "session", None),
        ({"type": "session", "id": 9}, "session", None),
        ({"type": "session", "id": ""}, "session", None),
        ({"type": "session", "id": "s" * (ID_LENGTH_LIMIT + 1)}, "session", None),
        (None, "unknown", None),
    ],
)
def test_an_item_names_its_session_if_it_is_one(data: object, kind: str, session_id: str | None) -> None:
    (item,) = parse_work_page(item_with(data=data), environment_id=OURS).items
    assert (item.type, item.session_id) == (kind, session_id)


@pytest.mark.parametrize("state", [state for state in State if state is not State.UNKNOWN])
def test_every_documented_state_is_known(state: State) -> None:
    page = parse_work_page(item_with(state=state.value), environment_id=OURS)
    assert (page.items[0].state, page.drift) == (state, ())


@pytest.mark.parametrize("state", ["paused", "", "ACTIVE", "unknown", None, 3, [], {"of": "mind"}])
def test_a_new_state_counts_as_unknown_and_rejects_nothing(state: object) -> None:
    page = parse_work_page(work_page(ITEM, ITEM | {"id": "work_2", "state": state}), environment_id=OURS)
    assert [item.state for item in page.items] == [State.ACTIVE, State.UNKNOWN]
    assert page.drift == ("state",)


@pytest.mark.parametrize("data", [{"type": "session"}, {"type": "healthcheck", "id": 1, "new": []}])
def test_items_of_every_known_type_count_alike(data: object) -> None:
    page = parse_work_page(item_with(data=data), environment_id=OURS)
    assert (len(page.items), page.drift) == (1, ())


@pytest.mark.parametrize("data", [None, "session", {}, {"type": None}, {"type": ["session"]}, {"type": "dream"}, 1])
def test_an_item_of_a_new_type_counts_and_is_noted(data: object) -> None:
    page = parse_work_page(item_with(data=data), environment_id=OURS)
    assert (len(page.items), page.drift) == (1, ("data.type",))


@pytest.mark.parametrize(
    "field",
    ["created_at", "acknowledged_at", "started_at", "latest_heartbeat_at", "stop_requested_at", "stopped_at"],
)
def test_an_illegible_instant_of_an_item_drops_that_instant_alone(field: str) -> None:
    page = parse_work_page(work_page(ITEM | {field: "soon"}, ITEM | {"id": "work_2"}), environment_id=OURS)
    assert getattr(page.items[0], field) is None
    assert page.items[0].state is State.ACTIVE
    assert (len(page.items), page.drift) == (2, (field,))


def test_items_of_another_environment_are_dropped_and_noted() -> None:
    foreign = ITEM | {"id": "work_2", "environment_id": "env_theirs"}
    page = parse_work_page(work_page(ITEM, foreign), environment_id=OURS)
    assert [item.id for item in page.items] == ["work_1"]
    assert page.drift == ("environment_id",)


def test_a_page_of_nothing_but_foreign_items_is_refused() -> None:
    with pytest.raises(WireError, match="belongs to another environment") as caught:
        parse_work_page(item_with(environment_id="env_theirs"), environment_id=OURS)
    assert caught.value.drift == ("environment_id",)


def test_items_that_do_not_say_whose_they_are_belong() -> None:
    assert len(parse_work_page(item_with(environment_id=None), environment_id=OURS).items) == 1


def test_an_empty_page_is_a_page() -> None:
    page = parse_work_page(work_page(), environment_id=OURS)
    assert (page.items, page.next_cursor) == ((), None)


@pytest.mark.parametrize("identifier", ["", "x" * (ID_LENGTH_LIMIT + 1), None, 1, ["a"]])
def test_an_item_that_cannot_be_distinguished_refuses_the_page(identifier: object) -> None:
    with pytest.raises(WireError):
        parse_work_page(item_with(id=identifier), environment_id=OURS)


@pytest.mark.parametrize("body", [b"{}", b'{"data":null}', b'{"data":{}}', b'{"data":[null]}', b'{"data":[1]}'])
@pytest.mark.parametrize("kind", ["list", "environments"])
def test_a_page_without_a_list_of_objects_is_refused(kind: str, body: bytes) -> None:
    with pytest.raises(WireError, match="unexpected shape"):
        PARSERS[kind](body)


# ---- cursors


@pytest.mark.parametrize(
    ("rest", "cursor"),
    [
        ({"next_page": "c"}, "c"),
        ({"next_page": "c", "has_more": True}, "c"),
        ({"next_page": "c", "has_more": None}, "c"),
        ({"next_page": "c", "has_more": False}, None),
        ({"next_page": None, "has_more": True}, None),
        ({"next_page": ""}, None),
        ({"next_page": False}, None),
        ({"next_page": "/../?#%&=\u2028"}, "/../?#%&=\u2028"),
    ],
)
def test_the_walk_goes_on_while_there_is_a_cursor_and_more_to_come(rest: dict[str, Any], cursor: str | None) -> None:
    assert parse_work_page(work_page(ITEM, **rest), environment_id=OURS).next_cursor == cursor
    assert parse_environment_page(encoded({"data": [], **rest})).next_cursor == cursor


def test_a_page_without_a_cursor_is_the_last() -> None:
    assert parse_work_page(encoded({"data": [ITEM]}), environment_id=OURS).next_cursor is None


@pytest.mark.parametrize("cursor", [1, True, ["c"], {"c": "c"}, "c" * (CURSOR_LENGTH_LIMIT + 1)])
def test_what_cannot_be_a_cursor_is_refused(cursor: object) -> None:
    with pytest.raises(WireError) as caught:
        parse_work_page(work_page(ITEM, next_page=cursor), environment_id=OURS)
    assert caught.value.drift == ("next_page",)


# ---- the directory


def test_an_environment_of_the_directory_is_read_as_documented() -> None:
    page = parse_environment_page(encoded(GOOD["environments"]))
    found = page.environments[0]
    assert (found.id, found.name, found.self_hosted, found.archived) == (OURS, "production", True, False)
    assert (len(page.environments), page.next_cursor, page.drift) == (1, None, ())


@pytest.mark.parametrize("config", [None, {}, {"type": "hybrid"}, {"type": 1}, "self_hosted"])
def test_an_environment_of_a_new_kind_is_not_taken_for_self_hosted(config: object) -> None:
    page = parse_environment_page(encoded({"data": [ENVIRONMENT | {"config": config}]}))
    assert not page.environments[0].self_hosted
    assert page.drift == ("environment.config.type",)


def test_a_cloud_environment_is_known_for_what_it_is() -> None:
    page = parse_environment_page(encoded({"data": [ENVIRONMENT | {"config": {"type": "cloud"}}]}))
    assert (page.environments[0].self_hosted, page.drift) == (False, ())


@pytest.mark.parametrize("archived_at", [INSTANT, "some time", 0, False])
def test_anything_in_archived_at_means_archived(archived_at: object) -> None:
    page = parse_environment_page(encoded({"data": [ENVIRONMENT | {"archived_at": archived_at}]}))
    assert page.environments[0].archived


@pytest.mark.parametrize(
    "identifier",
    [
        None,
        1,
        "",
        "env_",
        "env_a/../b",
        "env_a?x",
        "env_a#",
        "env_a%2e",
        "env_a\n",
        "env_\u00e9",
        "env_" + "a" * 97,
        "x",
    ],
)
def test_an_environment_that_cannot_be_addressed_safely_is_dropped(identifier: object) -> None:
    page = parse_environment_page(encoded({"data": [ENVIRONMENT | {"id": identifier}, ENVIRONMENT]}))
    assert [each.id for each in page.environments] == [OURS]
    assert page.drift == ("environment.id",)


@pytest.mark.parametrize("name", [None, 7, ["n"], ""])
def test_an_environment_without_a_name_is_kept_nameless(name: object) -> None:
    assert parse_environment_page(encoded({"data": [ENVIRONMENT | {"name": name}]})).environments[0].name == ""


def test_a_lone_surrogate_in_a_name_is_dropped() -> None:
    body = encoded({"data": [ENVIRONMENT | {"name": "a\ud800b\udfff"}]})
    assert parse_environment_page(body).environments[0].name == "ab"


@given(st.text(max_size=300))
def test_a_cleaned_name_can_be_shown_anywhere(text: str) -> None:
    name = clean_name(text)
    assert len(name) <= NAME_LENGTH_LIMIT
    assert name == name.strip() == clean_name(name)
    assert name.isprintable() or not name.isascii()
    assert not set(name) & set("\x00\n\r\t\x1b\x7f\u202e\u2066\u200f\ufeff\u2028\u2029\ufffd")
    name.encode()


# ---- anything at all

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=12), children, max_size=4),
    max_leaves=12,
)


def parse_anything(kind: str, body: bytes) -> object:
    """Parse; anything but a value or a WireError that tells no content fails the test."""
    try:
        return PARSERS[kind](body)
    except WireError as refused:
        problem = refused
    assert CANARY not in repr((problem, problem.__cause__, problem.__dict__))
    assert problem.__suppress_context__ or problem.__context__ is None
    return problem


def places(document: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """List the path of every value in the document, the whole included."""
    inside = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [at, *(path for key, value in inside for path in places(value, (*at, key)))]


def replaced(document: Any, path: tuple[str | int, ...], value: object) -> Any:
    if not path:
        return value
    copy = document.copy()
    copy[path[0]] = replaced(document[path[0]], path[1:], value)
    return copy


@every_parser
@settings(max_examples=200)
@given(body=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_value_or_a_wire_error(kind: str, body: bytes) -> None:
    parse_anything(kind, body)


@every_parser
@settings(max_examples=300)
@given(data=st.data())
def test_any_value_anywhere_in_a_good_answer_is_a_value_or_a_wire_error(kind: str, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(places(GOOD[kind])))
    value = data.draw(JSON | st.sampled_from([CANARY, {CANARY: CANARY}, [CANARY], "\ud800" + CANARY]))
    parse_anything(kind, encoded(replaced(GOOD[kind], path, value)))


@every_parser
@settings(max_examples=200)
@given(data=st.data())
def test_any_damage_to_the_bytes_is_a_value_or_a_wire_error(kind: str, data: st.DataObject) -> None:
    body = encoded(GOOD[kind])
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, min(len(body), start + 8)))
    parse_anything(kind, body[:start] + data.draw(st.binary(max_size=8)) + body[end:])


@every_parser
def test_a_truncated_answer_is_refused_wherever_it_ends(kind: str) -> None:
    body = encoded(GOOD[kind])
    for length in range(len(body)):
        assert isinstance(parse_anything(kind, body[:length]), WireError)


@every_parser
@pytest.mark.parametrize("odd", [b"", b"null", b"[]", b"1", b'"x"', b"<html>502</html>", b"\xef\xbb\xbf{}", b"{} {}"])
def test_an_answer_that_is_no_json_object_is_refused(kind: str, odd: bytes) -> None:
    assert isinstance(parse_anything(kind, odd), WireError)


@every_parser
@pytest.mark.parametrize("place", ["metadata", "type", "oldest_queued_at", "depth", "config", "name"])
@pytest.mark.parametrize("bracket", [(b"[", b"]"), (b'{"a":', b"}")])
def test_ten_thousand_levels_of_nesting_are_survived(kind: str, place: str, bracket: tuple[bytes, bytes]) -> None:
    deep = bracket[0] * 10_000 + b"1" + bracket[1] * 10_000
    at = () if kind == "stats" else ("data", 0)
    part = STATS if kind == "stats" else GOOD[kind]["data"][0]
    marked = encoded(replaced(GOOD[kind], at, part | {place: CANARY * 2}))
    parse_anything(kind, marked.replace(f'"{CANARY * 2}"'.encode(), deep))


@pytest.mark.parametrize(
    "number", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"9" * 5000, b"-" + b"9" * 5000, b"1e-400"]
)
@pytest.mark.parametrize("field", [b"depth", b"oldest_queued_at", b"workers_polling"])
def test_numbers_out_of_this_world_are_never_believed(field: bytes, number: bytes) -> None:
    body = b'{"pending":0,"depth":0,"%s":%s}' % (field, number)
    outcome = parse_anything("stats", body)
    assert isinstance(outcome, WireError) or (isinstance(outcome, WorkStats) and not outcome.oldest_known)


@pytest.mark.parametrize("number", [b"9" * 5000, b"1e400", b"-0", b"1E+2"])
def test_numbers_in_fields_that_are_not_used_do_not_matter(number: bytes) -> None:
    assert parse_stats(b'{"depth":1,"pending":0,"later":%s}' % number).depth == 1


def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    assert parse_stats(b'{"depth":1,"depth":2,"pending":0}').depth == 2


@every_parser
@pytest.mark.parametrize(
    "escape", [r"\ud800", r"\uDFFF", r"\ud800\ud800", r"\udc00\ud800", r"\\\ud800", r"\ud83d\ude00\ud83d"]
)
def test_lone_surrogates_anywhere_spoil_nothing(kind: str, escape: str) -> None:
    whole = PARSERS[kind](encoded(GOOD[kind]))
    for name in ("extra", escape):
        body = encoded(GOOD[kind])[:-1] + f', "{name}": ["{escape}", {{"{escape}": 1}}]}}'.encode()
        assert PARSERS[kind](body) == whole


def test_a_lone_surrogate_in_a_cursor_or_an_id_leaves_text_that_can_be_sent() -> None:
    page = parse_work_page(work_page(ITEM | {"id": "w\ud800"}, next_page="c\udfff"), environment_id=OURS)
    assert (page.items[0].id.encode(), (page.next_cursor or "").encode()) == ("w\ufffd".encode(), "c\ufffd".encode())


def test_an_escaped_backslash_before_something_like_a_surrogate_stays_itself() -> None:
    body = rb'{"data":[],"next_page":"\\ud800","other":"\ud800"}'
    assert parse_work_page(body, environment_id=OURS).next_cursor == r"\ud800"


def test_a_pair_of_surrogates_is_one_character_beside_a_lone_one() -> None:
    body = rb'{"data":[],"next_page":"\ud83d\ude00\ud83d"}'
    assert parse_work_page(body, environment_id=OURS).next_cursor == "\U0001f600\ufffd"


def test_the_text_of_a_refusal_names_the_place_and_quotes_nothing() -> None:
    with pytest.raises(WireError) as caught:
        parse_work_page(encoded({"data": [ITEM, ITEM | {"id": {CANARY: CANARY}}]}), environment_id=OURS)
    assert str(caught.value) == "unexpected shape: $.data[1].id"


def test_credentials_and_metadata_never_become_objects() -> None:
    body = work_page(
        ITEM
        | {
            "secret": CANARY,
            "metadata": {CANARY: CANARY},
            "data": {"type": "healthcheck", "id": CANARY, "more": CANARY},
        }
    )
    assert CANARY not in repr(parse_work_page(body, environment_id=OURS))


@pytest.mark.parametrize(
    ("identifier", "safe"),
    [
        ("env_011CZkZ9X2dpNyB7HsEFoRfW", True),
        ("env_a\n", False),
        ("env_a/work/poll", False),
        ("env_..", False),
        ("ENV_a", False),
    ],
)
def test_an_id_enters_a_path_only_if_it_cannot_change_it(identifier: str, *, safe: bool) -> None:
    assert bool(ENVIRONMENT_ID.fullmatch(identifier)) is safe


@given(st.floats(allow_nan=False))
def test_values_read_are_finite(number: float) -> None:
    outcome = parse_anything("stats", encoded(STATS | {"depth": number, "oldest_queued_at": number}))
    assert isinstance(outcome, WireError) or math.isfinite(outcome.depth)  # type: ignore[attr-defined]  # WorkStats


# ---- refusals


@pytest.mark.parametrize("message", ["anthropic-workspace-id: required", "name a Workspace"])
def test_a_refusal_may_be_about_the_workspace(message: str) -> None:
    assert speaks_of_workspaces(encoded({"type": "error", "error": {"type": "x", "message": message}}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"workspace",
        b"[]",
        encoded({"error": "workspace"}),
        encoded({"error": {"type": "workspace"}}),
        encoded({"error": {"message": ["workspace"]}}),
        encoded({"error": {"message": "missing or unknown credential"}, "workspace": 1}),
    ],
)
def test_any_other_answer_says_nothing_of_workspaces(body: bytes) -> None:
    assert not speaks_of_workspaces(body)


def test_an_environment_knows_the_workspace_whose_list_it_stands_in() -> None:
    body = encoded(GOOD["environments"])
    pages = [parse_environment_page(body, workspace_id="wrkspc_1"), parse_environment_page(body)]
    assert [[each.workspace_id for each in page.environments] for page in pages] == [["wrkspc_1"], [""]]
