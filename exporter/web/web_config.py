"""The file of `--web.config.file`, in the format of Prometheus' exporter-toolkit: TLS, headers, basic authentication.

What Python's TLS can't do as the format says is refused by name: a setting that is read and then ignored would leave a door
open that its author believes shut.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from exporter.config.load import read_file
from exporter.config.model import ConfigError
from exporter.config.secret import Secret
from exporter.config.tls_files import authorities_in, file_in, pair_problem
from exporter.config.yaml_document import Document, InvalidValue, Section, choice, flag, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import yaml

ClientAuth = Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"]
TlsVersion = Literal["TLS12", "TLS13"]

CLIENT_AUTHS: Final[tuple[ClientAuth, ...]] = ("NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
"""From the least demanding on."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """`headers`: for every answer. `hash_by_user`: bcrypt hashes; none: everybody may come in."""

    tls: TlsConfig | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    hash_by_user: Mapping[str, Secret] = field(default_factory=dict)


_INLINE: Final = {"cert": "cert_file", "key": "key_file", "client_ca": "client_ca_file"}
_UNVERIFIED: Final = {
    "RequestClientCert": "VerifyClientCertIfGiven",
    "RequireAnyClientCert": "RequireAndVerifyClientCert",
    "RequireClientCert": "RequireAndVerifyClientCert",
}
_OPENSSL_SUITE_BY_NAME: Final = {
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
_TLS13_SUITES: Final = frozenset({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
_OPENSSL_CURVE_BY_NAME: Final = {
    "X25519": "X25519",
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
}
_VERSION_BY_NAME: Final[Mapping[TlsVersion, ssl.TLSVersion]] = {
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_ALLOWED_BY_HEADER: Final[Mapping[str, tuple[str, ...]]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]{0,4094}[!-~])?")
_COST_LIMIT: Final = 16
"""Each step doubles the time; beyond this a login takes longer than a scrape may."""
_HASH = re.compile(r"\$2[aby]\$(?P<cost>0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_HASH_EXPECTED: Final = "a bcrypt hash ($2a$, $2b$ or $2y$) such as htpasswd -nBC 10 makes"


def load(path: Path) -> WebConfig:
    """Read the file and the files it names. Raises ConfigError, each problem with the file's path before it."""
    document = Document(read_file(path))
    config = _web_config(document.root, path.parent) if document.legible else WebConfig()
    if problems := document.problems():
        raise ConfigError(tuple(f"{path}: {problem}" for problem in problems))
    return config


def server_context(tls: TlsConfig) -> ssl.SSLContext:
    """Make the context that new connections are accepted with. Raises ssl.SSLError, OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSION_BY_NAME[tls.min_version]
    context.maximum_version = _VERSION_BY_NAME[tls.max_version]
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


def _web_config(root: Section, directory: Path) -> WebConfig:
    root.refuse(
        "rate_limit",
        "not supported: --web.max-requests limits the scrapes served at once, api.requests_per_minute what they cause",
    )
    return WebConfig(
        tls=_tls(root, directory),
        headers=_headers(root.section("http_server_config")),
        hash_by_user=_users(root.section("basic_auth_users")),
    )


def _tls(root: Section, directory: Path) -> TlsConfig | None:
    section = root.section("tls_server_config")
    for key, instead in _INLINE.items():
        section.refuse(key, f"not supported: put it into a file and name that with {instead}")
    section.refuse("client_allowed_sans", "not supported: use an authority of its own for the clients that may come in")
    pair = _pair(section, directory, wanted=root.given("tls_server_config"))
    client_auth, client_ca_file = _clients(section, directory)
    min_version, max_version, suites = _handshake(section)
    prefer_server = section.take("prefer_server_cipher_suites", flag, default=True)
    curve = _curve(section)
    if pair is None:
        return None
    return TlsConfig(
        cert_file=pair[0],
        key_file=pair[1],
        client_auth=client_auth,
        client_ca_file=client_ca_file,
        min_version=min_version,
        max_version=max_version,
        cipher_suites=suites,
        prefer_server_cipher_suites=prefer_server,
        curve=curve,
    )


def _pair(section: Section, directory: Path, *, wanted: bool) -> tuple[Path, Path] | None:
    cert_file = section.take("cert_file", file_in(directory), None)
    key_file = section.take("key_file", file_in(directory), None)
    for key in ("cert_file", "key_file"):
        if wanted and not section.given(key):
            section.note(key, "missing")
    if cert_file is None or key_file is None:
        return None
    if problem := pair_problem(cert_file, key_file, key_named="key_file"):
        section.note("cert_file", problem)
    return cert_file, key_file


def _clients(section: Section, directory: Path) -> tuple[ClientAuth, Path | None]:
    auth = section.take("client_auth_type", _client_auth, None)
    ca_file = section.take("client_ca_file", authorities_in(directory), None)
    asked = auth not in {None, "NoClientCert"}
    if asked and not section.given("client_ca_file"):
        section.note("client_ca_file", f"missing: {auth} needs the authority whose clients may come in")
    if not asked and section.given("client_ca_file") and not (auth is None and section.given("client_auth_type")):
        section.note("client_ca_file", "has no effect without client_auth_type: RequireAndVerifyClientCert")
    return auth or "NoClientCert", ca_file


def _client_auth(node: yaml.Node) -> ClientAuth:
    name = choice(*CLIENT_AUTHS, *_UNVERIFIED)(node)
    for auth in CLIENT_AUTHS:
        if name == auth:
            return auth
    raise InvalidValue(f"{name} is not supported, a certificate is always verified: use {_UNVERIFIED[name]}")


def _handshake(section: Section) -> tuple[TlsVersion, TlsVersion, tuple[str, ...]]:
    least: TlsVersion = section.take("min_version", _version, "TLS12")
    most: TlsVersion = section.take("max_version", _version, "TLS13")
    if least > most:
        section.note("max_version", "lower than min_version")
    names = section.take_each("cipher_suites", _suite)
    suites = tuple(_OPENSSL_SUITE_BY_NAME[name] for name in names if name not in _TLS13_SUITES)
    if names and not suites:
        # As in Go, those of TLS 1.3 are always on; with none for TLS 1.2 named, nothing else can be spoken.
        if most == "TLS12":
            section.note("cipher_suites", "none of them is one of TLS 1.2, which max_version asks for")
        least = "TLS13"
    return least, most, suites


def _version(node: yaml.Node) -> TlsVersion:
    name = choice("TLS10", "TLS11", "TLS12", "TLS13")(node)
    for version in _VERSION_BY_NAME:
        if name == version:
            return version
    raise InvalidValue(f"{name} is not supported, it is broken: use TLS12 or TLS13")


def _suite(node: yaml.Node) -> str:
    name = text(expected="the name of a cipher suite")(node)
    if name not in _OPENSSL_SUITE_BY_NAME and name not in _TLS13_SUITES:
        raise InvalidValue("unknown or insecure: expected one of Go's crypto/tls.CipherSuites")
    return name


def _curve(section: Section) -> str | None:
    names = section.take_each("curve_preferences", choice(*_OPENSSL_CURVE_BY_NAME))
    if len(names) > 1:
        section.note("curve_preferences", "only a single curve can be chosen: name one, or leave it out to offer all")
    return _OPENSSL_CURVE_BY_NAME[names[0]] if names else None


def _headers(section: Section) -> dict[str, str]:
    if section.take("http2", flag, default=False):
        section.note("http2", "not supported: leave it out or set it to false; Prometheus takes HTTP/1.1")
    headers = section.section("headers")
    values = {name: headers.take(name, _header_value(allowed), "") for name, allowed in _ALLOWED_BY_HEADER.items()}
    return {name: value for name, value in values.items() if value}


def _header_value(allowed: tuple[str, ...]) -> Callable[[yaml.Node], str]:
    """Return a reader of a header's value; blank means unset."""
    read = text(matching=_HEADER_VALUE, expected="a header's value of visible ASCII characters")

    def checked(node: yaml.Node) -> str:
        if node.value == "":
            return ""
        value = read(node)
        if allowed and value not in allowed:
            raise InvalidValue(f"expected {' or '.join(allowed)}")
        return value

    return checked


def _users(section: Section) -> dict[str, Secret]:
    users: dict[str, Secret] = {}
    for name, hashed in section.entries(_hash):
        if ":" in name:
            section.note(name, "a user's name can't hold a colon")
        users[name] = hashed
    return users


def _hash(node: yaml.Node) -> Secret:
    value = text(matching=_HASH, expected=_HASH_EXPECTED)(node)
    match = _HASH.fullmatch(value)
    if match and int(match["cost"]) > _COST_LIMIT:
        raise InvalidValue(f"a cost above {_COST_LIMIT} takes longer than a scrape may")
    return Secret(value)
