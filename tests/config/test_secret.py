import copy
import os
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.secret import EnvSecret, FileSecret, Secret, SecretError, SecretSource

CANARY = "canary-4f3a9c"
OTHER_THAN_VISIBLE = "something other than visible ASCII characters (a space, a second line, a byte order mark)"


WAYS_TO_SHOW: dict[str, Callable[[Secret], str]] = {
    "str": str,
    "repr": repr,
    "ascii": ascii,
    "format": format,
    "aligned": lambda secret: f"{secret:>40}",
    "converted": lambda secret: f"{secret!s}{secret!r}",
    "percent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - the old way of formatting must not tell either
    "nested": lambda secret: str([secret, {secret: secret}]),
    "copied": lambda secret: repr(copy.copy(secret)),
    "deeply copied": lambda secret: repr(copy.deepcopy({"key": secret})),
    "pickled": lambda secret: repr(pickle.dumps(secret)),
    "unpickled": lambda secret: str(pickle.loads(pickle.dumps(secret)).reveal()),  # noqa: S301 - its own bytes
    "state": lambda secret: f"{secret.__reduce_ex__(4)} {secret.__getstate__()}",  # type: ignore[func-returns-value]  # that it is None is the point
}


@pytest.mark.parametrize("way", WAYS_TO_SHOW)
def test_a_secret_shows_itself_as_one_whatever_is_done_to_it(way: str) -> None:
    shown = WAYS_TO_SHOW[way](Secret(CANARY))
    assert "<secret>" in shown
    assert "canary" not in shown


def test_a_secret_is_revealed_only_when_asked_to() -> None:
    assert Secret(CANARY).reveal() == CANARY


def test_a_secret_in_a_traceback_s_locals_shows_itself_as_one() -> None:
    def fail(secret: Secret) -> None:
        raise ValueError(secret)

    with pytest.raises(ValueError, match="<secret>") as caught:
        fail(Secret(CANARY))
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "secret = <secret>" in shown
    assert "canary" not in shown.replace(f'"{CANARY}"', "")


def test_secrets_compare_and_hash_by_value() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert Secret("ü\ud800") == Secret("ü\ud800")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def file_secret(tmp_path: Path, content: bytes) -> FileSecret:
    path = tmp_path / "key"
    path.write_bytes(content)
    return FileSecret(path)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"key", "key"),
        (b"key\n", "key"),
        (b"key\r\n", "key"),
        (b"!~", "!~"),
        (b"k" * 512 + b"\r\n", "k" * 512),
    ],
)
def test_one_trailing_newline_is_not_part_of_the_secret(tmp_path: Path, content: bytes, value: str) -> None:
    assert file_secret(tmp_path, content).read().reveal() == value


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"canary\n\n", OTHER_THAN_VISIBLE),
        (b"canary\r", OTHER_THAN_VISIBLE),
        (b"canary ", OTHER_THAN_VISIBLE),
        (b"canary\nsecond", OTHER_THAN_VISIBLE),
        (b"\xef\xbb\xbfcanary", OTHER_THAN_VISIBLE),
        ("canary-ü".encode(), OTHER_THAN_VISIBLE),
        (b"can\x00ary", OTHER_THAN_VISIBLE),
        (b"canary" * 86, "more than 512 bytes"),
        (b"canary" * 100_000, "more than 512 bytes"),
    ],
)
def test_a_malformed_file_is_refused_by_its_rule_and_never_quoted(tmp_path: Path, content: bytes, rule: str) -> None:
    source = file_secret(tmp_path, content)
    for _ in range(2):
        with pytest.raises(SecretError) as caught:
            source.read()
        assert str(caught.value) == source.problem == f"{rule}: {tmp_path / 'key'}"
        # This test's own frame holds the content; none below it may.
        shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
        assert "canary" not in "".join(line for line in shown if "content =" not in line)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


@given(st.binary(max_size=600) | st.text("abc!~\r\n", min_size=1).map(str.encode))
def test_any_variable_is_a_secret_of_visible_characters_or_refused(content: bytes) -> None:
    text = content.decode("utf-8", "surrogateescape")
    value = text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")
    source = EnvSecret("KEY", {"KEY": text})
    if 1 <= len(value) <= 512 and all("!" <= character <= "~" for character in value):
        assert source.read().reveal() == value
    else:
        with pytest.raises(SecretError, match=": KEY"):
            source.read()


def test_a_missing_file_a_directory_and_a_pipe_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, problem in [
        (tmp_path / "none", f"no such file: {tmp_path / 'none'}"),
        (tmp_path, f"not a regular file: {tmp_path}"),
        (tmp_path / "pipe", f"not a regular file: {tmp_path / 'pipe'}"),
        (tmp_path / ("long" * 100), f"file name too long: {tmp_path / ('long' * 100)}"),
    ]:
        with pytest.raises(SecretError) as caught:
            FileSecret(path).read()
        assert str(caught.value) == problem


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = file_secret(tmp_path, b"first")
    first = source.read()
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", None)
        assert source.read() is first
    (tmp_path / "key").write_bytes(b"second!")
    assert source.read().reveal() == "second!"


def test_a_file_of_the_same_size_and_time_at_another_inode_is_read_again(tmp_path: Path) -> None:
    source = file_secret(tmp_path, b"first")
    status = (tmp_path / "key").stat()
    source.read()
    (tmp_path / "new").write_bytes(b"other")
    os.utime(tmp_path / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / "new").rename(tmp_path / "key")
    assert source.read().reveal() == "other"


def test_kubernetes_swap_of_the_data_link_is_followed(tmp_path: Path) -> None:
    for version, content in (("..v1", b"first"), ("..v2", b"other")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "key").write_bytes(content)
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "key").symlink_to("..data/key")
    source = FileSecret(tmp_path / "key")
    assert source.read().reveal() == "first"
    (tmp_path / "..tmp").symlink_to("..v2")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    assert source.read().reveal() == "other"


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "no such file"), (b"", "empty"), (b"two lines\nof text", OTHER_THAN_VISIBLE)],
)
def test_a_vanished_or_malformed_file_keeps_the_last_good_one_and_says_so(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    source = file_secret(tmp_path, b"first")
    good = source.read()
    if content is None:
        (tmp_path / "key").unlink()
    else:
        (tmp_path / "key").write_bytes(content)
    for _ in range(2):
        assert (source.read(), source.problem) == (good, f"{problem}: {tmp_path / 'key'}")
    (tmp_path / "key").write_bytes(b"second\n")
    assert (source.read().reveal(), source.problem) == ("second", None)


def test_a_file_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = file_secret(tmp_path, b"first")

    def refuse(path: Path, flags: int) -> int:
        del flags
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SecretError) as caught:
        source.read()
    assert str(caught.value) == f"permission denied: {tmp_path / 'key'}"


def test_a_forgotten_file_is_looked_at_again_even_if_it_seems_unchanged(tmp_path: Path) -> None:
    source = file_secret(tmp_path, b"first")
    first = source.read()
    source.forget()
    assert source.read() == first
    assert source.read() is not first


def test_a_variable_is_read_anew_each_time_and_keeps_its_last_good_value() -> None:
    environ = {"KEY": "first\n"}
    source: SecretSource = EnvSecret("KEY", environ)
    assert source.read().reveal() == "first"
    environ["KEY"] = "second"
    source.forget()
    assert source.read().reveal() == "second"
    assert source.problem is None
    del environ["KEY"]
    assert source.read().reveal() == "second"
    assert source.problem == "no such environment variable: KEY"


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({}, "no such environment variable: KEY"),
        ({"KEY": ""}, "empty: KEY"),
        ({"KEY": "canary "}, f"{OTHER_THAN_VISIBLE}: KEY"),
        ({"KEY": "canary\udc80"}, f"{OTHER_THAN_VISIBLE}: KEY"),
    ],
)
def test_an_unusable_variable_is_named_and_never_quoted(environ: dict[str, str], problem: str) -> None:
    with pytest.raises(SecretError) as caught:
        EnvSecret("KEY", environ).read()
    assert str(caught.value) == problem


def test_a_source_does_not_show_what_it_holds(tmp_path: Path) -> None:
    source = file_secret(tmp_path, CANARY.encode())
    source.read()
    assert repr(source) == f"FileSecret({str(tmp_path / 'key')!r})"
    assert repr(EnvSecret("KEY", {"KEY": CANARY})) == "EnvSecret('KEY')"
