"""A real browser: Debian's Chromium, without a window."""

from __future__ import annotations

import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRIES = 4


@contextmanager
def chromium(directory: Path) -> Iterator[Chrome]:
    """Run Chromium with a new profile in the directory, until the block ends."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or "/usr/bin/chromium"
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "hide-scrollbars",
        f"user-data-dir={directory / 'chromium'}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = _started(options)
    try:
        yield driver
    finally:
        driver.quit()


def _started(options: ChromeOptions) -> Chrome:
    """Start it. On a busy machine the driver may not listen within the half minute that the library gives it."""
    for _ in range(TRIES - 1):
        with suppress(WebDriverException):
            return Chrome(options=options, service=_service())
    return Chrome(options=options, service=_service())


def _service() -> ChromeService:
    return ChromeService(shutil.which("chromedriver") or "/usr/bin/chromedriver")
