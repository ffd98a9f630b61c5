"""Which unknown values have been counted: what is read again and again is one event, not many."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

EVENTS_LIMIT = 20_000
"""The memory of all environments together, some 2 MB; beyond it the event that was met longest ago is forgotten."""


class DriftMemory:
    def __init__(self) -> None:
        self._counted: dict[int, None] = {}
        self._fields_by_path: dict[str, frozenset[str]] = {}

    def new_fields(self, path: str, fields: Sequence[str], subjects: Sequence[str]) -> list[str]:
        """Return those of an answer's unknown fields that were not known before, one for each event.

        `subjects` names for each field the item it stands in, and is empty for an answer without items: its fields are news
        when the last answer from `path` did not have them.
        """
        if subjects:
            return list(self._new_of_items(path, fields, subjects))
        now, before = frozenset(fields), self._fields_by_path.pop(path, frozenset())
        if now:
            self._fields_by_path[path] = now
        return sorted(now - before)

    def _new_of_items(self, path: str, fields: Sequence[str], subjects: Sequence[str]) -> Iterable[str]:
        for field, subject in zip(fields, subjects, strict=True):
            event = hash((path, subject, field))
            if event in self._counted:
                del self._counted[event]  # it moves to the end, as the one that was met last
            else:
                yield field
            self._counted[event] = None
            if len(self._counted) > EVENTS_LIMIT:
                del self._counted[next(iter(self._counted))]
