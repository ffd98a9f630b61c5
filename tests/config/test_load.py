import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme
import yaml
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.config.from_environment import from_environment
from exporter.config.load import keys, load, parse
from exporter.config.model import (
    ApiConfig,
    Config,
    ConfigError,
    DiscoveryConfig,
    EnvironmentConfig,
    ListingConfig,
    ScrapeConfig,
    WorkConfig,
)
from exporter.config.secret import Secret

EXAMPLE = Path(__file__).parents[2] / "config" / "exporter.yml"
CANARY = "canary4f3a9c"
OTHER_THAN_VISIBLE = "something other than visible ASCII characters (a space, a second line, a byte order mark)"
ONE_KEY = "one key can't serve 2 environments: give each its own in a configuration file"
ENVIRON = {"KEY": f"sk-ant-api03-{CANARY}"}
ENVIRONMENT = "environments: [{id: env_a, environment_key_env: KEY}]"


def problems(text: str, directory: Path = Path(), environ: Mapping[str, str] = ENVIRON) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, directory=directory, environ=environ)
    assert str(caught.value) == "; ".join(caught.value.problems)
    assert CANARY not in str(caught.value)
    return list(caught.value.problems)


def parsed(text: str, directory: Path = Path(), environ: Mapping[str, str] = ENVIRON) -> Config:
    return parse(text, directory=directory, environ=environ)


def secrets(config: Config) -> list[Secret | None]:
    sources = [config.api.api_key, *(environment.environment_key for environment in config.environments)]
    return [source.read() if source else None for source in sources]


def without_secrets(config: Config) -> Config:
    environments = (dataclasses.replace(environment, environment_key=None) for environment in config.environments)
    return dataclasses.replace(
        config, api=dataclasses.replace(config.api, api_key=None), environments=tuple(environments)
    )


def test_a_file_that_says_nothing_else_has_the_documented_defaults() -> None:
    config = parsed(ENVIRONMENT)
    assert secrets(config) == [None, Secret(ENVIRON["KEY"])]
    assert without_secrets(config) == Config(
        api=ApiConfig(
            base_url="https://api.anthropic.com/v1",
            api_key=None,
            auth_style="x-api-key",
            version="2023-06-01",
            beta="managed-agents-2026-04-01",
            workspace_id=None,
            query={},
            ca_file=None,
            client_cert_file=None,
            client_key_file=None,
            proxy_url=None,
            allow_http=False,
            timeout_s=5.0,
            max_response_bytes=8_388_608,
            requests_per_minute=120,
            concurrency=16,
        ),
        scrape=ScrapeConfig(timeout_s=9.0, timeout_offset_s=0.5, min_interval_s=10.0, max_age_s=300.0),
        listing=ListingConfig(enabled=True, page_size=1000, resync_interval_s=3600.0),
        work=WorkConfig(
            heartbeat_overdue_s=90.0,
            duration_buckets=(1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200),
        ),
        discovery=DiscoveryConfig(enabled=False, interval_s=300.0),
        environments=(EnvironmentConfig(id="env_a", name="env_a", environment_key=None, worker_mode="unknown"),),
    )


EVERYTHING = """
api:
  base_url: http://gateway.example.com:8080/api/v1/cloud/
  api_key_file: keys/api
  auth_style: bearer
  version: 2026-01-01
  beta: first-beta, second-beta
  workspace_id: wrkspc_1
  query: {beta: "true", "x[y]": "a b&c"}
  ca_file: ca.pem
  client_cert_file: client.pem
  client_key_file: client.key
  proxy_url: http://user:word@proxy.example.com:3128
  allow_http: true
  timeout: 1h30m
  max_response_bytes: 512KiB
  requests_per_minute: 1000000
  concurrency: 1
scrape: {timeout: 0s, timeout_offset: 0s, min_interval: 0s, max_age: 1d}
listing: {enabled: false, page_size: 1, resync_interval: 1500ms}
work: {heartbeat_overdue: 2m, duration_buckets: [0.5, 1, 1e2]}
discovery: {enabled: yes, interval: 1w}
environments:
  - {id: env_011CZkZ9X2dpNyB7HsEFoRfW, name: " Köln (production) ", environment_key_env: KEY, worker_mode: always_on}
  - {id: env_b, worker_mode: webhook}
"""


def tls_files(directory: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("client.example.com")
    authority.cert_pem.write_to_path(directory / "ca.pem")
    certificate.private_key_pem.write_to_path(directory / "client.key")
    certificate.cert_chain_pems[0].write_to_path(directory / "client.pem")


def test_every_key_reaches_its_field(tmp_path: Path) -> None:
    tls_files(tmp_path)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "api").write_text("api-key\n")
    config = parsed(EVERYTHING, tmp_path)
    assert secrets(config) == [Secret("api-key"), Secret(ENVIRON["KEY"]), None]
    assert without_secrets(config) == Config(
        api=ApiConfig(
            base_url="http://gateway.example.com:8080/api/v1/cloud",
            auth_style="bearer",
            version="2026-01-01",
            beta="first-beta, second-beta",
            workspace_id="wrkspc_1",
            query={"beta": "true", "x[y]": "a b&c"},
            ca_file=tmp_path / "ca.pem",
            client_cert_file=tmp_path / "client.pem",
            client_key_file=tmp_path / "client.key",
            proxy_url="http://user:word@proxy.example.com:3128",
            allow_http=True,
            timeout_s=5400.0,
            max_response_bytes=524_288,
            requests_per_minute=1_000_000,
            concurrency=1,
        ),
        scrape=ScrapeConfig(timeout_s=0.0, timeout_offset_s=0.0, min_interval_s=0.0, max_age_s=86_400.0),
        listing=ListingConfig(enabled=False, page_size=1, resync_interval_s=1.5),
        work=WorkConfig(heartbeat_overdue_s=120.0, duration_buckets=(0.5, 1.0, 100.0)),
        discovery=DiscoveryConfig(enabled=True, interval_s=604_800.0),
        environments=(
            EnvironmentConfig(id="env_011CZkZ9X2dpNyB7HsEFoRfW", name="Köln (production)", worker_mode="always_on"),
            EnvironmentConfig(id="env_b", name="env_b", worker_mode="webhook"),
        ),
    )


def test_a_configuration_does_not_show_the_proxy_s_credentials() -> None:
    config = parsed(f"api: {{proxy_url: 'http://user:{CANARY}@proxy:3128/'}}\n{ENVIRONMENT}")
    assert config.api.proxy_url == f"http://user:{CANARY}@proxy:3128/"
    assert CANARY not in repr(config)


@pytest.mark.parametrize("nothing", ["", "null", "~"])
def test_a_key_or_section_left_empty_keeps_its_default(nothing: str) -> None:
    text = f"api:\n  timeout: {nothing}\n  workspace_id: {nothing}\nscrape: {nothing}\ndiscovery:\n{ENVIRONMENT}"
    assert without_secrets(parsed(text)) == without_secrets(parsed(ENVIRONMENT))


# Each problem on its own: what is wrong in a section with one environment beside it, and the exact message.
BAD_VALUES = [
    ("api: {base_ulr: x}", "api.base_ulr: unknown key, did you mean base_url?"),
    ("api: {color: red}", "api.color: unknown key"),
    ("scrap: {}", "scrap: unknown key, did you mean scrape?"),
    ("api: {<<: {timeout: 1s}}", "api.(a key on line 1): unknown key"),
    ("api: {sk-ant-canary4f3a9c: 1}", "api.(a key on line 1): unknown key"),
    ("api: {1: x}", "line 1: expected a key that is text, not a number"),
    ("api: {[a]: x}", "line 1: expected a key that is text, not a list"),
    ("api: {true: x}", "line 1: expected a key that is text, not true or false"),
    ("api: []", "api: expected a mapping of keys, not a list"),
    ("api: text", "api: expected a mapping of keys, not text"),
    ("api: {timeout: 1s, timeout: 2s}", "api.timeout: given twice, on lines 1 and 1"),
    ("api: {timeout: 5}", "api.timeout: expected a duration such as 500ms, 10s, 5m or 1h30m, not a number"),
    ("api: {timeout: 5 s}", "api.timeout: expected a duration such as 500ms, 10s, 5m or 1h30m"),
    ("api: {timeout: ''}", "api.timeout: expected a duration such as 500ms, 10s, 5m or 1h30m"),
    ("api: {timeout: 30m1h}", "api.timeout: expected a duration such as 500ms, 10s, 5m or 1h30m"),
    ("api: {timeout: -5s}", "api.timeout: expected a duration such as 500ms, 10s, 5m or 1h30m"),
    ("api: {timeout: 1.5s}", "api.timeout: expected a duration such as 500ms, 10s, 5m or 1h30m"),
    ("api: {timeout: ٣s}", "api.timeout: expected a duration such as 500ms, 10s, 5m or 1h30m"),
    ("api: {timeout: 9999999999s}", "api.timeout: expected a duration such as 500ms, 10s, 5m or 1h30m"),
    ("api: {timeout: [1s]}", "api.timeout: expected a duration such as 500ms, 10s, 5m or 1h30m, not a list"),
    ("api: {max_response_bytes: 8}", "api.max_response_bytes: expected a size from 1KiB to 1GiB such as 8MiB, not a number"),
    ("api: {max_response_bytes: 8MB}", "api.max_response_bytes: expected a size from 1KiB to 1GiB such as 8MiB"),
    ("api: {max_response_bytes: 1023B}", "api.max_response_bytes: expected a size from 1KiB to 1GiB such as 8MiB"),
    ("api: {max_response_bytes: 2GiB}", "api.max_response_bytes: expected a size from 1KiB to 1GiB such as 8MiB"),
    ("api: {requests_per_minute: 0}", "api.requests_per_minute: expected a whole number from 1 to 1000000"),
    ("api: {requests_per_minute: 1000001}", "api.requests_per_minute: expected a whole number from 1 to 1000000"),
    ("api: {requests_per_minute: 1.5}", "api.requests_per_minute: expected a whole number from 1 to 1000000"),
    ("api: {requests_per_minute: '9'}", "api.requests_per_minute: expected a whole number from 1 to 1000000, not text"),
    ("api: {requests_per_minute: 010}", "api.requests_per_minute: expected a whole number from 1 to 1000000"),
    ("api: {requests_per_minute: true}", "api.requests_per_minute: expected a whole number from 1 to 1000000, not true or false"),
    ("api: {concurrency: 0}", "api.concurrency: expected a whole number from 1 to 1000"),
    ("listing: {page_size: 1001}", "listing.page_size: expected a whole number from 1 to 1000"),
    ("listing: {enabled: 1}", "listing.enabled: expected true or false, not a number"),
    ("listing: {enabled: 'true'}", "listing.enabled: expected true or false, not text"),
    ("work: {duration_buckets: 5}", "work.duration_buckets: expected a list of positive numbers, each greater than the one before, not a number"),
    *(
        (f"work: {{duration_buckets: {buckets}}}", "work.duration_buckets: expected a list of positive numbers, each greater than the one before")
        for buckets in ("[]", "[0, 1]", "[1, 1]", "[2, 1]", "[1, .inf]", "[1, 1e999]", "[.nan]", "[-1, 1]", "[1, x]", "[1, '2']", "[1, [2]]", "[true]")
    ),
    ("api: {auth_style: basic}", "api.auth_style: expected x-api-key or bearer"),
    ("api: {auth_style: 1}", "api.auth_style: expected x-api-key or bearer, not a number"),
    ("api: {version: 1}", "api.version: expected visible ASCII characters, as in a header, not a number: put it in quotes"),
    ("api: {version: 'a '}", "api.version: expected visible ASCII characters, as in a header"),
    ("api: {beta: ü}", "api.beta: expected visible ASCII characters, as in a header"),
    ('api: {workspace_id: "a\\r\\nx-api-key: b"}', "api.workspace_id: contains control characters"),
    ("api: {query: [beta]}", "api.query: expected a mapping of keys, not a list"),
    ("api: {query: {beta: true}}", "api.query.beta: expected text, not true or false: put it in quotes"),
    ("api: {query: {beta: {a: b}}}", "api.query.beta: expected text, not a mapping"),
    ("api: {query: {limit: '5'}}", "api.query.limit: set by the exporter itself"),
    ("api: {query: {'a b': c}}", "api.query.(a key on line 1): expected a parameter's name of letters, digits and _ . - [ ]"),
    ("api: {api_key: sk-ant-canary4f3a9c}", "api.api_key: a secret is never written into the file: use api_key_file or api_key_env"),
    ("api: {api_key_file: sk-ant-canary4f3a9c}", "api.api_key_file: not usable, and not shown in case it is the secret itself, which is never written into the file"),
    ("api: {api_key_env: canary4f3a9c0123456789}", "api.api_key_env: not usable, and not shown in case it is the secret itself, which is never written into the file"),
    ("api: {api_key_env: sk-ant-canary4f3a9c}", "api.api_key_env: expected the name of an environment variable"),
    ("api: {api_key_env: NONE}", "api.api_key_env: no such environment variable: NONE"),
    ("api: {api_key_env: EMPTY}", "api.api_key_env: empty: EMPTY"),
    ("api: {api_key_env: SPACED}", "api.api_key_env: something other than visible ASCII characters (a space, a second line, a byte order mark): SPACED"),
    ("api: {api_key_file: none/key}", "api.api_key_file: no such file: DIR/none/key"),
    ("api: {api_key_file: /none/key}", "api.api_key_file: no such file: /none/key"),
    ('api: {api_key_file: "a\\0b"}', "api.api_key_file: contains control characters"),
    ('api: {api_key_file: "a\\uD800"}', "api.api_key_file: contains control characters"),
    ("api: {api_key_file: 1}", "api.api_key_file: expected a path, not a number: put it in quotes"),
    ("api: {api_key_file: key, api_key_env: KEY}", "api.api_key_env: only one of api_key_file and api_key_env can be given"),
    ("api: {ca_file: none}", "api.ca_file: no such file: DIR/none"),
    ("api: {ca_file: .}", "api.ca_file: not a regular file: DIR"),
    ("api: {ca_file: pipe}", "api.ca_file: not a regular file: DIR/pipe"),
    ("api: {ca_file: key}", "api.ca_file: no certificate in PEM format: DIR/key"),
    ("api: {client_cert_file: client.pem}", "api.client_cert_file: needs client_key_file beside it"),
    ("api: {client_key_file: client.key}", "api.client_key_file: needs client_cert_file beside it"),
    ("api: {client_cert_file: client.pem, client_key_file: other.key}", "api.client_cert_file: client_key_file is the key of another certificate: DIR/client.pem"),
    ("api: {client_cert_file: key, client_key_file: client.key}", "api.client_cert_file: no certificate in PEM format with its key in client_key_file, without a passphrase: DIR/key"),
    ("api: {client_cert_file: client.pem, client_key_file: locked.key}", "api.client_cert_file: no certificate in PEM format with its key in client_key_file, without a passphrase: DIR/client.pem"),
    ("discovery: {enabled: true}", "discovery: needs an API key to list the organisation's environments: give api.api_key_file or api_key_env"),
]  # fmt: skip


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with one of everything that a configuration can refer to."""
    directory = tmp_path_factory.mktemp("config")
    tls_files(directory)
    key = load_pem_private_key((directory / "client.key").read_bytes(), password=None)
    encryption = BestAvailableEncryption(b"passphrase")
    (directory / "locked.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    trustme.CA().issue_cert("other.example.com").private_key_pem.write_to_path(directory / "other.key")
    (directory / "key").write_text(f"sk-ant-{CANARY}\n")
    os.mkfifo(directory / "pipe")
    return directory


@pytest.mark.parametrize(("text", "problem"), BAD_VALUES, ids=[text for text, _ in BAD_VALUES])
def test_a_bad_value_is_refused_with_its_place_and_its_rule(directory: Path, text: str, problem: str) -> None:
    environ = ENVIRON | {"EMPTY": "", "SPACED": f"{CANARY} "}
    assert problems(f"{text}\n{ENVIRONMENT}", directory, environ) == [problem.replace("DIR", str(directory))]


def test_certificate_files_without_permission_are_named(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("ssl.SSLContext.load_verify_locations", refuse)
    monkeypatch.setattr("ssl.SSLContext.load_cert_chain", refuse)
    text = "api: {ca_file: ca.pem, client_cert_file: client.pem, client_key_file: client.key}"
    assert problems(f"{text}\n{ENVIRONMENT}", directory) == [
        f"api.ca_file: permission denied: {directory}/ca.pem",
        f"api.client_cert_file: permission denied: {directory}/client.pem or {directory}/client.key",
    ]


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


ID = "expected env_ and 1 to 96 letters, digits or underscores"
NAME = "expected a name of 1 to 128 characters"
NO_CREDENTIAL = "no credential: give environment_key_file or environment_key_env, or api.api_key_file"
NOTHING = "nothing to export: list an environment, or set discovery.enabled: true, or start with --demo"
BAD_ENVIRONMENTS = [
    ("environments: []", [f"environments: {NOTHING}"]),
    ("api: {api_key_env: KEY}", [f"environments: {NOTHING}"]),
    ("", [f"environments: {NOTHING}"]),
    ("environments: {id: env_a}", ["environments: expected a list, not a mapping"]),
    ("environments: [env_a]", ["environments[0]: expected a mapping of keys, not text"]),
    ("environments: [{environment_key_env: KEY}]", ["environments[0].id: missing"]),
    ("environments: [{id: env_a}]", [f"environments[0]: {NO_CREDENTIAL}"]),
    ("environments: [{id: env_a, environment_key: canary4f3a9c}]", ["environments[0].environment_key: a secret is never written into the file: use environment_key_file or environment_key_env"]),
    ("environments: [{id: env_a, environment_key_env: NONE}]", ["environments[0].environment_key_env: no such environment variable: NONE"]),
    ("environments: [{id: env_a, environment_key_env: KEY, worker_mode: on_demand}]", ["environments[0].worker_mode: expected always_on, webhook or unknown"]),
    ("environments: [{id: env_a, environment_key_env: KEY, name: '  '}]", [f"environments[0].name: {NAME}"]),
    (f"environments: [{{id: env_a, environment_key_env: KEY, name: {'n' * 129}}}]", [f"environments[0].name: {NAME}"]),
    ("environments: [{id: env_a, environment_key_env: KEY, name: 1}]", [f"environments[0].name: {NAME}, not a number: put it in quotes"]),
    ('environments: [{id: env_a, environment_key_env: KEY, name: "a\\u202eb"}]', ["environments[0].name: contains control characters"]),
    *(
        (f"environments: [{{id: '{bad}', environment_key_env: KEY}}]", [f"environments[0].id: {ID}"])
        for bad in ("env_", "a", "env_a/../b", "env_a.b", "env_ä", "env_%41", "ENV_a", "env_" + "a" * 97)
    ),
    (
        "api: {api_key_env: KEY}\nenvironments: [{id: env_a}, {id: env_a}]",
        ["environments[1].id: the same as the id of environments[0]"],
    ),
    (
        "api: {api_key_env: KEY}\nenvironments: [{id: env_a, name: x}, {id: env_b, name: x}, {id: env_c, name: x}]",
        ["environments[1].name: the same as the name of environments[0]", "environments[2].name: the same as the name of environments[0]"],
    ),
    (
        "api: {api_key_env: KEY}\nenvironments: [{id: env_a, name: env_b}, {id: env_b}]",
        ["environments[0].name: the same as the id of environments[1]"],
    ),
    (
        "api: {api_key_env: KEY}\nenvironments: [{id: env_a, name: env_b}]",
        ["environments[0].name: looks like an environment's id: only that environment may be called so"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), BAD_ENVIRONMENTS, ids=[text for text, _ in BAD_ENVIRONMENTS])
def test_bad_environments_are_refused(text: str, expected: list[str]) -> None:
    assert problems(text) == expected


def test_an_environment_may_be_called_by_its_own_id() -> None:
    text = "environments: [{id: env_a, name: env_a, environment_key_env: KEY}]"
    assert parsed(text).environments[0].name == "env_a"


def test_an_api_key_without_an_environment_id_discovers_whatever_else_is_set() -> None:
    for more in ({}, {"ANTHROPIC_ENVIRONMENT_KEY": "belongs-to-nobody-known"}):
        config = from_environment({"ANTHROPIC_API_KEY": "key"} | more)
        assert config.discovery.enabled
        assert config.environments == ()


def test_discovery_alone_is_enough_with_an_api_key() -> None:
    assert parsed("discovery: {enabled: true}\napi: {api_key_env: KEY}").environments == ()


def test_every_problem_is_reported_in_one_go_in_the_file_s_order(tmp_path: Path) -> None:
    text = """
scrape:
  timeout: 5
  max_agee: 5m
api:
  api_key: sk-ant-canary4f3a9c
  proxy_url: socks5://canary4f3a9c
  timeout: 1s
  timeout: &anchor canary4f3a9c
  version: *anchor
listing:
  page_size: !!int "7"
environments:
  - name: production
  - id: env_b
    name: production
    environment_key_file: none
"""
    assert problems(text, tmp_path) == [
        "scrape.timeout: expected a duration such as 500ms, 10s, 5m or 1h30m, not a number",
        "scrape.max_agee: unknown key, did you mean max_age?",
        "api.api_key: a secret is never written into the file: use api_key_file or api_key_env",
        "api.proxy_url: expected an address such as http://proxy.example.com:3128",
        "line 9: anchors are not supported",
        "api.timeout: given twice, on lines 8 and 9",
        "line 10: aliases are not supported",
        "line 12: tags are not supported",
        "listing.page_size: expected a whole number from 1 to 1000, not text",
        "environments[0].id: missing",
        "environments[1].name: the same as the name of environments[0]",
        f"environments[1].environment_key_file: no such file: {tmp_path}/none",
    ]


BAD_YAML = [
    ("api: canary4f3a9c: x", "line 1, column 18: not valid YAML: mapping values are not allowed here"),
    ("api: 'canary4f3a9c", "line 1, column 19: not valid YAML: found unexpected end of stream"),
    ("api: [canary4f3a9c", "line 1, column 19: not valid YAML: expected ',' or ']', but got '<stream end>'"),
    ("api: {canary4f3a9c]", "line 1, column 19: not valid YAML: expected ',' or '}', but got ']'"),
    ("api: @canary4f3a9c", "line 1, column 6: not valid YAML: found character '@' that cannot start any token"),
    ("\tapi: canary4f3a9c", "line 1, column 1: not valid YAML: found character '\\t' that cannot start any token"),
    ("api: !canary4f3a9c!x y", "line 1, column 6: not valid YAML: found undefined tag handle …"),
    ('api: "canary4f3a9c\\q"', "line 1, column 20: not valid YAML: found unknown escape character 'q'"),
    ("api: a\n--- canary4f3a9c", "line 2, column 1: not valid YAML: but found another document"),
    ("api: canary4f3a9c\n\n\x07", "line 3: not valid YAML: a control character or one that can't be encoded"),
    ('api: "\\UFFFFFFFF"', "the file: not valid YAML: an escape or a number beyond what is possible"),
    (
        "%YAML 9.1\n--- {}",
        "line 1, column 1: not valid YAML: found incompatible YAML document (version 1.* is required)",
    ),
    ("canary4f3a9c", "the file: expected a mapping of keys, not text"),
    ("- canary4f3a9c", "the file: expected a mapping of keys, not a list"),
    ("[" * 100_000, "line 1, column 17: not valid YAML: nested too deeply"),
    ("#" * 1_048_577, "the file: more than 1 MiB"),
]


@pytest.mark.parametrize(("text", "problem"), BAD_YAML, ids=[text[:30] for text, _ in BAD_YAML])
def test_what_is_not_yaml_is_refused_with_its_place_and_never_quoted(text: str, problem: str) -> None:
    assert problems(text) == [problem]


def test_a_missing_a_binary_and_an_unreadable_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "binary.yml").write_bytes(b"\xff\xfe\x00")
    for path, problem in [
        (tmp_path / "none.yml", "no such file"),
        (tmp_path / "binary.yml", "not UTF-8"),
        (tmp_path, "is a directory"),
    ]:
        with pytest.raises(ConfigError) as caught:
            load(path, ENVIRON)
        assert caught.value.problems == (f"{path}: {problem}",)


def test_paths_in_a_file_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("api-key")
    text = f"\ufeffapi: {{api_key_file: key}}\n{ENVIRONMENT}"
    (tmp_path / "exporter.yml").write_text(text, encoding="utf-8")
    assert secrets(load(tmp_path / "exporter.yml", ENVIRON))[0] == Secret("api-key")


def test_the_shipped_example_loads_and_says_the_defaults(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8").replace("/run/secrets/", "")
    (tmp_path / "api-key").write_text("api-key\n")
    (tmp_path / "production-environment-key").write_text("environment-key\n")
    (tmp_path / "exporter.yml").write_text(text, encoding="utf-8")
    config = load(tmp_path / "exporter.yml", {})
    assert secrets(config) == [Secret("api-key"), Secret("environment-key")]
    environments = (EnvironmentConfig(id="env_011CZkZ9X2dpNyB7HsEFoRfW", name="production", worker_mode="always_on"),)
    assert without_secrets(config) == Config(environments=environments)


def test_the_shipped_example_has_every_key_and_no_other() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    example = yaml.safe_load(re.sub(r"(?m)^( *)# (api_key_env|environment_key_env): ", r"\1\2: ", text))
    named = set(example)
    for section in example.keys() - {"environments"}:
        named |= {f"{section}.{key}" for key in example[section]}
    named |= {f"environments[].{key}" for key in example["environments"][0]}
    assert named == set(keys())


def test_the_documented_keys_are_the_fields_of_the_configuration() -> None:
    fields = {field.name for field in dataclasses.fields(ApiConfig)}
    taken = {key.partition(".")[2] for key in keys() if key.startswith("api.")}
    assert {"timeout" if name == "timeout_s" else name for name in fields - {"api_key"}} == taken - {
        "api_key_file",
        "api_key_env",
    }


words = st.sampled_from(
    [
        *(key.rpartition(".")[2] for key in keys()),
        *(
            "api_key",
            "env_a",
            "env_b",
            "KEY",
            "10s",
            "8MiB",
            "1",
            "true",
            "null",
            "bearer",
            "https://h",
            "&a",
            "*a",
            "!!int",
        ),
        *(
            ": ",
            "\n",
            "\n  ",
            "\n  - ",
            "{",
            "}",
            "[",
            "]",
            ", ",
            "'",
            '"',
            "#",
            "|",
            ">",
            "?",
            "%YAML",
            "---",
            "<<",
            "\\U",
            "\t",
        ),
    ]
)
texts = st.text(max_size=200) | st.lists(words, max_size=40).map("".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=8), inner, max_size=6),
    max_leaves=20,
)


@given(texts | values.map(lambda value: yaml.safe_dump(value, allow_unicode=True)))
@example("api: 0x_")
@example("a: 0b_\nb: 1:60\nc: " + "9" * 5000)
@example("? ? a")
@example('"\\x')
def test_any_text_is_a_configuration_or_a_list_of_problems(text: str) -> None:
    try:
        parsed(text)
        found = ["none"]
    except ConfigError as error:
        found = list(error.problems)
    assert found
    assert all(problem.isprintable() for problem in found)


@given(
    st.sampled_from([key for key in keys() if not key.endswith("_file")]),
    st.sampled_from(
        ["{}", "'{}'", "|\n   {}", "[{}]", "{{a: {}}}", "!{} x", "&{} x", "*{}", "'{}", '"\\q{}"', "@{}", "{}: {}"]
    ),
    st.sampled_from(
        [f"sk-ant-api03-{CANARY}", f"{CANARY}.{CANARY}/x", f"https://u:{CANARY}@h", f"{CANARY}s", f"{CANARY}0123456789"]
    ),
)
def test_a_credential_in_the_wrong_place_is_never_quoted(key: str, form: str, credential: str) -> None:
    section, _, name = key.rpartition(".")
    value = form.replace("{}", credential).replace("{{", "{").replace("}}", "}")
    text = (
        f"environments: [{{{name}: {value}}}]"
        if section == "environments[]"
        else f"{section or 'api'}:\n  {name}: {value}"
    )
    try:
        config = parsed(text)
    except ConfigError as error:
        shown = str(error)
    else:
        shown = "" if name in {"version", "beta", "workspace_id", "name"} else repr(config)
    assert CANARY not in shown


def test_nothing_configured_at_all_is_one_line_that_names_the_demo() -> None:
    for environ in ({}, {"PATH": "/bin"}, {"ANTHROPIC_API_KEY": "", "ANTHROPIC_BASE_URL": "https://h"}):
        with pytest.raises(ConfigError) as caught:
            from_environment(environ)
        (problem,) = caught.value.problems
        assert problem == (
            "nothing configured: give --config.file, or ANTHROPIC_API_KEY, or ANTHROPIC_ENVIRONMENT_ID and"
            " ANTHROPIC_ENVIRONMENT_KEY; --demo shows the exporter at work without any of them"
        )


def test_variables_alone_with_an_api_key_and_no_environment_discover() -> None:
    config = from_environment({"ANTHROPIC_API_KEY": "api-key", "ANTHROPIC_WORKSPACE_ID": "wrkspc_1"})
    assert secrets(config) == [Secret("api-key")]
    assert without_secrets(config) == Config(
        api=ApiConfig(workspace_id="wrkspc_1"), discovery=DiscoveryConfig(enabled=True)
    )


def test_variables_alone_with_an_auth_token_send_it_as_bearer() -> None:
    environ = {
        "ANTHROPIC_AUTH_TOKEN": "token",
        "ANTHROPIC_ENVIRONMENT_ID": "env_a, env_b,,env_a",
        "ANTHROPIC_BASE_URL": "https://gateway.example.com",
    }
    config = from_environment(environ)
    assert secrets(config) == [Secret("token"), None, None]
    assert without_secrets(config) == Config(
        api=ApiConfig(base_url="https://gateway.example.com/v1", auth_style="bearer"),
        environments=(EnvironmentConfig(id="env_a", name="env_a"), EnvironmentConfig(id="env_b", name="env_b")),
    )


def test_variables_alone_with_one_environment_and_its_key_need_no_api_key() -> None:
    config = from_environment({"ANTHROPIC_ENVIRONMENT_ID": "env_a", "ANTHROPIC_ENVIRONMENT_KEY": "key"})
    assert secrets(config) == [None, Secret("key")]
    assert without_secrets(config) == Config(environments=(EnvironmentConfig(id="env_a", name="env_a"),))


def test_an_api_key_goes_before_an_auth_token() -> None:
    config = from_environment({"ANTHROPIC_API_KEY": "api-key", "ANTHROPIC_AUTH_TOKEN": "token"})
    assert (secrets(config), config.api.auth_style) == ([Secret("api-key")], "x-api-key")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (
            {"ANTHROPIC_API_KEY": f"{CANARY} "},
            [f"ANTHROPIC_API_KEY: {OTHER_THAN_VISIBLE}: ANTHROPIC_API_KEY"],
        ),
        (
            {"ANTHROPIC_ENVIRONMENT_ID": "env_a"},
            ["ANTHROPIC_ENVIRONMENT_ID: no credential: set ANTHROPIC_ENVIRONMENT_KEY or ANTHROPIC_API_KEY"],
        ),
        (
            {"ANTHROPIC_ENVIRONMENT_KEY": CANARY},
            ["ANTHROPIC_ENVIRONMENT_KEY: set ANTHROPIC_ENVIRONMENT_ID to the environment it belongs to"],
        ),
        (
            {"ANTHROPIC_ENVIRONMENT_KEY": CANARY, "ANTHROPIC_ENVIRONMENT_ID": "env_a,env_b"},
            [f"ANTHROPIC_ENVIRONMENT_KEY: {ONE_KEY}"],
        ),
        (
            {
                "ANTHROPIC_API_KEY": "a",
                "ANTHROPIC_ENVIRONMENT_ID": f"env_a,{CANARY}",
                "ANTHROPIC_BASE_URL": f"https://u:{CANARY}@h",
                "ANTHROPIC_WORKSPACE_ID": f"{CANARY}\n",
            },
            [
                f"ANTHROPIC_ENVIRONMENT_ID: {ID}, several separated by commas",
                "ANTHROPIC_BASE_URL: an address must not carry credentials",
                "ANTHROPIC_WORKSPACE_ID: expected visible ASCII characters, as in a header",
            ],
        ),
    ],
    ids=["malformed key", "no credential", "no id", "one key for two", "several problems"],
)
def test_bad_variables_are_all_named_and_never_quoted(environ: dict[str, str], expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        from_environment(environ)
    assert list(caught.value.problems) == expected


@given(
    st.dictionaries(
        st.sampled_from(["API_KEY", "AUTH_TOKEN", "ENVIRONMENT_ID", "ENVIRONMENT_KEY", "BASE_URL", "WORKSPACE_ID"]),
        st.text(max_size=30) | st.sampled_from(["env_a", "env_a,env_b", "https://h/v1", "key", "http://[::1"]),
    )
)
def test_any_variables_are_a_configuration_or_a_list_of_problems(variables: dict[str, str]) -> None:
    try:
        config = from_environment({f"ANTHROPIC_{name}": value for name, value in variables.items()})
        found = [*config.environments, config.discovery.enabled]
    except ConfigError as error:
        found = list(error.problems)
    assert any(found)
