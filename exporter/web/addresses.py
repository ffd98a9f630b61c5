"""Addresses to listen on, as Go's net.Listen reads them."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

BACKLOG = 512
ABSENT = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""What the system says to an address that it does not have."""

LOOPBACK: Final[list[tuple[int, Any]]] = [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0, 0, 0))]


class AddressError(Exception):
    """An address that can't be listened on. The text is one sentence."""


def parse_address(text: str) -> tuple[str, int]:
    """Split `:port`, `host:port` or `[v6]:port`. Raises AddressError."""
    host, separator, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    valid = separator and port.isascii() and port.isdecimal() and int(port) <= 65535  # noqa: PLR2004 -- the last port
    if not valid or (":" in bare and bare == host):
        raise AddressError(f"{text!r} is no listen address: give :port, host:port or [v6]:port")
    return _canonical(bare), int(port)


def _canonical(host: str) -> str:
    """Return the usual spelling of an address: `::` for `0:0::0`, and of an IPv4 address in IPv6's clothes that address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(getattr(address, "ipv4_mapped", None) or address)


def listen(text: str) -> list[socket.socket]:
    """Listen on every address that the text stands for. Raises AddressError with the reason and a remedy.

    `:port` and `[::]:port` are all addresses of the machine, of IPv4 as well; a name is all addresses that it has here.
    """
    host, port = parse_address(text)
    try:
        return _listen_everywhere(port) if host in {"", "::"} else _listen_on_each(_addresses(host), port)
    except OSError as problem:
        remedy = "another address can be given with --web.listen-address"
        raise AddressError(f"cannot listen on {text}: {problem.strerror or problem}; {remedy}") from None


def _addresses(host: str) -> list[tuple[int, Any]]:
    """Return the families and addresses that a name stands for. `localhost` needs nobody who resolves it (RFC 6761)."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE, proto=socket.IPPROTO_TCP)
    except socket.gaierror:
        if host != "localhost":
            raise
        return LOOPBACK
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _listen_everywhere(port: int) -> list[socket.socket]:
    if socket.has_dualstack_ipv6():
        try:
            return [_listener(socket.AF_INET6, ("::", port), dual_stack=True)]
        except OSError as problem:
            if problem.errno not in ABSENT:
                raise
    return [_listener(socket.AF_INET, ("0.0.0.0", port))]  # noqa: S104 -- `:port` asks for it


def _listen_on_each(addresses: Sequence[tuple[int, Any]], port: int) -> list[socket.socket]:
    """Listen on one port of each address that this machine has: `localhost` is ::1 as well, even where IPv6 is off."""
    listeners: list[socket.socket] = []
    absent = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    with ExitStack() as opened:
        for family, (host, _, *scope) in addresses:
            try:
                listener = opened.enter_context(_listener(family, (host, port, *scope)))
            except OSError as problem:
                if problem.errno not in ABSENT:
                    raise
                absent = problem
            else:
                listeners.append(listener)
                port = listener.getsockname()[1]  # the system has chosen one if it was 0
        if not listeners:
            raise absent
        opened.pop_all()
    return listeners


def _listener(family: int, address: tuple[Any, ...], *, dual_stack: bool = False) -> socket.socket:
    # asyncio sets TCP_NODELAY only on sockets whose protocol is named.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual_stack)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
