"""Pushers begin again with equal audio and miss their streams, the store answers nonsense, workers die: all at once.

What is pushed into streams that no worker reads must show in `status` and `streams ls`, to the entry. `streams move`
brings it home while everybody goes on, and is itself killed now and then. In the end every chunk is stored once.

The order that is demanded, also of audio that came late:

- Chunks of one stream become entries of their partition, and thereby of blobs, in the order of their pushes.
- Each chunk is in a blob at its timestamp, to within GAP_TOLERANCE: late audio is stored at its own time.
- If nothing of a conversation comes late, the names of its blobs tell the order of each process' audio.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random

from codec.blob import decode
from codec.entry import Chunk
from codec.manifest import verified
from codec.names import parse_name
from tests.support.secret import TEST_SECRET
from tests.tools.chaos.account import Blob
from tests.tools.chaos.careless import Careless, Conversation, Pushed
from tests.tools.chaos.conservation import World, world
from tests.tools.chaos.rescue import Rescue
from tests.tools.chaos.talks import RATE, SAMPLES, UID
from tests.tools.chaos.trouble import NONSENSE, Plan, Trouble, lie
from worker.model.ids import entry_order

MOST_SLIP = 0.08
"""Seconds by which a blob's name may be after its first chunk: a millisecond for each name that was taken."""


async def mistakes(plan: Plan, directory: Path) -> tuple[list[str], list[str]]:
    """One run; what is wrong, best nothing, and its figures."""
    async with world(plan, directory) as there:
        random = Random(plan.seed)
        pushers = Careless(there, random)
        rescue = Rescue(there, pushers, random)
        trouble = Trouble(plan, there.fleet, there.client, there.bucket)
        for _ in range(3):
            await there.fleet.start(trouble.revision)
        await pushers.talk_through(partial(_everything, there, trouble, rescue, random))
        await rescue.bring_home()
        try:
            await there.quiet()
        except TimeoutError:
            there.fleet.wrong.append("after the last fault it never becomes quiet")
        await asyncio.gather(*(there.fleet.stop(member) for member in there.fleet.running))
        audio = await audio_findings(there, pushers.all)
        return [*audio, *rescue.wrong, *await there.account()], await _figures(there, pushers, rescue)


async def _everything(there: World, trouble: Trouble, rescue: Rescue, random: Random) -> None:
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_beside(there, rescue, random, over))
        await trouble.run()
        over.set()
    await there.bucket.clear_faults()


async def _beside(there: World, rescue: Rescue, random: Random, over: asyncio.Event) -> None:
    """Let the store answer nonsense, look at wrong streams and move them."""

    async def nonsense() -> None:
        await lie(there.bucket, random)

    steps = [*8 * [nonsense], rescue.look, rescue.move, rescue.move_a_little]
    while not over.is_set():
        await asyncio.sleep(there.plan.pace * random.random())
        await random.choice(steps)()


async def audio_findings(there: World, talks: Sequence[Conversation]) -> list[str]:
    """What is wrong with what is stored, one sentence each."""
    objects = await there.bucket.objects()
    blobs = [Blob(name, await there.bucket.data(name), found.get("metadata", {})) for name, found in objects.items()]
    return [sentence for talk in talks for sentence in _audio(there, talk, blobs)]


def _audio(there: World, talk: Conversation, blobs: Sequence[Blob]) -> Iterator[str]:
    folder = f"chunks/{UID}/{talk.conversation_id}/"
    by_start = sorted((blob for blob in blobs if blob.name.startswith(folder)), key=_start)
    try:
        found = {blob.name: _held(talk, blob) for blob in by_start}
    except ValueError as error:
        yield f"{talk.conversation_id}: {error}"
        return
    for blob in by_start:
        yield from _placement(blob, [pushed.chunk for pushed in found[blob.name]], there.settings().gap_tolerance)
    counts = Counter(pushed.chunk.identity() for held in found.values() for pushed in held)
    for identity, pushed in talk.pushed.items():
        if counts[identity] != 1:
            yield f"{talk.conversation_id}: {_shown(pushed)} is stored {counts[identity]} times"
    yield from _order(talk, by_start, found)


def _start(blob: Blob) -> float:
    return parse_name(blob.name).start


def _held(talk: Conversation, blob: Blob) -> list[Pushed]:
    """The chunks in a blob, by its manifest."""
    manifest = verified(blob.metadata, UID, talk.conversation_id, all_secrets=[TEST_SECRET])
    if manifest is None or manifest.size != len(blob.data):
        raise ValueError(f"{blob.name} has no manifest that is true: {blob.metadata}")
    if unknown := [identity.hex() for identity in manifest.listed() if identity not in talk.pushed]:
        raise ValueError(f"{blob.name} holds {unknown}, which nobody has pushed")
    return [talk.pushed[identity] for identity in manifest.listed()]


def _placement(blob: Blob, chunks: Sequence[Chunk], tolerance: float) -> Iterator[str]:
    """Whether a blob is its chunks, byte for byte, each at its time, with silence where the time leaves a gap."""
    expected = bytearray()
    if not 0 <= _start(blob) - chunks[0].timestamp + 0.001 <= MOST_SLIP:
        yield f"{blob.name} begins with audio of {chunks[0].timestamp}"
    for chunk in chunks:
        drift = chunk.timestamp - (chunks[0].timestamp + len(expected) / 2 / RATE)
        if drift < -tolerance:
            yield f"{blob.name} holds audio of {chunk.timestamp} too late by {-drift} s"
        if drift > tolerance:
            expected += bytes(2 * round(drift * RATE))
        expected += chunk.pcm
    pcm = decode(blob.data, blob.name, blob.metadata, secrets=[TEST_SECRET]).pcm
    is_right = pcm == expected if blob.metadata["codec"] == "pcm" else len(pcm) == len(expected)
    if not is_right:
        yield f"{blob.name} holds {len(pcm)} bytes that are not the {len(expected)} of its {len(chunks)} chunks"


def _order(talk: Conversation, by_start: Sequence[Blob], found: Mapping[str, Sequence[Pushed]]) -> Iterator[str]:
    """Whether chunks are in the order of their pushes: all of one stream by entries, all of one process by names.

    A chunk that was pushed to several streams may have come by any of them.
    """
    by_entry = sorted(by_start, key=lambda blob: entry_order(blob.metadata["first-entry"]))
    entries, names = defaultdict[object, list[Pushed]](list), defaultdict[object, list[Pushed]](list)
    for pushed in (pushed for blob in by_entry for pushed in found[blob.name] if len(pushed.keys) == 1):
        entries[min(pushed.keys)].append(pushed)
    for pushed in (pushed for blob in by_start for pushed in found[blob.name] if talk.is_careful):
        names[pushed.chunk.session].append(pushed)
    places = {identity: place for place, identity in enumerate(talk.pushed)}
    for sequence in (*entries.values(), *names.values()):
        for before, after in pairwise(sequence):
            if places[before.chunk.identity()] > places[after.chunk.identity()]:
                yield f"{talk.conversation_id}: {_shown(after)} comes after {_shown(before)}"


def _shown(pushed: Pushed) -> str:
    chunk = pushed.chunk
    return f"chunk {chunk.seq} of {chunk.session!r} at {chunk.timestamp:.1f}, {len(chunk.pcm)} bytes, of {pushed.keys}"


async def _figures(there: World, pushers: Careless, rescue: Rescue) -> list[str]:
    talks, objects = pushers.all, await there.bucket.objects()
    chunks = [pushed.chunk for talk in talks for pushed in talk.pushed.values()]
    equal = Counter((chunk.conversation_id, chunk.seq, chunk.timestamp, chunk.pcm) for chunk in chunks)
    silent = sum(chunk.pcm == bytes(2 * SAMPLES) for chunk in chunks)
    told = {str(event["stream"]) for event in there.fleet.said("streams.stray")}
    hits = await there.bucket.fault_hits()
    return [
        f"{len(chunks)} chunks in {len(talks)} conversations with {sum(talk.lives for talk in talks)} lives",
        f"{silent} of them silence, {sum(count for count in equal.values() if count > 1)} told apart by session alone",
        f"{dict(pushers.counts)}, {len(pushers.wrong_keys)} wrong streams, workers named {len(told)} of them",
        f"{dict(rescue.counts)}",
        f"workers: {dict(there.fleet.counts)}, {len(objects)} objects",
        f"{sum(hits.get(action, 0) for action in NONSENSE)} answers were nonsense; faults met: {hits}",
        f"names found taken: {dict(there.fleet.names_taken())}",
    ]
