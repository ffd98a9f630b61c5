"""The configuration is replaced and credentials rotate while the exporter is scraped without a pause: no scrape fails or is wrong."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from exporter.simulator import World
from tests.ample import AMPLE_S
from tests.exported import Exporter, Exposition, assert_monotone, exporter_process, read_exposition, write_config
from tests.simulated import Running, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

pytestmark = pytest.mark.e2e

SCRAPERS = 2
SUCCESSFUL = "managed_agents_exporter_config_last_reload_successful"
LOADED_AT = "managed_agents_exporter_config_last_reload_success_timestamp_seconds"
ALL = tuple(f"env_{number}" for number in range(5))
CREATED = "managed_agents_work_created_total"


@pytest.fixture
def simulator() -> Iterator[Running]:
    world = World(time.time)
    for number, environment_id in enumerate(ALL):
        environment = world.add_environment(environment_id, name=f"name-{number}", key=f"key-{number}")
        for _ in range(number + 1):
            environment.create()
    with running(world) as simulator:
        yield simulator


class Watch:
    """Scrapes again and again, from two threads, and checks every answer until one is not right."""

    def __init__(self, exporter: Exporter, check: Callable[[Exposition], None]) -> None:
        self._url = f"{exporter.base_url}/metrics"
        self._check = check
        self._scrapes: list[Exposition] = []
        self._problems: list[BaseException] = []
        self._over = threading.Event()

    def go_on(self) -> Exposition:
        """Wait until some scrapes that begin from now on have been right, and return the last."""
        enough = len(self._scrapes) + 2 * SCRAPERS
        deadline = time.monotonic() + AMPLE_S
        while len(self._scrapes) < enough and not self._problems:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not self._problems, self._problems[0]
        return self._scrapes[-1]

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._scrape, name=f"scraper-{number}") for number in range(SCRAPERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join(20)

    def _scrape(self) -> None:
        with httpx.Client(timeout=AMPLE_S) as client:
            while not self._over.is_set() and not self._problems:
                try:
                    answer = client.get(self._url)
                    assert answer.status_code == 200
                    scrape = read_exposition(answer.text)
                    self._check(scrape)
                except (AssertionError, httpx.HTTPError) as problem:
                    self._problems.append(problem)
                else:
                    self._scrapes.append(scrape)


@contextmanager
def scraped_without_pause(exporter: Exporter, check: Callable[[Exposition], None]) -> Iterator[Watch]:
    """Scrape before the block, while it runs and after it; fail with the first scrape that is not right."""
    watch = Watch(exporter, check)
    with watch.running():
        watch.go_on()
        yield watch
        watch.go_on()


def exact(simulator: Running, *environment_ids: str) -> Callable[[Exposition], None]:
    """Make a check that these environments are up with their true numbers. The world stands still meanwhile."""
    truths = {each: simulator.call(simulator.world.truth, each) for each in environment_ids}

    def check(scrape: Exposition) -> None:
        for environment_id, truth in truths.items():
            here = {"environment_id": environment_id}
            assert scrape.value("managed_agents_up", **here) == 1
            assert scrape.value("managed_agents_list_up", **here) == 1
            assert scrape.value("managed_agents_queue_depth", **here) == truth.stats.depth
            assert scrape.value("managed_agents_work_items", state="queued", **here) == truth.listed["queued"]

    return check


def environments_of(config: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(config.read_text())["environments"]
    return listed


def replace(config: Path, **sections: object) -> None:
    """Put a new file in the old one's place, in one step."""
    new = config.with_suffix(".new")
    new.write_text(json.dumps({**json.loads(config.read_text()), **sections}))
    new.rename(config)


def post_reload(exporter: Exporter) -> httpx.Response:
    return httpx.post(f"{exporter.base_url}/-/reload", timeout=AMPLE_S)


def hang_up(exporter: Exporter) -> None:
    before = exporter.log().count("event=config_reload")
    exporter.signal(signal.SIGHUP)
    deadline = time.monotonic() + AMPLE_S
    while exporter.log().count("event=config_reload") == before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("trigger", [hang_up, post_reload])
def test_a_reload_changes_what_changed_and_nothing_else(
    trigger: Callable[[Exporter], object], simulator: Running, tmp_path: Path
) -> None:
    config = write_config(tmp_path, simulator)
    everything = environments_of(config)
    replace(config, environments=everything[:4])
    with exporter_process(f"--config.file={config}", "--web.enable-lifecycle", directory=tmp_path) as exporter:
        first = exporter.scrape()
        for _ in range(3):
            simulator.call(simulator.world.environment("env_0").create)
        with scraped_without_pause(exporter, exact(simulator, "env_0", "env_2", "env_3")) as watch:
            replace(config, environments=[everything[0], *everything[2:]])
            trigger(exporter)
            last = watch.go_on()
        assert not last.names(environment_id="env_1")
        exact(simulator, "env_4")(last)
        assert last.value(CREATED, environment_id="env_0") == 3
        assert last.value(CREATED, environment_id="env_4") == 0
        assert last.value(SUCCESSFUL) == 1
        assert (last.value(LOADED_AT) or 0) > (first.value(LOADED_AT) or 0)
        unchanged = {
            key: value for key, value in first.value_by_series.items() if ("environment_id", "env_1") not in key[1]
        }
        assert_monotone(Exposition(unchanged, first.type_by_name), last)


def test_settings_that_concern_every_environment_change_without_a_gap(simulator: Running, tmp_path: Path) -> None:
    config = write_config(tmp_path, simulator)
    simulator.options.latency_s = 0.05
    with exporter_process(f"--config.file={config}", "--web.enable-lifecycle", directory=tmp_path) as exporter:
        exporter.scrape()
        with scraped_without_pause(exporter, exact(simulator, *ALL)) as watch:
            for page_size in (500, 20, 100):
                replace(config, listing={"page_size": page_size})
                assert post_reload(exporter).status_code == 200
                watch.go_on()


def test_a_refused_configuration_leaves_the_old_one_in_force(simulator: Running, tmp_path: Path) -> None:
    config = write_config(tmp_path, simulator)
    good = config.read_text()
    with exporter_process(f"--config.file={config}", "--web.enable-lifecycle", directory=tmp_path) as exporter:
        loaded_at = exporter.scrape().value(LOADED_AT)
        with scraped_without_pause(exporter, exact(simulator, "env_0", "env_4")) as watch:
            replace(config, scrape={"timeout": "soon"}, listing={"page_size": 0}, surprise="sk-ant-oat01-leak")
            answer = post_reload(exporter)
            assert answer.status_code == 500
            for place in ("scrape.timeout", "listing.page_size", "surprise"):
                assert place in answer.text
                assert place in exporter.log()
            assert "sk-ant" not in answer.text + exporter.log()
            for break_it in (lambda: config.write_text("{"), config.unlink):
                break_it()
                assert post_reload(exporter).status_code == 500
                hang_up(exporter)
            last = watch.go_on()
        assert "no such file" in exporter.log()
        assert (last.value(SUCCESSFUL), last.value(LOADED_AT)) == (0, loaded_at)
        config.write_text(good)
        assert post_reload(exporter).status_code == 200
        assert exporter.scrape().value(SUCCESSFUL) == 1


C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_path_that_the_locale_lacks_is_a_problem_and_ends_nothing(simulator: Running, tmp_path: Path) -> None:
    config = write_config(tmp_path, simulator)
    good = config.read_text()
    key = tmp_path / "schlüssel" / "key"
    with exporter_process(
        f"--config.file={config}", "--web.enable-lifecycle", directory=tmp_path, environ=C_LOCALE
    ) as exporter:
        api = json.loads(good)["api"]
        for bad in ({"api_key_file": str(key)}, {"ca_file": str(key)}):
            replace(config, api={**api, **bad})
            hang_up(exporter)
            answer = post_reload(exporter)
            (named,) = bad
            problem = f"api.{named}: a path with characters that the locale's ascii lacks: set LC_ALL=C.UTF-8\n"
            assert (answer.status_code, answer.text) == (500, f"The old configuration stays in force:\n{problem}")
            assert exporter.scrape().value(SUCCESSFUL) == 0
        assert "Traceback" not in exporter.log()
        config.write_text(good)
        hang_up(exporter)
        assert exporter.scrape().value(SUCCESSFUL) == 1


def test_a_file_whose_name_is_no_utf_8_can_be_loaded_named_and_shown(simulator: Running, tmp_path: Path) -> None:
    config = write_config(tmp_path, simulator)
    odd = tmp_path / os.fsdecode(b"exporter-\xff.yml")
    config.rename(odd)
    with exporter_process(f"--config.file={odd}", "--web.enable-lifecycle", directory=tmp_path) as exporter:
        assert post_reload(exporter).status_code == 200
        odd.unlink()
        answer = post_reload(exporter)
        assert answer.status_code == 500
        assert answer.text.endswith("exporter-\\udcff.yml: no such file\n")
        assert "exporter-\\udcff.yml: no such file" in httpx.get(exporter.base_url).text


def test_reloading_over_http_has_to_be_allowed(simulator: Running, tmp_path: Path) -> None:
    config = write_config(tmp_path, simulator)
    with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter:
        config.unlink()
        assert post_reload(exporter).status_code == 403
        assert httpx.get(f"{exporter.base_url}/-/reload", timeout=AMPLE_S).status_code == 405
        assert exporter.scrape().value(SUCCESSFUL) == 1


# ---- credentials


class Mounted:
    """Secrets as Kubernetes mounts them: each name leads through the link `..data`, which an update swaps in one step."""

    def __init__(self, directory: Path, content_by_name: dict[str, str]) -> None:
        self._directory = directory
        self._versions = 0
        directory.mkdir()
        self.swap(content_by_name)
        for name in content_by_name:
            (directory / name).symlink_to(f"..data/{name}")

    def swap(self, content_by_name: dict[str, str]) -> None:
        self._versions += 1
        version = self._directory / f"..version-{self._versions}"
        version.mkdir()
        for name, content in content_by_name.items():
            (version / name).write_text(content)
        link = self._directory / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self._directory / "..data")


def mounted_credentials(directory: Path, config: Path, simulator: Running) -> Mounted:
    """Give the configuration credentials that are mounted, as they are issued now."""
    home = directory / "mounted"
    mounted = Mounted(home, issued(simulator))
    api = {**json.loads(config.read_text())["api"], "api_key_file": str(home / "api-key")}
    environments = [{**each, "environment_key_file": str(home / each["id"])} for each in environments_of(config)]
    replace(config, api=api, environments=environments)
    return mounted


def issued(simulator: Running) -> dict[str, str]:
    keys = {owner: key for key, owner in simulator.world._owner_by_key.items()}
    return {"api-key": simulator.options.api_key, **keys}


def rotate(simulator: Running, mounted: Mounted, serial: int) -> None:
    """Issue new credentials, revoke all old ones, mount the new."""
    simulator.options.api_key = f"sk-ant-api03-rotated-{serial}"
    owners = simulator.world._owner_by_key
    new = {f"key-rotated-{owner}-{serial}": owner for owner in owners.values()}
    owners.clear()
    owners.update(new)
    mounted.swap(issued(simulator))


def rotate_under_way(simulator: Running, mounted: Mounted, serial: int) -> None:
    """Rotate when the next call for stats has come and before it is looked at, so that a 401 is the first sign."""
    app = simulator.app._app

    async def first(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].endswith("/stats"):
            simulator.app._app = app
            rotate(simulator, mounted, serial)
        await app(scope, receive, send)

    simulator.app._app = first


def test_rotated_credentials_are_picked_up_at_once(simulator: Running, tmp_path: Path) -> None:
    config = write_config(tmp_path, simulator)
    mounted = mounted_credentials(tmp_path, config, simulator)
    with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter:
        with scraped_without_pause(exporter, exact(simulator, *ALL)) as watch:
            for serial in range(8):
                simulator.call(rotate_under_way, simulator, mounted, serial)
                last = watch.go_on()
        refused = last.value("managed_agents_exporter_api_requests_total", source="stats", code="401")
        assert refused is not None
        assert refused >= 8
        assert "level=warn" not in exporter.log()


def write_whole(path: Path, text: str) -> None:
    """Write a file that nobody ever sees half written, or empty."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def test_a_bad_credential_file_keeps_the_last_good_one_and_says_so(simulator: Running, tmp_path: Path) -> None:
    config = write_config(tmp_path, simulator)
    key_file = tmp_path / "api-key"
    with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter:
        with scraped_without_pause(exporter, exact(simulator, *ALL)) as watch:
            key_file.unlink()
            watch.go_on()
            write_whole(key_file, "two words, s3cret-marker\n")
            watch.go_on()
            write_whole(key_file, simulator.options.api_key)
        log = exporter.log()
        lines = [line for line in log.splitlines() if "event=secret_" in line]
        assert ["secret_recovered" in line for line in lines] == [False, False, True]
        assert "no such file" in lines[0]
        assert "visible ASCII" in lines[1]
        assert all(str(key_file) in line for line in lines)
        assert "s3cret-marker" not in log
        assert os.fspath(config) not in log
