"""What the server speaks, proven by handshakes, and what this machine's TLS can't do."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trustme

from exporter.config.model import ConfigError
from exporter.web.server_tls import CURVES, TLS12_SUITES, TlsConfig, TlsSupport, server_context
from exporter.web.web_config import load
from tests.web.web_files import MUTUAL, TLS, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.web.server_tls import TlsVersion

SUITES_12 = [
    *[f"TLS_ECDHE_{key}_WITH_AES_{bits}" for key in ("RSA", "ECDSA") for bits in ("128_CBC_SHA", "256_CBC_SHA")],
    *[f"TLS_ECDHE_{key}_WITH_AES_128_GCM_SHA256" for key in ("RSA", "ECDSA")],
    *[f"TLS_ECDHE_{key}_WITH_AES_256_GCM_SHA384" for key in ("RSA", "ECDSA")],
    *[f"TLS_ECDHE_{key}_WITH_CHACHA20_POLY1305_SHA256" for key in ("RSA", "ECDSA")],
]


class LackingSupport(TlsSupport):
    """Answers as a Python would whose TLS has none of it."""

    name = "OpenSSL 3.0 in Python 3.11.2"

    def has_suite(self, suite: str) -> bool:
        return suite == ""

    def has_curve(self, curve: str) -> bool:
        return curve == ""

    def has_version(self, version: TlsVersion) -> bool:
        return version == "TLS12"


def outcome(text: str, files: Path, support: TlsSupport | None = None) -> TlsConfig | tuple[str, ...]:
    path = write(files, TLS + text)
    try:
        config = load(path, support)
    except ConfigError as invalid:
        return tuple(problem.removeprefix(f"{path}: tls_server_config.") for problem in invalid.problems)
    assert config.tls is not None
    return config.tls


def rejection(name: str, support: TlsSupport) -> str:
    return f"{name} can't be set with {support.name}: name another one, or leave it out"


def test_the_suites_are_those_of_go() -> None:
    assert set(TLS12_SUITES) == set(SUITES_12)


@pytest.mark.parametrize("suite", SUITES_12)
def test_every_suite_is_set_or_rejected_by_name(suite: str, files: Path) -> None:
    support = TlsSupport()
    found = outcome(f"  cipher_suites: [{suite}]\n", files)
    if not support.has_suite(TLS12_SUITES[suite]):
        assert found == (f"cipher_suites[0]: {rejection(suite, support)}",)
        return
    assert isinstance(found, TlsConfig)
    ciphers = server_context(found).get_ciphers()
    assert [each["name"] for each in ciphers if each["protocol"] != "TLSv1.3"] == [TLS12_SUITES[suite]]


@pytest.mark.parametrize("curve", ["X25519", "CurveP256", "CurveP384", "CurveP521"])
def test_every_curve_is_set_or_rejected_by_name(curve: str, files: Path, client: ssl.SSLContext) -> None:
    support = TlsSupport()
    found = outcome(f"  curve_preferences: [{curve}]\n", files)
    if not support.has_curve(CURVES[curve]):
        assert found == (f"curve_preferences[0]: {rejection(curve, support)}",)
        return
    assert isinstance(found, TlsConfig)
    with shaking_hands(found) as port:
        assert welcome(port, client)[0] == "TLSv1.3"


def test_the_tls_of_this_python_has_the_curves_that_every_openssl_has_and_none_that_is_made_up() -> None:
    support = TlsSupport()
    assert [support.has_curve(curve) for curve in ("prime256v1", "secp384r1", "secp521r1", "made-up")] == [
        *[True] * 3,
        False,
    ]
    assert [support.has_suite(suite) for suite in ("ECDHE-RSA-AES128-GCM-SHA256", "MADE-UP", "ALL")] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("curve_preferences: [X25519]", [("curve_preferences[0]", "X25519")]),
        ("curve_preferences: [CurveP521]", [("curve_preferences[0]", "CurveP521")]),
        ("max_version: TLS13", [("max_version", "TLS13")]),
        (
            "cipher_suites: [TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, TLS_AES_128_GCM_SHA256]",
            [("cipher_suites[0]", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256")],
        ),
    ],
)
def test_what_this_machine_lacks_is_rejected_by_name(text: str, expected: list[tuple[str, str]], files: Path) -> None:
    support = LackingSupport()
    assert outcome(f"  {text}\n", files, support) == tuple(
        f"{place}: {rejection(name, support)}" for place, name in expected
    )


def test_nothing_is_tried_that_the_file_does_not_name(files: Path) -> None:
    assert outcome("", files, LackingSupport()) == outcome("", files)


# ---- handshakes


@contextmanager
def shaking_hands(tls: TlsConfig | None) -> Iterator[int]:
    """Accept connections and shake hands with each; yields the port."""
    assert tls is not None
    context = server_context(tls)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(connection, server_side=True) as encrypted:
                        encrypted.sendall(b"welcome")
                except OSError:
                    connection.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def welcome(port: int, client: ssl.SSLContext) -> tuple[str | None, str]:
    """Connect; return the version and the cipher suite agreed on. Raises ssl.SSLError where there is no agreement."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        client.wrap_socket(plain, server_hostname="localhost") as encrypted,
    ):
        if encrypted.recv(7) != b"welcome":
            raise ssl.SSLError("closed without a welcome")
        cipher = encrypted.cipher()
        assert cipher is not None
        return encrypted.version(), cipher[0]


@pytest.fixture
def client(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_the_versions_asked_for_are_those_spoken(files: Path, client: ssl.SSLContext) -> None:
    with shaking_hands(load(write(files, f"{TLS}  max_version: TLS12\n")).tls) as port:
        assert welcome(port, client)[0] == "TLSv1.2"
    with shaking_hands(load(write(files, f"{TLS}  min_version: TLS13\n")).tls) as port:
        assert welcome(port, client)[0] == "TLSv1.3"
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError):
            welcome(port, client)


def test_the_order_of_the_suites_is_the_servers_unless_it_says_otherwise(files: Path, client: ssl.SSLContext) -> None:
    suites = "[TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]"
    text = f"{TLS}  cipher_suites: {suites}\n"
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    with shaking_hands(load(write(files, text)).tls) as port:
        assert welcome(port, client)[1] == "ECDHE-ECDSA-AES256-GCM-SHA384"
    with shaking_hands(load(write(files, f"{text}  prefer_server_cipher_suites: false\n")).tls) as port:
        assert welcome(port, client)[1] == "ECDHE-ECDSA-AES128-GCM-SHA256"
        client.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
        with pytest.raises(ssl.SSLError):
            welcome(port, client)


def test_only_the_curve_named_is_spoken(files: Path, client: ssl.SSLContext) -> None:
    with shaking_hands(load(write(files, f"{TLS}  curve_preferences: [CurveP521]\n")).tls) as port:
        welcome(port, client)
        client.set_ecdh_curve("secp384r1")
        with pytest.raises(ssl.SSLError):
            welcome(port, client)


def test_a_client_certificate_is_required_and_verified(
    files: Path, client: ssl.SSLContext, authority: trustme.CA
) -> None:
    with shaking_hands(load(write(files, MUTUAL)).tls) as port:
        with pytest.raises(OSError, match=r"(?i)certificate.required|closed|reset|eof"):
            welcome(port, client)
        trustme.CA().issue_cert("stranger").configure_cert(client)
        with pytest.raises(OSError, match=r"(?i)unknown.ca|closed|reset|eof"):
            welcome(port, client)
        authority.issue_cert("prometheus").configure_cert(client)
        welcome(port, client)


def test_a_client_certificate_may_be_optional_yet_never_wrong(files: Path, client: ssl.SSLContext) -> None:
    text = MUTUAL.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven")
    with shaking_hands(load(write(files, text)).tls) as port:
        welcome(port, client)
        trustme.CA().issue_cert("stranger").configure_cert(client)
        with pytest.raises(OSError, match=r"(?i)unknown.ca|closed|reset|eof"):
            welcome(port, client)
