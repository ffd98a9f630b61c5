"""The exporter's own face: through TLS and a login, under slow and hostile clients, and in a browser."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bcrypt
import httpx
import pytest
import trustme
from selenium.webdriver.common.by import By

from exporter.simulator import DEMO_ENVIRONMENTS, demo_world
from tests.ample import AMPLE_S
from tests.browser import chromium
from tests.exported import COMMAND, Exporter, exporter_process, free_port, long_call_s, write_config
from tests.prometheus_server import prometheus_server, scrape_config
from tests.simulated import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver import Chrome

pytestmark = pytest.mark.e2e

PASSWORD = "correct horse battery staple"
LIMIT_S = 10.0
"""Within this, everybody who behaves is answered, whatever others do: before these are cut off."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="module")
def config(home: Path) -> Iterator[Path]:
    """Serve the demo's world, where one environment's key is refused and another one's list hangs."""
    world, _ = demo_world(time.time)
    with running(world) as simulator:
        _, batch, staging, *_ = DEMO_ENVIRONMENTS
        hang_s = max(3.0, long_call_s(write_config(home, simulator), home))
        simulator.faults.inject("status-403", environment_id=staging.id)
        simulator.faults.inject("hang", environment_id=batch.id, call="list")
        yield write_config(home, simulator, api={"timeout": f"{hang_s:.0f}s"}, scrape={"timeout": f"{3 * hang_s:.0f}s"})


# ---- TLS and a login


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def issue(authority: trustme.CA, directory: Path, name: str, *hosts: str) -> None:
    leaf = authority.issue_cert(*hosts)
    leaf.private_key_pem.write_to_path(directory / f"{name}.key")
    leaf.cert_chain_pems[0].write_to_path(directory / f"{name}.crt")


@pytest.fixture(scope="module")
def web_config(home: Path, authority: trustme.CA) -> Path:
    issue(authority, home, "server", "127.0.0.1")
    issue(authority, home, "client", "prometheus")
    authority.cert_pem.write_to_path(home / "ca.crt")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
    path = home / "web.yml"
    path.write_text(
        "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
        "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"
        "http_server_config:\n  headers: {Strict-Transport-Security: max-age=31536000}\n"
        f"basic_auth_users:\n  prometheus: {hashed}\n"
    )
    return path


@contextmanager
def guarded_exporter(config: Path, web_config: Path, client: httpx.Client) -> Iterator[str]:
    """Run the exporter behind its front server until the block ends; yields its address."""
    port = free_port()
    arguments = [f"--web.listen-address=127.0.0.1:{port}", f"--config.file={config}", f"--web.config.file={web_config}"]
    process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
    base_url = f"https://127.0.0.1:{port}"
    try:
        assert answers(client, f"{base_url}/-/ready", within_s=AMPLE_S)
        yield base_url
    finally:
        process.terminate()
        _, said = process.communicate(timeout=AMPLE_S)
    assert process.returncode == 0, said
    assert "level=error" not in said


def answers(client: httpx.Client, url: str, *, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            return client.get(url).status_code == 200
        except httpx.ConnectError:
            time.sleep(0.05)
    return False


@pytest.fixture
def known_client(home: Path, authority: trustme.CA) -> Iterator[httpx.Client]:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.load_cert_chain(home / "client.crt", home / "client.key")
    with httpx.Client(verify=context, auth=("prometheus", PASSWORD), timeout=AMPLE_S) as client:
        yield client


def served_certificate(base_url: str, home: Path) -> str:
    """Return the certificate that a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(home / "ca.crt")
    context.load_cert_chain(home / "client.crt", home / "client.key")
    host, _, port = base_url.removeprefix("https://").partition(":")
    with (
        socket.create_connection((host, int(port)), timeout=AMPLE_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as encrypted,
    ):
        certificate = encrypted.getpeercert(binary_form=True)
        assert certificate is not None
        return ssl.DER_cert_to_PEM_cert(certificate)


def test_prometheus_scrapes_through_tls_and_a_login_while_the_certificate_is_renewed(
    home: Path, config: Path, web_config: Path, known_client: httpx.Client, authority: trustme.CA
) -> None:
    with guarded_exporter(config, web_config, known_client) as base_url:
        scheme: dict[str, Any] = {
            "scheme": "https",
            "tls_config": {f"{name}_file": str(home / file) for name, file in _TLS_FILES.items()},
            "basic_auth": {"username": "prometheus", "password": PASSWORD},
        }
        target = base_url.removeprefix("https://")
        with prometheus_server(scrape_config(target, interval="10s", **scheme), home) as prometheus:
            job = '{job="managed-agents"}'
            prometheus.wait_for(lambda: prometheus.query(f"count_over_time(up{job}[10m]) >= 2"))
            before = served_certificate(base_url, home)
            issue(authority, home, "server", "127.0.0.1")
            prometheus.wait_for(lambda: served_certificate(base_url, home) != before)
            scraped = prometheus.by(f"count_over_time(up{job}[10m])", "job")["managed-agents"]
            prometheus.wait_for(lambda: prometheus.query(f"count_over_time(up{job}[10m]) > {scraped}"))
            assert prometheus.by(f"min_over_time(up{job}[10m])", "job") == {"managed-agents": 1}
            assert not prometheus.complaints()


_TLS_FILES = {"ca": "ca.crt", "cert": "client.crt", "key": "client.key"}


def test_nobody_else_comes_in(home: Path, config: Path, web_config: Path, known_client: httpx.Client) -> None:
    stranger = ssl.create_default_context(cafile=str(home / "ca.crt"))
    with guarded_exporter(config, web_config, known_client) as base_url:
        with httpx.Client(verify=stranger, timeout=AMPLE_S) as client, pytest.raises(httpx.TransportError):
            client.get(f"{base_url}/metrics")
        for path in ("/", "/metrics", "/probe", "/sd", "/-/healthy", "/-/ready", "/-/reload", "/none"):
            # Each on a connection of its own: who is refused on one could not have come in on another.
            refused = known_client.get(base_url + path, auth=("prometheus", "wrong"), headers={"Connection": "close"})
            assert (refused.status_code, refused.headers["strict-transport-security"]) == (401, "max-age=31536000")
            assert "managed" not in refused.text
        assert known_client.get(f"{base_url}/metrics").status_code == 200


# ---- slow and hostile clients


@contextmanager
def slow_clients(port: int, count: int, start: bytes) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=AMPLE_S))
            client.sendall(start)
        yield


@contextmanager
def flooding(port: int, count: int, flood: bytes) -> Iterator[None]:
    """Pour headers into the exporter from as many threads, over and over, while the block runs."""
    over = threading.Event()

    def pour() -> None:
        while not over.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=AMPLE_S) as client:
                    client.sendall(b"GET / HTTP/1.1\r\nHost: exporter\r\n")
                    for _ in range(100):
                        client.sendall(flood)
            except OSError:
                over.wait(0.02)

    threads = [threading.Thread(target=pour) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def slowest_answer_s(exporter: Exporter) -> float:
    """Ask for what Prometheus and the kubelet ask for, each time over a new connection."""
    slowest = 0.0
    for path in ("/-/healthy", "/probe?target=production", "/-/ready", "/-/healthy", "/sd") * 4:
        connection = HTTPConnection(exporter.base_url.removeprefix("http://"), timeout=AMPLE_S)
        started = time.monotonic()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        slowest = max(slowest, time.monotonic() - started)
        connection.close()
        assert answer.status == 200
    return slowest


def memory_mib(exporter: Exporter) -> float:
    resident = re.search(r"VmRSS:\s+([0-9]+) kB", Path(f"/proc/{exporter.process.pid}/status").read_text())
    assert resident is not None
    return int(resident[1]) / 1024


def test_slow_and_hostile_clients_keep_nobody_waiting(config: Path, tmp_path: Path) -> None:
    slow = b"GET /metrics HTTP/1.1\r\nHost: exporter\r\nX-Slow: "
    unread = b"GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n" * 100
    with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter:
        port = int(exporter.base_url.rpartition(":")[2])
        assert slowest_answer_s(exporter) < LIMIT_S
        before_mib = memory_mib(exporter)
        with slow_clients(port, 400, slow), slow_clients(port, 100, b""):
            assert slowest_answer_s(exporter) < LIMIT_S
            with flooding(port, 4, b"a:\r\n" * 16_000), flooding(port, 4, b"X: " + b"y" * 64_000 + b"\r\n"):
                assert slowest_answer_s(exporter) < LIMIT_S
            with slow_clients(port, 20, unread):
                assert slowest_answer_s(exporter) < LIMIT_S
            assert memory_mib(exporter) - before_mib < 64
            exporter.signal(signal.SIGTERM)
            assert exporter.process.wait(timeout=AMPLE_S) == 0
        assert exporter.log().count("\n") < 40


# ---- what the status page says when something changes for the worse


def test_the_page_tells_of_a_refused_reload_and_of_files_that_went_bad(tmp_path: Path) -> None:
    web = tmp_path / "web.yml"
    web.write_text("http_server_config: {}\n")
    with running() as simulator:
        simulator.world.add_environment("env_a", name="production", key="sk-ant-oat01-production")
        config = write_config(tmp_path, simulator)
        with exporter_process(f"--config.file={config}", f"--web.config.file={web}", directory=tmp_path) as exporter:
            config.write_text(config.read_text().replace("{", '{"nonsense": 1, ', 1))
            (tmp_path / "api-key").unlink()
            web.write_text("http_server_config: {http2: true}\n")
            exporter.signal(signal.SIGHUP)
            exporter.scrape()
            expected = ("last reload refused", "nonsense: unknown key", "api: no such file", "http2: not supported")
            assert says(exporter, *expected, within_s=AMPLE_S)
            assert exporter.scrape().value("managed_agents_up", environment_id="env_a") == 1


def says(exporter: Exporter, *expected: str, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        text = httpx.get(exporter.base_url, timeout=AMPLE_S).text
        if all(each in text for each in expected):
            return True
        time.sleep(0.1)
    return False


# ---- in a browser


@pytest.fixture(scope="module")
def chrome(home: Path) -> Iterator[Chrome]:
    with chromium(home) as driver:
        yield driver


@pytest.fixture(scope="module")
def page_url(home: Path, config: Path) -> Iterator[str]:
    with exporter_process(f"--config.file={config}", directory=home) as exporter:
        httpx.get(f"{exporter.base_url}/metrics", timeout=AMPLE_S)
        yield f"{exporter.base_url}/"


def look(chrome: Chrome, url: str, *, width: int, scheme: str) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    chrome.get(url)


CONTRASTS = """
const channel = c => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
const light = rgb => { const [r, g, b] = rgb.match(/[0-9.]+/g).map(Number).map(channel); return .2126*r + .7152*g + .0722*b };
const behind = e => { for (; e; e = e.parentElement) {
  const colour = getComputedStyle(e).backgroundColor; if (!/, 0\\)$/.test(colour)) return colour } return 'rgb(255, 255, 255)' };
return [...document.querySelectorAll('body *')].filter(e => e.innerText).map(e => {
  const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
  return (a + .05) / (b + .05) });
"""


def _log(chrome: Chrome) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = chrome.get_log("browser")  # type: ignore[no-untyped-call]  # selenium leaves it untyped
    return entries


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_readable(width: int, scheme: str, chrome: Chrome, page_url: str) -> None:
    look(chrome, page_url, width=width, scheme=scheme)
    assert chrome.execute_script("return document.documentElement.scrollWidth") == width
    assert min(chrome.execute_script(CONTRASTS)) >= 4.5
    background = chrome.execute_script("return light = getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 26)")
    waiting, unacknowledged = (
        chrome.find_element(By.CSS_SELECTOR, f"td[data-label='{label}']:not(:empty)").rect["y"]
        for label in ("Waiting", "Not acknowledged")
    )
    assert waiting == unacknowledged  # beside each other on a phone too, or 200 environments are 60 screens
    headings = chrome.find_elements(By.CSS_SELECTOR, "thead th")
    assert [heading.is_displayed() for heading in headings].count(True) in ({7} if width == 1280 else {0, 7})
    complaints = [entry for entry in _log(chrome) if "favicon" not in entry["message"]]
    assert complaints == []
    if directory := os.environ.get("PICTURES"):
        chrome.save_screenshot(f"{directory}/status-page-{width}-{scheme}.png")


def test_the_page_says_what_is_wrong_and_leads_to_the_numbers(chrome: Chrome, page_url: str) -> None:
    look(chrome, page_url, width=1280, scheme="light")
    text = chrome.find_element(By.TAG_NAME, "body").text
    assert re.search(r"\d of 7 environments are fine", text)
    assert "failing: 2" in text
    assert "down: auth" in text
    assert "Check the API key and the environment key" in text
    assert "failed: timeout" in text
    assert "not a self-hosted environment" in text
    chrome.find_element(By.LINK_TEXT, "production").click()
    assert "managed_agents_queue_depth" in chrome.find_element(By.TAG_NAME, "body").text
    assert 'environment_name="batch"' not in chrome.find_element(By.TAG_NAME, "body").text
