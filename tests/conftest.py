"""What every test may rely on."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Return the one event loop the exporter runs in."""
    return "asyncio"
