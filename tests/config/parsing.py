"""A configuration read from a text, or the problems of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.config.load import parse
from exporter.config.model import Config, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.config.secret import Secret

CANARY = "canary4f3a9c"
OTHER_THAN_VISIBLE = "something other than visible ASCII characters (a space, a second line, a byte order mark)"
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
