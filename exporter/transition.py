"""What happens to a work item, as a reader of the list can tell it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.wire import WorkItem


class Step(enum.Enum):
    CREATED = "created"
    ACKNOWLEDGED = "acknowledged"
    STARTED = "started"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Transition:
    """A step of an item's life that was not told before. `item` is as it was read when the step was seen."""

    step: Step
    item: WorkItem
