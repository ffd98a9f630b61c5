"""The vendor's environment variables without a file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.from_environment import from_environment
from exporter.config.model import (
    WORKSPACE_ID_EXPECTED,
    ApiConfig,
    Config,
    ConfigError,
    DiscoveryConfig,
    EnvironmentConfig,
)
from exporter.config.secret import Secret
from tests.config.parsing import CANARY, OTHER_THAN_VISIBLE, secrets, without_secrets

ID = "expected env_ and 1 to 96 letters, digits or underscores"
ONE_KEY = "one key can't serve 2 environments: give each its own in a configuration file"


def test_an_api_key_without_an_environment_id_discovers_whatever_else_is_set() -> None:
    for more in ({}, {"ANTHROPIC_ENVIRONMENT_KEY": "belongs-to-nobody-known"}):
        config = from_environment({"ANTHROPIC_API_KEY": "key"} | more)
        assert config.discovery.enabled
        assert config.environments == ()


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
                f"ANTHROPIC_WORKSPACE_ID: expected {WORKSPACE_ID_EXPECTED}",
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
