"""What may happen on the stage, each as a value that an incident lists with its minute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.incidents.stage import Stage, Trouble

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def _at_once(change: Callable[[Stage], object]) -> Callable[[Stage], Awaitable[None]]:
    async def act(stage: Stage) -> None:
        change(stage)

    return act


def behave(site: str, **scene: object) -> Callable[[Stage], Awaitable[None]]:
    """Let the workers or users of a site behave otherwise from now on: fields of the simulator's `Scene`."""
    return _at_once(lambda stage: stage.change(site, **scene))


def kill(site: str, count: int | None = None) -> Callable[[Stage], Awaitable[None]]:
    """End workers with what they hold; all of them without a count."""
    return _at_once(lambda stage: stage.crews[site].kill(len(stage.crews[site].workers) if count is None else count))


def hire(site: str, count: int) -> Callable[[Stage], Awaitable[None]]:
    return _at_once(lambda stage: stage.crews[site].hire(count, stage.true_time()))


def drain(site: str) -> Callable[[Stage], Awaitable[None]]:
    """Let every worker leave when its session ends."""
    return behave(site, workers_leave_after_s=0.0)


def replace_one(site: str) -> Callable[[Stage], Awaitable[None]]:
    """Replace one worker by a new one, as a rolling restart does."""
    return _at_once(lambda stage: stage.crews[site].restart_one(stage.true_time()))


def lose_all_leases(site: str) -> Callable[[Stage], Awaitable[None]]:
    def change(stage: Stage) -> None:
        stage.crews[site].abandon()
        stage.change(site, lease_loss=1.0)

    return _at_once(change)


def answer(
    what: int | str,
    *,
    site: str | None = None,
    call: str | None = None,
    share: float = 1.0,
    retry_after_s: int | None = None,
    workspace_id: str | None = None,
) -> Callable[[Stage], Awaitable[None]]:
    """Let the network answer this instead of the API: a status, `timeout` or `connect`."""
    environment_id = None if site is None else f"env_{site}"
    trouble = Trouble(what, environment_id, call, share, retry_after_s, workspace_id)
    return _at_once(lambda stage: stage.network.troubles.append(trouble))


def recover() -> Callable[[Stage], Awaitable[None]]:
    return _at_once(lambda stage: stage.network.troubles.clear())


def revoke(*keys: str) -> Callable[[Stage], Awaitable[None]]:
    return _at_once(lambda stage: stage.network.revoked.update(keys))


def delete(site: str) -> Callable[[Stage], Awaitable[None]]:
    def change(stage: Stage) -> None:
        stage.world.delete_environment(f"env_{site}")
        del stage.crews[site]

    return _at_once(change)


def set_clock(ahead_s: float) -> Callable[[Stage], Awaitable[None]]:
    return _at_once(lambda stage: setattr(stage, "skew_s", ahead_s))


def stop_exporter(instance: str = "exporter-0:9831") -> Callable[[Stage], Awaitable[None]]:
    return _at_once(lambda stage: stage.stop_exporter(instance))


def start_exporter(instance: str = "exporter-0:9831") -> Callable[[Stage], Awaitable[None]]:
    async def act(stage: Stage) -> None:
        await stage.start_exporter(instance)

    return act


def forget_target(instance: str = "exporter-0:9831") -> Callable[[Stage], Awaitable[None]]:
    """Let Prometheus not know of an exporter any more, which goes on."""
    return _at_once(lambda stage: stage.targets.discard(instance))


def find_target(instance: str) -> Callable[[Stage], Awaitable[None]]:
    return _at_once(lambda stage: stage.targets.add(instance))


def lose_worker_that_stops(site: str) -> Callable[[Stage], Awaitable[None]]:
    """Ask the item of one worker to stop, and let that worker vanish before it has confirmed."""
    return _at_once(lambda stage: stage.crews[site].lose_one_that_stops())


def hide_workers(site: str) -> Callable[[Stage], Awaitable[None]]:
    """Let the API not say any more how many workers poll, as where they don't name themselves."""
    return _at_once(lambda stage: setattr(stage.crews[site].queue.rules, "reports_workers", False))


def reload_bad_configuration(instance: str = "exporter-0:9831") -> Callable[[Stage], Awaitable[None]]:
    async def act(stage: Stage) -> None:
        await stage.reload_bad_configuration(instance)

    return act


def show_unknown_state(site: str) -> Callable[[Stage], Awaitable[None]]:
    """Let one live item be in a state that nobody has heard of."""
    return _at_once(lambda stage: stage.network.strange_sites.add(f"env_{site}"))
