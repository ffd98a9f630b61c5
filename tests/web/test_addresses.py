"""Addresses to listen on: how they are read, and what is bound."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from exporter.web import addresses
from exporter.web.addresses import AddressError, listen, parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def ipv6_works() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not ipv6_works(), reason="this machine has no IPv6")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        *(
            (":9831", "", 9831),
            ("localhost:0", "localhost", 0),
            ("[::1]:9831", "::1", 9831),
            ("10.0.0.1:1", "10.0.0.1", 1),
        ),
        *(("[0:0:0:0:0:0:0:0]:1", "::", 1), ("[::0]:1", "::", 1), ("[FE80::1%lo]:1", "fe80::1%lo", 1)),
        ("[::ffff:127.0.0.1]:1", "127.0.0.1", 1),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert parse_address(text) == (host, port)


@pytest.mark.parametrize("text", ["", "9831", "localhost", "host:port", ":65536", "::1:9831", ":-1", ":٣"])
def test_what_is_no_address_is_refused_with_what_one_looks_like(text: str) -> None:
    with pytest.raises(AddressError, match=r"is no listen address: give :port, host:port or \[v6\]:port"):
        parse_address(text)


@pytest.fixture
def opened() -> Iterator[Callable[[str], list[socket.socket]]]:
    """Listen, and close all of it in the end."""
    with ExitStack() as stack:

        def listen_meanwhile(text: str) -> list[socket.socket]:
            return [stack.enter_context(listener) for listener in listen(text)]

        yield listen_meanwhile


def port_of(listeners: list[socket.socket]) -> int:
    """Return the one port of all of them."""
    (port,) = {listener.getsockname()[1] for listener in listeners}
    assert isinstance(port, int)
    return port


def answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=20).close()
    except ConnectionRefusedError:
        return False
    return True


@needs_ipv6
@pytest.mark.parametrize("text", [":0", "[::]:0", "[0::0]:0"])
def test_all_addresses_are_those_of_ipv4_as_well(text: str, opened: Callable[[str], list[socket.socket]]) -> None:
    port = port_of(opened(text))
    assert [answers(host, port) for host in ("127.0.0.1", "::1")] == [True, True]


@needs_ipv6
def test_a_single_address_is_no_other(opened: Callable[[str], list[socket.socket]]) -> None:
    four, six = port_of(opened("127.0.0.1:0")), port_of(opened("[::1]:0"))
    assert [answers(host, port) for host, port in (("127.0.0.1", four), ("::1", six))] == [True, True]
    assert [answers(host, port) for host, port in (("::1", four), ("127.0.0.1", six))] == [False, False]


def test_all_ipv4_addresses_are_those_alone(opened: Callable[[str], list[socket.socket]]) -> None:
    (listener,) = opened("0.0.0.0:0")
    assert listener.family == socket.AF_INET


def test_a_name_is_every_address_that_it_has_on_the_same_port(
    monkeypatch: pytest.MonkeyPatch, opened: Callable[[str], list[socket.socket]]
) -> None:
    both = [(socket.AF_INET6, ("::1", 0, 0, 0)), (socket.AF_INET, ("127.0.0.1", 0))]
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(family, socket.SOCK_STREAM, 0, "", at) for family, at in both]
    )
    listeners = opened("name.example:0")
    monkeypatch.undo()
    port = port_of(listeners)
    bound = {listener.getsockname()[0] for listener in listeners}
    assert bound == {host for host in ("127.0.0.1", "::1") if answers(host, port)}
    assert "127.0.0.1" in bound


def test_localhost_is_this_machine_even_where_nobody_resolves_it(
    monkeypatch: pytest.MonkeyPatch, opened: Callable[[str], list[socket.socket]]
) -> None:
    def resolve(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert "127.0.0.1" in {listener.getsockname()[0] for listener in opened("localhost:0")}
    with pytest.raises(AddressError, match=r"^cannot listen on name\.example:0: Name or service not known; "):
        listen("name.example:0")


def test_an_address_of_a_name_that_this_machine_lacks_is_left_out(
    monkeypatch: pytest.MonkeyPatch, opened: Callable[[str], list[socket.socket]]
) -> None:
    found = [(socket.AF_INET, (host, 0)) for host in ("192.0.2.1", "127.0.0.1")]
    monkeypatch.setattr(addresses, "_addresses", lambda _: found)
    (listener,) = opened("name.example:0")
    assert listener.getsockname()[0] == "127.0.0.1"
    monkeypatch.setattr(addresses, "_addresses", lambda _: found[:1])
    with pytest.raises(AddressError, match=r"^cannot listen on name\.example:0: Cannot assign requested address; "):
        listen("name.example:0")


def test_without_ipv6_all_addresses_are_those_of_ipv4(
    monkeypatch: pytest.MonkeyPatch, opened: Callable[[str], list[socket.socket]]
) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    (listener,) = opened("[::]:0")
    assert listener.family == socket.AF_INET


@pytest.mark.parametrize("other", ["{}", ":{}", "[::]:{}", "localhost:{}"])
def test_a_port_in_use_on_one_of_the_addresses_is_an_error_with_a_remedy(
    other: str, opened: Callable[[str], list[socket.socket]]
) -> None:
    port = port_of(opened("127.0.0.1:0"))
    text = other.format(port if other != "{}" else f"127.0.0.1:{port}")
    with pytest.raises(AddressError, match=r"Address already in use; another address can be given"):
        listen(text)


def test_a_name_without_an_address_is_an_error() -> None:
    with pytest.raises(AddressError, match=r"^cannot listen on nowhere\.invalid:0: "):
        listen("nowhere.invalid:0")
