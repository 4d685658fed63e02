"""`make chaos`: simulated worlds, real processes with 200 kills, a flood, outages, losses; 1 if anything is wrong.

`make chaos ARGS=NAME` does only one thing:

kills        simulated worlds, then workers that are killed, paused, cut off and replaced under load
flood        bad entries among good ones
outage       the store is away for long
forgetting   Redis is killed, and an older copy of its data is put back
replicas     Redis fails over to a replica that lags behind and whose clock is 5 seconds slow (that needs `cc`)
company      conversations that change streams and prefixes, copies, conversions and deletions beside the workers
mistakes     pushers that begin again with equal audio and write into streams that no worker reads, while workers die
cluster      a Redis Cluster whose slots move and whose nodes die, hang and roll, `--rounds` times, while workers die;
             once without and once with `WAIT 1` after each push; REDIS_SERVER names the program, as a valkey-server
layouts      the number of partitions grows from 64 to 512 and shrinks again under load, `--rounds` times
lame         a cluster with a node that is dead or hangs: what the other nodes' conversations feel of it
soak         sessions in real time for `--minutes`; not done by default

In replicas, company and mistakes the store tells lies too. In the first two, blobs wait in a spool. `--seed N` repeats
the decisions of a run.
Processes keep their own time: it is the same trouble, not the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from tests.tools.chaos.cluster import cluster
from tests.tools.chaos.cluster_trouble import TROUBLES
from tests.tools.chaos.company import company
from tests.tools.chaos.conservation import conserve, scale
from tests.tools.chaos.flood import flood
from tests.tools.chaos.forgetting import forgetting
from tests.tools.chaos.lame import lame
from tests.tools.chaos.layouts import FEW, Course, layouts
from tests.tools.chaos.mistakes import mistakes
from tests.tools.chaos.outage import outage
from tests.tools.chaos.replicas import replicas
from tests.tools.chaos.soak import soak
from tests.tools.chaos.trouble import Plan
from tests.tools.simulation.runner import play
from tests.tools.simulation.world import World

SCENARIOS = (
    *("kills", "flood", "outage", "forgetting", "replicas", "company", "mistakes"),
    *("cluster", "layouts", "lame", "soak"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="by default another one each time")
    parser.add_argument(
        "--kills", type=int, default=200, help="workers to kill in kills (Opus and PCM together) and in mistakes"
    )
    parser.add_argument("--worlds", type=int, default=5000, help="simulated worlds")
    parser.add_argument("what", nargs="?", choices=SCENARIOS, help="only this")
    parser.add_argument("--bad", type=int, default=100_000, help="bad entries of the flood")
    parser.add_argument("--crowd", type=int, default=10_000, help="its conversations of one chunk")
    parser.add_argument("--losses", type=int, default=60, help="losses of Redis and kills, of forgetting and replicas")
    parser.add_argument("--deaths", type=int, default=60, help="kills of company, with PCM and with Opus")
    parser.add_argument("--rounds", type=int, default=3, help="of cluster and layouts")
    parser.add_argument("--talks", type=int, default=40, help="conversations of cluster and layouts")
    parser.add_argument("--only", nargs="+", choices=TROUBLES, default=TROUBLES, help="these troubles of cluster only")
    parser.add_argument("--minutes", type=float, default=15, help="of the soak")
    parser.add_argument("--sessions", type=int, default=100, help="of the soak, in real time")
    arguments = parser.parse_args()
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")  # as the image sets it
    _say(f"seed {arguments.seed}")
    wrong = 0
    if arguments.what in (None, "kills"):
        wrong += _kill(arguments)
    if arguments.what in (None, "flood"):
        _say(f"\n{arguments.bad} bad entries among good ones")
        wrong += _run(partial(flood, bad=arguments.bad, crowd=arguments.crowd), Plan(seed=arguments.seed))
    if arguments.what in (None, "outage"):
        for spooled in (True, False):
            _say(f"\nThe store is away for long, {'with a spool' if spooled else 'without a spool'}")
            plan = Plan(seed=arguments.seed, codec="opus")
            wrong += _run(partial(outage, sessions=200, spooled=spooled), plan)
    if arguments.what in (None, "forgetting"):
        _say(f"\nRedis goes back to older copies of its data; {arguments.losses} restores and kills")
        wrong += _run(forgetting, Plan(seed=arguments.seed, talks=30, kills=arguments.losses, pace=1.5))
    wrong += _strain(arguments) + _divide(arguments)
    if arguments.what == "soak":
        _say(f"\n{arguments.sessions} sessions for {arguments.minutes:g} minutes")
        plan = Plan(seed=arguments.seed, codec="opus", lease_ttl=15.0, partitions=64)
        wrong += _run(partial(soak, sessions=arguments.sessions, minutes=arguments.minutes), plan)
    _say(f"\n{wrong} findings" if wrong else "\nEvery sample is stored exactly once.")
    return int(wrong > 0)


def _strain(arguments: argparse.Namespace) -> int:
    wrong = 0
    if arguments.what in (None, "replicas"):
        _say(f"\nRedis fails over to lagging replicas with slow clocks; {arguments.losses} failovers and kills")
        wrong += _run(replicas, Plan(seed=arguments.seed, talks=30, kills=arguments.losses))
    if arguments.what in (None, "company"):
        for codec in ("pcm", "opus"):
            _say(f"\nSeveral streams, two prefixes, copies, conversions, deletions; {arguments.deaths} kills, {codec}")
            wrong += _run(company, Plan(seed=arguments.seed, talks=30, kills=arguments.deaths, codec=codec))
    if arguments.what in (None, "mistakes"):
        _say(f"\nCareless pushers, wrong streams, a store that answers nonsense; {arguments.kills} kills")
        wrong += _run(mistakes, Plan(seed=arguments.seed, talks=30, seconds=30, kills=arguments.kills))
    return wrong


def _divide(arguments: argparse.Namespace) -> int:
    """What only several nodes, or several numbers of partitions, can show."""
    wrong = 0
    if arguments.what in (None, "cluster"):
        for wait in (0, 1):
            _say(f"\nA cluster in trouble {arguments.rounds} times, {'with WAIT 1' if wait else 'without WAIT'}")
            plan = Plan(
                seed=arguments.seed, talks=arguments.talks, interval=0.4, partitions=32, pace=3.0, lease_ttl=3.0
            )
            wrong += _run(partial(cluster, rounds=arguments.rounds, wait=wait, only=arguments.only), plan)
    if arguments.what in (None, "layouts"):
        _say(f"\nThe number of partitions grows and shrinks {arguments.rounds} times")
        plan = Plan(arguments.seed, talks=arguments.talks, interval=0.4, partitions=FEW, pace=15.0, lease_ttl=10.0)
        wrong += _run(partial(layouts, course=Course(rounds=arguments.rounds)), plan)
    if arguments.what in (None, "lame"):
        _say("\nOne of three nodes is dead, then one hangs")
        wrong += _run(lame, Plan(seed=arguments.seed, talks=90, interval=0.5, partitions=48, lease_ttl=15.0))
    return wrong


def _kill(arguments: argparse.Namespace) -> int:
    wrong = _simulate(arguments.seed, arguments.worlds)
    for codec, kills in (("pcm", arguments.kills * 3 // 4), ("opus", arguments.kills // 4)):
        _say(f"\nConservation with {codec}, {kills} kills")
        plan = Plan(seed=arguments.seed, talks=60, seconds=30, kills=kills, pace=1.0, codec=codec)
        wrong += _run(conserve, plan)
    _say("\n1 → 4 → 2 workers under load")
    return wrong + _run(scale, Plan(seed=arguments.seed))


def _simulate(seed: int, worlds: int) -> int:
    began, wrong = time.monotonic(), 0
    for number in range(seed, seed + worlds):
        if found := play(World.of(number)):
            wrong += 1
            _say(f"  world {number}: {'; '.join(found)}\n  replay it: python -m tests.tools.simulation --seed {number}")
    _say(f"{worlds} simulated worlds, {worlds / (time.monotonic() - began):.0f} per second, {wrong} wrong")
    return wrong


def _run(scenario: Callable[[Plan, Path], Awaitable[tuple[list[str], list[str]]]], plan: Plan) -> int:
    began = time.monotonic()

    async def run() -> tuple[list[str], list[str]]:
        with tempfile.TemporaryDirectory() as directory:
            return await scenario(plan, Path(directory))

    wrong, figures = asyncio.run(run())
    for line in [*figures, f"took {time.monotonic() - began:.0f} s", *(f"WRONG: {sentence}" for sentence in wrong)]:
        _say(f"  {line}")
    return len(wrong)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 -- a command


if __name__ == "__main__":
    sys.exit(main())
