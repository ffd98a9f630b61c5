"""A ledger against the simulator's truth, in whatever order things may happen."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from exporter.simulator.environment import Rules
from tests.listing.ledger_long_run import crowd, life
from tests.listing.listed import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.simulator import places

CHOICE = st.integers(min_value=0, max_value=999)

RULES = st.builds(
    Rules,
    order=st.sampled_from(["newest_first", "oldest_first", "unordered"]),
    cursors=st.sampled_from(["key", "position"]),
    page_max=st.sampled_from([3, 10, 20, 100]),
    over_limit=st.sampled_from(["refuse", "clamp"]),
    trailing_cursor=st.booleans(),
    late_visibility_s=st.sampled_from([0.0, 10.0]),
    timestamps=st.sampled_from(["micros", "millis", "seconds"]),
    new_id_on_reclaim=st.booleans(),
    lease_s=st.just(60),
    on_lease_expiry=st.sampled_from(["keep", "stop", "requeue"]),
    pending_counts=st.sampled_from(["claimed", "unstopped"]),
)


class ListingMachine(RuleBasedStateMachine):
    """After each uninterrupted read of a list at rest, what is listed equals what a full walk would count."""

    def __init__(self) -> None:
        super().__init__()
        self.scenario = Scenario(Rules(), page_size=100, history=0, seed=0)

    @initialize(
        rules=RULES,
        pages_of_history=st.sampled_from([0, 1, 5, 20]),
        overlap=st.sampled_from([0, 1, 2]),
        repeats=st.sampled_from([0.0, 0.2]),
        stats_take_s=st.sampled_from([0.0, 1.0]),
        seed=st.integers(min_value=0, max_value=2**16),
    )
    def begin(
        self, rules: Rules, pages_of_history: int, overlap: int, repeats: float, stats_take_s: float, seed: int
    ) -> None:
        page_size = rules.page_max
        self.scenario = Scenario(rules, page_size=page_size, history=pages_of_history * page_size, seed=seed)
        self.scenario.reader.overlap = overlap
        self.scenario.reader.repeats = repeats
        self.scenario.reader.stats_take_s = stats_take_s

    @rule(seconds=st.sampled_from([0.001, 0.5, 1.0, 4.0, 15.0, 60.0, 600.0]))
    def pass_time(self, seconds: float) -> None:
        self.scenario.pass_time(seconds)

    @rule(seconds=st.sampled_from([-60.0, -3.0, 20.0, 3600.0]))
    def step_clock(self, seconds: float) -> None:
        self.scenario.step_clock(seconds)

    @rule(number=st.sampled_from([1, 1, 2, 7]))
    def create(self, number: int) -> None:
        self.scenario.create(number)

    @rule(number=st.integers(min_value=1, max_value=4))
    def poll(self, number: int) -> None:
        for _ in range(number):
            self.scenario.poll()

    @rule(choices=st.lists(CHOICE, min_size=1, max_size=6))
    def work(self, choices: list[int]) -> None:
        for choice in choices:
            self.scenario.work_on(choice)

    @rule(choice=CHOICE, force=st.booleans())
    def stop(self, choice: int, *, force: bool) -> None:
        self.scenario.stop(choice, force=force)

    @rule()
    def hurry(self) -> None:
        self.scenario.hurry()

    @rule()
    def take_over(self) -> None:
        self.scenario.take_over()

    @rule(choice=CHOICE)
    def delete_live(self, choice: int) -> None:
        self.scenario.delete_live(choice)

    @rule(number=st.sampled_from([1, 3, 20]))
    def delete_stopped(self, number: int) -> None:
        self.scenario.delete_stopped(number)

    @rule(calls=st.integers(min_value=0, max_value=4))
    def read_under_budget(self, calls: int) -> None:
        self.scenario.read(calls=calls)

    @rule()
    def read_with_refused_cursors(self) -> None:
        self.scenario.environment.rules.cursor_ttl_s = 0.0
        self.scenario.pass_time(0.001)
        self.scenario.read()
        self.scenario.environment.rules.cursor_ttl_s = None

    @precondition(lambda self: not self.scenario.environment.rules.new_id_on_reclaim)
    @rule(seed=CHOICE)
    def read_while_things_happen(self, seed: int) -> None:
        dice = Random(seed)  # noqa: S311 - a test's dice
        scenario = self.scenario
        changes: list[Callable[[], None]] = [
            lambda: scenario.create(1),
            scenario.poll,
            lambda: scenario.work_on(dice.randrange(1000)),
            lambda: scenario.stop(dice.randrange(1000), force=True),
            scenario.hurry,
            lambda: scenario.pass_time(0.2),
        ]

        def change() -> None:
            dice.choice(changes)()

        scenario.read(changes=change)

    @rule()
    def read_at_rest(self) -> None:
        self.scenario.read_quietly()

    def teardown(self) -> None:
        self.scenario.read_quietly()


TestListing = ListingMachine.TestCase
TestListing.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@pytest.mark.parametrize("seed", [2, 13, 15, 18, 20382, 20423, 20424, 60223])
def test_a_long_life_is_listed_and_emitted_exactly(seed: int) -> None:
    assert life(seed).quiet_reads > 0


@pytest.mark.parametrize("order", ["newest_first", "oldest_first"])
def test_of_two_pages_that_show_an_item_the_one_that_shows_it_further_holds(order: places.Order) -> None:
    scenario = Scenario(Rules(order=order, page_max=3), page_size=3, history=15, seed=1)
    scenario.reader.overlap = 2
    scenario.read()
    dice = Random(1)  # noqa: S311 - a test's dice
    for _ in range(12):
        crowd(scenario, dice)
