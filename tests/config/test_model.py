"""The rules for ids, names and headers that the whole exporter follows."""

from __future__ import annotations

import dataclasses

import pytest

from exporter.config.model import (
    ENVIRONMENT_ID,
    HEADER,
    WORKSPACE_ID,
    ApiConfig,
    Config,
    ConfigError,
    DiscoveryConfig,
    EnvironmentConfig,
    without_controls,
)


@pytest.mark.parametrize("environment_id", ["env_a", "env_" + "a" * 96, "env_011CZkZ9X2dpNyB7HsEFoRfW", "env__"])
def test_an_environment_id_is_env_and_letters_digits_or_underscores(environment_id: str) -> None:
    assert ENVIRONMENT_ID.fullmatch(environment_id)


@pytest.mark.parametrize("text", ["env_", "env_" + "a" * 97, "env_ä", "env_a/b", "env_a\n", "Env_a", " env_a"])
def test_anything_else_is_no_environment_id(text: str) -> None:
    assert ENVIRONMENT_ID.fullmatch(text) is None


@pytest.mark.parametrize("workspace_id", ["wrkspc_011CZkZaBF1tNoB5wlCeusgy", "default", "a.b:c-d", "w" * 128])
def test_a_workspaces_id_is_letters_digits_and_some_marks(workspace_id: str) -> None:
    assert WORKSPACE_ID.fullmatch(workspace_id)


@pytest.mark.parametrize("text", ["", "a b", "a,b", "wrkspc_1\n", "ä", "w" * 129, "sk-ant-api03-key"])
def test_a_key_in_its_place_and_anything_else_is_no_workspaces_id(text: str) -> None:
    assert WORKSPACE_ID.fullmatch(text) is None


@pytest.mark.parametrize(
    ("workspaces", "of_api", "expected"),
    [
        ((), None, ("",)),
        ((), "wrkspc_1", ("wrkspc_1",)),
        (("wrkspc_2", "wrkspc_3"), "wrkspc_1", ("wrkspc_2", "wrkspc_3")),
    ],
)
def test_discovery_asks_for_its_own_workspaces_or_for_that_of_the_api(
    workspaces: tuple[str, ...], of_api: str | None, expected: tuple[str, ...]
) -> None:
    api = ApiConfig(workspace_id=of_api)
    on = Config(api=api, discovery=DiscoveryConfig(enabled=True, workspaces=workspaces))
    off = Config(api=api, discovery=DiscoveryConfig(workspaces=workspaces))
    assert (on.discovered_workspaces, off.discovered_workspaces) == (expected, ())


@pytest.mark.parametrize(
    ("own", "of_api", "expected"), [("a", "b", "a"), ("a", None, "a"), (None, "b", "b"), (None, None, "")]
)
def test_an_environment_is_in_its_own_workspace_or_in_that_of_the_api(
    own: str | None, of_api: str | None, expected: str
) -> None:
    environment = EnvironmentConfig(id="env_1", name="one", workspace_id=own)
    assert Config(api=ApiConfig(workspace_id=of_api)).workspace_of(environment) == expected


@pytest.mark.parametrize("value", ["a", "a b", "default-src 'none'; x", "!~", "a" * 4096])
def test_a_header_is_visible_ascii_with_spaces_inside(value: str) -> None:
    assert HEADER.fullmatch(value)


@pytest.mark.parametrize("value", ["", " a", "a ", "a\tb", "a\r\nb", "ü", "a\x7f", "a" * 4097])
def test_anything_else_is_no_header(value: str) -> None:
    assert HEADER.fullmatch(value) is None


@pytest.mark.parametrize("character", ["\0", "\n", "\x7f", "\x85", "\u200b", "\u202e", "\u2028", "\u2029", "\ud800"])
def test_control_bidi_surrogate_and_line_separator_characters_are_dropped(character: str) -> None:
    assert without_controls(f"a{character}b") == "ab"


@pytest.mark.parametrize("character", ["a", " ", "ü", "日", "🦉", "\u0301", "<"])
def test_letters_marks_symbols_and_spaces_are_not(character: str) -> None:
    assert without_controls(character) == character


def test_what_is_unassigned_or_private_is_kept_though_it_is_not_printable() -> None:
    assert without_controls("a\u0378\ue000\u00a0b\u200b") == "a\u0378\ue000\u00a0b"


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().environments = ()  # type: ignore[misc]  # that it is forbidden is what is tested


def test_an_invalid_configuration_carries_every_problem() -> None:
    error = ConfigError(("a: missing", "b: unknown key"))
    assert (error.problems, str(error)) == (("a: missing", "b: unknown key"), "a: missing; b: unknown key")
