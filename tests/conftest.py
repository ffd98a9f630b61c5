"""What every test may rely on."""

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# How this machine runs Python is its own affair: PYTHONUNBUFFERED, for one, hides what a program leaves in its buffers.
for name in [each for each in os.environ if each.startswith("PYTHON")]:
    if name not in {"PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE"}:
        del os.environ[name]

# A shell without job control starts what it puts into the background with interrupts ignored, and every process would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No property fails because a machine is slow: neither by its own deadline nor by the time its examples take to make.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
# In CI the same examples each time: what fails there has been broken by the change.
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, database=None)
# With a second Python on the same machine: it shows what the interpreter changes, not what the examples find.
settings.register_profile("brief", settings.get_profile("ci"), max_examples=20)
settings.load_profile("default")


@pytest.fixture
def anyio_backend() -> str:
    """Return the one event loop the exporter runs in."""
    return "asyncio"
