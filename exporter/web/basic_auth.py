"""Basic authentication, and the headers that an operator adds to every answer.

With users configured, every request needs a login, whatever its path and host are.
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
"""Bytes. bcrypt ignores the rest, so a longer password is wrong."""
WAITING_LIMIT: Final = 64
ADMITTED_LIMIT: Final = 1000
THREAD_NAME: Final = "passwords"
CHALLENGE: Final = 'Basic realm="managed-agents-exporter", charset="UTF-8"'
UNAUTHORIZED = "A user name and a password are needed.\n"
OVERRUN = "Too many logins at once; try again.\n"


class OverrunError(Exception):
    """More logins wait than can be checked soon."""


class PasswordVerifier:
    """Verifies passwords with bcrypt in a thread of its own, one at a time, and remembers the right ones.

    An unknown user and a password that is too long cost the same time as a wrong password. Wrong passwords are not remembered, so
    they cannot push right ones out. The key is a keyed digest of user, hash and password, each with its length, so that no two
    triples share one: with the parts merely joined, ("a", "bc") would be the same as ("ab", "c").
    """

    def __init__(self, check: Callable[[bytes, bytes], bool] = bcrypt.checkpw) -> None:
        self._check = check
        self._key = secrets.token_bytes(32)
        self._admitted: set[bytes] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=THREAD_NAME)
        self._lock = anyio.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def admits(self, user: bytes, password: bytes, hash_by_user: Mapping[str, Secret]) -> bool:
        """Return whether the password is the user's. Raises OverrunError."""
        known = {name.encode(): hashed.reveal().encode() for name, hashed in hash_by_user.items()}
        hashed = known.get(user) or self._dummy_hash(user, list(known.values()))
        digest = self._digest(user, hashed, password)
        if digest in self._admitted:
            return True
        if self._lock.statistics().tasks_waiting >= WAITING_LIMIT:
            raise OverrunError
        async with self._lock:
            if digest in self._admitted:  # another request with this password was verified meanwhile
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
        if len(self._admitted) >= ADMITTED_LIMIT:  # only after the file was rewritten very often
            self._admitted.clear()
        self._admitted.add(digest)

    def _dummy_hash(self, user: bytes, hashes: list[bytes]) -> bytes:
        """Return a configured user's hash for an unknown user, always the same one, so that the costs are alike."""
        choice = int.from_bytes(self._digest(user)[:8], "big") % len(hashes)
        return hashes[choice]

    def _digest(self, *parts: bytes) -> bytes:
        message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(self._key, message, hashlib.sha256)


class BasicAuthMiddleware:
    """Asks for a login before the application sees a request. `users` and `headers` are called for each request."""

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
            headers = self._headers()
            if headers and message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        rejection = await self._rejection(scope)
        await (rejection or self._app)(scope, receive, send_with_headers)

    async def _rejection(self, scope: Scope) -> PlainTextResponse | None:
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
    """Return the user and the password of the only `Authorization` header, None if it is not a login."""
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
