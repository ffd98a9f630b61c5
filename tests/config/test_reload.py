"""A reload puts a configuration in force as a whole or not at all, and is shared by all who ask for it at once."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
import pytest

from exporter.clock import Clock
from exporter.config.model import Config, ConfigError, ScrapeConfig
from exporter.config.reload import ReloadingConfig
from exporter.log import Log

pytestmark = pytest.mark.anyio
WAIT_S = 30.0
OTHER = Config(scrape=ScrapeConfig(max_age_s=1))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Rig:
    """A configuration that the test replaces. `loads`: how often it was read; `events`: what its owner was informed of."""

    outcome: Config | Exception = field(default_factory=Config)
    loads: int = 0
    events: list[str] = field(default_factory=list)
    breaks: dict[str, bool] = field(default_factory=dict)
    now: float = 10.0
    began: threading.Event = field(default_factory=threading.Event)
    may_go_on: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_go_on.set()
        clock = Clock(wall=lambda: 1000 + self.now, monotonic=lambda: self.now)
        self.config = ReloadingConfig(self.load, observer=self, clock=clock, log=Log())

    def load(self) -> Config:
        self.loads += 1
        if not self.may_go_on.is_set():
            self.began.set()
        assert self.may_go_on.wait(WAIT_S)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def config_loaded(self, *, at: float) -> None:
        self.events.append(f"loaded at {at:.0f}")

    def config_refused(self) -> None:
        self.events.append("refused")

    async def activate(self) -> int:
        if self.breaks.pop("activate", False) or self.breaks.get("always"):
            raise RuntimeError("half done")
        self.events.append(f"activated {self.config.current.scrape.max_age_s:g}")
        return 7

    async def reload(self) -> tuple[str, ...]:
        return await self.config.reload(self.activate)


def test_the_first_configuration_must_be_usable() -> None:
    with pytest.raises(ConfigError, match="scrape: no mapping"):
        Rig(outcome=ConfigError(("scrape: no mapping",)))


async def test_a_new_configuration_is_in_force_before_it_is_activated() -> None:
    rig = Rig()
    rig.outcome, rig.now = OTHER, 20.0
    assert await rig.reload() == ()
    assert (rig.config.current, rig.config.in_force_at) == (OTHER, 20.0)
    assert rig.events == ["loaded at 1010", "activated 1", "loaded at 1020"]


async def test_a_refused_configuration_leaves_the_old_one_in_force_and_its_problems_until_the_next() -> None:
    rig = Rig()
    before = rig.config.current
    rig.outcome, rig.now = ConfigError(("scrape.timeout: no duration",)), 20.0
    assert await rig.reload() == ("scrape.timeout: no duration",)
    assert (rig.config.current, rig.config.in_force_at) == (before, 10.0)
    assert rig.config.problems == ("scrape.timeout: no duration",)
    assert rig.events == ["loaded at 1010", "refused"]
    rig.outcome = OTHER
    assert [await rig.reload(), rig.config.problems] == [(), ()]


@pytest.mark.parametrize(
    "defect", [UnicodeEncodeError("ascii", "schlüssel", 4, 5, "no such character"), RecursionError(), OSError("gone")]
)
async def test_a_defect_in_reading_the_file_is_a_refused_reload_with_a_traceback_in_the_log(
    defect: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig()
    before = rig.config.current
    rig.outcome = defect
    problems = (f"a defect of the exporter ({type(defect).__name__}); its log says more",)
    assert [await rig.reload(), rig.config.problems] == [problems, problems]
    assert rig.config.current is before
    assert rig.events == ["loaded at 1010", "refused"]
    assert [record.getMessage() for record in caplog.records] == ["config_reload_broke"]
    rig.outcome = OTHER
    assert await rig.reload() == ()


async def test_a_configuration_that_cannot_be_followed_leaves_the_one_before_in_force_and_followed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig()
    before = rig.config.current
    rig.outcome, rig.now, rig.breaks = OTHER, 20.0, {"activate": True}
    problems = ("a defect of the exporter (RuntimeError); its log says more",)
    assert [await rig.reload(), rig.config.problems] == [problems, problems]
    assert (rig.config.current, rig.config.in_force_at) == (before, 10.0)
    assert rig.events == ["loaded at 1010", "refused", f"activated {before.scrape.max_age_s:g}"]
    assert [record.getMessage() for record in caplog.records] == ["config_reload_broke"]
    assert await rig.reload() == ()
    assert (rig.config.current, rig.config.in_force_at) == (OTHER, 20.0)


async def test_where_neither_configuration_can_be_followed_the_answer_asks_for_a_restart() -> None:
    rig = Rig()
    before = rig.config.current
    rig.outcome, rig.breaks = OTHER, {"always": True}
    assert (await rig.reload())[-1] == "restart the exporter: it follows neither configuration in full"
    assert rig.config.current is before
    assert rig.events == ["loaded at 1010", "refused", "refused"]


async def test_who_asks_during_a_reload_shares_the_next_one() -> None:
    rig = Rig()
    rig.may_go_on.clear()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.reload)
        await anyio.to_thread.run_sync(rig.began.wait, WAIT_S)
        # The file may have changed since the first read it: none of these can do with that.
        for _ in range(30):
            tasks.start_soon(rig.reload)
        await anyio.wait_all_tasks_blocked()
        rig.may_go_on.set()
    at_the_start = 1
    assert rig.loads == at_the_start + 2


async def test_everybody_who_shares_a_refused_reload_hears_the_problems() -> None:
    rig = Rig()
    rig.outcome = ConfigError(("scrape.timeout: no duration",))
    answers: list[tuple[str, ...]] = []

    async def reload() -> None:
        answers.append(await rig.reload())

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(reload)
    assert answers == [("scrape.timeout: no duration",)] * 5
