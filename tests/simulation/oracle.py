"""What must be true when all is quiet: every chunk that Redis kept is stored exactly once, in order, and told once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from codec.metadata import BlobMetadata
from codec.names import parse_name
from tests.simulation.audio import numbers_in
from tests.simulation.pushers import SAMPLES
from tests.simulation.world import Run
from worker.batch import Conversation, entry_order
from worker.stores import BlobInfo
from worker.trials import QUARANTINE_AFTER


def findings(run: Run) -> list[str]:
    """What is wrong, one sentence each."""
    return [*run.failures, *_audio(run), *_events(run), *_refuse(run), *_overwritten(run)]


def _audio(run: Run) -> Iterator[str]:
    for conversation, numbers in run.pushed.entries.items():
        try:
            stored = _stored(run, conversation)
        except ValueError as error:
            yield f"{conversation}: {error}"
            continue
        yield from _account(conversation, stored, {n for n, ids in numbers.items() if ids}, run)


def _account(conversation: Conversation, stored: list[int], expected: set[int], run: Run) -> Iterator[str]:
    """Compare what is stored with what was pushed.

    Two things are beyond what can be promised when a failover forgets writes. A chunk may be forgotten, before or after
    it was stored, and the pusher may push it again. And an upload on its way may come to its end after Redis forgot its
    seal, its worker lost the lease, and the next owner cut the audio otherwise: then it is there twice.
    """
    exempt = run.pushed.forgotten[conversation]
    twice = _strays(run, conversation) if run.failed_over else set()
    buried = _buried(run, conversation)
    counts = Counter(number for number in stored if number not in exempt)
    if missing := sorted(expected - set(counts) - exempt - buried):
        yield f"{conversation}: chunks {missing} are not stored"
    if doubled := sorted(number for number, count in counts.items() if count > 1 and number not in twice):
        yield f"{conversation}: chunks {doubled} are stored twice"
    if invented := sorted(set(stored) - set(range(1, 1 + run.world.chunks))):
        yield f"{conversation}: {invented} were never pushed"
    kept = [number for number in stored if number not in exempt | twice]
    if kept != sorted(kept):
        yield f"{conversation}: the order is {kept}"


def _stored(run: Run, conversation: Conversation) -> list[int]:
    """Chunk numbers in the order of the objects' start times.

    A chunk that a failover made Redis forget may be pushed again after later ones; then the stream tells the order.
    """
    prefix = f"chunks/{conversation}/"
    objects = [run.bucket.objects[info.name] for info in run.bucket.list(prefix)]
    stored: list[int] = []
    for data, info in sorted(objects, key=_by_entry if run.pushed.forgotten[conversation] else _by_start):
        numbers = numbers_in(data, SAMPLES)
        metadata = BlobMetadata.from_mapping(info.metadata)
        if metadata.chunks != len(numbers) or metadata.samples != len(data) // 2:
            raise ValueError(f"{info.name} says {info.metadata} and holds {numbers}")
        stored += numbers
    return stored


def _strays(run: Run, conversation: Conversation) -> set[int]:
    objects = run.bucket.objects
    names = [name for name in run.bucket.stray & objects.keys() if name.startswith(f"chunks/{conversation}/")]
    return {number for name in names for number in numbers_in(objects[name][0], SAMPLES)}


def _buried(run: Run, conversation: Conversation) -> set[int]:
    """Chunks among the dead letters: allowed only as poison, which too many deaths in a row look like."""
    name, found = conversation.conversation_id.encode(), set[int]()
    for partition in range(run.world.partitions):
        for fields in run.redis.data.stream(run.keys.dead(partition)).entries.values():
            if fields.get(b"conversation_id") == name and _is_poison(fields[b"reason"]):
                found.update(numbers_in(fields[b"pcm"], SAMPLES))
    return found


def _is_poison(reason: bytes) -> bool:
    return reason.startswith((b"poison", b"failed"))


def _events(run: Run) -> Iterator[str]:
    told = Counter(
        event[b"object"].decode()
        for partition in range(run.world.partitions)
        for event in run.redis.data.stream(run.keys.done(partition)).entries.values()
    )
    if unknown := sorted(told.keys() - run.bucket.objects.keys()):
        yield f"events tell of {unknown}, which do not exist"
    for name in run.bucket.objects:
        if told[name] > 1 and not run.failed_over:
            yield f"{told[name]} events tell of {name}"
        if told[name] == 0 and not run.failed_over:
            yield f"no event tells of {name}"


def _refuse(run: Run) -> Iterator[str]:
    reasons = Counter(
        fields[b"reason"]
        for partition in range(run.world.partitions)
        for fields in run.redis.data.stream(run.keys.dead(partition)).entries.values()
    )
    poison = sum(count for reason, count in reasons.items() if _is_poison(reason))
    if poison and run.interruptions < QUARANTINE_AFTER:
        yield f"dead letters hold {dict(reasons)}, which nobody died of"
    invalid = reasons.total() - poison
    if invalid != run.pushed.bad and not run.failed_over:
        yield f"{invalid} of {run.pushed.bad} bad entries are among the dead letters"
    if not run.failed_over and (lost := run.metrics.lost._value.get()):
        yield f"{lost:.0f} entries were reported lost"


def _overwritten(run: Run) -> Iterator[str]:
    for name in run.bucket.overwritten:
        yield f"{name} was overwritten"


def _by_start(found: tuple[bytes, BlobInfo]) -> float:
    return parse_name(found[1].name).start


def _by_entry(found: tuple[bytes, BlobInfo]) -> tuple[int, int]:
    return entry_order(found[1].metadata["first-entry"])
