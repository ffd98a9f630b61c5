"""The process, from its first moment on."""

import sys

from exporter import signals


def main() -> int:
    """Run the command line and return the exit code."""
    signals.block()
    from exporter.cli import main as run  # noqa: PLC0415 -- signals have to wait before all of this is imported

    return run()


if __name__ == "__main__":
    sys.exit(main())
