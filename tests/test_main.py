"""The process's first moment."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from exporter import __main__
from exporter.process import signals

if TYPE_CHECKING:
    import pytest


def test_signals_are_blocked_before_the_command_line_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def run() -> int:
        order.append("run")
        return 7

    monkeypatch.setattr(signals, "block", lambda: order.append("blocked"))
    monkeypatch.setattr("exporter.cli.main", run)
    assert (__main__.main(), order) == (7, ["blocked", "run"])


def test_the_first_import_is_small() -> None:
    """Import only what is needed to block the signals: a third of a second of imports comes after that."""
    listed = "import sys; import exporter.__main__; print(*sorted(m for m in sys.modules if m.startswith('exporter')))"
    done = subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["exporter", "exporter.__main__", "exporter.process", "exporter.process.signals"]
