"""Somebody who may write to the bucket and knows all but the secret puts objects under names that are coming."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import google_crc32c

from codec.entry import Chunk, parse
from codec.manifest import Manifest, claimed, without_manifest
from codec.names import Kind, object_name
from tests.tools.simulation.redis_cluster import Everywhere
from tests.tools.simulation.redis_model import text_id
from tests.tools.simulation.store_model import Bucket
from worker.model.ids import Conversation, EntryId
from worker.stream.keys import GROUP

KINDS = ("wide", "wide", "forged", "forged", "torn", "copied")
OTHER_SECRET = "a secret of somebody else, of thirty-two bytes"
SILENCE = bytes(160)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A chunk that waits in Redis."""

    entry: EntryId
    chunk: Chunk


class Forger:
    """Makes one object per call, of these kinds.

    `wide` has metadata whose range of entry ids holds everything; `forged` a manifest, authenticated with another
    secret, that lists the chunks that wait; `torn` a true object's metadata over other bytes; `copied` is a true object
    of another conversation.
    """

    def __init__(self, bucket: Bucket, naming: str, random: Random) -> None:
        self._bucket = bucket
        self._naming = naming
        self._random = random

    def forge(self, data: Everywhere, key: str, conversation: Conversation) -> None:
        """Put an object where a batch of what waits in a stream may be about to go."""
        waiting = _waiting(data, key, conversation)
        if not waiting:
            return
        place = self._random.choice((0, 0, self._random.randrange(len(waiting))))
        name = self._name(waiting[place:])
        kind = self._random.choice(KINDS)
        if kind == "wide":
            self._put(name, SILENCE, _facts("0-1", "9999999999999-0", len(waiting)))
        elif kind == "forged":
            self._put(name, SILENCE, _with_manifest(waiting[place:], _stream_id(data, key)))
        else:
            self._repeat(kind, name, conversation)

    def _repeat(self, kind: str, name: str, conversation: Conversation) -> None:
        of_its_own = kind == "torn"
        found = [
            known
            for known in self._bucket.objects.values()
            if known[1].name.startswith("chunks/") and (f"/{conversation}/" in known[1].name) == of_its_own
        ]
        if found:
            data, info = self._random.choice(found)
            self._put(name, SILENCE if of_its_own else data, dict(info.metadata))

    def _name(self, waiting: list[Waiting]) -> str:
        first = waiting[0].chunk
        last = waiting[min(len(waiting), 4) - 1].chunk
        return object_name(
            *(first.uid, first.conversation_id, first.timestamp),
            end=last.timestamp if len(waiting) > 1 else None,
            kind=Kind.BATCH if self._naming == "range" else Kind.PCM,
        )

    def _put(self, name: str, data: bytes, metadata: dict[str, str]) -> None:
        self._bucket.put_foreign(name, data, metadata)


def _waiting(data: Everywhere, key: str, conversation: Conversation) -> list[Waiting]:
    found = []
    for entry, fields in data.stream(key).entries.items():
        if fields.get(b"conversation_id") == conversation.conversation_id.encode() and b"pcm" in fields:
            chunk = parse(fields)
            assert isinstance(chunk, Chunk)
            found.append(Waiting(text_id(entry), chunk))
    return found


def _stream_id(data: Everywhere, key: str) -> str:
    group = data.stream(key).groups.get(GROUP)
    names = [] if group is None else [name for name in group.consumers if name.startswith("stream:")]
    return names[0].removeprefix("stream:") if names else "0" * 32


def _facts(first: EntryId, last: EntryId, chunks: int) -> dict[str, str]:
    samples = len(SILENCE) // 2
    told = {"codec": "pcm", "sample-rate": "8000", "samples": str(samples), "chunks": str(chunks)}
    return {**told, "start": "1000.000", "first-entry": first, "last-entry": last}


def _with_manifest(waiting: list[Waiting], stream: str) -> dict[str, str]:
    identities = b"".join(dict.fromkeys(known.chunk.identity() for known in waiting))
    manifest = Manifest.of(stream, identities, len(SILENCE), google_crc32c.value(SILENCE))
    first = waiting[0].chunk
    signed = manifest.to_mapping(first.uid, first.conversation_id, OTHER_SECRET)
    assert claimed(signed) is not None
    return without_manifest(_facts(waiting[0].entry, waiting[-1].entry, len(waiting))) | signed
