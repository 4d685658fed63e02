"""What must be true when all is quiet: every chunk that Redis kept is stored exactly once, in order, and told once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from codec.metadata import BlobMetadata
from codec.names import parse_name
from tests.tools.simulation.audio import numbers_in
from tests.tools.simulation.pushers import SAMPLES
from tests.tools.simulation.world import Run
from worker.consuming.quarantine import QUARANTINE_AFTER
from worker.model.ids import Conversation, entry_order
from worker.stores.base import BlobInfo


def findings(run: Run) -> list[str]:
    """What is wrong, one sentence each."""
    return [*run.failures, *_audio(run), *_events(run), *_refuse(run), *_losses(run), *_overwritten(run)]


def lost_chunks(run: Run) -> int:
    """Entries with chunks that a worker had read, that Redis forgot, and whose audio is in no blob."""
    stored = {c: {number for numbers in _stored(run, c) for number in numbers} for c in run.pushed.lost}
    return sum(
        (run.stream_of(conversation), entry) in run.redis.read
        for conversation, numbers in run.pushed.lost.items()
        for number, entries in numbers.items()
        if number not in stored[conversation]
        for entry in entries
    )


def _losses(run: Run) -> Iterator[str]:
    """The count is at most what Redis forgot.

    Some losses are counted by nobody, because their workers died. Some audio counts although it is stored: it came
    again after a failover, and was forgotten again before the store was looked up.
    """
    counted = run.metrics.lost._value.get()
    forgotten = sum(
        (run.stream_of(conversation), entry) in run.redis.read
        for conversation, numbers in run.pushed.lost.items()
        for entries in numbers.values()
        for entry in entries
    )
    if counted > forgotten:
        yield f"{counted:.0f} entries were reported lost, and {forgotten} of those that were read are"


def _audio(run: Run) -> Iterator[str]:
    for conversation, numbers in run.pushed.entries.items():
        try:
            stored = _stored(run, conversation)
        except ValueError as error:
            yield f"{conversation}: {error}"
            continue
        yield from _account(conversation, stored, {n for n, ids in numbers.items() if ids}, run)


def _account(conversation: Conversation, blobs: list[list[int]], expected: set[int], run: Run) -> Iterator[str]:
    """Compare what is stored, blob by blob, with what was pushed.

    One thing is beyond what can be promised when a failover forgets writes: a chunk may be forgotten, before or after
    it was stored, and the pusher may push it again. A chunk that was pushed before and after a deletion is as
    uncertain.
    """
    exempt = run.pushed.forgotten[conversation] | run.deletions.uncertain(conversation)
    deleted = run.deletions.deleted(conversation)
    expected = expected - deleted
    dead_lettered = _dead_lettered(run, conversation)
    stored = [number for numbers in blobs for number in numbers]
    kept = [number for number in stored if number not in exempt]
    if back := sorted(deleted & set(stored)):
        yield f"{conversation}: chunks {back} are stored although they were deleted"
    if missing := sorted(expected - set(kept) - exempt - dead_lettered):
        yield f"{conversation}: chunks {missing} are not stored"
    if doubled := sorted(number for number, count in Counter(kept).items() if count > 1):
        yield f"{conversation}: chunks {doubled} are stored twice"
    if invented := sorted(set(stored) - set(range(1, 1 + run.world.chunks))):
        yield f"{conversation}: {invented} were never pushed"
    if kept != sorted(kept):
        yield f"{conversation}: the order is {kept}"
    for numbers in blobs:
        certain = [number for number in numbers if number not in exempt]
        inside = set(range(certain[0], certain[-1])) - set(certain) - exempt - dead_lettered if certain else set()
        if holes := sorted(inside & expected):
            yield f"{conversation}: a blob holds {numbers}, and not {holes} between"


def _stored(run: Run, conversation: Conversation) -> list[list[int]]:
    """Chunk numbers of each blob, in the order of the objects' start times.

    A chunk that a failover made Redis forget may be pushed again after later ones; then the stream tells the order.
    """
    prefix = f"chunks/{conversation}/"
    found = [info for info in run.bucket.list(prefix) if not run.bucket.is_foreign(info)]
    objects = [run.bucket.objects[info.name] for info in found]
    stored: list[list[int]] = []
    for data, info in sorted(objects, key=_by_entry if run.pushed.forgotten[conversation] else _by_start):
        numbers = numbers_in(data, SAMPLES)
        metadata = BlobMetadata.from_mapping(info.metadata)
        if metadata.chunks != len(numbers) or metadata.samples != len(data) // 2:
            raise ValueError(f"{info.name} says {info.metadata} and holds {numbers}")
        stored.append(numbers)
    return stored


def _dead_lettered(run: Run, conversation: Conversation) -> set[int]:
    """Chunks among the dead letters: allowed only as poison, which too many deaths in a row look like."""
    name, found = conversation.conversation_id.encode(), set[int]()
    for partition in range(run.world.partitions):
        for fields in run.redis.data.stream(run.keys.dead(partition)).entries.values():
            if fields.get(b"conversation_id") == name and _is_poison(fields[b"reason"]):
                found.update(numbers_in(fields.get(b"pcm", b""), SAMPLES))
    return found


def _is_poison(reason: bytes) -> bool:
    return reason.startswith((b"poison", b"failed"))


def _events(run: Run) -> Iterator[str]:
    events = [
        event
        for partition in range(run.world.partitions)
        for event in run.redis.data.stream(run.keys.done(partition)).entries.values()
    ]
    if (
        run.world.spool_mode == "off" and not run.deletions.made
    ):  # else a blob may find its name taken when its event is there already
        yield from _named(run, {event[b"object"].decode() for event in events})
    told = Counter(
        tuple(event.get(key, b"").decode() for key in (b"conversation_id", b"stream", b"chunks_digest"))
        for event in events
    )
    for name, metadata in _own(run).items():
        count = told[name.split("/")[-2], metadata["stream"], metadata["chunks-digest"]]
        if count != 1 and not run.failed_over and not run.deletions.made:
            yield f"{count} events tell of {name}"


def _named(run: Run, names: set[str]) -> Iterator[str]:
    if unknown := sorted(names - run.bucket.objects.keys()):
        yield f"events tell of {unknown}, which do not exist"
    for name in names & run.bucket.foreign.keys():
        if run.bucket.is_foreign(run.bucket.objects[name][1]):
            yield f"an event tells of {name}, which somebody else has made"


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


def _own(run: Run) -> dict[str, Mapping[str, str]]:
    """The blobs that workers have made, by name, with their metadata."""
    infos = [info for _, info in run.bucket.objects.values()]
    return {i.name: i.metadata for i in infos if i.name.startswith("chunks/") and not run.bucket.is_foreign(i)}


def _overwritten(run: Run) -> Iterator[str]:
    deleted = {deletion.conversation.conversation_id for deletion in run.deletions.made}
    for name in run.bucket.overwritten:
        yield f"{name} was overwritten"
    for name, generation in run.bucket.foreign.items():
        if name not in run.bucket.objects and name.split("/")[-2] not in deleted:
            yield f"{name}, which somebody else has made ({generation}), is gone"


def _by_start(found: tuple[bytes, BlobInfo]) -> float:
    return parse_name(found[1].name).start


def _by_entry(found: tuple[bytes, BlobInfo]) -> tuple[int, int]:
    return entry_order(found[1].metadata["first-entry"])
