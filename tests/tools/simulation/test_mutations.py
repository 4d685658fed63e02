"""The simulation finds what it is there to find: each mistake, made on purpose, is caught within a few seeds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
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
from worker.delivery import conflict, sink
from worker.delivery.conflict import Claim, Judgement
from worker.delivery.recovery import Recoveries
from worker.delivery.sink import Attempt
from worker.model.causes import Verdict
from worker.model.ids import EntryId, entry_order
from worker.stores.base import BlobInfo

SEEDS = 150
FORGETFUL_SEED = 62 if sys.version_info < (3, 12) else 300
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


def _busy(world: World) -> World:
    busy = replace(world, workers=3, noise=1.0, kills=0, events=5, chunks=30, owned_before=True)
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
    assert play(World.of(1796014150)) == []


def test_recognising_audio_by_a_range_of_ids_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "judge", judge_by_range)
    assert is_caught(with_forgeries)


def test_believing_forged_metadata_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conflict, "verified", claimed_by_anyone)
    assert is_caught(with_forgeries)


def test_never_looking_for_what_a_failover_forgot_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recoveries, "ask", do_nothing)
    monkeypatch.setattr(Attempt, "_candidates", find_nothing)
    assert is_caught(with_many_failovers, prepare=forgetful, first=FORGETFUL_SEED)
