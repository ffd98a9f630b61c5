"""The file of `--web.config.file`, in the format of Prometheus' exporter-toolkit: TLS, headers, basic authentication.

A setting that this exporter, or the TLS of this machine, cannot follow is an error. To ignore it would leave something open
that the file's author believes closed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from exporter.config.load import read_file
from exporter.config.model import HEADER, HEADER_EXPECTED, ConfigError
from exporter.config.secret import Secret
from exporter.config.tls_files import authorities_in, file_in, pair_problem
from exporter.config.yaml_document import Document, InvalidValue, Section, choice, flag, text
from exporter.web.server_tls import (
    CLIENT_AUTHS,
    CURVES,
    TLS12_SUITES,
    TLS13_SUITES,
    VERSIONS,
    ClientAuth,
    TlsConfig,
    TlsSupport,
    TlsVersion,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """`headers`: for every answer. `hash_by_user`: bcrypt hashes; none: no login is needed."""

    tls: TlsConfig | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    hash_by_user: Mapping[str, Secret] = field(default_factory=dict)


Name = TypeVar("Name", bound=str)
_INLINE: Final = {"cert": "cert_file", "key": "key_file", "client_ca": "client_ca_file"}
_UNVERIFIED: Final = {
    "RequestClientCert": "VerifyClientCertIfGiven",
    "RequireAnyClientCert": "RequireAndVerifyClientCert",
    "RequireClientCert": "RequireAndVerifyClientCert",
}
_ALLOWED_BY_HEADER: Final[Mapping[str, tuple[str, ...]]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
_COST_LIMIT: Final = 16
"""Each step doubles the time of a login, and this one takes about as long as a scrape may."""
_HASH = re.compile(r"\$2[aby]\$(?P<cost>0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_HASH_EXPECTED: Final = "a bcrypt hash ($2a$, $2b$ or $2y$) such as htpasswd -nBC 10 makes"


def load(path: Path, support: TlsSupport | None = None) -> WebConfig:
    """Read the file and the files it names. Raises ConfigError, each problem with the file's path before it."""
    document = Document(read_file(path))
    config = _web_config(document.root, path.parent, support or TlsSupport()) if document.usable else WebConfig()
    if problems := document.problems():
        raise ConfigError(tuple(f"{path}: {problem}" for problem in problems))
    return config


def keys() -> tuple[str, ...]:
    """Return every key a file may contain, as `tls_server_config.cert_file`."""
    document = Document("tls_server_config: {}")
    _web_config(document.root, Path(), TlsSupport())
    return tuple(document.keys)


def _web_config(root: Section, directory: Path, support: TlsSupport) -> WebConfig:
    root.reject(
        "rate_limit",
        "not supported: --web.max-requests limits the scrapes served at once, api.requests_per_minute what they cause",
    )
    return WebConfig(
        tls=_tls(root, directory, support),
        headers=_headers(root.section("http_server_config")),
        hash_by_user=_users(root.section("basic_auth_users")),
    )


def _tls(root: Section, directory: Path, support: TlsSupport) -> TlsConfig | None:
    section = root.section("tls_server_config")
    for key, instead in _INLINE.items():
        section.reject(key, f"not supported: put it into a file and name that with {instead}")
    section.reject("client_allowed_sans", "not supported: use an authority of its own for the clients that may come in")
    pair = _pair(section, directory, wanted=root.given("tls_server_config"))
    client_auth, client_ca_file = _clients(section, directory)
    min_version, max_version, suites = _handshake(section, support)
    prefer_server = section.take("prefer_server_cipher_suites", flag, default=True)
    curve = _curve(section, support)
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


def _handshake(section: Section, support: TlsSupport) -> tuple[TlsVersion, TlsVersion, tuple[str, ...]]:
    least: TlsVersion = section.take("min_version", _version(support), "TLS12")
    most: TlsVersion = section.take("max_version", _version(support), "TLS13")
    if least > most:
        section.note("max_version", "lower than min_version")
    names = section.take_each("cipher_suites", _suite(support))
    suites = tuple(TLS12_SUITES[name] for name in names if name not in TLS13_SUITES)
    if names and not suites:
        # As in Go, the suites of TLS 1.3 are always on. Without any for TLS 1.2, only TLS 1.3 is left.
        if most == "TLS12":
            section.note("cipher_suites", "none of them is one of TLS 1.2, which max_version asks for")
        least = "TLS13"
    return least, most, suites


def _version(support: TlsSupport) -> Callable[[yaml.Node], TlsVersion]:
    def read(node: yaml.Node) -> TlsVersion:
        name = choice("TLS10", "TLS11", "TLS12", "TLS13")(node)
        for version in VERSIONS:
            if name == version:
                return _supported(version, support, works=support.has_version(version))
        raise InvalidValue(f"{name} is not supported, it is broken: use TLS12 or TLS13")

    return read


def _suite(support: TlsSupport) -> Callable[[yaml.Node], str]:
    def read(node: yaml.Node) -> str:
        name = text(expected="the name of a cipher suite")(node)
        if name in TLS13_SUITES:
            return name
        if name not in TLS12_SUITES:
            raise InvalidValue("unknown or insecure: expected one of Go's crypto/tls.CipherSuites")
        return _supported(name, support, works=support.has_suite(TLS12_SUITES[name]))

    return read


def _curve(section: Section, support: TlsSupport) -> str | None:
    def read(node: yaml.Node) -> str:
        name = choice(*CURVES)(node)
        return _supported(name, support, works=support.has_curve(CURVES[name]))

    names = section.take_each("curve_preferences", read)
    if len(names) > 1:
        section.note("curve_preferences", "only a single curve can be chosen: name one, or leave it out to offer all")
    return CURVES[names[0]] if names else None


def _supported(name: Name, support: TlsSupport, *, works: bool) -> Name:
    if not works:
        raise InvalidValue(f"{name} can't be set with {support.name}: name another one, or leave it out")
    return name


def _headers(section: Section) -> dict[str, str]:
    if section.take("http2", flag, default=False):
        section.note("http2", "not supported: leave it out or set it to false; Prometheus takes HTTP/1.1")
    headers = section.section("headers")
    values = {name: headers.take(name, _header_value(allowed), "") for name, allowed in _ALLOWED_BY_HEADER.items()}
    return {name: value for name, value in values.items() if value}


def _header_value(allowed: tuple[str, ...]) -> Callable[[yaml.Node], str]:
    """Return a reader of a header's value; blank means unset."""
    read = text(matching=HEADER, expected=HEADER_EXPECTED)

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
