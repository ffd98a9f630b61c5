"""Whatever callers do in whatever order, the queue's books agree with each other."""

from __future__ import annotations

import contextlib
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from exporter.simulator import Rules, World
from exporter.simulator.environment import Refusal
from exporter.simulator.item import STATES

ORDER = {state: rank for rank, state in enumerate(STATES)}
items = st.integers(0, 1_000_000)
rules = st.builds(
    Rules,
    lease_s=st.just(20),
    on_lease_expiry=st.sampled_from(["keep", "stop"]),
    keep_stopped=st.none() | st.integers(0, 5),
    late_visibility_s=st.sampled_from([0.0, 4.0]),
    order=st.sampled_from(["newest_first", "oldest_first", "unordered"]),
    cursors=st.sampled_from(["key", "position"]),
)


class Life(RuleBasedStateMachine):
    @initialize(rules=rules)
    def open(self, rules: Rules) -> None:
        self.at = 1_780_000_000.0
        self.queue = World(lambda: self.at).add_environment("env_a", rules=rules)
        self.furthest: dict[str, int] = {}

    def pick(self, number: int) -> str:
        ids = [item.id for item in self.queue.items()]
        return ids[number % len(ids)] if ids else "work_0000000000000000"

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.at += seconds

    @rule()
    def create(self) -> None:
        self.queue.create()

    @rule(worker=st.sampled_from(["", "w1", "w2"]))
    def poll(self, worker: str) -> None:
        item = self.queue.poll(worker_id=worker)
        assert item is None or item.state == "queued"

    @rule(number=items)
    def ack(self, number: int) -> None:
        with contextlib.suppress(Refusal):
            assert self.queue.ack(self.pick(number)).state == "starting"

    @rule(number=items)
    def heartbeat(self, number: int) -> None:
        with contextlib.suppress(Refusal):
            self.queue.heartbeat(self.pick(number))

    @rule(number=items, force=st.booleans())
    def stop(self, number: int, force: bool) -> None:  # noqa: FBT001 - hypothesis passes it by name
        with contextlib.suppress(Refusal):
            assert self.queue.stop(self.pick(number), force=force).state in {"stopping", "stopped"}

    @rule(number=items)
    def delete(self, number: int) -> None:
        with contextlib.suppress(Refusal):
            self.queue.delete(self.pick(number))

    @invariant()
    def counts_agree_with_items(self) -> None:
        truth = self.queue.truth()
        existing = Counter(item.state for item in self.queue.items())
        assert truth.existing == {state: existing[state] for state in STATES}
        assert truth.stats.depth + truth.stats.pending == existing["queued"]

    @invariant()
    def a_walk_shows_what_is_listed(self) -> None:
        listed: Counter[str] = Counter()
        cursor = None
        while True:
            page = self.queue.page(limit=3, cursor=cursor)
            listed.update(item.state for item in page.items)
            cursor = page.next_cursor
            if cursor is None:
                break
        assert self.queue.truth().listed == {state: listed[state] for state in STATES}

    @invariant()
    def life_has_one_direction(self) -> None:
        for item in self.queue.items():
            assert ORDER[item.state] >= self.furthest.get(item.id, 0)
            self.furthest[item.id] = ORDER[item.state]

    @invariant()
    def instants_are_in_order_and_fit_the_state(self) -> None:
        for item in self.queue.items():
            steps = [item.created_at, item.acknowledged_at, item.started_at, item.stopped_at]
            reached = [step for step in steps if step is not None]
            assert reached == sorted(reached)
            assert (item.state == "stopped") == (item.stopped_at is not None)
            assert item.state != "active" or item.latest_heartbeat_at is not None

    @invariant()
    def every_step_is_recorded_once(self) -> None:
        recorded = Counter((step.kind, step.work_id) for step in self.queue.truth().transitions)
        assert set(recorded.values()) <= {1}
        for item in self.queue.items():
            assert (("wait", item.id) in recorded) == (item.acknowledged_at is not None)
            assert (("startup", item.id) in recorded) == (item.started_at is not None)
            assert (("finished", item.id) in recorded) == (item.stopped_at is not None)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
