"""Random lives of random environments against their truth, for as long as one likes.

By hand: `python -m tests.listing.ledger_long_run --steps 200000 [--seed 1] [--only SEED]`.
"""

from __future__ import annotations

import argparse
import time
import traceback
from random import Random
from typing import TYPE_CHECKING

from exporter.simulator.environment import Rules
from tests.listing.listed import Scenario

if TYPE_CHECKING:
    from collections.abc import Sequence

STEPS_A_LIFE = 400


def random_rules(dice: Random) -> Rules:
    return Rules(
        order=dice.choice(["newest_first", "newest_first", "oldest_first", "oldest_first", "unordered"]),
        cursors=dice.choice(["key", "position"]),
        page_max=dice.choice([3, 10, 20, 100, 1000]),
        over_limit=dice.choice(["refuse", "clamp"]),
        trailing_cursor=dice.random() < 0.3,
        late_visibility_s=dice.choice([0.0, 0.0, 10.0]),
        on_lease_expiry=dice.choice(["keep", "keep", "requeue", "stop"]),
        lease_s=60,
        new_id_on_reclaim=dice.random() < 0.3,
        timestamps=dice.choice(["micros", "micros", "millis", "seconds"]),
    )


def change(scenario: Scenario, dice: Random, *, deletions: bool) -> None:
    kind = dice.random()
    if kind < 0.25:
        scenario.pass_time(dice.choice([0.0, 0.001, 0.3, 1.0, 4.0]))
    elif kind < 0.33:
        scenario.create(dice.choice([1, 1, 1, 2, 5]))
    elif kind < 0.50:
        scenario.poll()
    elif kind < 0.80:
        scenario.work_on(dice.randrange(1000))
    elif kind < 0.92:
        scenario.stop(dice.randrange(1000), force=dice.random() < 0.6)
    elif kind < 0.95:
        scenario.hurry()
    elif kind < 0.96:
        scenario.take_over()
    elif deletions and kind < 0.98:
        scenario.delete_live(dice.randrange(1000))
    elif deletions:
        scenario.delete_stopped(dice.choice([1, 1, 3, 20]))


def crowd(scenario: Scenario, dice: Random) -> None:
    """Read many live items of which those that two pages show begin to stop meanwhile: the later answer may be the older one."""
    scenario.start(12)
    scenario.pass_time(30.0)
    scenario.read()
    scenario.read(changes=lambda: scenario.stop_shown_twice(dice.randrange(1000)))


def step(scenario: Scenario, dice: Random, *, deletions: bool) -> None:
    kind = dice.random()
    if kind < 0.70:
        for _ in range(dice.choice([1, 3, 10])):
            change(scenario, dice, deletions=deletions)
    elif kind < 0.78:
        scenario.pass_time(dice.choice([1.0, 15.0, 15.0, 60.0, 600.0]))
    elif kind < 0.84:
        scenario.read(calls=dice.choice([0, 1, 1, 2, 3]))
    elif kind < 0.90:
        still = scenario.environment.rules.new_id_on_reclaim  # the order of two names of one read is anybody's guess
        scenario.read(
            changes=lambda: change(scenario, dice, deletions=False) if dice.random() < 0.5 and not still else None
        )
    elif kind < 0.905:
        scenario.environment.rules.cursor_ttl_s = 0.0
        scenario.read()
        scenario.environment.rules.cursor_ttl_s = None
    elif kind < 0.91:
        scenario.step_clock(dice.choice([-60.0, -3.0, 20.0, 3600.0]))
    else:
        scenario.read_quietly()


def life(seed: int) -> Scenario:
    dice = Random(seed)  # noqa: S311 - a test's dice
    rules = random_rules(dice)
    page_size = min(dice.choice([3, 10, 100, 1000]), rules.page_max)
    history = dice.choice([0, page_size, 5 * page_size, 20 * page_size])
    scenario = Scenario(rules, page_size=page_size, history=min(history, 3000), seed=seed)
    scenario.reader.overlap = dice.choice([0, 0, 1, 2])
    scenario.reader.repeats = dice.choice([0.0, 0.0, 0.2])
    stats_take_s = dice.choice([0.0, 0.0, 1.0])
    scenario.reader.stats_take_s = 0.0 if rules.new_id_on_reclaim else stats_take_s
    rules.pending_counts = dice.choice(["claimed", "claimed", "claimed", "unstopped"])
    deletions = dice.random() < 0.4
    for _ in range(STEPS_A_LIFE):
        step(scenario, dice, deletions=deletions)
        scenario.check_contradictions()
    return scenario


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int)
    options = parser.parse_args(argv)
    if options.only is not None:
        life(options.only)
        return 0
    began_at, quiet_reads, spared_reads, failures, lives = time.monotonic(), 0, 0, 0, -(-options.steps // STEPS_A_LIFE)
    for seed in range(options.seed, options.seed + lives):
        try:
            lived = life(seed)
            quiet_reads, spared_reads = quiet_reads + lived.quiet_reads, spared_reads + lived.spared_reads
        except Exception:  # noqa: BLE001 - whatever goes wrong is this life's result; the others go on
            failures += 1
            print(f"seed {seed}: {traceback.format_exc(limit=-2)}", flush=True)  # noqa: T201 - a script's output
    took_s = time.monotonic() - began_at
    reads = f"{quiet_reads} exact reads, {spared_reads} not of all pages"
    print(f"{lives * STEPS_A_LIFE} steps, {reads}, {failures} failed lives, {took_s:.0f} s")  # noqa: T201 - a script's output
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
