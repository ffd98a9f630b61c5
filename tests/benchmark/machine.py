"""What it was measured on, without the machine's name."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("anyio", "h11", "httpcore", "httpx", "msgspec", "prometheus-client", "starlette", "uvicorn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """`load`: the mean number of processes that wanted a processor in the minute before."""

    cores: int
    cpu: str
    memory_gib: float
    system: str
    python: str
    libraries: dict[str, str]
    load: float


def describe() -> Machine:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        cpu=_cpu_model(),
        memory_gib=round(pages / 2**30, 1),
        system=f"{platform.system()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        libraries={name: version(name) for name in LIBRARIES},
        load=round(os.getloadavg()[0], 2),
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
