"""A YAML file → a frozen `Config`, or `ConfigError` with every problem."""

from __future__ import annotations

import itertools
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.config.model import (
    DISCOVERY_LEAST_INTERVAL_S,
    ENVIRONMENT_ID,
    HEADER,
    HEADER_EXPECTED,
    ID_EXPECTED,
    NAME_LENGTH_LIMIT,
    WORKSPACE_ID,
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
from exporter.config.secret import EnvSecret, FileSecret, SecretError, system_words
from exporter.config.tls_files import authorities_in, file_in, pair_problem, path_in
from exporter.config.urls import URL_EXPECTED, checked_base_url, environ_base_url, proxy_url
from exporter.config.yaml_document import (
    SIZE_LIMIT,
    Document,
    InvalidValue,
    Section,
    choice,
    duration_s,
    flag,
    rising_numbers,
    size_bytes,
    text,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import yaml

    from exporter.config.secret import SecretSource


_NOTHING_TO_EXPORT = "nothing to export: list an environment, or set discovery.enabled: true, or start with --demo"
_NOT_SHOWN = "not usable, and not shown in case it is the secret itself, which is never written into the file"

_NAME_EXPECTED = f"a name of 1 to {NAME_LENGTH_LIMIT} characters"
_QUERY_KEY = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
_OWN_QUERY_KEYS = frozenset({"limit", "page"})
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_LIKE_A_SECRET = re.compile(r"sk-ant-.*|(?=.*[0-9])[A-Za-z0-9_=+-]{20,}")


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Read a configuration file and the files it names. Raises ConfigError."""
    return parse(read_file(path), directory=path.parent, environ=environ)


def read_file(path: Path) -> str:
    """Return the text of a configuration file, at most one byte more than it may have. Raises ConfigError."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            content = file.read(SIZE_LIMIT + 1)
        return content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError((f"{path}: {system_words(error)}",)) from None
    except UnicodeDecodeError:
        raise ConfigError((f"{path}: not UTF-8",)) from None


def _open_at_once(path: str, flags: int) -> int:
    """Open a file. A named pipe that nobody writes to is empty: to wait for it would hang this reload and all after it."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)  # what is being written now is waited for
    return descriptor


def parse(yaml_text: str, *, directory: Path, environ: Mapping[str, str]) -> Config:
    """Return what the YAML says, with relative paths taken from `directory`. Raises ConfigError."""
    document = Document(yaml_text)
    if not document.usable:
        raise ConfigError(document.problems())
    config = _config(document.root, _Surroundings(directory, environ))
    if problems := document.problems():
        raise ConfigError(problems)
    return config


def keys() -> tuple[str, ...]:
    """Return every key a file may contain, as `api.base_url` or `environments[].id`."""
    document = Document("environments: [{}]")
    _config(document.root, _Surroundings(Path(), {}))
    return tuple(document.keys)


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What a configuration refers to: paths are relative to `directory`, variables are looked up in `environ`."""

    directory: Path
    environ: Mapping[str, str] = field(repr=False)


def _config(root: Section, around: _Surroundings) -> Config:
    api = root.section("api")
    config = Config(
        api=_api(api, around),
        scrape=_scrape(root.section("scrape")),
        listing=_listing(root.section("listing")),
        work=_work(root.section("work")),
        discovery=_discovery(root.section("discovery")),
        environments=_environments(root, around, api_key_given=_secret_given(api, "api_key")),
    )
    if config.discovery.enabled and not _secret_given(api, "api_key"):
        root.note(
            "discovery",
            "needs an API key to list the organisation's environments: give api.api_key_file or api_key_env",
        )
    if not root.given("environments") and not config.discovery.enabled:
        root.note("environments", _NOTHING_TO_EXPORT)
    return config


def _api(section: Section, around: _Surroundings) -> ApiConfig:
    default = ApiConfig()
    allow_http = section.take("allow_http", flag, default.allow_http)
    ca_file = section.take("ca_file", authorities_in(around.directory), None)
    client_cert_file, client_key_file = _client_certificate(section, around)
    header = text(matching=HEADER, expected=HEADER_EXPECTED)
    return ApiConfig(
        base_url=_base_url(section, around, allow_http=allow_http),
        api_key=_secret(section, "api_key", around),
        auth_style=section.take("auth_style", choice("x-api-key", "bearer"), default.auth_style),
        version=section.take("version", header, default.version),
        beta=section.take("beta", header, default.beta),
        workspace_id=section.take("workspace_id", _workspace_id, default.workspace_id),
        query=_query(section.section("query")),
        ca_file=ca_file,
        client_cert_file=client_cert_file,
        client_key_file=client_key_file,
        proxy_url=section.take("proxy_url", proxy_url, default.proxy_url),
        allow_http=allow_http,
        timeout_s=section.take("timeout", _limit_s, default.timeout_s),
        max_response_bytes=section.take(
            "max_response_bytes", size_bytes(least=1024, most=1024**3), default.max_response_bytes
        ),
        requests_per_minute=section.take(
            "requests_per_minute", whole(least=1, most=1_000_000), default.requests_per_minute
        ),
        concurrency=section.take("concurrency", whole(least=1, most=1000), default.concurrency),
    )


def _scrape(section: Section) -> ScrapeConfig:
    default = ScrapeConfig()
    return ScrapeConfig(
        timeout_s=section.take("timeout", _limit_s, default.timeout_s),
        timeout_offset_s=section.take("timeout_offset", duration_s, default.timeout_offset_s),
        min_interval_s=section.take("min_interval", duration_s, default.min_interval_s),
        max_age_s=section.take("max_age", duration_s, default.max_age_s),
    )


def _listing(section: Section) -> ListingConfig:
    default = ListingConfig()
    return ListingConfig(
        enabled=section.take("enabled", flag, default.enabled),
        page_size=section.take("page_size", whole(least=1, most=1000), default.page_size),
        resync_interval_s=section.take("resync_interval", duration_s, default.resync_interval_s),
    )


def _work(section: Section) -> WorkConfig:
    default = WorkConfig()
    return WorkConfig(
        heartbeat_overdue_s=section.take("heartbeat_overdue", duration_s, default.heartbeat_overdue_s),
        duration_buckets=section.take("duration_buckets", rising_numbers, default.duration_buckets),
        wait_objective_s=section.take("wait_objective", duration_s, default.wait_objective_s),
        items=section.take("items", flag, default.items),
        exemplars=section.take("exemplars", flag, default.exemplars),
    )


def _discovery(section: Section) -> DiscoveryConfig:
    default = DiscoveryConfig()
    return DiscoveryConfig(
        enabled=section.take("enabled", flag, default.enabled),
        interval_s=max(DISCOVERY_LEAST_INTERVAL_S, section.take("interval", duration_s, default.interval_s)),
        workspaces=_workspaces(section),
    )


def _workspaces(section: Section) -> tuple[str, ...]:
    place_by_workspace: dict[str, str] = {}
    places = (f"{section.place}.workspaces[{index}]" for index in itertools.count())

    def read(node: yaml.Node) -> str:
        place = next(places)
        workspace_id = _workspace_id(node)
        first = place_by_workspace.setdefault(workspace_id, place)
        if first != place:
            raise InvalidValue(f"the same as {first}")
        return workspace_id

    return section.take_each("workspaces", read)


def _environments(root: Section, around: _Surroundings, *, api_key_given: bool) -> tuple[EnvironmentConfig, ...]:
    sections = root.sections("environments")
    environments = tuple(_environment(section, around) for section in sections)
    for section in sections:
        if not section.given("id"):
            section.note("id", "missing")
        if not (api_key_given or _secret_given(section, "environment_key")):
            section.note(None, "no credential: give environment_key_file or environment_key_env, or api.api_key_file")
    _note_doubles(sections, environments)
    return environments


def _environment(section: Section, around: _Surroundings) -> EnvironmentConfig:
    environment_id = section.take("id", text(matching=ENVIRONMENT_ID, expected=ID_EXPECTED), "")
    return EnvironmentConfig(
        id=environment_id,
        name=section.take("name", _name, environment_id),
        environment_key=_secret(section, "environment_key", around),
        worker_mode=section.take("worker_mode", choice("always_on", "webhook", "unknown"), "unknown"),
        workspace_id=section.take("workspace_id", _workspace_id, None),
        wait_objective_s=section.take("wait_objective", duration_s, None),
    )


def _note_doubles(sections: list[Section], environments: tuple[EnvironmentConfig, ...]) -> None:
    """Note ids and names that occur twice, and names that are another environment's id, because `/probe` takes either."""
    first_by_id: dict[str, Section] = {}
    first_by_name: dict[str, Section] = {}
    for section, environment in zip(sections, environments, strict=True):
        first = first_by_id.setdefault(environment.id, section)
        if environment.id and first is not section:
            section.note("id", f"the same as the id of {first.place}")
    for section, environment in zip(sections, environments, strict=True):
        if not section.given("name") or not environment.name:
            continue
        same_name = first_by_name.setdefault(environment.name, section)
        same_id = first_by_id.get(environment.name, section)
        if same_name is not section:
            section.note("name", f"the same as the name of {same_name.place}")
        elif same_id is not section:
            section.note("name", f"the same as the id of {same_id.place}")
        elif environment.name != environment.id and ENVIRONMENT_ID.fullmatch(environment.name):
            section.note("name", "looks like an environment's id: only that environment may be called so")


def _limit_s(node: yaml.Node) -> float:
    """Return a longest duration; 0 sets no limit."""
    return duration_s(node) or math.inf


def _name(node: yaml.Node) -> str:
    name = text(expected=_NAME_EXPECTED)(node).strip()
    if not 1 <= len(name) <= NAME_LENGTH_LIMIT:
        raise InvalidValue(f"expected {_NAME_EXPECTED}")
    return name


def _workspace_id(node: yaml.Node) -> str:
    return text(matching=WORKSPACE_ID, expected=WORKSPACE_ID_EXPECTED)(node)


def _query(section: Section) -> dict[str, str]:
    query = dict(section.entries(text()))
    for key in query:
        if not _QUERY_KEY.fullmatch(key):
            section.note(key, "expected a parameter's name of letters, digits and _ . - [ ]")
        elif key in _OWN_QUERY_KEYS:
            section.note(key, "set by the exporter itself")
    return query


def _secret(section: Section, name: str, around: _Surroundings) -> SecretSource | None:
    """Return where the secret comes from, already read once, or None if it isn't given or is invalid."""
    file_key, variable_key = f"{name}_file", f"{name}_env"
    section.reject(name, f"a secret is never written into the file: use {file_key} or {variable_key}")
    path = section.take(file_key, path_in(around.directory), None)
    variable = section.take(
        variable_key, text(matching=_VARIABLE, expected="the name of an environment variable"), None
    )
    if section.given(file_key) and section.given(variable_key):
        section.note(variable_key, f"only one of {file_key} and {variable_key} can be given")
    elif path is not None:
        return _proven(FileSecret(path), section, file_key, shown=not _LIKE_A_SECRET.fullmatch(path.name))
    elif variable is not None:
        shown = variable in around.environ or (variable.isupper() and not _LIKE_A_SECRET.fullmatch(variable))
        return _proven(EnvSecret(variable, around.environ), section, variable_key, shown=shown)
    return None


def _proven(source: SecretSource, section: Section, key: str, *, shown: bool) -> SecretSource:
    try:
        source.read()
    except SecretError as error:
        section.note(key, str(error) if shown else _NOT_SHOWN)
    return source


def _secret_given(section: Section, name: str) -> bool:
    """Return whether the file has any key for this secret, a wrong one too: that one is reported already."""
    return any(section.given(key) for key in (name, f"{name}_file", f"{name}_env"))


def _client_certificate(section: Section, around: _Surroundings) -> tuple[Path | None, Path | None]:
    certificate = section.take("client_cert_file", file_in(around.directory), None)
    key = section.take("client_key_file", file_in(around.directory), None)
    for present, absent in (("client_cert_file", "client_key_file"), ("client_key_file", "client_cert_file")):
        if section.given(present) and not section.given(absent):
            section.note(present, f"needs {absent} beside it")
    if certificate and key and (problem := pair_problem(certificate, key, key_named="client_key_file")):
        section.note("client_cert_file", problem)
    return certificate, key


def _base_url(section: Section, around: _Surroundings, *, allow_http: bool) -> str:
    read = text(expected=URL_EXPECTED)
    base_url = section.take("base_url", lambda node: checked_base_url(read(node), allow_http=allow_http), None)
    if section.given("base_url"):
        return base_url or ApiConfig().base_url
    try:
        return environ_base_url(around.environ, allow_http=allow_http) or ApiConfig().base_url
    except InvalidValue as invalid:
        section.note("base_url", f"ANTHROPIC_BASE_URL, used without it: {invalid}")
        return ApiConfig().base_url
