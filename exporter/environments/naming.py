"""Which environments are exported, and under which names: a function of the configuration and the list of environments.

No name depends on what was exported before, so that two replicas, and a process before and after its restart, agree.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from exporter.config.model import ENVIRONMENT_ID, NAME_LENGTH_LIMIT
from exporter.environments.snapshot import Environment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.api.wire import RemoteEnvironment
    from exporter.config.model import Config, EnvironmentConfig

SUFFIX_LENGTH = 6


def name_environments(config: Config, found: Iterable[RemoteEnvironment]) -> tuple[Environment, ...]:
    """Return the environments of the file, then those found besides, each under a name of its own.

    The file's names come first. Of found ones with the same name the oldest keeps it, and the others get the end of their id
    behind it. A name that looks like an id is not used, so an id is always free for its own environment.
    """
    others = {each.id: each for each in found}
    configured = [_configured(each, config, others.pop(each.id, None)) for each in config.environments]
    name_by_id = _names(others.values(), taken={each.name for each in configured})
    return (
        *configured,
        *(
            Environment(
                id=key,
                name=name,
                origin="discovery",
                workspace_id=others[key].workspace_id,
                wait_objective_s=config.work.wait_objective_s,
            )
            for key, name in sorted(name_by_id.items())
        ),
    )


def _configured(environment: EnvironmentConfig, config: Config, found: RemoteEnvironment | None) -> Environment:
    """Return what the file says; where it says nothing of the workspace, that of the list in which it was found."""
    own = environment.wait_objective_s
    return Environment(
        id=environment.id,
        name=environment.name,
        worker_mode=environment.worker_mode,
        workspace_id=config.workspace_of(environment) or ("" if found is None else found.workspace_id),
        wait_objective_s=config.work.wait_objective_s if own is None else own,
    )


def _names(environments: Iterable[RemoteEnvironment], taken: set[str]) -> dict[str, str]:
    by_age = sorted(environments, key=lambda each: (math.inf if each.created_at is None else each.created_at, each.id))
    name_by_id = {each.id: each.id for each in by_age}
    usable = [each for each in by_age if each.name and not ENVIRONMENT_ID.fullmatch(each.name)]
    for each in usable:
        if each.name not in taken:
            taken.add(each.name)
            name_by_id[each.id] = each.name
    for each in usable:
        if name_by_id[each.id] != each.name:
            name_by_id[each.id] = _with_suffix(each, taken)
            taken.add(name_by_id[each.id])
    return name_by_id


def _with_suffix(environment: RemoteEnvironment, taken: set[str]) -> str:
    """Return the name with as much of the id's end as makes it unique."""
    end = environment.id.removeprefix("env_")
    for length in range(min(SUFFIX_LENGTH, len(end)), len(end) + 1):
        suffix = f"-{end[-length:]}"
        name = environment.name[: NAME_LENGTH_LIMIT - len(suffix)] + suffix
        if name not in taken:
            return name
    return environment.id
