"""The process, from its first moment on."""

from __future__ import annotations

import sys

from exporter.process import signals


def main() -> int:
    """Run the command line and return the exit code."""
    signals.block()
    from exporter.process import descriptors, inherited, installation  # noqa: PLC0415 -- signals wait from the first moment on

    inherited.remove()
    descriptors.raise_limit()
    if conflict := installation.conflict():
        sys.stderr.write(f"managed-agents-exporter: {conflict.sentence}\n")
        if conflict.fatal:
            return 1
    from exporter.cli import main as run  # noqa: PLC0415 -- what stands above has to happen before all of this is imported

    return run()


if __name__ == "__main__":
    sys.exit(main())
