"""`python -m worker` is `audio-batch-worker`."""

from __future__ import annotations

import sys

from worker.errors import ExtraMissing
from worker.runtime.extras import extra_imports


def main() -> None:
    """Run the command line, or say what it needs."""
    try:
        with extra_imports():
            from worker.cli import main as command_line  # noqa: PLC0415 -- it needs an extra
    except ExtraMissing as error:
        sys.exit(f"audio-batch-worker: {error}")
    command_line()


if __name__ == "__main__":
    main()
