"""What `--web.config.file` may hold, and in which words it says what is wrong."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from exporter.cli import main
from exporter.config.model import ConfigError
from exporter.config.secret import Secret
from exporter.web.server_tls import TlsConfig
from exporter.web.web_config import WebConfig, load
from tests.web.web_files import HASH, MUTUAL, TLS, USERS, write

if TYPE_CHECKING:
    from pathlib import Path

SUITES_13 = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]


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


def test_suites_of_tls_13_alone_leave_tls_13_alone(files: Path) -> None:
    tls = load(write(files, f"{TLS}  cipher_suites: [{', '.join(SUITES_13)}]\n")).tls
    assert tls is not None
    assert (tls.min_version, tls.cipher_suites) == ("TLS13", ())


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
        f"{TLS}  curve_preferences: [CurveP256, CurveP384]",
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
        ["http_server_config.headers.X-XSS-Protection: expected visible ASCII characters, as in a header"],
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
