"""Environment variables that were set for other programs and would change what libraries do here.

They are removed before the libraries are imported, because some read them at that moment. What is kept on purpose is listed in
docs/configuration.md, too.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import MutableMapping

REMOVED: Final = (
    "PROMETHEUS_MULTIPROC_DIR",  # prometheus_client writes files into that folder, or fails if there is none
    "prometheus_multiproc_dir",
    "PROMETHEUS_DISABLE_CREATED_SERIES",  # prometheus_client would change the exposition
    "PROMETHEUS_LEGACY_NAME_VALIDATION",
    "SSLKEYLOGFILE",  # ssl writes the keys of every connection to the API into that file
    "WEB_CONCURRENCY",  # uvicorn fails if it is no number
    "FORWARDED_ALLOW_IPS",  # uvicorn would believe what these hosts say about a client's address
)


def remove(environ: MutableMapping[str, str] = os.environ) -> None:
    for name in REMOVED:
        environ.pop(name, None)
