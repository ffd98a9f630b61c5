"""Which environments are exported, and under which names: those of the file, and those that discovery has found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.config.model import ENVIRONMENT_ID
from exporter.environments.snapshot import Environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exporter.api.wire import RemoteEnvironment
    from exporter.config.model import EnvironmentConfig


def merge(
    configured: Sequence[EnvironmentConfig],
    found: Iterable[RemoteEnvironment],
    exported: Iterable[Environment] = (),
) -> tuple[Environment, ...]:
    """Name every environment uniquely: the file's names first, then those already exported, then new ones by id.

    An environment whose name is taken is named by its id. A name that looks like an id is never given, neither here nor in the
    file, so an id is always free for its own environment.
    """
    ours = [Environment(id=each.id, name=each.name, worker_mode=each.worker_mode) for each in configured]
    taken = {each.name for each in ours}
    name_by_id = {each.id: each.name for each in exported if each.origin == "discovery"}
    known_ids = {each.id for each in ours}
    new_by_id = {each.id: each for each in found if each.id not in known_ids}
    theirs = sorted(new_by_id.values(), key=lambda each: each.id)
    theirs.sort(key=lambda each: name_by_id.get(each.id) != each.name)
    for each in theirs:
        usable = each.name and each.name not in taken and not ENVIRONMENT_ID.fullmatch(each.name)
        name = each.name if usable else each.id
        taken.add(name)
        ours.append(Environment(id=each.id, name=name, origin="discovery"))
    return tuple(ours)
