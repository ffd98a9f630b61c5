"""TLS of the server: what a web configuration can ask for, what this machine can do of it, and the context made of both.

Names are Go's on the outside and OpenSSL's on the inside. Not every Python has everything that is listed here: the one of
Debian 12 cannot be limited to X25519, one built for FIPS has no ChaCha20. So `TlsSupport` tries each value on its own.
"""

from __future__ import annotations

import platform
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ClientAuth = Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"]
TlsVersion = Literal["TLS12", "TLS13"]

CLIENT_AUTHS: Final[tuple[ClientAuth, ...]] = ("NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
"""From the least demanding on."""
TLS13_SUITES: Final = frozenset({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
TLS12_SUITES: Final[Mapping[str, str]] = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
CURVES: Final[Mapping[str, str]] = {
    "X25519": "X25519",
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
}
VERSIONS: Final[Mapping[TlsVersion, ssl.TLSVersion]] = {
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """`cipher_suites`: OpenSSL's names, for TLS 1.2; none: OpenSSL's choice. `curve`: OpenSSL's name of the only one offered."""

    cert_file: Path
    key_file: Path
    client_auth: ClientAuth = "NoClientCert"
    client_ca_file: Path | None = None
    min_version: TlsVersion = "TLS12"
    max_version: TlsVersion = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True
    curve: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.cert_file, self.key_file, *([self.client_ca_file] if self.client_ca_file else []))


class TlsSupport:
    """What the TLS of this Python can do. Each question is answered by a trial in a context that is thrown away."""

    name = f"{ssl.OPENSSL_VERSION} in Python {platform.python_version()}"

    def has_suite(self, suite: str) -> bool:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.set_ciphers(suite)
        except ssl.SSLError:
            return False
        return suite in {each["name"] for each in context.get_ciphers()}

    def has_curve(self, curve: str) -> bool:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ecdh_curve(curve)
        except (ssl.SSLError, ValueError):  # an unknown name is a ValueError
            return False
        return True

    def has_version(self, version: TlsVersion) -> bool:
        return ssl.HAS_TLSv1_3 if version == "TLS13" else ssl.HAS_TLSv1_2


def server_context(tls: TlsConfig) -> ssl.SSLContext:
    """Make the context that new connections are accepted with. Raises ssl.SSLError, OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[tls.min_version]
    context.maximum_version = VERSIONS[tls.max_version]
    context.options |= ssl.OP_NO_RENEGOTIATION
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if tls.cipher_suites:
        context.set_ciphers(":".join(tls.cipher_suites))
    if tls.curve:
        context.set_ecdh_curve(tls.curve)
    context.set_alpn_protocols(["http/1.1"])
    # The empty password makes an encrypted key fail instead of asking on the terminal.
    context.load_cert_chain(tls.cert_file, tls.key_file, password="")
    if tls.client_auth != "NoClientCert":
        required = tls.client_auth == "RequireAndVerifyClientCert"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        context.load_verify_locations(cafile=tls.client_ca_file)
    return context
