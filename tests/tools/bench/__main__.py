"""`make bench`: measures the worker on this machine (see README.md beside this file)."""

from __future__ import annotations

import argparse
import sys

from tests.tools.bench.cost import QUIET_SHARE, Plan
from tests.tools.bench.main import ALL_PARTS, run
from tests.tools.bench.prices import CLASSES
from worker.errors import WorkerError


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def main() -> int:
    """Returns 1 if something that was to be measured did not work."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seven minutes instead of 35; the figures are rougher")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--only", action="append", choices=ALL_PARTS, help="one part; may be repeated")
    cost = parser.add_argument_group("what the cost is computed for")
    cost.add_argument("--class", dest="storage", choices=CLASSES, default="standard", help="the bucket's default class")
    cost.add_argument("--months", type=_positive, default=1, help="how long audio is kept")
    cost.add_argument("--blob-seconds", type=_positive, default=60, help="BATCH_MAX_SECONDS")
    cost.add_argument("--quiet-share", type=_share, default=QUIET_SHARE, help="quiet audio, 0 to 1")
    arguments = parser.parse_args()
    plan = Plan(CLASSES[arguments.storage], arguments.months, arguments.blob_seconds, arguments.quiet_share)
    try:
        run(quick=arguments.quick, as_json=arguments.json, only=arguments.only or (), plan=plan)
    except WorkerError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
