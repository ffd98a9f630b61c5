"""Addresses to listen on, as Go's net.Listen reads them."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

BACKLOG = 512


class AddressError(Exception):
    """An address that can't be listened on. The text is one sentence."""


def parse_address(text: str) -> tuple[str, int]:
    """Split `:port`, `host:port` or `[v6]:port`. Raises AddressError."""
    host, separator, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    valid = separator and port.isascii() and port.isdecimal() and int(port) <= 65535  # noqa: PLR2004 -- the last port
    if not valid or (":" in bare and bare == host):
        raise AddressError(f"{text!r} is no listen address: give :port, host:port or [v6]:port")
    return bare, int(port)


def listen(text: str) -> socket.socket:
    """Bind the address and listen. Raises AddressError with the reason and a remedy."""
    host, port = parse_address(text)
    try:
        return _bound(host, port)
    except OSError as problem:
        remedy = "another address can be given with --web.listen-address"
        raise AddressError(f"cannot listen on {text}: {problem.strerror or problem}; {remedy}") from None


def _bound(host: str, port: int) -> socket.socket:
    if host:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE, proto=socket.IPPROTO_TCP
        )[0]
        return _listener(family, kind, protocol, address)
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return _listener(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, ("::", port), dual_stack=True)
    return _listener(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ("0.0.0.0", port))  # noqa: S104 -- `:port` asks for it


def _listener(
    family: int, kind: int, protocol: int, address: tuple[Any, ...], *, dual_stack: bool = False
) -> socket.socket:
    # asyncio sets TCP_NODELAY only on sockets whose protocol is named.
    listener = socket.socket(family, kind, protocol)
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
