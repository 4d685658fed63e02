"""Thousands of small worlds in which everything that can fail does; `make chaos` runs more of them."""

from __future__ import annotations

import pytest

from tests.tools.simulation.runner import play
from tests.tools.simulation.world import World

BLOCKS, SEEDS_PER_BLOCK = 8, 25


@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_chunk_is_stored_once_whatever_happens(block: int) -> None:
    wrong = {}
    for seed in range(block * SEEDS_PER_BLOCK, (block + 1) * SEEDS_PER_BLOCK):
        if found := play(World.of(seed)):
            wrong[seed] = found
    assert not wrong, f"replay one with: python -m tests.tools.simulation --seed {next(iter(wrong))}"


def test_a_seed_replays_to_the_same_run() -> None:
    world = World.of(156, failovers=True, redis_nodes=3)
    first: list[str] = []
    second: list[str] = []
    play(world, trace=first.append)
    play(world, trace=second.append)
    assert len(first) > 100
    assert first == second
