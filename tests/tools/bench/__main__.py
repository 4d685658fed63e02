"""`make bench`: measures the worker on this machine (see README.md beside this file)."""

from __future__ import annotations

import argparse
import sys

from tests.tools.bench.main import ALL_PARTS, run
from worker.errors import WorkerError


def main() -> int:
    """Returns 1 if something that was to be measured did not work."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seven minutes instead of 35; the figures are rougher")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--only", action="append", choices=ALL_PARTS, help="one part; may be repeated")
    arguments = parser.parse_args()
    try:
        run(quick=arguments.quick, as_json=arguments.json, only=arguments.only or ())
    except WorkerError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
