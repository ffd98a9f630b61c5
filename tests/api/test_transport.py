"""What every transport has in common, whichever library is behind it."""

from __future__ import annotations

from typing import get_args

import pytest

from exporter.api.client import REASONS
from exporter.api.transport import Fault, TransportError


@pytest.mark.parametrize("fault", get_args(Fault))
def test_every_fault_of_a_transport_is_a_reason_for_which_a_read_fails(fault: Fault) -> None:
    assert fault in REASONS


def test_a_fault_is_not_repeated_and_had_no_answer_unless_it_says_so() -> None:
    plain, said = TransportError("protocol", "cut"), TransportError("protocol", "cut", unanswered=True, status=200)
    assert (plain.fault, str(plain), plain.unanswered, plain.status) == ("protocol", "cut", False, None)
    assert (said.unanswered, said.status) == (True, 200)
