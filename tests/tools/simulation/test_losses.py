"""What a failover has lost is counted once: by the worker that had it in hand, whoever has the partition then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.tools.simulation.oracle import lost_chunks
from tests.tools.simulation.runner import play
from tests.tools.simulation.world import Run, World

BLOCKS, SEEDS_PER_BLOCK = 4, 10


def steady(seed: int) -> World:
    """Workers live on, and nothing else goes wrong; clocks agree, or the new primary would use ids of lost entries."""
    world = replace(World.of(seed, failovers=True), kills=0, noise=0.0, slow_clock=0.0, duplicates=0.0)
    return replace(world, workers=3, partitions=3, conversations=3, events=2, chunks=30, reshapings=0, deletions=0)


def counted(seed: int) -> tuple[float, int]:
    """Losses as the workers count them, and as they are."""
    runs: list[Run] = []

    def prepare(run: Run) -> None:
        runs.append(run)
        run.troubles = lambda: [run.fail_over, run.fail_over_slowly]

    assert play(steady(seed), prepare=prepare) == []
    return runs[0].metrics.lost._value.get(), lost_chunks(runs[0])


@pytest.mark.parametrize("block", range(BLOCKS))
def test_each_lost_chunk_is_counted_once_by_all_workers_together(block: int) -> None:
    seeds = range(block * SEEDS_PER_BLOCK, (block + 1) * SEEDS_PER_BLOCK)
    found = {seed: counted(seed) for seed in seeds}
    assert {seed: both for seed, both in found.items() if both[0] != both[1]} == {}
    assert sum(lost for _, lost in found.values()) > SEEDS_PER_BLOCK
