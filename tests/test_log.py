import io
import json
import logging
import traceback
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.secret import Secret
from exporter.log import Format, Level, Log, configure

NAMES = ("exporter", "httpx", "httpcore", "httpcore.connection", "uvicorn", "uvicorn.error", "uvicorn.access", "other")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Whatever a test does to the process's logging is undone."""
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, NAMES)]
    before = [(one, one.level, one.handlers[:], one.propagate) for one in loggers]
    yield
    for one, level, handlers, propagate in before:
        one.setLevel(level)
        one.handlers[:] = handlers
        one.propagate = propagate


class Sink:
    """A log with its lines, without the time they begin with."""

    def __init__(self, *, level: Level = "info", form: Format = "logfmt") -> None:
        self.stream = io.StringIO()
        self.log = configure(level=level, format=form, stream=self.stream)

    def raw(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    def lines(self) -> list[str]:
        return [line.partition(" ")[2] for line in self.raw()]


def test_an_event_is_one_line_of_logfmt_with_its_fields_in_order() -> None:
    sink = Sink()
    sink.log.info(
        "environment_failed", environment_id="env_a", reason="timeout", attempts=2, seconds=0.5, last=True, at=None
    )
    assert sink.lines() == [
        "level=info event=environment_failed environment_id=env_a reason=timeout attempts=2 seconds=0.5 last=true"
    ]


def test_the_time_is_rfc_3339_in_utc_with_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logging.time.time", lambda: 1_782_892_800.25)
    monkeypatch.setattr("logging.time.time_ns", lambda: 1_782_892_800_250_000_000, raising=False)
    sink = Sink()
    sink.log.info("started")
    assert sink.raw() == ["ts=2026-07-01T08:00:00.250Z level=info event=started"]


def test_json_keeps_the_types_of_fields() -> None:
    sink = Sink(form="json")
    sink.log.warning("x", count=3, ratio=0.5, fine=False, none=None, text='"ü\n', nan=float("nan"), many=("a", 1))
    fields = json.loads(sink.stream.getvalue())
    assert fields.pop("ts").endswith("Z")
    assert fields == {
        "level": "warn",
        "event": "x",
        "count": 3,
        "ratio": 0.5,
        "fine": False,
        "text": '"ü\n',
        "nan": "nan",
        "many": "a; 1",
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain-1.5/x:y", "plain-1.5/x:y"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "hi"', r'"say \"hi\""'),
        ("back\\slash", r'"back\\slash"'),
        ("first\nlevel=error event=forged", r'"first\nlevel=error event=forged"'),
        ("\x1b[31mred", r'"\u001b[31mred"'),
        ("Köln", '"Köln"'),
        ("left\u202eright\u2028\x85", r'"left\u202eright\u2028\u0085"'),
        ("lone \ud800 surrogate", r'"lone \ud800 surrogate"'),
    ],
)
def test_a_value_that_could_be_misread_is_quoted_and_escaped(value: str, shown: str) -> None:
    sink = Sink()
    sink.log.info("x", value=value)
    assert sink.lines() == [f"level=info event=x value={shown}"]


@given(st.text(st.characters(), max_size=50))
def test_any_text_stays_on_its_line_and_can_be_read_back(value: str) -> None:
    sink = Sink()
    sink.log.info("x", value=value)
    (line,) = sink.lines()
    shown = line.removeprefix("level=info event=x value=")
    assert (json.loads(shown) if shown.startswith('"') else shown) == value
    sink.stream.getvalue().encode("utf-8")


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warn", "error"]),
        ("info", ["info", "warn", "error"]),
        ("warn", ["warn", "error"]),
        ("error", ["error"]),
    ],
)
def test_events_below_the_level_are_dropped(level: Level, expected: list[str]) -> None:
    sink = Sink(level=level)
    for speak in (sink.log.debug, sink.log.info, sink.log.warning, sink.log.error):
        speak("x")
    assert sink.lines() == [f"level={word} event=x" for word in expected]


def test_a_field_can_not_pass_itself_off_as_the_time_or_the_level() -> None:
    sink = Sink()
    sink.log.info("x", level="error", ts="never")
    assert sink.lines() == ["level=info event=x"]
    assert "never" not in sink.stream.getvalue()


def test_a_secret_in_a_field_shows_itself_as_one() -> None:
    for form in ("logfmt", "json"):
        sink = Sink(form=form)
        secret = Secret("canary-4f3a9c")
        sink.log.info("x", key=secret, keys=[secret, secret], by_name={"a": secret})
        assert "canary" not in sink.stream.getvalue()
        assert sink.stream.getvalue().count("<secret>") == 4


def failing() -> None:
    local = "canary-4f3a9c"
    raise ValueError(len(local))


def test_an_exception_is_its_traceback_in_one_field_without_locals() -> None:
    sink = Sink(form="json")
    with pytest.raises(ValueError, match="13") as caught:
        failing()
    sink.log.error("task_failed", error=caught.value)
    error = json.loads(sink.stream.getvalue())["error"]
    assert error == "".join(traceback.format_exception(caught.value)).rstrip("\n")
    assert error.startswith("Traceback (most recent call last):\n")
    assert error.endswith("ValueError: 13")
    assert len(sink.raw()) == 1


def test_an_exception_that_was_never_raised_is_its_type_and_text() -> None:
    sink = Sink()
    sink.log.error("x", error=KeyError("k"))
    assert sink.lines() == ["""level=error event=x error="KeyError: 'k'\""""]


@pytest.mark.parametrize("name", ["httpx", "httpcore", "httpcore.connection", "httpcore.http11"])
def test_the_http_client_s_own_chatter_never_comes_out_even_at_debug(name: str) -> None:
    child = logging.getLogger(name)
    child.setLevel(logging.DEBUG)
    sink = Sink(level="debug")
    child.info("HTTP Request: GET https://host/?key=canary")
    child.debug("send_request_headers.started x-api-key: canary")
    child.setLevel(logging.DEBUG)
    child.debug("again: canary")
    child.warning("pool is gone")
    assert sink.lines() == [f'level=warn event=message logger={name} message="pool is gone"']


def test_records_of_other_libraries_come_out_as_messages_from_warnings_on() -> None:
    sink = Sink(level="debug")
    logging.getLogger("other").info("quiet")
    logging.getLogger("other").warning("count is %d", 3)
    logging.getLogger("other").critical("worse")
    assert sink.lines() == [
        'level=warn event=message logger=other message="count is 3"',
        "level=error event=message logger=other message=worse",
    ]


def test_uvicorn_speaks_through_the_same_stream_and_about_requests_only_at_debug() -> None:
    for name in ("uvicorn", "uvicorn.access"):
        logging.getLogger(name).addHandler(logging.StreamHandler(io.StringIO()))
        logging.getLogger(name).propagate = False
    sink = Sink()
    logging.getLogger("uvicorn.access").info("GET /metrics 200")
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.error").error("went wrong")
    assert sink.lines() == ['level=error event=message logger=uvicorn.error message="went wrong"']
    sink = Sink(level="debug")
    logging.getLogger("uvicorn.access").info("GET /metrics 200")
    assert sink.lines() == ['level=info event=message logger=uvicorn.access message="GET /metrics 200"']


def test_a_traceback_of_another_library_is_one_field() -> None:
    sink = Sink()
    with pytest.raises(ValueError, match="13"):
        failing()
    try:
        failing()
    except ValueError:
        logging.getLogger("other").exception("oops")
    (line,) = sink.lines()
    assert line.startswith(
        r'level=error event=message logger=other message=oops error="Traceback (most recent call last):\n'
    )


def test_configuring_again_replaces_the_stream() -> None:
    first, second = Sink(), Sink()
    Log().info("x")
    assert (first.lines(), second.lines()) == ([], ["level=info event=x"])


def test_a_stream_that_has_been_closed_does_not_disturb_anybody(capsys: pytest.CaptureFixture[str]) -> None:
    sink = Sink()
    sink.stream.close()
    sink.log.info("x", key="canary")
    assert capsys.readouterr() == ("", "")
