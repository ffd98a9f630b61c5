"""Addresses to listen on: how they are read, and what is bound."""

from __future__ import annotations

import pytest

from exporter.web.addresses import AddressError, listen, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [(":9831", "", 9831), ("localhost:0", "localhost", 0), ("[::1]:9831", "::1", 9831), ("10.0.0.1:1", "10.0.0.1", 1)],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert parse_address(text) == (host, port)


@pytest.mark.parametrize("text", ["", "9831", "localhost", "host:port", ":65536", "::1:9831", ":-1", ":٣"])
def test_what_is_no_address_is_refused_with_what_one_looks_like(text: str) -> None:
    with pytest.raises(AddressError, match=r"is no listen address: give :port, host:port or \[v6\]:port"):
        parse_address(text)


def test_a_port_in_use_is_refused_with_a_remedy() -> None:
    with listen("127.0.0.1:0") as first:
        address = f"127.0.0.1:{first.getsockname()[1]}"
        with pytest.raises(AddressError, match=r"Address already in use; another address can be given"):
            listen(address)
