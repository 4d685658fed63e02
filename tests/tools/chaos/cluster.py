"""A Redis Cluster of three primaries with a replica each: slots move, nodes die, hang and roll, workers are killed.

Pushers follow redirections with a client of their own, and push with plain XADDs. A replica that takes over may lack
what its primary had acknowledged: these entries are known, and only they may be missing in the store. With `wait`,
pushers also send `WAIT 1`, and nothing may be missing.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path

from tests.tools.chaos.cluster_trouble import TROUBLES, ClusterTrouble
from tests.tools.chaos.cluster_world import PRIMARIES, cluster_world
from tests.tools.chaos.trouble import FEWEST, Plan


async def cluster(
    plan: Plan, directory: Path, *, rounds: int, wait: int, only: Collection[str] = TROUBLES
) -> tuple[list[str], list[str]]:
    """One run with some troubles or all; what is wrong, best nothing, and its figures."""
    async with cluster_world(plan, directory, replicas=PRIMARIES, wait=wait) as there:
        keys = [there.keys.stream(partition) for partition in range(plan.partitions)]
        trouble = ClusterTrouble(plan, there.shards, there.fleet, there.pushers, keys)
        for _ in range(FEWEST + 1):
            await trouble.start()
        await there.pushers.talk_through(partial(trouble.run, rounds, only))
        await there.come_to_rest()
        wrong, figures = await there.account()
        forgotten = sum(trouble.forgotten.values())
        if wait and forgotten:
            wrong.append(f"{forgotten} entries were lost although a replica had confirmed them")
        return wrong, [
            *figures,
            f"{dict(trouble.counts)}",
            f"Redis lost {forgotten} acknowledged entries: {dict(trouble.forgotten)}",
        ]
