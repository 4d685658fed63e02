"""The simulation finds what it is there to find: each mistake, made on purpose, is caught within a few seeds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import pytest

from codec.manifest import claimed
from codec.metadata import BlobMetadata
from tests.tools.simulation import redis_scripts
from tests.tools.simulation.faults import Rates
from tests.tools.simulation.redis_model import Database, Reply, Script
from tests.tools.simulation.redis_scripts import SCRIPTS
from tests.tools.simulation.runner import play
from tests.tools.simulation.world import Run, World
from worker.consuming.consumer import Consumer
from worker.consuming.partition import Partition
from worker.consuming.quarantine import QUARANTINE_AFTER
from worker.delivery import conflict, sink
from worker.delivery.conflict import Claim, Judgement
from worker.delivery.recovery import Recoveries
from worker.delivery.sink import Attempt
from worker.errors import StreamError
from worker.model.causes import Verdict
from worker.model.ids import EntryId, entry_order
from worker.stores.base import BlobInfo
from worker.stream.leases import Lease
from worker.stream.servers.node import Callbacks, Command, Node

SEEDS = 150
FORGETFUL_SEED = 160 if sys.version_info < (3, 12) else 300
"""Where forgetful worlds begin: they are slow, and the mistakes that they catch take several coincidences.

Python 3.12 has changed the order in which tasks take turns, so other worlds catch them there.
"""

SLOW_STORE = Rates(slow=0.5, longest_slow=4.0, refused=0.1)
ZOMBIES = Rates(pause=0.03, slow=0.05, longest_slow=2.0, longest_pause=4.0)


def is_caught(
    world: Callable[[int], World],
    *,
    scripts: Mapping[str, Script] = SCRIPTS,
    prepare: Callable[[Run], None] = lambda _: None,
    first: int = 0,
) -> bool:
    return any(play(world(seed), scripts=scripts, prepare=prepare) for seed in range(first, first + SEEDS))


def many_zombies(run: Run) -> None:
    run.redis_edge.rates = ZOMBIES


def forgetful(run: Run) -> None:
    """Redis forgets what is on its way to a slow store, several times over."""
    run.store_edge.rates = SLOW_STORE
    run.troubles = lambda: [run.die_and_fail_over, run.fail_over, run.roll_and_fail_over]


def without_failovers(seed: int) -> World:
    return _busy(World.of(seed, failovers=False))


def with_failovers(seed: int) -> World:
    return _busy(replace(World.of(seed, failovers=True), naming="start", interval=0.2))


def with_forgeries(seed: int) -> World:
    return replace(without_failovers(seed), naming="start", forgeries=8)


def with_many_failovers(seed: int) -> World:
    world = replace(with_failovers(seed), events=10, chunks=90, interval=0.1, ends=0.2, forgeries=0)
    return replace(world, largest_batch=16, oldest_batch=6.0, slow_clock=0.0)


def with_broken_connections(seed: int) -> World:
    """Workers die while they store, but too few for audio that kills them."""
    world = replace(without_failovers(seed), redis_nodes=2, partitions=1, workers=1, events=0, reshapings=12)
    return replace(world, forgeries=0, interval=0.2, chunks=60, kills=QUARANTINE_AFTER - 1)


def with_silence_after_a_failover(seed: int) -> World:
    """Nothing comes afterwards that could not be stored, so that the worker would notice what was forgotten."""
    world = replace(without_failovers(seed), redis_nodes=2, partitions=1, workers=1, events=0, reshapings=1)
    world = replace(world, failovers=True, forgeries=0, duplicates=0.0, ends=0.0)
    return replace(world, lease_ttl=3.0, conversations=1, chunks=12, interval=0.1)


def _busy(world: World) -> World:
    busy = replace(world, workers=3, noise=1.0, kills=0, events=5, chunks=30, owned_before=True, redis_nodes=1)
    return replace(busy, lease_ttl=1.5, largest_batch=4, spool_mode="off")


def seal_blindly(data: Database, keys: list[str], args: list[bytes]) -> Reply:
    data.hash(keys[2])[args[3].decode()] = args[4]
    return [b"sealed"]


def forget_identities(data: Database, keys: list[str], args: list[bytes]) -> Reply:
    outcome = redis_scripts.done(data, keys, args)
    data.delete(keys[3])
    return outcome


@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        pytest.param("done", redis_scripts.finish, id="done without looking at the seal"),
        pytest.param("seal", seal_blindly, id="seal without looking at lease, entries and other seals"),
        pytest.param("done", forget_identities, id="done without a memory for duplicates"),
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
    def judge(claim: Claim, *_: object) -> Judgement:
        return Judgement(Verdict.SAME, claim.seal.entries)

    monkeypatch.setattr(sink, "judge", judge)
    assert is_caught(with_failovers)


def judge_by_range(claim: Claim, found: BlobInfo, pending: Mapping[EntryId, bytes], _: object) -> Judgement:
    """The rule of former versions: what lies between the first and the last entry of an object is in it."""
    seal, chunks = claim.seal, claim.chunks
    facts = BlobMetadata.from_mapping(found.metadata)
    if facts.first_entry is None or facts.last_entry is None:
        return Judgement(Verdict.FOREIGN)
    if (facts.first_entry, facts.last_entry) == (seal.entries[0], seal.entries[-1]):
        return Judgement(Verdict.SAME, seal.entries, claimed(found.metadata))
    first, last = entry_order(facts.first_entry), entry_order(facts.last_entry)
    known = sorted({**pending, **chunks}, key=entry_order)
    covered = tuple(entry for entry in known if first <= entry_order(entry) <= last)
    if not set(covered) & chunks.keys():
        return Judgement(Verdict.FOREIGN)
    return Judgement(Verdict.PART, covered, claimed(found.metadata))


def claimed_by_anyone(mapping: Mapping[str, str], *_: object, **__: object) -> object:
    return claimed(mapping)


async def find_nothing(*_: object) -> list[BlobInfo]:
    return []


def do_nothing(*_: object) -> None:
    """In the place of what should be done."""


@pytest.mark.parametrize("seed", [12, 38, 66, 68, 238])
def test_owners_that_die_again_and_again_are_no_trouble(seed: int) -> None:
    assert play(with_many_failovers(seed), prepare=forgetful) == []


def test_object_that_an_event_names_by_its_second_name_stays() -> None:
    """A paused worker has made it beside an object of others, another owner has found it, and then it wakes up."""
    assert play(World.of(1796014150, redis_nodes=1)) == []


def test_recognising_audio_by_a_range_of_ids_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "judge", judge_by_range)
    assert is_caught(with_forgeries)


def test_believing_forged_metadata_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conflict, "verified", claimed_by_anyone)
    assert is_caught(with_forgeries)


def test_repeating_a_command_that_may_have_run_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    execute = Node.execute

    async def repeated(node: Node, commands: Sequence[Command], callbacks: Callbacks, *, asking: bool = False) -> Reply:
        for _ in range(3):
            with suppress(StreamError):
                return await execute(node, commands, callbacks, asking=asking)
        return await execute(node, commands, callbacks, asking=asking)

    def prepare(run: Run) -> None:
        run.redis_edge.rates, run.store_edge.rates = Rates(reply_lost=0.3), Rates(kill=0.3)
        run.cluster_troubles.kinds = [run.cluster_troubles.move]

    monkeypatch.setattr(Node, "execute", repeated)
    assert is_caught(with_broken_connections, prepare=prepare)


def test_keeping_what_is_known_of_a_partition_that_moves_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    adopt = Consumer._adopted

    def adopted_as_it_was(consumer: Consumer, lease: Lease) -> Partition:
        return consumer._moving.pop(lease.partition, None) or adopt(consumer, lease)

    def prepare(run: Run) -> None:
        run.cluster_troubles.kinds = [run.cluster_troubles.forget_stored]

    monkeypatch.setattr(Consumer, "_adopted", adopted_as_it_was)
    assert is_caught(with_silence_after_a_failover, prepare=prepare)


def test_never_looking_for_what_a_failover_forgot_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recoveries, "ask", do_nothing)
    monkeypatch.setattr(Attempt, "_candidates", find_nothing)
    assert is_caught(with_many_failovers, prepare=forgetful, first=FORGETFUL_SEED)
