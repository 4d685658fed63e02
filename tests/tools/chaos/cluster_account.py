"""The account of a run on a Redis Cluster: acknowledged chunks are stored once, in order, but for what Redis lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from codec.names import parse_name
from tests.support.command import command
from tests.support.gcs.control import GcsClient
from tests.tools.chaos.account import Blob, numbers_of
from tests.tools.chaos.plain_client import PlainClient
from tests.tools.chaos.talks import Talk
from worker.settings import Settings
from worker.stream.keys import GROUP, Keys

COMPLETE, INCOMPLETE = 0, 1
"""Exit codes of `audit`."""


class ClusterAccount:
    """What Redis and the store hold in the end. `lost` are chunks that Redis had acknowledged and lost."""

    def __init__(
        self, client: PlainClient, keys: Keys, partitions: int, talks: Sequence[Talk], lost: Mapping[str, set[int]]
    ) -> None:
        self._client = client
        self._keys = keys
        self._partitions = partitions
        self._talks = talks
        self._lost = lost
        self.counts: Counter[str] = Counter()

    async def left(self) -> int:
        """See `account.left`. Raises `NoAnswer`."""
        return sum([await self._left(partition) for partition in range(self._partitions)])

    async def findings(self, bucket: GcsClient, settings: Settings) -> list[str]:
        """What is wrong, one sentence each. Raises `NoAnswer`."""
        objects = await bucket.objects()
        blobs = [Blob(name, await bucket.data(name), found.get("metadata", {})) for name, found in objects.items()]
        wrong = [sentence for talk in self._talks for sentence in self._audio(talk, blobs)]
        wrong += self._events(Counter(await self._values(self._keys.done, b"object")), blobs)
        if reasons := Counter(await self._values(self._keys.dead, b"reason")):
            wrong.append(f"dead letters: {dict(reasons)}")
        if remains := await self.left():
            wrong.append(f"{remains} entries, pending entries and seals are left in Redis")
        return wrong + [sentence for talk in self._talks for sentence in await self._audit(talk, settings)]

    async def _left(self, partition: int) -> int:
        stream, seals = self._keys.stream(partition), self._keys.ready(partition)
        replies = (await self._client.send(stream, ["XLEN", stream], ["HLEN", seals], ["XPENDING", stream, GROUP]))[1]
        pending = replies[2][0] if isinstance(replies[2], list) else 0  # there may be no group yet
        return max(int(replies[0]), int(pending)) + int(replies[1])

    async def _values(self, key: Callable[[int], str], field: bytes) -> list[str]:
        found = []
        for partition in range(self._partitions):
            stream = key(partition)
            _, (entries,) = await self._client.send(stream, ["XRANGE", stream, "-", "+"])
            found += [dict(zip(fields[::2], fields[1::2], strict=True))[field].decode() for _, fields in entries]
        return found

    def _audio(self, talk: Talk, blobs: Sequence[Blob]) -> Iterator[str]:
        try:
            stored = [number for blob in _blobs_of(talk, blobs) for number in numbers_of(blob)]
        except ValueError as error:
            yield f"{talk.conversation_id}: {error}"
            return
        lost = self._lost.get(talk.conversation_id, set())
        missing = {*range(1, talk.pushed + 1)} - {*stored}
        doubled = sorted(number for number, count in Counter(stored).items() if count > 1)
        certain = [number for number in stored if number not in lost]
        self.counts["missing"] += len(missing)
        self.counts["missing that Redis had not lost"] += len(missing - lost)
        self.counts["doubled"] += len(doubled)
        self.counts["conversations with a loss"] += bool(missing)
        if missing - lost:
            yield f"{talk.conversation_id}: of {talk.pushed} chunks {sorted(missing - lost)} are missing"
        if doubled:
            places = {number: [blob.name for blob in blobs_with(talk, blobs, number)] for number in doubled}
            yield f"{talk.conversation_id}: doubled are {places}"
        if extra := {*stored} - {*range(1, talk.pushed + 1)}:
            yield f"{talk.conversation_id}: {sorted(extra)} were never acknowledged, of {talk.pushed}"
        if certain != sorted(certain):
            self.counts["conversations out of order"] += 1
            yield f"{talk.conversation_id}: the order is wrong: {stored}"

    def _events(self, told: Counter[str], blobs: Sequence[Blob]) -> Iterator[str]:
        """After a failover an event may come again; an event may only be gone together with entries that are."""
        self.counts["events"] = sum(told.values())
        self.counts["events that came again"] = sum(count - 1 for count in told.values())
        for blob in blobs:
            if not told[blob.name]:
                conversation = blob.name.split("/")[2]
                if {*numbers_of(blob)} & self._lost.get(conversation, set()):
                    self.counts["events lost with their entries"] += 1
                else:
                    yield f"no event tells of {blob.name}"
        for name in sorted(told.keys() - {blob.name for blob in blobs}):
            yield f"an event tells of {name}, which is not there"

    async def _audit(self, talk: Talk, settings: Settings) -> list[str]:
        words = ("audit", "--uid", talk.uid, "--conversation", talk.conversation_id)
        result = await asyncio.to_thread(command, settings, *words)
        self.counts[f"audits with exit code {result.exit_code}"] += 1
        if result.exit_code == COMPLETE or (result.exit_code == INCOMPLETE and self._lost.get(talk.conversation_id)):
            return []
        return [f"{talk.conversation_id}: audit ended with {result.exit_code}: {result.output}"]


def blobs_with(talk: Talk, blobs: Sequence[Blob], number: int) -> list[Blob]:
    """The blobs that hold a chunk."""
    return [blob for blob in _blobs_of(talk, blobs) if number in numbers_of(blob)]


def _blobs_of(talk: Talk, blobs: Sequence[Blob]) -> list[Blob]:
    folder = f"chunks/{talk.uid}/{talk.conversation_id}/"
    own = [blob for blob in blobs if blob.name.startswith(folder)]
    return sorted(own, key=lambda blob: parse_name(blob.name).start)
