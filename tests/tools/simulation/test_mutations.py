"""The simulation finds what it is there to find: each mistake, made on purpose, is caught within a few seeds.

Each mistake has worlds of its own, in which the accident that it makes possible happens again and again and little
else does. They are small, and at least every fourth of them catches it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import pytest

from codec.manifest import claimed
from codec.metadata import BlobMetadata
from tests.tools.simulation import node as nodes
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
from worker.delivery.recovery import Recoveries, Recovery
from worker.delivery.sink import Attempt
from worker.errors import StreamError
from worker.model.causes import Verdict
from worker.model.ids import Conversation, EntryId, entry_order
from worker.model.seal import Seal
from worker.stores.base import BlobInfo
from worker.stores.tombstones import Tombstone
from worker.stream.entries import Entries, Refused
from worker.stream.leases import Lease

SEEDS = 40
"""Worlds of which one must catch a mistake. Every fourth one does, so all but one of 100,000 sets have one."""

Change = Callable[[Run, pytest.MonkeyPatch], None]


def nothing(*_: object) -> None:
    """In the place of what should be done."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is changed in the worker, by `make` and `scripts`, and the worlds where that shows.

    `arrange` prepares a world, with and without the mistake.
    """

    world: Callable[[int], World]
    arrange: Change = nothing
    make: Change = nothing
    scripts: Mapping[str, Script] = field(default_factory=dict)


def quiet(seed: int) -> World:
    """A short conversation, three workers, and no accidents."""
    world = World.of(seed, failovers=False, redis_nodes=1)
    world = replace(world, partitions=1, conversations=1, chunks=20, interval=0.05, workers=3, lease_ttl=1.5)
    world = replace(world, largest_batch=4, oldest_batch=1.0, naming="start", spool_mode="off", owned_before=True)
    return replace(world, noise=0.0, kills=0, events=0, forgeries=0, deletions=0, slow_clock=0.0)


def with_repetitions(seed: int) -> World:
    return replace(quiet(seed), interval=0.1, duplicates=0.9, ends=0.2, events=4)


def with_forgeries(seed: int) -> World:
    return replace(quiet(seed), conversations=2, forgeries=8)


def with_deaths(seed: int) -> World:
    """Workers die while they store, but too few for audio that kills them."""
    return replace(quiet(seed), conversations=2, chunks=30, interval=0.1, kills=QUARANTINE_AFTER - 1)


def with_names_by_range(seed: int) -> World:
    """What is cut otherwise gets another name, so that no upload meets the former one."""
    world = replace(quiet(seed), chunks=40, interval=0.1, largest_batch=16, oldest_batch=4.0)
    return replace(world, naming="range", shutdown="flush", failovers=True, events=6)


def with_long_talks(seed: int) -> World:
    return replace(quiet(seed), workers=1, chunks=80, interval=0.1, duplicates=0.0, failovers=True, events=3)


def with_waiting_audio(seed: int) -> World:
    return replace(with_long_talks(seed), chunks=40, largest_batch=16, oldest_batch=4.0)


def with_silence_after_a_failover(seed: int) -> World:
    """Nothing comes afterwards that could not be stored, so that the worker would notice what was forgotten."""
    world = replace(quiet(seed), redis_nodes=2, workers=1, reshapings=1, failovers=True, lease_ttl=15.0)
    return replace(world, chunks=6, interval=0.1, duplicates=0.0, ends=0.0)


def with_one_batch(seed: int) -> World:
    return replace(with_silence_after_a_failover(seed), chunks=4, interval=0.02)


def owners_sleep_in_the_store(run: Run, _: pytest.MonkeyPatch) -> None:
    run.store_edge.rates = Rates(pause=0.4, longest_pause=4.0)


def owners_sleep_before_they_seal(run: Run, patch: pytest.MonkeyPatch) -> None:
    seal = Entries.seal

    async def sealed(entries: Entries, lease: Lease, seals: Sequence[Seal]) -> list[Refused | None]:
        node = nodes.current.get()
        if node is not None and run.random.random() < 0.4:
            node.pause(4.0 * run.random.random())
        return await seal(entries, lease, seals)

    patch.setattr(Entries, "seal", sealed)


def owners_hear_nothing_of_their_marks(run: Run, patch: pytest.MonkeyPatch) -> None:
    """Workers die in the store; those who come after them mark what they suspect, and often get no reply."""
    mark = Entries.mark_suspect

    async def marked(entries: Entries, lease: Lease, conversation: Conversation) -> int:
        owners = await mark(entries, lease, conversation)
        if run.random.random() < 0.6:
            raise StreamError("reply lost")
        return owners

    run.store_edge.rates = Rates(kill=0.3, refused=0.2)
    patch.setattr(Entries, "mark_suspect", marked)


def workers_are_replaced(run: Run, _: pytest.MonkeyPatch) -> None:
    run.troubles = lambda: [run.roll]


def what_closed_early_is_forgotten(run: Run, _: pytest.MonkeyPatch) -> None:
    run.troubles = lambda: [run.roll_and_fail_over]


def what_is_stored_is_forgotten(run: Run, _: pytest.MonkeyPatch) -> None:
    run.cluster_troubles.kinds = [run.cluster_troubles.forget_stored]


def ids_are_forgotten_twice(run: Run, _: pytest.MonkeyPatch) -> None:
    """While an owner sleeps, another one comes and goes, and Redis forgets the ids of both, and what is stored."""
    server = run.redis.all[0]

    def forgetful_replica() -> Database:
        replica = server.snapshot()
        replica.stream(run.keys.stream(0)).groups.clear()
        replica.drop(run.keys.epoch(0))
        return replica

    async def forget_twice() -> None:
        next(node for node in run.nodes if node.alive).pause(3.2)
        run.start_worker()
        run.promote(server, forgetful_replica())
        await asyncio.sleep(1.6)
        replica = forgetful_replica()
        await asyncio.sleep(1.5)
        run.promote(server, replica)
        run.nodes[-1].crash()
        await asyncio.sleep(1.5)

    run.troubles = lambda: [forget_twice]


def keep_the_age_of_an_id(data: Database, keys: list[str], args: list[bytes]) -> Reply:
    reply = redis_scripts.identify(data, keys, args)
    assert isinstance(reply, list)
    if reply[0] == args[3]:
        data.hash(keys[2])["born"] = reply[4] = b"0-0"
    return reply


def deletions_are_forgotten(run: Run, _: pytest.MonkeyPatch) -> None:
    server = run.redis.all[0]

    async def delete_and_forget() -> None:
        replica = server.snapshot()
        await run.deletions.delete(run.conversation(0))
        run.promote(server, replica)

    run.troubles = lambda: [delete_and_forget]


def a_partition_leaves_and_comes_back(run: Run, _: pytest.MonkeyPatch) -> None:
    """While it is away a batch is done, and the server that was told so forgets it."""
    stream, ready = run.keys.stream(0), run.keys.ready(0)

    async def until(holds: Callable[[], bool]) -> bool:
        for _ in range(1000):
            if holds():
                return True
            await asyncio.sleep(0.01)
        return False

    async def leave_and_come_back() -> None:
        home = run.redis.owner(stream)
        (other,) = run.redis.others(home)
        whole = run.world.chunks
        if not await until(lambda: len(home.data.stream(stream).entries) == whole and bool(home.data.hash(ready))):
            return
        run.redis.move(stream, other, spread=0.0)
        replica = other.snapshot()
        await until(lambda: not other.data.hash(ready))
        run.promote(other, replica)
        run.redis.move(stream, home, spread=0.0)

    run.store_edge.rates = Rates(slow=1.0, longest_slow=0.1)
    run.cluster_troubles.kinds = [leave_and_come_back]


def seal_blindly(data: Database, keys: list[str], args: list[bytes]) -> Reply:
    data.hash(keys[2])[args[3].decode()] = args[4]
    return [b"sealed"]


def forget_identities(data: Database, keys: list[str], args: list[bytes]) -> Reply:
    outcome = redis_scripts.done(data, keys, args)
    data.delete(keys[3])
    return outcome


def count_each_try(data: Database, keys: list[str], args: list[bytes]) -> Reply:
    if args[2] != b"0":
        data.hash(keys[1]).pop(f"{args[1].decode()}\n", None)
    return redis_scripts.suspect(data, keys, args)


def overwrite(run: Run, _: pytest.MonkeyPatch) -> None:
    run.bucket.create_only = False


def take_every_object_for_the_batch(_: Run, patch: pytest.MonkeyPatch) -> None:
    def judge(claim: Claim, *_: object) -> Judgement:
        return Judgement(Verdict.SAME, claim.seal.entries, claim.manifest)

    patch.setattr(sink, "judge", judge)


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


def recognise_by_range(_: Run, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sink, "judge", judge_by_range)


def believe_metadata(_: Run, patch: pytest.MonkeyPatch) -> None:
    def verified(mapping: Mapping[str, str], *_: object, **__: object) -> object:
        return claimed(mapping)

    patch.setattr(conflict, "verified", verified)


def keep_what_is_known_of_a_partition_that_moves(_: Run, patch: pytest.MonkeyPatch) -> None:
    adopt = Consumer._adopted

    def adopted_as_it_was(consumer: Consumer, lease: Lease) -> Partition:
        return consumer._moving.pop(lease.partition, None) or adopt(consumer, lease)

    patch.setattr(Consumer, "_adopted", adopted_as_it_was)


def trust_a_partition_that_came_back(_: Run, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Consumer, "_has_moved", nothing)


def never_look_for_deletions(_: Run, patch: pytest.MonkeyPatch) -> None:
    async def restore_nothing(*_: object) -> list[Tombstone]:
        return []

    patch.setattr(Recovery, "restore_deletions", restore_nothing)


def never_look_for_what_was_forgotten(_: Run, patch: pytest.MonkeyPatch) -> None:
    async def find_nothing(*_: object) -> list[BlobInfo]:
        return []

    patch.setattr(Recoveries, "ask", nothing)
    patch.setattr(Attempt, "_candidates", find_nothing)


MISTAKES = {
    "an id that comes back is as old as before": Mistake(
        with_long_talks, ids_are_forgotten_twice, scripts={"identify": keep_the_age_of_an_id}
    ),
    "done without looking at the seal": Mistake(
        quiet, owners_sleep_in_the_store, scripts={"done": redis_scripts.finish}
    ),
    "seal without looking at lease, entries and other seals": Mistake(
        quiet, owners_sleep_before_they_seal, scripts={"seal": seal_blindly}
    ),
    "done without a memory for duplicates": Mistake(
        with_repetitions, workers_are_replaced, scripts={"done": forget_identities}
    ),
    "each try of a suspect counts as a death": Mistake(
        with_deaths, owners_hear_nothing_of_their_marks, scripts={"suspect": count_each_try}
    ),
    "store without a precondition": Mistake(quiet, owners_sleep_in_the_store, overwrite),
    "every 412 is success": Mistake(with_forgeries, make=take_every_object_for_the_batch),
    "audio is recognised by a range of ids": Mistake(with_forgeries, make=recognise_by_range),
    "forged metadata is believed": Mistake(with_forgeries, make=believe_metadata),
    "a partition that moves is not read again": Mistake(
        with_silence_after_a_failover, what_is_stored_is_forgotten, keep_what_is_known_of_a_partition_that_moves
    ),
    "a partition that comes back at once is not read again": Mistake(
        with_one_batch, a_partition_leaves_and_comes_back, trust_a_partition_that_came_back
    ),
    "a deletion that a failover forgot is not looked for": Mistake(
        with_waiting_audio, deletions_are_forgotten, never_look_for_deletions
    ),
    "what a failover forgot is not looked for": Mistake(
        with_names_by_range, what_closed_early_is_forgotten, never_look_for_what_was_forgotten
    ),
}


def findings_of(mistake: Mistake, seed: int, *, is_made: bool) -> list[str]:
    """What is wrong with a world of a mistake, when it is made or not."""
    scope: AbstractContextManager[pytest.MonkeyPatch] = pytest.MonkeyPatch.context()
    with scope as patch:

        def prepare(run: Run) -> None:
            mistake.arrange(run, patch)
            if is_made:
                mistake.make(run, patch)

        scripts = {**SCRIPTS, **mistake.scripts} if is_made else SCRIPTS
        return play(mistake.world(seed), scripts=scripts, prepare=prepare)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_caught_and_nothing_else(name: str) -> None:
    mistake = MISTAKES[name]
    caught = next((seed for seed in range(SEEDS) if findings_of(mistake, seed, is_made=True)), None)
    assert caught is not None
    assert findings_of(mistake, caught, is_made=False) == []
