"""The vendor's own environment variables → a `Config`, without a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.config.model import (
    ENVIRONMENT_ID,
    ID_EXPECTED,
    WORKSPACE_ID,
    WORKSPACE_ID_EXPECTED,
    ApiConfig,
    Config,
    ConfigError,
    DiscoveryConfig,
    EnvironmentConfig,
)
from exporter.config.secret import EnvSecret, SecretError
from exporter.config.urls import environ_base_url
from exporter.config.yaml_document import InvalidValue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.config.secret import SecretSource


_NOTHING_CONFIGURED = (
    "nothing configured: give --config.file, or ANTHROPIC_API_KEY, or ANTHROPIC_ENVIRONMENT_ID and"
    " ANTHROPIC_ENVIRONMENT_KEY; --demo shows the exporter at work without any of them"
)


def from_environment(environ: Mapping[str, str]) -> Config:
    """Return what the vendor's own environment variables say, without a file. Raises ConfigError."""
    problems: list[str] = []
    api_key = _variable_secret("ANTHROPIC_API_KEY", environ, problems)
    auth_token = None if api_key else _variable_secret("ANTHROPIC_AUTH_TOKEN", environ, problems)
    environments = _variable_environments(environ, problems, api_key_given=bool(api_key or auth_token))
    if not (api_key or auth_token or environments or problems):
        raise ConfigError((_NOTHING_CONFIGURED,))
    api = ApiConfig(
        base_url=_variable_base_url(environ, problems),
        api_key=api_key or auth_token,
        auth_style="bearer" if auth_token else "x-api-key",
        workspace_id=_variable_workspace_id(environ, problems),
    )
    if problems:
        raise ConfigError(tuple(problems))
    return Config(api=api, discovery=DiscoveryConfig(enabled=not environments), environments=environments)


def _variable_secret(variable: str, environ: Mapping[str, str], problems: list[str]) -> SecretSource | None:
    """Return the variable as a secret. An empty variable counts as absent: compose files and manifests produce them."""
    if not environ.get(variable):
        return None
    source = EnvSecret(variable, environ)
    try:
        source.read()
    except SecretError as error:
        problems.append(f"{variable}: {error}")
    return source


def _variable_environments(
    environ: Mapping[str, str], problems: list[str], *, api_key_given: bool
) -> tuple[EnvironmentConfig, ...]:
    key = _variable_secret("ANTHROPIC_ENVIRONMENT_KEY", environ, problems)
    listed = (piece.strip() for piece in environ.get("ANTHROPIC_ENVIRONMENT_ID", "").split(","))
    ids = tuple(dict.fromkeys(filter(None, listed)))
    if not all(map(ENVIRONMENT_ID.fullmatch, ids)):
        problems.append(f"ANTHROPIC_ENVIRONMENT_ID: expected {ID_EXPECTED}, several separated by commas")
    if key and not ids and not api_key_given:
        problems.append("ANTHROPIC_ENVIRONMENT_KEY: set ANTHROPIC_ENVIRONMENT_ID to the environment it belongs to")
    if key and len(ids) > 1:
        remedy = "give each its own in a configuration file"
        problems.append(f"ANTHROPIC_ENVIRONMENT_KEY: one key can't serve {len(ids)} environments: {remedy}")
    if ids and not (key or api_key_given):
        remedy = "set ANTHROPIC_ENVIRONMENT_KEY or ANTHROPIC_API_KEY"
        problems.append(f"ANTHROPIC_ENVIRONMENT_ID: no credential: {remedy}")
    return tuple(EnvironmentConfig(id=one, name=one, environment_key=key) for one in ids)


def _variable_base_url(environ: Mapping[str, str], problems: list[str]) -> str:
    try:
        return environ_base_url(environ, allow_http=False) or ApiConfig().base_url
    except InvalidValue as invalid:
        problems.append(f"ANTHROPIC_BASE_URL: {invalid}")
        return ApiConfig().base_url


def _variable_workspace_id(environ: Mapping[str, str], problems: list[str]) -> str | None:
    workspace_id = environ.get("ANTHROPIC_WORKSPACE_ID") or None
    if workspace_id and not WORKSPACE_ID.fullmatch(workspace_id):
        problems.append(f"ANTHROPIC_WORKSPACE_ID: expected {WORKSPACE_ID_EXPECTED}")
    return workspace_id
