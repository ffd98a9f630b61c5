"""Addresses of the API and of a proxy: what is valid, and what is said of what is not."""

from __future__ import annotations

import pytest

from exporter.config.model import ApiConfig
from tests.config.parsing import CANARY, ENVIRON, ENVIRONMENT, parsed, problems

URL = "an address such as https://api.example.com/v1"
PLAIN_HTTP = "plain http would show the credentials to the network: use https, or set api.allow_http: true"
BAD_URLS = [
    ("api.example.com", f"expected {URL}"),
    ("ftp://example.com", f"expected {URL}"),
    ("https://", f"expected {URL}"),
    ("https://a b", f"expected {URL}"),
    ("https://host:0", f"expected {URL}"),
    ("https://host:65536", f"expected {URL}"),
    ("https://host:port", f"expected {URL}"),
    ("https://[1::2::3]", f"expected {URL}"),
    ("https://host//double", f"expected {URL}"),
    ("https://höst", f"expected {URL}"),
    ("https://host\\@other", "an address must not carry credentials"),
    ("https://host\\.other", f"expected {URL}"),
    ("https://user:canary4f3a9c@host", "an address must not carry credentials"),
    ("https://@host", "an address must not carry credentials"),
    ("https://host/v1?key=canary4f3a9c", "an address must not carry a query or a fragment"),
    ("https://host#fragment", "an address must not carry a query or a fragment"),
    ("http://example.com", PLAIN_HTTP),
    ("http://127.0.0.1.example.com", PLAIN_HTTP),
    ("http://localhost.example.com", PLAIN_HTTP),
    ("http://10.0.0.1", PLAIN_HTTP),
    ("http://0x7f.1", PLAIN_HTTP),
]


@pytest.mark.parametrize(("url", "problem"), BAD_URLS)
def test_a_bad_address_is_refused_and_never_quoted(url: str, problem: str) -> None:
    assert problems(f"api: {{base_url: '{url}'}}\n{ENVIRONMENT}") == [f"api.base_url: {problem}"]


@pytest.mark.parametrize(
    ("url", "base_url"),
    [
        ("https://api.qoder.com/api/v1/cloud", "https://api.qoder.com/api/v1/cloud"),
        ("https://host/", "https://host"),
        ("https://host:8443/v1/", "https://host:8443/v1"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://127.0.0.1:9832/v1", "http://127.0.0.1:9832/v1"),
        ("http://127.8.8.8", "http://127.8.8.8"),
        ("http://[::1]:1", "http://[::1]:1"),
        ("http://LOCALHOST:1", "http://LOCALHOST:1"),
        ("http://api.localhost", "http://api.localhost"),
    ],
)
def test_https_anywhere_and_http_on_loopback_are_fine(url: str, base_url: str) -> None:
    assert parsed(f"api: {{base_url: '{url}'}}\n{ENVIRONMENT}").api.base_url == base_url


@pytest.mark.parametrize(
    "url", ["socks5://user:canary4f3a9c@h", "proxy:3128", "http://proxy/path", "http://proxy?q", "x"]
)
def test_a_bad_proxy_is_refused_and_never_quoted(url: str) -> None:
    expected = "expected an address such as http://proxy.example.com:3128"
    assert problems(f"api: {{proxy_url: '{url}'}}\n{ENVIRONMENT}") == [f"api.proxy_url: {expected}"]


def test_the_vendor_s_base_url_is_used_with_v1_appended_where_the_file_has_none() -> None:
    environ = ENVIRON | {"ANTHROPIC_BASE_URL": "https://gateway.example.com/prefix/"}
    assert parsed(ENVIRONMENT, environ=environ).api.base_url == "https://gateway.example.com/prefix/v1"
    complete = ENVIRON | {"ANTHROPIC_BASE_URL": "https://gateway.example.com/prefix/v1"}
    assert parsed(ENVIRONMENT, environ=complete).api.base_url == "https://gateway.example.com/prefix/v1"
    own = f"api: {{base_url: 'https://own.example.com'}}\n{ENVIRONMENT}"
    assert parsed(own, environ=environ).api.base_url == "https://own.example.com"


def test_a_bad_base_url_from_the_vendor_s_variable_is_named_by_the_variable() -> None:
    environ = ENVIRON | {"ANTHROPIC_BASE_URL": f"http://{CANARY}.example.com"}
    assert problems(ENVIRONMENT, environ=environ) == [
        f"api.base_url: ANTHROPIC_BASE_URL, used without it: {PLAIN_HTTP}"
    ]
    allowed = parsed(f"api: {{allow_http: true}}\n{ENVIRONMENT}", environ=environ)
    assert allowed.api.base_url == f"http://{CANARY}.example.com/v1"
    assert parsed(ENVIRONMENT, environ=ENVIRON | {"ANTHROPIC_BASE_URL": ""}).api.base_url == ApiConfig().base_url
