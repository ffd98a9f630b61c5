"""Ids are found by their instant, however many share it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exporter.listing.alike import IdsByInstant

changes = st.lists(st.tuples(st.booleans(), st.sampled_from([80.0, 90.0]), st.sampled_from("abcd")))


@given(changes)
def test_the_ids_of_an_instant_are_those_added_and_not_discarded_in_their_order(
    made: list[tuple[bool, float, str]],
) -> None:
    ids, expected = IdsByInstant(), dict[float, dict[str, None]]()
    for adds, instant, one in made:
        if adds:
            ids.add(instant, one)
            expected.setdefault(instant, {})[one] = None
        else:
            ids.discard(instant, one)
            expected.get(instant, {}).pop(one, None)
    assert [list(ids.at(instant)) for instant in (70.0, 80.0, 90.0)] == [
        list(expected.get(instant, {})) for instant in (70.0, 80.0, 90.0)
    ]
    assert len(ids) == sum(bool(each) for each in expected.values())


def test_an_instant_costs_nothing_once_its_last_id_is_gone() -> None:
    ids = IdsByInstant()
    for one in "abc":
        ids.add(80.0, one)
    for one in "abc":
        ids.discard(80.0, one)
    assert vars(ids) == {"_first": {}, "_others": {}}
