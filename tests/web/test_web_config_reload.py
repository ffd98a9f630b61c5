"""What happens while the files of `--web.config.file` change."""

from __future__ import annotations

import logging
import shutil
import ssl
from typing import TYPE_CHECKING

import anyio
import pytest

from exporter.config.model import ConfigError
from exporter.log import Log
from exporter.web import web_config_reload
from exporter.web.web_config_reload import ReloadingWebConfig
from tests.web.web_files import HASH, MUTUAL, TLS, USERS, issue, write

if TYPE_CHECKING:
    from pathlib import Path

    import trustme


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def events(logged: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in logged.records]
    logged.clear()
    return found


def settle(web_config: ReloadingWebConfig) -> None:
    """Look as often as it takes for a change to count."""
    web_config.look()
    web_config.look()


def test_without_a_file_everybody_may_come_in() -> None:
    web_config = ReloadingWebConfig(None, Log())
    settle(web_config)
    assert (web_config.tls, dict(web_config.headers), dict(web_config.hash_by_user), web_config.problems) == (
        None,
        {},
        {},
        (),
    )


def test_a_bad_file_at_the_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        ReloadingWebConfig(write(tmp_path, "nonsense: 1"), Log())


def test_a_renewed_certificate_is_taken_over_without_a_restart(
    files: Path, authority: trustme.CA, logged: pytest.LogCaptureFixture
) -> None:
    web_config = ReloadingWebConfig(write(files, TLS), Log())
    before = web_config.tls
    settle(web_config)
    assert web_config.tls is before
    issue(authority, files, "renewed")
    settle(web_config)
    assert web_config.tls is not before
    assert events(logged) == ["web_config_reloaded"]


def test_a_change_counts_only_once_it_has_stood_still(files: Path) -> None:
    web_config = ReloadingWebConfig(write(files, USERS), Log())
    write(files, USERS + f"  bob: {HASH}\n")
    web_config.look()
    assert set(web_config.hash_by_user) == {"alice"}
    write(files, USERS + f"  bob: {HASH}\n  carol: {HASH}\n")
    web_config.look()
    assert set(web_config.hash_by_user) == {"alice"}
    web_config.look()
    assert set(web_config.hash_by_user) == {"alice", "bob", "carol"}


def test_a_symbolic_link_that_is_swapped_counts_as_a_change(files: Path, authority: trustme.CA) -> None:
    for version in ("one", "two"):
        (files / version).mkdir()
        issue(authority, files / version, "localhost")
        write(files / version, TLS)
    (files / "now").symlink_to("one")
    web_config = ReloadingWebConfig(files / "now" / "web.yml", Log())
    before = web_config.tls
    (files / "next").symlink_to("two")
    (files / "next").replace(files / "now")
    settle(web_config)
    assert web_config.tls is not before


@pytest.mark.anyio
async def test_a_defect_while_looking_is_logged_with_its_traceback_and_following_goes_on(
    files: Path, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_config_reload, "LOOK_INTERVAL_S", 0.0)
    web_config = ReloadingWebConfig(write(files, USERS), Log())
    web_config.look()
    with monkeypatch.context() as patched:
        patched.setattr(web_config_reload, "load", None)
        write(files, USERS + f"  bob: {HASH}\n")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(web_config.follow)
            with anyio.fail_after(60):
                while "web_config_broke" not in events(logged):  # noqa: ASYNC110 -- the thread that looks sets no event
                    await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
    assert set(web_config.hash_by_user) == {"alice"}
    settle(web_config)
    assert set(web_config.hash_by_user) == {"alice", "bob"}


@pytest.mark.parametrize("broken", ["mismatch", "junk", "gone", "unreadable text", "file gone"])
def test_a_bad_change_keeps_the_last_good_and_says_so_once(
    broken: str, files: Path, authority: trustme.CA, logged: pytest.LogCaptureFixture
) -> None:
    web_config = ReloadingWebConfig(write(files, TLS + USERS), Log())
    before = web_config.tls
    _break(files, broken)
    settle(web_config)
    settle(web_config)
    assert web_config.tls is before
    assert set(web_config.hash_by_user) == {"alice"}
    assert len(list(web_config.problems)) == 1
    assert events(logged) == ["web_config_refused"]
    issue(authority, files, "localhost")
    write(files, TLS + USERS)
    settle(web_config)
    assert web_config.tls is not before
    assert not list(web_config.problems)
    assert events(logged) == ["web_config_reloaded"]


def _break(files: Path, how: str) -> None:
    match how:
        case "mismatch":
            shutil.copy(files / "other.key", files / "server.key")
        case "junk":
            shutil.copy(files / "junk", files / "server.crt")
        case "gone":
            (files / "server.crt").unlink()
        case "file gone":
            (files / "web.yml").unlink()
        case _:
            write(files, "basic_auth_users: {")


def test_a_file_named_only_by_the_new_configuration_may_come_later(files: Path, authority: trustme.CA) -> None:
    web_config = ReloadingWebConfig(write(files, TLS), Log())
    (files / "new").mkdir()
    write(files, TLS.replace(" server", " new/server"))
    settle(web_config)
    before, refused = web_config.tls, len(web_config.problems)
    issue(authority, files / "new", "localhost")
    settle(web_config)
    assert web_config.tls is not before
    assert (refused, len(web_config.problems)) == (2, 0)


@pytest.mark.parametrize(
    ("start", "change", "problem"),
    [
        (TLS, "", "tls_server_config: adding or removing it needs a restart"),
        ("", TLS, "tls_server_config: adding or removing it needs a restart"),
        (MUTUAL, TLS, "tls_server_config.client_auth_type: asking less of clients than before needs a restart"),
        (USERS, "", "basic_auth_users: letting everybody in needs a restart"),
    ],
)
def test_protection_is_never_taken_away_without_a_restart(start: str, change: str, problem: str, files: Path) -> None:
    path = write(files, start)
    web_config = ReloadingWebConfig(path, Log())
    users, tls = dict(web_config.hash_by_user), web_config.tls
    write(files, change)
    settle(web_config)
    assert web_config.problems == (f"{path}: {problem}",)
    assert (dict(web_config.hash_by_user), web_config.tls) == (users, tls)


def test_protection_can_be_added_without_a_restart(files: Path) -> None:
    web_config = ReloadingWebConfig(write(files, TLS), Log())
    write(files, MUTUAL + USERS)
    settle(web_config)
    assert web_config.problems == ()
    assert set(web_config.hash_by_user) == {"alice"}
    assert web_config.tls is not None
    assert web_config.tls.verify_mode is ssl.CERT_REQUIRED
