"""Addresses that a configuration names: of the API and of a proxy."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from exporter.config.yaml_document import InvalidValue, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    import yaml


URL_EXPECTED = "an address such as https://api.example.com/v1"
_URL = re.compile(
    r"(?P<scheme>https?)://(?:(?P<userinfo>[!\x22$-.0->A-~]*)@)?(?P<host>[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*/?)(?P<rest>[?#][!-~]*)?"
)


def environ_base_url(environ: Mapping[str, str], *, allow_http: bool) -> str | None:
    """Return the vendor's variable with the `/v1` that it leaves out, None where it is not set. Raises InvalidValue.

    A variable that has the `/v1` already gets no second one.
    """
    url = environ.get("ANTHROPIC_BASE_URL")
    return f"{checked_base_url(url, allow_http=allow_http).removesuffix('/v1')}/v1" if url else None


def checked_base_url(url: str, *, allow_http: bool) -> str:
    parts = _split(url)
    if parts["userinfo"] is not None:
        raise InvalidValue("an address must not carry credentials")
    if parts["rest"]:
        raise InvalidValue("an address must not carry a query or a fragment")
    if parts["scheme"] == "http" and not allow_http and not _loopback(parts["host"]):
        raise InvalidValue(
            "plain http would show the credentials to the network: use https, or set api.allow_http: true"
        )
    return url.rstrip("/")


def proxy_url(node: yaml.Node) -> str:
    expected = "an address such as http://proxy.example.com:3128"
    url = text(expected=expected)(node)
    try:
        parts = _split(url)
    except InvalidValue:
        raise InvalidValue(f"expected {expected}") from None
    if parts["rest"] or parts["path"] not in {"", "/"}:
        raise InvalidValue(f"expected {expected}")
    return url


def _split(url: str) -> re.Match[str]:
    parts = _URL.fullmatch(url)
    if parts is None or int(parts["port"] or 1) not in range(1, 65536):
        raise InvalidValue(f"expected {URL_EXPECTED}")
    if parts["host"].startswith("[") and _address(parts["host"]) is None:
        raise InvalidValue(f"expected {URL_EXPECTED}")
    return parts


def _loopback(host: str) -> bool:
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
