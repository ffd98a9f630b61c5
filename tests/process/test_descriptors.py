"""The process may open as many files as the system allows, whatever its shell was set to."""

from __future__ import annotations

import subprocess
import sys

import pytest

SHOW = "from exporter.process import descriptors; descriptors.raise_limit(); print(descriptors.limit())"


@pytest.mark.parametrize(("soft", "hard"), [(64, 256), (256, 256), (1, 512)])
def test_the_soft_limit_is_raised_to_the_hard_one(soft: int, hard: int) -> None:
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard})); "
    imports = "from exporter.process import descriptors; "
    shown = subprocess.run([sys.executable, "-c", imports + limited + SHOW], capture_output=True, check=True, text=True)
    assert shown.stdout == f"{hard}\n"
