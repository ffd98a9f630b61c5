"""What `--web.config.file` may hold, what is refused and in which words, and what happens while its files change."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trustme

from exporter.cli import main
from exporter.config.model import ConfigError
from exporter.config.secret import Secret
from exporter.log import Log
from exporter.web.web_config import TlsConfig, WebConfig, load, server_context
from exporter.web.web_config_reload import ReloadingWebConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


HASH = "$2b$04$cRqIQRztD/UjJKDCyeA9Ru3YxXK9jN3wp6bUGc7spQfH1dTyIpfdG"
TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
MUTUAL = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"
USERS = f"basic_auth_users:\n  alice: {HASH}\n"
SUITES_12 = [
    *[f"TLS_ECDHE_{key}_WITH_AES_{bits}" for key in ("RSA", "ECDSA") for bits in ("128_CBC_SHA", "256_CBC_SHA")],
    *[f"TLS_ECDHE_{key}_WITH_AES_128_GCM_SHA256" for key in ("RSA", "ECDSA")],
    *[f"TLS_ECDHE_{key}_WITH_AES_256_GCM_SHA384" for key in ("RSA", "ECDSA")],
    *[f"TLS_ECDHE_{key}_WITH_CHACHA20_POLY1305_SHA256" for key in ("RSA", "ECDSA")],
]
SUITES_13 = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Path:
    """Make the files that the configurations here name."""
    issue(authority, tmp_path, "localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    (tmp_path / "junk").write_text("no certificate\n")
    (tmp_path / "directory").mkdir()
    other = authority.issue_cert("other")
    other.private_key_pem.write_to_path(tmp_path / "other.key")
    return tmp_path


def issue(authority: trustme.CA, directory: Path, name: str) -> None:
    leaf = authority.issue_cert(name)
    leaf.private_key_pem.write_to_path(directory / "server.key")
    leaf.cert_chain_pems[0].write_to_path(directory / "server.crt")


def write(directory: Path, text: str) -> Path:
    path = directory / "web.yml"
    path.write_text(text)
    return path


def problems(directory: Path, text: str) -> list[str]:
    path = write(directory, text)
    with pytest.raises(ConfigError) as refused:
        load(path)
    assert all(problem.startswith(f"{path}: ") for problem in refused.value.problems)
    return [problem.removeprefix(f"{path}: ").replace(f"{directory}{os.sep}", "") for problem in refused.value.problems]


# ---- good files


@pytest.mark.parametrize("text", ["", "tls_server_config:\n", "{}", "basic_auth_users: {}\n", "# nothing\n"])
def test_a_file_that_asks_for_nothing_lets_everybody_in(text: str, tmp_path: Path) -> None:
    assert load(write(tmp_path, text)) == WebConfig()


def test_the_files_named_are_relative_to_the_file(files: Path) -> None:
    assert load(write(files, TLS)).tls == TlsConfig(cert_file=files / "server.crt", key_file=files / "server.key")


def test_everything_that_is_supported_can_be_set_at_once(files: Path) -> None:
    text = MUTUAL + (
        "  min_version: TLS12\n  max_version: TLS12\n  prefer_server_cipher_suites: false\n"
        "  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]\n"
        "  curve_preferences: [CurveP384]\n"
        "http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: sameorigin\n"
        "    X-Content-Type-Options: nosniff\n    X-XSS-Protection: '0'\n    Content-Security-Policy: ''\n"
        "    Strict-Transport-Security: max-age=31536000; includeSubDomains\n"
    )
    config = load(write(files, text + USERS))
    assert config == WebConfig(
        tls=TlsConfig(
            cert_file=files / "server.crt",
            key_file=files / "server.key",
            client_auth="RequireAndVerifyClientCert",
            client_ca_file=files / "ca.crt",
            max_version="TLS12",
            prefer_server_cipher_suites=False,
            cipher_suites=("ECDHE-RSA-AES128-GCM-SHA256",),
            curve="secp384r1",
        ),
        headers={
            "X-Frame-Options": "sameorigin",
            "X-Content-Type-Options": "nosniff",
            "X-XSS-Protection": "0",
            "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
        },
        hash_by_user={"alice": Secret(HASH)},
    )
    assert HASH not in repr(config)


@pytest.mark.parametrize("suite", SUITES_12)
def test_every_suite_that_go_has_is_known_to_openssl(suite: str, files: Path) -> None:
    config = load(write(files, f"{TLS}  cipher_suites: [{suite}]\n"))
    assert config.tls is not None
    ciphers = server_context(config.tls).get_ciphers()
    assert [each["name"] for each in ciphers if each["protocol"] != "TLSv1.3"] == list(config.tls.cipher_suites)


def test_suites_of_tls_13_alone_leave_tls_13_alone(files: Path) -> None:
    tls = load(write(files, f"{TLS}  cipher_suites: [{', '.join(SUITES_13)}]\n")).tls
    assert tls is not None
    assert (tls.min_version, tls.cipher_suites) == ("TLS13", ())


@pytest.mark.parametrize("curve", ["X25519", "CurveP256", "CurveP384", "CurveP521"])
def test_every_curve_is_known_to_openssl(curve: str, files: Path) -> None:
    tls = load(write(files, f"{TLS}  curve_preferences: [{curve}]\n")).tls
    assert tls is not None
    server_context(tls)


@pytest.mark.parametrize("kind", ["2a", "2b", "2y"])
def test_hashes_of_every_common_kind_are_taken(kind: str, tmp_path: Path) -> None:
    hashed = HASH.replace("2b", kind, 1)
    config = load(write(tmp_path, f"basic_auth_users:\n  alice: {hashed}\n  'böb': {HASH}\n"))
    assert config.hash_by_user == {"alice": Secret(hashed), "böb": Secret(HASH)}


# ---- bad files

HASH_EXPECTED = "expected a bcrypt hash ($2a$, $2b$ or $2y$) such as htpasswd -nBC 10 makes"
VERSION_EXPECTED = "expected TLS10, TLS11, TLS12 or TLS13"
AUTH_EXPECTED = (
    "expected NoClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert, RequestClientCert, "
    "RequireAnyClientCert or RequireClientCert"
)
BAD = [
    ("tls_server_config: {}", ["tls_server_config.cert_file: missing", "tls_server_config.key_file: missing"]),
    ("tls_server_config: {cert_file: server.crt}", ["tls_server_config.key_file: missing"]),
    ("tls_server_config: {cert_file: '', key_file: server.key}", ["tls_server_config.cert_file: expected a path"]),
    ("tls_server_config: {cert_file: server.crt, key_file: ''}", ["tls_server_config.key_file: expected a path"]),
    (
        "tls_server_config: {min_version: TLS13}",
        ["tls_server_config.cert_file: missing", "tls_server_config.key_file: missing"],
    ),
    (
        "tls_server_config: {cert_file: gone.crt, key_file: directory}",
        [
            "tls_server_config.cert_file: no such file: gone.crt",
            "tls_server_config.key_file: not a regular file: directory",
        ],
    ),
    (
        "tls_server_config: {cert_file: junk, key_file: server.key}",
        [
            "tls_server_config.cert_file: no certificate in PEM format with its key in key_file, without a passphrase: junk"
        ],
    ),
    (
        "tls_server_config: {cert_file: server.crt, key_file: other.key}",
        ["tls_server_config.cert_file: key_file is the key of another certificate: server.crt"],
    ),
    (
        "tls_server_config: {cert: x, key: y, client_ca: z}",
        [
            "tls_server_config.cert: not supported: put it into a file and name that with cert_file",
            "tls_server_config.key: not supported: put it into a file and name that with key_file",
            "tls_server_config.client_ca: not supported: put it into a file and name that with client_ca_file",
            "tls_server_config.cert_file: missing",
            "tls_server_config.key_file: missing",
        ],
    ),
    (f"{TLS}  client_auth_type: Nobody", [f"tls_server_config.client_auth_type: {AUTH_EXPECTED}"]),
    (
        f"{TLS}  client_auth_type: Nobody\n  client_ca_file: ca.crt",
        [f"tls_server_config.client_auth_type: {AUTH_EXPECTED}"],
    ),
    (
        f"{TLS}  client_auth_type: RequestClientCert",
        [
            (
                "tls_server_config.client_auth_type: RequestClientCert is not supported, a certificate is always verified: "
                "use VerifyClientCertIfGiven"
            )
        ],
    ),
    (
        f"{TLS}  client_auth_type: RequireAnyClientCert\n  client_ca_file: ca.crt",
        [
            (
                "tls_server_config.client_auth_type: RequireAnyClientCert is not supported, a certificate is always verified: "
                "use RequireAndVerifyClientCert"
            )
        ],
    ),
    (
        f"{TLS}  client_auth_type: RequireClientCert",
        [
            (
                "tls_server_config.client_auth_type: RequireClientCert is not supported, a certificate is always verified: "
                "use RequireAndVerifyClientCert"
            )
        ],
    ),
    (
        f"{TLS}  client_auth_type: VerifyClientCertIfGiven",
        [
            (
                "tls_server_config.client_ca_file: missing: VerifyClientCertIfGiven needs the authority whose clients may "
                "come in"
            )
        ],
    ),
    (
        f"{TLS}  client_ca_file: ca.crt",
        ["tls_server_config.client_ca_file: has no effect without client_auth_type: RequireAndVerifyClientCert"],
    ),
    (
        f"{TLS}  client_auth_type: NoClientCert\n  client_ca_file: ca.crt",
        ["tls_server_config.client_ca_file: has no effect without client_auth_type: RequireAndVerifyClientCert"],
    ),
    (
        f"{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: gone",
        ["tls_server_config.client_ca_file: no such file: gone"],
    ),
    (
        f"{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: junk",
        ["tls_server_config.client_ca_file: no certificate in PEM format: junk"],
    ),
    (
        f"{TLS}  client_allowed_sans: [a]",
        [
            (
                "tls_server_config.client_allowed_sans: not supported: use an authority of its own for the clients that may "
                "come in"
            )
        ],
    ),
    (f"{TLS}  min_version: TLS111", [f"tls_server_config.min_version: {VERSION_EXPECTED}"]),
    (f"{TLS}  min_version: 1.2", [f"tls_server_config.min_version: {VERSION_EXPECTED}, not a number"]),
    (
        f"{TLS}  min_version: TLS10",
        ["tls_server_config.min_version: TLS10 is not supported, it is broken: use TLS12 or TLS13"],
    ),
    (
        f"{TLS}  max_version: TLS11",
        ["tls_server_config.max_version: TLS11 is not supported, it is broken: use TLS12 or TLS13"],
    ),
    (f"{TLS}  min_version: TLS13\n  max_version: TLS12", ["tls_server_config.max_version: lower than min_version"]),
    (
        f"{TLS}  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_2048, TLS_RSA_WITH_RC4_128_SHA]",
        [
            f"tls_server_config.cipher_suites[{index}]: unknown or insecure: expected one of Go's crypto/tls.CipherSuites"
            for index in (0, 1)
        ],
    ),
    (f"{TLS}  cipher_suites: TLS_AES_128_GCM_SHA256", ["tls_server_config.cipher_suites: expected a list, not text"]),
    (
        f"{TLS}  max_version: TLS12\n  cipher_suites: [TLS_AES_128_GCM_SHA256]",
        ["tls_server_config.cipher_suites: none of them is one of TLS 1.2, which max_version asks for"],
    ),
    (
        f"{TLS}  curve_preferences: [CurveP257]",
        ["tls_server_config.curve_preferences[0]: expected X25519, CurveP256, CurveP384 or CurveP521"],
    ),
    (
        f"{TLS}  curve_preferences: [CurveP256, X25519]",
        [
            "tls_server_config.curve_preferences: only a single curve can be chosen: name one, or leave it out to offer all"
        ],
    ),
    (
        "http_server_config: {http2: true}",
        ["http_server_config.http2: not supported: leave it out or set it to false; Prometheus takes HTTP/1.1"],
    ),
    (
        "http_server_config: {headers: {X-Frame-Options: DENY, X-Content-Type-Options: sniff}}",
        [
            "http_server_config.headers.X-Content-Type-Options: expected nosniff",
            "http_server_config.headers.X-Frame-Options: expected deny or sameorigin",
        ],
    ),
    ("http_server_config: {headers: {Server: me}}", ["http_server_config.headers.Server: unknown key"]),
    (
        "http_server_config: {headers: {X-Frame-Option: deny}}",
        ["http_server_config.headers.(a key on line 1): unknown key, did you mean X-Frame-Options?"],
    ),
    (
        'http_server_config: {headers: {X-XSS-Protection: "0\\r\\nSet-Cookie: a=b"}}',
        ["http_server_config.headers.X-XSS-Protection: contains control characters"],
    ),
    (
        "http_server_config: {headers: {X-XSS-Protection: ünlesbar}}",
        ["http_server_config.headers.X-XSS-Protection: expected a header's value of visible ASCII characters"],
    ),
    ("basic_auth_users: {alice: hunter2}", [f"basic_auth_users.alice: {HASH_EXPECTED}"]),
    (
        "basic_auth_users: {alice: $2x$04$cRqIQRztD/UjJKDCyeA9Ru3YxXK9jN3wp6bUGc7spQfH1dTyIpfdG}",
        [f"basic_auth_users.alice: {HASH_EXPECTED}"],
    ),
    (
        "basic_auth_users: {alice: $2b$04$cRqIQRztD/UjJKDCyeA9Rv3YxXK9jN3wp6bUGc7spQfH1dTyIpfdG}",
        [f"basic_auth_users.alice: {HASH_EXPECTED}"],
    ),
    ("basic_auth_users: {alice: }", [f"basic_auth_users.alice: {HASH_EXPECTED}, not null: put it in quotes"]),
    (f"basic_auth_users: {{'sk-ant-api03-key': {HASH}x}}", [f"basic_auth_users.(a key on line 1): {HASH_EXPECTED}"]),
    (f"basic_auth_users: {{'a:b': {HASH}}}", ["basic_auth_users.(a key on line 1): a user's name can't hold a colon"]),
    (f"basic_auth_users: {{alice: {HASH}, alice: {HASH}}}", ["basic_auth_users.alice: given twice, on lines 1 and 1"]),
    (
        f"basic_auth_users: {{alice: {HASH.replace('$04', '$17')}}}",
        ["basic_auth_users.alice: a cost above 16 takes longer than a scrape may"],
    ),
    ("basic_auth_users: [alice]", ["basic_auth_users: expected a mapping of keys, not a list"]),
    (
        "rate_limit: {interval: 1s, burst: 20}",
        [
            (
                "rate_limit: not supported: --web.max-requests limits the scrapes served at once, api.requests_per_minute what "
                "they cause"
            )
        ],
    ),
    ("tls_server_confg: {}", ["tls_server_confg: unknown key, did you mean tls_server_config?"]),
    ("- tls_server_config", ["the file: expected a mapping of keys, not a list"]),
    (
        "basic_auth_users: &a {}\nhttp_server_config: *a",
        ["line 1: anchors are not supported", "line 2: aliases are not supported"],
    ),
    ("tls_server_config: {cert_file: 'x", ["line 1, column 34: not valid YAML: found unexpected end of stream"]),
]


@pytest.mark.parametrize(("text", "expected"), BAD, ids=[text.removeprefix(TLS).replace("\n", " ") for text, _ in BAD])
def test_what_can_not_be_done_is_refused_by_name(text: str, expected: list[str], files: Path) -> None:
    assert sorted(problems(files, text)) == sorted(expected)


def test_every_problem_is_reported_in_one_go(files: Path) -> None:
    text = "rate_limit: {}\nbasic_auth_users: {alice: secret}\nhttp_server_config: {http2: true}\nnonsense: 1\n"
    assert len(problems(files, text)) == 4


def test_no_message_quotes_a_hash_or_a_password(files: Path) -> None:
    said = "".join(problems(files, f"basic_auth_users: {{alice: {HASH}hunter2, bob: hunter2}}\n"))
    assert "hunter2" not in said
    assert HASH[7:20] not in said


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yml: no such file$"):
        load(tmp_path / "gone.yml")


def test_an_encrypted_key_is_refused_without_asking_on_the_terminal(files: Path) -> None:
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 -- needed here alone
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    key = load_pem_private_key((files / "server.key").read_bytes(), None)
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase"))
    (files / "server.key").write_bytes(encrypted)
    assert problems(files, TLS) == [
        (
            "tls_server_config.cert_file: no certificate in PEM format with its key in key_file, without a passphrase: "
            "server.crt"
        )
    ]


def test_the_check_reports_the_problems_of_both_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "sk-ant-api03-test")
    good = tmp_path / "good.yml"
    good.write_text("api: {api_key_env: KEY}\nenvironments: [{id: env_a}]\n")
    bad = tmp_path / "bad.yml"
    bad.write_text("api: {api_key_env: KEY, timeout: soon}\nenvironments: [{id: env_a}]\n")
    web = write(tmp_path, "http_server_config: {http2: true}\n")
    assert main(["--config.check", f"--config.file={bad}", f"--web.config.file={web}"]) == 1
    problems = capsys.readouterr().err.splitlines()
    assert [problem.partition(": ")[2].removeprefix(f"{web}: ").partition(":")[0] for problem in problems] == [
        "api.timeout",
        "http_server_config.http2",
    ]
    assert main(["--config.check", f"--config.file={good}", f"--web.config.file={web}"]) == 1
    web.write_text("")
    assert main(["--config.check", f"--config.file={good}", f"--web.config.file={web}"]) == 0


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


# ---- following the files


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def events(logged: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in logged.records]
    logged.clear()
    return found


def settle(web_config: ReloadingWebConfig) -> None:
    """Look as often as it takes for a change to count."""
    web_config.look()
    web_config.look()


def test_without_a_file_everybody_may_come_in() -> None:
    web_config = ReloadingWebConfig(None, Log())
    settle(web_config)
    assert (web_config.tls, dict(web_config.headers), dict(web_config.hash_by_user), web_config.problems) == (
        None,
        {},
        {},
        (),
    )


def test_a_bad_file_at_the_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        ReloadingWebConfig(write(tmp_path, "nonsense: 1"), Log())


def test_a_renewed_certificate_is_taken_over_without_a_restart(
    files: Path, authority: trustme.CA, logged: pytest.LogCaptureFixture
) -> None:
    web_config = ReloadingWebConfig(write(files, TLS), Log())
    before = web_config.tls
    settle(web_config)
    assert web_config.tls is before
    issue(authority, files, "renewed")
    settle(web_config)
    assert web_config.tls is not before
    assert events(logged) == ["web_config_reloaded"]


def test_a_change_counts_only_once_it_has_stood_still(files: Path) -> None:
    web_config = ReloadingWebConfig(write(files, USERS), Log())
    write(files, USERS + f"  bob: {HASH}\n")
    web_config.look()
    assert set(web_config.hash_by_user) == {"alice"}
    write(files, USERS + f"  bob: {HASH}\n  carol: {HASH}\n")
    web_config.look()
    assert set(web_config.hash_by_user) == {"alice"}
    web_config.look()
    assert set(web_config.hash_by_user) == {"alice", "bob", "carol"}


def test_a_symbolic_link_that_is_swapped_counts_as_a_change(files: Path, authority: trustme.CA) -> None:
    for version in ("one", "two"):
        (files / version).mkdir()
        issue(authority, files / version, "localhost")
        write(files / version, TLS)
    (files / "now").symlink_to("one")
    web_config = ReloadingWebConfig(files / "now" / "web.yml", Log())
    before = web_config.tls
    (files / "next").symlink_to("two")
    (files / "next").replace(files / "now")
    settle(web_config)
    assert web_config.tls is not before


@pytest.mark.parametrize("broken", ["mismatch", "junk", "gone", "unreadable text", "file gone"])
def test_a_bad_change_keeps_the_last_good_and_says_so_once(
    broken: str, files: Path, authority: trustme.CA, logged: pytest.LogCaptureFixture
) -> None:
    web_config = ReloadingWebConfig(write(files, TLS + USERS), Log())
    before = web_config.tls
    _break(files, broken)
    settle(web_config)
    settle(web_config)
    assert web_config.tls is before
    assert set(web_config.hash_by_user) == {"alice"}
    assert len(list(web_config.problems)) == 1
    assert events(logged) == ["web_config_refused"]
    issue(authority, files, "localhost")
    write(files, TLS + USERS)
    settle(web_config)
    assert web_config.tls is not before
    assert not list(web_config.problems)
    assert events(logged) == ["web_config_reloaded"]


def _break(files: Path, how: str) -> None:
    match how:
        case "mismatch":
            shutil.copy(files / "other.key", files / "server.key")
        case "junk":
            shutil.copy(files / "junk", files / "server.crt")
        case "gone":
            (files / "server.crt").unlink()
        case "file gone":
            (files / "web.yml").unlink()
        case _:
            write(files, "basic_auth_users: {")


def test_a_file_named_only_by_the_new_configuration_may_come_later(files: Path, authority: trustme.CA) -> None:
    web_config = ReloadingWebConfig(write(files, TLS), Log())
    (files / "new").mkdir()
    write(files, TLS.replace(" server", " new/server"))
    settle(web_config)
    before, refused = web_config.tls, len(web_config.problems)
    issue(authority, files / "new", "localhost")
    settle(web_config)
    assert web_config.tls is not before
    assert (refused, len(web_config.problems)) == (2, 0)


@pytest.mark.parametrize(
    ("start", "change", "problem"),
    [
        (TLS, "", "tls_server_config: adding or removing it needs a restart"),
        ("", TLS, "tls_server_config: adding or removing it needs a restart"),
        (MUTUAL, TLS, "tls_server_config.client_auth_type: asking less of clients than before needs a restart"),
        (USERS, "", "basic_auth_users: letting everybody in needs a restart"),
    ],
)
def test_protection_is_never_taken_away_without_a_restart(start: str, change: str, problem: str, files: Path) -> None:
    path = write(files, start)
    web_config = ReloadingWebConfig(path, Log())
    users, tls = dict(web_config.hash_by_user), web_config.tls
    write(files, change)
    settle(web_config)
    assert web_config.problems == (f"{path}: {problem}",)
    assert (dict(web_config.hash_by_user), web_config.tls) == (users, tls)


def test_protection_can_be_added_without_a_restart(files: Path) -> None:
    web_config = ReloadingWebConfig(write(files, TLS), Log())
    write(files, MUTUAL + USERS)
    settle(web_config)
    assert web_config.problems == ()
    assert set(web_config.hash_by_user) == {"alice"}
    assert web_config.tls is not None
    assert web_config.tls.verify_mode is ssl.CERT_REQUIRED
