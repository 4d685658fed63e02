"""The simulation finds what it is there to find: each mistake, made on purpose, is caught within a few seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from tests.simulation import redis_scripts
from tests.simulation.faults import Rates
from tests.simulation.redis_model import Database, Reply, Script
from tests.simulation.redis_scripts import SCRIPTS
from tests.simulation.runner import play
from tests.simulation.world import Run, World
from worker import placement
from worker.conflict import Judgement, Verdict
from worker.seal import Seal

SEEDS = 150
ZOMBIES = Rates(pause=0.03, slow=0.05, longest_slow=2.0, longest_pause=4.0)


def is_caught(
    world: Callable[[int], World],
    *,
    scripts: Mapping[str, Script] = SCRIPTS,
    prepare: Callable[[Run], None] = lambda _: None,
) -> bool:
    return any(play(world(seed), scripts=scripts, prepare=prepare) for seed in range(SEEDS))


def many_zombies(run: Run) -> None:
    run.redis_edge.rates = ZOMBIES


def without_failovers(seed: int) -> World:
    return _busy(World.of(seed, failovers=False))


def with_failovers(seed: int) -> World:
    return _busy(replace(World.of(seed, failovers=True), naming="start", interval=0.2))


def _busy(world: World) -> World:
    return replace(world, workers=3, noise=1.0, kills=0, events=5, lease_ttl=1.5, chunks=30, largest_batch=4)


def seal_blindly(data: Database, keys: list[str], args: list[bytes]) -> Reply:
    data.hash(keys[2])[args[3].decode()] = args[4]
    return [b"sealed"]


def claim_nothing(*_: object) -> Reply:
    return [b"", [], []]


def forget_identities(data: Database, keys: list[str], args: list[bytes]) -> Reply:
    outcome = redis_scripts.done(data, keys, args)
    data.delete(keys[3])
    return outcome


@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        pytest.param("done", redis_scripts.finish, id="done without looking at the seal"),
        pytest.param("seal", seal_blindly, id="seal without looking at lease, entries and other seals"),
        pytest.param("claim", redis_scripts.fenced(claim_nothing), id="take over nothing that is pending"),
        pytest.param("done", forget_identities, id="done without a memory for twins"),
    ],
)
def test_a_mistake_in_a_script_is_caught(name: str, mutant: Script) -> None:
    assert is_caught(without_failovers, scripts={**SCRIPTS, name: mutant}, prepare=many_zombies)


def test_storing_without_a_precondition_is_caught() -> None:
    def prepare(run: Run) -> None:
        many_zombies(run)
        run.bucket.create_only = False

    assert is_caught(without_failovers, prepare=prepare)


def test_taking_every_412_for_success_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(seal: Seal, *_: object) -> Judgement:
        return Judgement(Verdict.SAME, seal.entries)

    monkeypatch.setattr(placement, "judge", judge)
    assert is_caught(with_failovers)
