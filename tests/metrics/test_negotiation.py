"""A scraper gets the format it prefers among those there are, and something legible whatever it asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from exporter.metrics.negotiation import PLAIN, preferred_format, takes_gzip

OPENMETRICS = "application/openmetrics-text"
PROMETHEUS_2 = (
    f"{OPENMETRICS};version=1.0.0,{OPENMETRICS};version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    f"{OPENMETRICS};version=1.0.0;escaping=allow-utf-8;q=0.6,{OPENMETRICS};version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "format_"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/*", PLAIN),
        ("text/plain", PLAIN),
        ("text/plain; version=0.0.4", PLAIN),
        ("text/html,application/xhtml+xml,*/*;q=0.8", PLAIN),
        (PROMETHEUS_2, f"{OPENMETRICS};version=1.0.0;escaping=underscores"),
        (PROMETHEUS_3, f"{OPENMETRICS};version=1.0.0;escaping=allow-utf-8"),
        (OPENMETRICS, OPENMETRICS),
        (OPENMETRICS.upper(), OPENMETRICS),
        (f'{OPENMETRICS}; version="1.0.0"', f"{OPENMETRICS};version=1.0.0;escaping=underscores"),
        (f"text/plain, {OPENMETRICS};q=0.5", PLAIN),
        (f"text/plain;q=0.2, {OPENMETRICS};q=0.5", OPENMETRICS),
        (f"{OPENMETRICS};q=0, text/plain;q=0.1", PLAIN),
        (f"{OPENMETRICS};q=0", PLAIN),
        (
            f"{OPENMETRICS};version=99.0.0, text/plain;version=1.0.0;q=0.1",
            "text/plain;version=1.0.0;escaping=underscores",
        ),
        (f"{OPENMETRICS};version=abc", PLAIN),
        ("application/json", PLAIN),
    ],
)
def test_the_most_preferred_known_format_is_chosen(accept: str, format_: str) -> None:
    assert preferred_format(accept) == format_


pieces = st.sampled_from(
    [
        OPENMETRICS,
        "text/plain",
        "*/*",
        ";",
        ",",
        "=",
        "q",
        "version",
        "escaping",
        "1.0.0",
        "0.5",
        "nan",
        '"',
        " ",
        "\u0663",
    ]
)


@given(st.lists(pieces, max_size=14).map("".join) | st.text(max_size=60))
def test_whatever_is_asked_for_there_is_an_answer_with_a_known_content_type(accept: str) -> None:
    encode, content_type = choose_encoder(preferred_format(accept))
    encode(CollectorRegistry())
    assert content_type.partition(";")[0] in {"text/plain", OPENMETRICS}
    assert content_type.isascii()
    assert content_type.isprintable()


@pytest.mark.parametrize(
    ("accept_encoding", "taken"),
    [
        ("", False),
        ("identity", False),
        ("br, deflate", False),
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip;q=0.5", True),
        ("gzip; q=1.000", True),
        ("gzip;q=0", False),
        ("gzip ; Q = 0.000", False),
        ("gzip;q=0.001", True),
        ("gzip;q=nonsense", True),
        ("x-gzip", False),
    ],
)
def test_gzip_is_used_exactly_where_it_is_taken(accept_encoding: str, *, taken: bool) -> None:
    assert takes_gzip(accept_encoding) is taken


@given(st.text(max_size=60))
def test_any_accept_encoding_is_survived(accept_encoding: str) -> None:
    takes_gzip(accept_encoding)
