"""Everything that a server can do wrong, all of it at once, beside environments that are healthy.

The environments share one address, as they do at the real API: what each of them does to its connections begins when it
has seen whose request it is.
"""

from __future__ import annotations

import gzip
import json
import os
import ssl
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from tests.api.test_httpx_transport import FAULTS
from tests.exported import Exposition, exporter_process, long_call_s
from tests.faulty_server import answer
from tests.raw_api import JSON_TYPE, RawApi, raw_api

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.raw_api import Asked, Behaviour

pytestmark = pytest.mark.e2e

HEALTHY = tuple(f"env_{number}" for number in range(1, 6))
SCRAPES = 3


# ---- bodies that are not what they should be


async def _send(body: Callable[[bytes], bytes], asked: Asked) -> None:
    await asked.send(answer(body(asked.right), Content_Type=JSON_TYPE))


def _changed(values: Mapping[str, object], right: bytes) -> bytes:
    """Change every field of these names, in the object itself and in its items."""

    def change(part: dict[str, Any]) -> dict[str, Any]:
        return {name: values.get(name, value) for name, value in part.items()}

    document = change(json.loads(right))
    if isinstance(document.get("data"), list):
        document["data"] = [change(each) for each in document["data"]]
    return json.dumps(document).encode()


def _without(name: str, right: bytes) -> bytes:
    return right.replace(f'"{name}"'.encode(), b'"another"')


BODIES: dict[str, Callable[[bytes], bytes]] = {
    "no body": lambda _: b"",
    "half a body": lambda right: right[: len(right) // 2],
    "more after the end": lambda right: right + b"}",
    "null": lambda _: b"null",
    "a number": lambda _: b"7",
    "a string": lambda _: b'"work"',
    "a list": lambda right: b"[" + right + b"]",
    "an object without a field": lambda _: b"{}",
    "not UTF-8": lambda right: b"\xff\xfe" + right,
    "ten thousand levels": lambda _: b'{"depth": 1, "pending": 0, "data": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "another encoding": lambda right: right.decode().encode("utf-16"),
    "gzip without a word": gzip.compress,
    "nothing but spaces": lambda _: b" " * 100_000,
    "no depth and no items": lambda right: _without("depth", _without("data", right)),
    "depth and items null": partial(_changed, {"depth": None, "data": None}),
    "negative": partial(_changed, {"depth": -1, "data": {}}),
    "a fraction": partial(_changed, {"depth": 1.5, "data": 1.5}),
    "not a number": partial(_changed, {"depth": float("nan"), "data": float("nan")}),
    "beyond all numbers": partial(_changed, {"depth": 10**400, "data": 10**400}),
    "a number in quotes": partial(_changed, {"depth": "1", "data": "1"}),
    "a truth value": partial(_changed, {"depth": True, "data": True}),
}

# ---- statuses


def _status(status: int, **headers: str) -> Behaviour:
    body = b'{"type": "error", "error": {"type": "api_error", "message": "no"}}'

    async def behave(asked: Asked) -> None:
        await asked.send(answer(body, status, Content_Type=JSON_TYPE, **headers))

    return behave


STATUSES: dict[str, Behaviour] = {
    "204": _status(204),
    "301": _status(301, Location="http://elsewhere.invalid/v1/"),
    "304": _status(304),
    "307 to itself": _status(307, Location="/v1/environments/env_1/work/stats"),
    "400": _status(400),
    "401": _status(401),
    "403": _status(403),
    "404": _status(404),
    "407": _status(407),
    "409": _status(409),
    "410": _status(410),
    "500": _status(500),
    "502": _status(502),
    "503 for an hour": _status(503, Retry_After="3600"),
    "503 for ever": _status(503, Retry_After="9" * 30),
    "504": _status(504),
    "529": _status(529),
    "529 for a minute": _status(529, Retry_After="60"),
    "529 with nonsense": _status(529, Retry_After="soon"),
    "a status of two digits": _status(20),
    "a status of four digits": _status(2000),
}

# ---- below HTTP


async def _plain_text_within_tls(asked: Asked) -> None:
    os.write(asked.writer.get_extra_info("socket").fileno(), answer(asked.right))
    await asked.hang()


async def _tls_without_its_end(asked: Asked) -> None:
    await asked.send(answer(asked.right)[:-1])
    asked.writer.transport.abort()


async def _stray_answer(asked: Asked) -> None:
    """Answer what is wrong behind what is right: the next request must not get it."""
    await asked.send(answer(asked.right, Content_Type=JSON_TYPE) + answer(_changed({"depth": 999}, asked.right)))
    await asked.hang()


def below_http() -> dict[str, Behaviour]:
    return {
        **{name: behave for name, (behave, _, _) in FAULTS.items()},
        "plain text within TLS": _plain_text_within_tls,
        "TLS without its end": _tls_without_its_end,
    }


def faults() -> dict[str, Behaviour]:
    bodies = {name: partial(_send, body) for name, body in BODIES.items()}
    return {**below_http(), **bodies, **STATUSES}


def environment_id(number: int) -> str:
    """Name a broken environment by a number that no healthy one shows."""
    return f"env_{900 + number}"


def config(base_url: str, ids: Sequence[str], directory: Path, timeout: str = "60s") -> Path:
    (directory / "key").write_text("sk-ant-oat01-chaos\n")
    document = {
        "api": {"base_url": base_url, "ca_file": "ca.pem", "timeout": timeout, "requests_per_minute": 1_000_000},
        "scrape": {"min_interval": "0s"},
        "environments": [{"id": each, "environment_key_file": "key"} for each in ids],
    }
    path = directory / "exporter.yml"
    path.write_text(json.dumps(document))
    return path


def assert_exact(scrape: Exposition, environment_id: str) -> None:
    here, count = {"environment_id": environment_id}, int(environment_id.removeprefix("env_"))
    assert scrape.value("managed_agents_up", **here) == 1
    assert scrape.value("managed_agents_list_up", **here) == 1
    assert scrape.value("managed_agents_queue_depth", **here) == count
    assert scrape.value("managed_agents_work_items", state="queued", **here) == count


def assert_nothing_wrong(scrape: Exposition, environment_id: str) -> None:
    """Check that what is shown is right. Which numbers are depends on when a connection is found to be spoilt."""
    here, count = {"environment_id": environment_id}, int(environment_id.removeprefix("env_"))
    assert scrape.value("managed_agents_queue_depth", **here) in {None, count}
    assert scrape.value("managed_agents_work_items", state="queued", **here) in {None, count}


def is_dark(scrape: Exposition, environment_id: str) -> bool:
    """Tell whether the environment is down and shows no number of its queue and items."""
    here = {"environment_id": environment_id}
    down = [scrape.value(name, **here) for name in ("managed_agents_up", "managed_agents_list_up")] == [0, 0]
    return down and not any(
        name.startswith(("managed_agents_queue_", "managed_agents_work_items")) for name in scrape.names(**here)
    )


@pytest.fixture
def server_tls(tmp_path: Path) -> ssl.SSLContext:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_every_fault_at_once_spoils_no_number_of_anybody(tmp_path: Path, server_tls: ssl.SSLContext) -> None:
    fault_by_id = {environment_id(number): fault for number, fault in enumerate(faults())}
    broken = dict(zip(fault_by_id, faults().values(), strict=True))
    stray = environment_id(len(broken))
    assert len(broken) >= 45
    # The healthy come last: whoever is read in this order would reach them only after all that hang.
    ids = [*broken, stray, *HEALTHY]
    api = RawApi()
    with raw_api(api, server_tls) as server:
        hang_s = long_call_s(config(server.base_url, HEALTHY, tmp_path), tmp_path)
        api.behaviours = {**broken, stray: _stray_answer}
        path = config(server.base_url, ids, tmp_path, timeout=f"{round(hang_s * 1000)}ms")
        with exporter_process(f"--config.file={path}", directory=tmp_path) as exporter:
            for _ in range(SCRAPES):
                scrape = exporter.scrape(timeout_s=10 * hang_s)
                for healthy in HEALTHY:
                    assert_exact(scrape, healthy)
                assert_nothing_wrong(scrape, stray)
                assert {fault for each, fault in fault_by_id.items() if not is_dark(scrape, each)} == set()
        assert "Traceback" not in exporter.log()
