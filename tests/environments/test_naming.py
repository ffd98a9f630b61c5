"""Environments of the file and those found by discovery get unique, stable names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exporter.api.wire import RemoteEnvironment
from exporter.config.model import EnvironmentConfig
from exporter.environments.naming import merge


def remote(number: int | str, name: str = "") -> RemoteEnvironment:
    return RemoteEnvironment(f"env_{number}", name, self_hosted=True, archived=False)


def configured(number: int | str, name: str | None = None) -> EnvironmentConfig:
    return EnvironmentConfig(id=f"env_{number}", name=name or f"env_{number}")


def names(file: list[EnvironmentConfig], found: list[RemoteEnvironment], *before: dict[str, str]) -> dict[str, str]:
    """Return the name of each environment by its id; `before`: what was found in earlier answers, in order."""
    exported = merge(file, ())
    for answer in before:
        exported = merge(file, [remote(key, name) for key, name in answer.items()], exported)
    return {each.id: each.name for each in merge(file, found, exported)}


def test_environments_of_the_file_come_first_and_keep_their_names_and_origin() -> None:
    merged = merge([configured(1, "one")], [remote(1, "uno"), remote(2, "two")])
    assert [(each.id, each.name, each.origin) for each in merged] == [
        ("env_1", "one", "config"),
        ("env_2", "two", "discovery"),
    ]


def test_a_name_that_the_file_has_given_is_not_given_again() -> None:
    assert names([configured(1, "one")], [remote(2, "one")]) == {"env_1": "one", "env_2": "env_2"}


def test_of_two_with_the_same_name_the_first_by_id_has_it() -> None:
    assert names([], [remote(2, "same"), remote(1, "same")]) == {"env_1": "same", "env_2": "env_2"}


def test_a_name_that_was_given_stays_when_another_comes_to_claim_it() -> None:
    assert names([], [remote(1, "same"), remote(2, "same")], {"2": "same"}) == {"env_1": "env_1", "env_2": "same"}


def test_nobody_is_named_by_the_id_of_another() -> None:
    assert names([], [remote(1, "env_2"), remote(2, "two")]) == {"env_1": "env_1", "env_2": "two"}


def test_an_environment_without_a_name_is_named_by_its_id() -> None:
    assert names([], [remote(1)]) == {"env_1": "env_1"}


def test_an_environment_that_comes_twice_is_exported_once() -> None:
    assert names([], [remote(1, "one"), remote(1, "uno")]) == {"env_1": "uno"}


few_names = st.sampled_from(["", "a", "b", "env_1", "env_2", "env_2-"])
few_names_of_the_file = st.sampled_from(["a", "b", "env_2-"])
answers = st.dictionaries(st.integers(0, 5), few_names, max_size=6)


@given(st.dictionaries(st.integers(0, 5), few_names_of_the_file, max_size=3), st.lists(answers, min_size=1, max_size=4))
def test_names_are_unique_and_stay_while_the_list_of_environments_does(
    file: dict[int, str], answers_given: list[dict[int, str]]
) -> None:
    unique = {name: number for number, name in file.items()}
    ours = [configured(number, name) for name, number in unique.items()]
    exported = merge(ours, ())
    for answer in answers_given:
        found = [remote(number, name) for number, name in answer.items()]
        exported = merge(ours, found, exported)
        given_names = [each.name for each in exported]
        assert len(set(given_names)) == len(given_names)
        assert {each.id for each in exported} == {each.id for each in ours} | {each.id for each in found}
        assert set(merge(ours, found[::-1], exported)) == set(exported)
