"""Environments as a whole: their list, their keys, their ends."""

from __future__ import annotations

import pytest

from exporter.simulator import Stats, World
from exporter.simulator.environment import CursorRefused, Invalid, NotFound


@pytest.fixture
def world() -> World:
    return World(lambda: 1_780_000_000.0)


def names(world: World, limit: int, *, include_archived: bool = False) -> list[list[str]]:
    pages, cursor = [], None
    while True:
        page, cursor = world.environment_page(limit=limit, cursor=cursor, include_archived=include_archived)
        pages.append([environment.profile.name for environment in page])
        if cursor is None:
            return pages


def test_environments_are_listed_newest_first_in_pages(world: World) -> None:
    for name in "abcde":
        world.add_environment(f"env_{name}", name=name)
    world.archive("env_c")
    assert names(world, 2) == [["e", "d"], ["b", "a"]]
    assert names(world, 2, include_archived=True) == [["e", "d"], ["c", "b"], ["a"]]
    assert names(world, 1000) == [["e", "d", "b", "a"]]


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_page_of_environments_has_bounds(world: World, limit: int) -> None:
    with pytest.raises(Invalid):
        world.environment_page(limit=limit)


def test_a_cursor_of_nowhere_is_refused(world: World) -> None:
    with pytest.raises(CursorRefused):
        world.environment_page(cursor="env_nowhere")


def test_no_two_environments_share_an_id_or_a_key(world: World) -> None:
    world.add_environment("env_a", key="k")
    with pytest.raises(ValueError, match="exists already"):
        world.add_environment("env_a", key="other")
    with pytest.raises(ValueError, match="exists already"):
        world.add_environment("env_b", key="k")


def test_a_deleted_environment_is_not_found_but_its_key_is_remembered(world: World) -> None:
    world.add_environment("env_a", key="k")
    world.delete_environment("env_a")
    with pytest.raises(NotFound):
        world.environment("env_a")
    with pytest.raises(NotFound):
        world.delete_environment("env_a")
    assert world.owner("k") == "env_a"
    assert world.owner("other") is None


def test_a_cloud_environment_answers_zeros_and_has_no_list(world: World) -> None:
    cloud = world.add_environment("env_a", kind="cloud")
    assert cloud.stats() == Stats(0, 0, None, None)
    with pytest.raises(NotFound):
        cloud.page()
