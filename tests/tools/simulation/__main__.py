"""`python -m tests.tools.simulation --seeds 1000` runs many seeds.

`--seed N` replays one with everything that happened.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.tools.simulation.runner import play
from tests.tools.simulation.world import World


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one, with a trace")
    parser.add_argument("--seeds", type=int, default=1000, help="how many to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--failovers", choices=("some", "never", "always"), default="some")
    parser.add_argument("--nodes", type=int, choices=(1, 2, 3), help="of Redis; unless given, most worlds have one")
    arguments = parser.parse_args()
    failovers = {"some": None, "never": False, "always": True}[arguments.failovers]
    if arguments.seed is not None:
        world = World.of(arguments.seed, failovers=failovers, redis_nodes=arguments.nodes)
        print(world)  # noqa: T201 -- a command
        return _told(arguments.seed, play(world, trace=print))
    began, failed = time.monotonic(), 0
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        failed += _told(seed, play(World.of(seed, failovers=failovers, redis_nodes=arguments.nodes)))
    took = time.monotonic() - began
    print(f"{arguments.seeds} seeds, {failed} failed, {arguments.seeds / took:.0f} per second")  # noqa: T201
    return int(failed > 0)


def _told(seed: int, wrong: list[str]) -> int:
    for sentence in wrong:
        print(f"seed {seed}: {sentence}", flush=True)  # noqa: T201
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
