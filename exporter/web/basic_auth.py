"""Basic authentication, and the headers that an operator adds to every answer.

Whether a request may pass never depends on its path or host: with users configured, every request needs a login.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import anyio
import bcrypt
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from exporter.config.secret import Secret

PASSWORD_LIMIT: Final = 72
"""Bytes. bcrypt looks at no more; longer ones are refused."""
WAITING_LIMIT: Final = 64
ADMITTED_LIMIT: Final = 1000
THREAD_NAME: Final = "passwords"
CHALLENGE: Final = 'Basic realm="managed-agents-exporter", charset="UTF-8"'
UNAUTHORIZED = "A user name and a password are needed.\n"
OVERRUN = "Too many logins at once; try again.\n"


class OverrunError(Exception):
    """More logins wait than will be looked at soon."""


class PasswordVerifier:
    """Verifies passwords: bcrypt in a thread of its own, one at a time; what was right once is remembered.

    An unknown user and a password that is too long cost the same time as a wrong password. Only right ones are remembered, so
    that nobody can push them out, and under a keyed digest of all three parts, each with its length: no two triples share it.
    """

    def __init__(self, check: Callable[[bytes, bytes], bool] = bcrypt.checkpw) -> None:
        self._check = check
        self._key = secrets.token_bytes(32)
        self._admitted: set[bytes] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=THREAD_NAME)
        self._turn = anyio.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def admits(self, user: bytes, password: bytes, hash_by_user: Mapping[str, Secret]) -> bool:
        """Tell whether the password is the user's. Raises OverrunError."""
        known = {name.encode(): hashed.reveal().encode() for name, hashed in hash_by_user.items()}
        hashed = known.get(user) or self._dummy_hash(user, list(known.values()))
        digest = self._digest(user, hashed, password)
        if digest in self._admitted:
            return True
        if self._turn.statistics().tasks_waiting >= WAITING_LIMIT:
            raise OverrunError
        async with self._turn:
            if digest in self._admitted:  # a request of the same user that waited before this one
                return True
            right = await self._verify(password, hashed) and user in known
        if right:
            self._remember(digest)
        return right

    async def _verify(self, password: bytes, hashed: bytes) -> bool:
        within = password[:PASSWORD_LIMIT]
        right = await asyncio.get_running_loop().run_in_executor(self._thread, self._check, within, hashed)
        return right and within == password

    def _remember(self, digest: bytes) -> None:
        if len(self._admitted) >= ADMITTED_LIMIT:  # the file was rewritten very often
            self._admitted.clear()
        self._admitted.add(digest)

    def _dummy_hash(self, user: bytes, hashes: list[bytes]) -> bytes:
        """Return the hash to check an unknown user's password against: always the same one, of a cost that somebody's has."""
        choice = int.from_bytes(self._digest(user)[:8], "big") % len(hashes)
        return hashes[choice]

    def _digest(self, *parts: bytes) -> bytes:
        message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(self._key, message, hashlib.sha256)


class BasicAuthMiddleware:
    """The ASGI application behind its door. `users` and `headers` are asked for at each request."""

    def __init__(
        self,
        app: ASGIApp,
        passwords: PasswordVerifier,
        *,
        users: Callable[[], Mapping[str, Secret]],
        headers: Callable[[], Mapping[str, str]],
    ) -> None:
        self._app = app
        self._passwords = passwords
        self._users = users
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers())
            await send(message)

        refusal = await self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    async def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        users = self._users()
        if not users:
            return None
        given = _credentials([value for name, value in scope["headers"] if name == b"authorization"])
        try:
            if given is not None and await self._passwords.admits(*given, users):
                return None
        except OverrunError:
            return PlainTextResponse(OVERRUN, 503, headers={"Retry-After": "5"})
        return PlainTextResponse(UNAUTHORIZED, 401, headers={"WWW-Authenticate": CHALLENGE})


def _credentials(values: list[bytes]) -> tuple[bytes, bytes] | None:
    """Return the user and the password of the only `Authorization` header, None where it isn't a login."""
    if len(values) != 1:
        return None
    scheme, _, encoded = values[0].partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except binascii.Error:
        return None
    return (user, password) if colon else None
