"""A value follows its files, and survives them when they are bad."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from exporter.config.followed_file import FollowedFiles, UnusableFileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Joined:
    """Makes the text of some files. A file that says `bad` is unusable, one that says `passing` only for now."""

    def __init__(self, *paths: Path) -> None:
        self.paths = paths
        self.made = 0
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self, note: Callable[[Path], object]) -> str:
        self.made += 1
        texts = []
        for path in self.paths:
            note(path)
            texts.append(path.read_text() if path.exists() else "bad")
            self.meanwhile()
        for text in texts:
            if text in {"bad", "passing"}:
                raise UnusableFileError(f"{text}!", passing=text == "passing")
        return "+".join(texts)


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "one", tmp_path / "two"
    for path in paths:
        path.write_text(path.name)
    return paths


def replace(path: Path, text: str) -> None:
    """Put another file in its place: another inode, whatever the clock's resolution is."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def test_a_value_is_made_once_while_nothing_changes(paths: tuple[Path, Path]) -> None:
    followed = FollowedFiles(made := Joined(*paths))
    assert [followed.look() for _ in range(3)] == [True, False, False]
    assert (followed.value, followed.problems, made.made) == ("one+two", (), 1)


@pytest.mark.parametrize("number", [0, 1])
def test_a_change_of_any_file_makes_it_again(number: int, paths: tuple[Path, Path]) -> None:
    followed = FollowedFiles(Joined(*paths))
    followed.look()
    replace(paths[number], "new")
    assert followed.look()
    assert followed.value == ("new+two", "one+new")[number]


def test_a_file_of_the_same_size_and_time_at_another_inode_is_a_change(paths: tuple[Path, Path]) -> None:
    followed = FollowedFiles(Joined(*paths))
    followed.look()
    status = paths[0].stat()
    replace(paths[0], "eno")
    os.utime(paths[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    followed.look()
    assert followed.value == "eno+two"


@pytest.mark.parametrize("harm", ["bad", "gone"])
def test_bad_files_leave_the_last_good_value_until_they_are_good_again(harm: str, paths: tuple[Path, Path]) -> None:
    followed = FollowedFiles(made := Joined(*paths))
    followed.look()
    paths[1].unlink() if harm == "gone" else replace(paths[1], "bad")
    assert [followed.look() for _ in range(3)] == [True, False, False]
    assert (followed.value, followed.problems, made.made) == ("one+two", ("bad!",), 2)
    replace(paths[1], "better")
    assert followed.look()
    assert (followed.value, followed.problems) == ("one+better", ())


def test_what_may_pass_without_a_change_is_tried_at_every_look(paths: tuple[Path, Path]) -> None:
    followed = FollowedFiles(Joined(*paths))
    followed.look()
    replace(paths[0], "passing")
    assert [followed.look() for _ in range(3)] == [True] * 3
    assert (followed.value, followed.problems) == ("one+two", ("passing!",))


def test_a_write_between_the_note_and_the_end_of_reading_shows_at_the_next_look(paths: tuple[Path, Path]) -> None:
    followed = FollowedFiles(made := Joined(*paths))
    made.meanwhile = lambda: replace(paths[0], "late")
    followed.look()
    made.meanwhile = lambda: None
    assert (followed.value, followed.look(), followed.value) == ("one+two", True, "late+two")


def test_with_stand_still_a_change_counts_once_two_looks_have_seen_the_same(paths: tuple[Path, Path]) -> None:
    followed = FollowedFiles(Joined(*paths), stand_still=True)
    assert followed.look()
    for text in ("half", "whole"):
        replace(paths[0], text)
        assert not followed.look()
    assert (followed.look(), followed.value, followed.look()) == (True, "whole+two", False)


def test_a_file_that_is_no_longer_part_of_the_value_is_not_followed_any_more(paths: tuple[Path, Path]) -> None:
    followed = FollowedFiles(made := Joined(*paths))
    followed.look()
    made.paths = paths[:1]
    replace(paths[0], "alone")
    followed.look()
    replace(paths[1], "bad")
    assert (followed.look(), followed.value) == (False, "alone")


def test_a_forgotten_value_is_made_again(paths: tuple[Path, Path]) -> None:
    followed = FollowedFiles(Joined(*paths))
    followed.look()
    followed.forget()
    assert [followed.look() for _ in range(2)] == [True, False]


def test_another_exception_reaches_the_caller_and_the_next_look_tries_again(paths: tuple[Path, Path]) -> None:
    followed = FollowedFiles(made := Joined(*paths))

    def fail() -> None:
        raise OSError(24, "Too many open files")

    made.meanwhile = fail
    with pytest.raises(OSError, match="Too many"):
        followed.look()
    made.meanwhile = lambda: None
    assert (followed.look(), followed.value) == (True, "one+two")
