import dataclasses
import math
import os
import re
import threading
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

from exporter.config.load import keys, load
from exporter.config.model import (
    WORKSPACE_ID_EXPECTED,
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
from tests.config.parsing import (
    CANARY,
    ENVIRON,
    ENVIRONMENT,
    parsed,
    problems,
    secrets,
    without_secrets,
)

EXAMPLE = Path(__file__).parents[2] / "config" / "exporter.yml"


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
            duration_buckets=(
                *(1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 450, 600, 900),
                *(1200, 1800, 2700, 3600, 5400, 7200, 14400),
            ),
            wait_objective_s=120.0,
        ),
        discovery=DiscoveryConfig(enabled=False, interval_s=300.0, workspaces=()),
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
work: {heartbeat_overdue: 2m, duration_buckets: [0.5, 1, 1e2], wait_objective: 1m}
discovery: {enabled: yes, interval: 1w, workspaces: [wrkspc_1, wrkspc_2]}
environments:
  - {id: env_011CZkZ9X2dpNyB7HsEFoRfW, name: " Köln (production) ", environment_key_env: KEY, worker_mode: always_on}
  - {id: env_b, worker_mode: webhook, workspace_id: wrkspc_3, wait_objective: 0s}
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
        scrape=ScrapeConfig(timeout_s=math.inf, timeout_offset_s=0.0, min_interval_s=0.0, max_age_s=86_400.0),
        listing=ListingConfig(enabled=False, page_size=1, resync_interval_s=1.5),
        work=WorkConfig(heartbeat_overdue_s=120.0, duration_buckets=(0.5, 1.0, 100.0), wait_objective_s=60.0),
        discovery=DiscoveryConfig(enabled=True, interval_s=604_800.0, workspaces=("wrkspc_1", "wrkspc_2")),
        environments=(
            EnvironmentConfig(id="env_011CZkZ9X2dpNyB7HsEFoRfW", name="Köln (production)", worker_mode="always_on"),
            EnvironmentConfig(
                id="env_b", name="env_b", worker_mode="webhook", workspace_id="wrkspc_3", wait_objective_s=0.0
            ),
        ),
    )


@pytest.mark.parametrize("section", ["api", "scrape"])
def test_a_timeout_of_0_sets_no_limit(section: str) -> None:
    config = parsed(f"{section}: {{timeout: 0s}}\n{ENVIRONMENT}")
    assert getattr(config, section).timeout_s == math.inf


@pytest.mark.parametrize(("interval", "expected_s"), [("0s", 1.0), ("999ms", 1.0), ("1s", 1.0), ("2s", 2.0)])
def test_discovery_asks_once_a_second_at_most(interval: str, expected_s: float) -> None:
    assert parsed(f"discovery: {{interval: {interval}}}\n{ENVIRONMENT}").discovery.interval_s == expected_s


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
    *(
        (f"{section}: {value}", f"{place}: {problem}")
        for section, place, wrap in (("api", "api.workspace_id", "{{workspace_id: {}}}"), ("discovery", "discovery.workspaces[1]", "{{workspaces: [wrkspc_1, {}]}}"))
        for given, problem in (
            ("''", f"expected {WORKSPACE_ID_EXPECTED}"),
            ("wrkspc 1", f"expected {WORKSPACE_ID_EXPECTED}"),
            ("'wrkspc_1, wrkspc_2'", f"expected {WORKSPACE_ID_EXPECTED}"),
            ("sk-ant-canary4f3a9c", f"expected {WORKSPACE_ID_EXPECTED}"),
            ("w" * 129, f"expected {WORKSPACE_ID_EXPECTED}"),
            ("1", f"expected {WORKSPACE_ID_EXPECTED}, not a number: put it in quotes"),
            (r'"wrkspc_1\nx-api-key: b"', "contains control characters"),
        )
        for value in (wrap.format(given),)
    ),
    ("discovery: {workspaces: wrkspc_1}", "discovery.workspaces: expected a list, not text"),
    ("discovery: {workspaces: [null]}", f"discovery.workspaces[0]: expected {WORKSPACE_ID_EXPECTED}, not null: put it in quotes"),
    ("discovery: {workspaces: [a, b, a]}", "discovery.workspaces[2]: the same as discovery.workspaces[0]"),
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


def test_every_bad_workspace_is_named_with_its_own_place() -> None:
    text = """
discovery: {workspaces: [wrkspc_1, "", wrkspc_2, wrkspc_1, wrkspc_2]}
environments: [{id: env_a, environment_key_env: KEY, workspace_id: "a b"}]
"""
    assert problems(text) == [
        f"discovery.workspaces[1]: expected {WORKSPACE_ID_EXPECTED}",
        "discovery.workspaces[3]: the same as discovery.workspaces[0]",
        "discovery.workspaces[4]: the same as discovery.workspaces[2]",
        f"environments[0].workspace_id: expected {WORKSPACE_ID_EXPECTED}",
    ]


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


def test_a_pipe_is_read_to_its_end_and_is_empty_while_nobody_writes_to_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="nothing to export"):
        load(pipe, {})
    both_ends = os.open(pipe, os.O_RDWR)  # a pipe is opened for reading while somebody may write to it
    os.write(both_ends, ENVIRONMENT.encode())
    timer = threading.Timer(0.05, os.close, [both_ends])
    timer.start()
    assert [each.id for each in load(pipe, ENVIRON).environments] == ["env_a"]
    timer.join()


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
