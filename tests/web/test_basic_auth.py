"""Basic authentication: who may come in, at what cost, and that nobody can lock others out."""

from __future__ import annotations

import base64
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import bcrypt
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from exporter.config.secret import Secret
from exporter.web.basic_auth import BasicAuthMiddleware, OverrunError, PasswordVerifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

PASSWORD_BY_USER = {"alice": "correct horse", "böb": "stäple", "long": "x" * 72}


@pytest.fixture(scope="session")
def hashes() -> dict[str, Secret]:
    return {
        user: Secret(bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode())
        for user, password in PASSWORD_BY_USER.items()
    }


class Counted:
    """bcrypt, counted."""

    def __init__(self) -> None:
        self.passwords: list[bytes] = []

    def __call__(self, password: bytes, hashed: bytes) -> bool:
        self.passwords.append(password)
        return bcrypt.checkpw(password, hashed)


@contextmanager
def web_config(
    hashes: dict[str, Secret], counted: Counted, headers: dict[str, str] | None = None
) -> Iterator[TestClient]:
    async def hello(_: Request) -> PlainTextResponse:
        return PlainTextResponse("hello", headers={"X-Frame-Options": "DENY"})

    with PasswordVerifier(counted) as passwords:
        app = Starlette(routes=[Route("/{rest:path}", hello)])
        yield TestClient(BasicAuthMiddleware(app, passwords, users=lambda: hashes, headers=lambda: headers or {}))


def authorization(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_without_users_nobody_is_asked() -> None:
    counted = Counted()
    with web_config({}, counted) as client:
        assert client.get("/metrics", headers=authorization("a", "b")).status_code == 200
    assert counted.passwords == []


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready", "/-/reload", "/nothing", "//", "/%2e%2e/"])
def test_every_path_needs_a_login(path: str, hashes: dict[str, Secret]) -> None:
    with web_config(hashes, Counted()) as client:
        refused = client.get(path)
        assert (refused.status_code, refused.text) == (401, "A user name and a password are needed.\n")
        assert refused.headers["WWW-Authenticate"] == 'Basic realm="managed-agents-exporter", charset="UTF-8"'
        assert client.get(path, headers=authorization("alice", "correct horse")).status_code == 200


@pytest.mark.parametrize("host", ["exporter/-/healthy?", "x#/-/healthy", "a/-/healthy:80", ""])
def test_the_host_header_has_no_say(host: str, hashes: dict[str, Secret]) -> None:
    with web_config(hashes, Counted()) as client:
        assert client.get("/metrics", headers={"Host": host}).status_code == 401


@pytest.mark.parametrize(("user", "password"), PASSWORD_BY_USER.items())
def test_the_right_password_is_hashed_once(user: str, password: str, hashes: dict[str, Secret]) -> None:
    counted = Counted()
    with web_config(hashes, counted) as client:
        for _ in range(3):
            assert client.get("/", headers=authorization(user, password)).status_code == 200
    assert len(counted.passwords) == 1


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("alice", "wrong"),
        ("alice", ""),
        ("", ""),
        ("nobody", "correct horse"),
        ("alice", "correct horse\0"),
        ("long", "x" * 73),
        ("long", "x" * 71),
        ("alice", "y" * 10_000),
    ],
)
def test_a_wrong_login_costs_one_hash_each_time(user: str, password: str, hashes: dict[str, Secret]) -> None:
    counted = Counted()
    with web_config(hashes, counted) as client:
        assert [client.get("/", headers=authorization(user, password)).status_code for _ in range(2)] == [401, 401]
    assert len(counted.passwords) == 2
    assert all(len(each) <= 72 for each in counted.passwords)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Basic",
        "Basic !!!!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Bearer " + base64.b64encode(b"alice:correct horse").decode(),
        "Basic " + base64.b64encode(b"alice:correct horse").decode() + "%",
    ],
)
def test_what_is_no_login_costs_no_hash(value: str, hashes: dict[str, Secret]) -> None:
    counted = Counted()
    with web_config(hashes, counted) as client:
        assert client.get("/", headers={"Authorization": value}).status_code == 401
    assert counted.passwords == []


def test_two_logins_in_one_request_are_none(hashes: dict[str, Secret]) -> None:
    right = authorization("alice", "correct horse")["Authorization"]
    with web_config(hashes, Counted()) as client:
        twice = [("Authorization", right), ("Authorization", right)]
        assert client.get("/", headers=twice).status_code == 401


def test_what_was_right_is_forgotten_with_its_hash(hashes: dict[str, Secret]) -> None:
    users = dict(hashes)
    with web_config(users, Counted()) as client:
        assert client.get("/", headers=authorization("alice", "correct horse")).status_code == 200
        users["alice"] = users["long"]
        assert client.get("/", headers=authorization("alice", "correct horse")).status_code == 401
        del users["alice"]
        assert client.get("/", headers=authorization("alice", "correct horse")).status_code == 401


def test_the_parts_of_a_login_can_not_be_shifted_against_each_other() -> None:
    """A key made by joining the parts would let a remembered login vouch for another one: CVE-2022-46146."""
    with PasswordVerifier() as passwords:
        digests = {passwords._digest(*parts) for parts in ((b"a", b"bc"), (b"ab", b"c"), (b"abc",), (b"", b"abc"))}
        with PasswordVerifier() as others:
            digests.add(others._digest(b"a", b"bc"))
    assert len(digests) == 5


def test_an_unknown_user_costs_what_a_known_one_costs(hashes: dict[str, Secret]) -> None:
    """Always the same decoy for a name, and one that a configured user really has."""
    known = [hashed.reveal().encode() for hashed in hashes.values()]
    with PasswordVerifier() as passwords:
        decoys = {name: passwords._dummy_hash(name, known) for name in (b"eve%d" % number for number in range(64))}
        assert {passwords._dummy_hash(name, known) == decoy for name, decoy in decoys.items()} == {True}
    assert set(decoys.values()) == set(known)


@pytest.mark.anyio
async def test_hashes_are_computed_one_at_a_time_and_shared_by_those_who_wait(hashes: dict[str, Secret]) -> None:
    counted = Counted()
    admitted: list[bool] = []
    with PasswordVerifier(counted) as passwords:

        async def come_in() -> None:
            admitted.append(await passwords.admits(b"alice", b"correct horse", hashes))

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(come_in)
    assert admitted == [True] * 20
    assert len(counted.passwords) == 1


@pytest.mark.anyio
async def test_a_crowd_of_wrong_logins_does_not_keep_out_who_came_in_before(hashes: dict[str, Secret]) -> None:
    hold, crowd, refused = threading.Event(), anyio.Event(), 0

    def slow(password: bytes, hashed: bytes) -> bool:
        hold.wait(5 if password == b"wrong" else 0)
        return bcrypt.checkpw(password, hashed)

    with PasswordVerifier(slow) as passwords:
        assert await passwords.admits(b"alice", b"correct horse", hashes)

        async def try_in() -> None:
            nonlocal refused
            try:
                await passwords.admits(b"alice", b"wrong", hashes)
            except OverrunError:
                refused += 1
                if refused == 35:
                    crowd.set()

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(try_in)
            with anyio.fail_after(5):
                await crowd.wait()
                assert await passwords.admits(b"alice", b"correct horse", hashes)
            hold.set()
    assert refused == 35


def test_headers_of_the_operator_are_on_every_answer_and_win(hashes: dict[str, Secret]) -> None:
    with web_config(hashes, Counted(), {"X-Frame-Options": "sameorigin", "X-XSS-Protection": "0"}) as client:
        for answer in (client.get("/"), client.get("/", headers=authorization("alice", "correct horse"))):
            assert answer.headers.get_list("X-Frame-Options") == ["sameorigin"]
            assert answer.headers["X-XSS-Protection"] == "0"
