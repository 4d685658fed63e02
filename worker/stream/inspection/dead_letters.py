"""The dead letters: entries that could not be processed, for a person to look at, push again or drop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio.client import Pipeline

from worker.model.causes import ReplayOutcome
from worker.model.ids import EntryId, entry_ms, entry_order
from worker.stream.client import Client
from worker.stream.inspection.conversation_view import PAGE, ChunkFacts
from worker.stream.keys import Keys
from worker.stream.scripting import Call, script
from worker.stream.servers.failures import stream_error


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter without its audio.

    `id` is its own id, `entry` the id under which it was pushed, `reason` why it could not be processed. `bytes` are
    those of the entry's field names and values. `uid`, `conversation_id` and `chunk` are the entry's own claims:
    untrusted, and None where the entry says nothing.
    """

    partition: int
    id: EntryId
    reason: str
    entry: EntryId
    bytes: int
    fields: int
    uid: str | None
    conversation_id: str | None
    chunk: ChunkFacts

    @property
    def moved_ms(self) -> int:
        """Redis' time in ms at which it became a dead letter."""
        return entry_ms(self.id)

    @property
    def name(self) -> str:
        """A name that is unique under the prefix."""
        return f"{self.partition}/{self.id}"


class DeadLetters:
    """Dead letters of all partitions under one prefix. Every method raises `StreamError`; all may be repeated."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def away(self, partition: int) -> str:
        """The name of the node of a cluster that has a partition, if it did not answer the last time; else empty."""
        node = self._client.node_of(self._keys.dead(partition))
        return node.name if node.failing_since is not None and len(self._client.nodes) > 1 else ""

    async def list(
        self, partition: int, up_to: EntryId | None = None, *, start: EntryId = "-"
    ) -> AsyncIterator[DeadLetter]:
        """All letters of a partition, or those from and up to an id, the oldest first; their audio stays in Redis.

        One page of them is held at a time.
        """
        dead = [self._keys.dead(partition)]
        async for (letters,) in self._client.pages(lambda first: Call("letters", dead, [first, PAGE]), start):
            for facts in letters:
                letter = _letter(partition, facts)
                if up_to is not None and entry_order(letter.id) > entry_order(up_to):
                    return
                yield letter

    async def newest(self, partition: int) -> EntryId | None:
        """The id of the newest letter of a partition; None without any."""
        found: bytes = await self._client.run(Call("newest", [self._keys.dead(partition)], []))
        return found.decode() or None

    async def contents(self, letter: DeadLetter) -> Sequence[tuple[bytes, bytes]] | None:
        """All fields of the entry, in their order, as they were pushed; None if the letter is not there any more."""
        parts = await self._client.run(Call("contents", [self._keys.dead(letter.partition)], [letter.id]))
        return None if parts is None else tuple(zip(parts[::2], parts[1::2], strict=True))

    async def replay(self, letter: DeadLetter) -> ReplayOutcome:
        """Push the original entry again, as it was, and remove the letter, in one step.

        A full Redis refuses, as it refuses every push. After a lost reply, calling again pushes nothing twice.
        """
        outcome = (await self._client.run(self._replay(letter)))[0]
        if outcome == b"wide":
            outcome = await self._replay_wide(letter)
        return ReplayOutcome(outcome.decode())

    async def drop(self, letters: Sequence[DeadLetter]) -> int:
        """Remove letters for good; returns how many were there."""

        def queue(pipe: Pipeline) -> None:
            for letter in letters:
                pipe.xdel(self._keys.dead(letter.partition), letter.id)

        dropped = 0
        for reply in await self._client.pipeline(queue):
            if isinstance(reply, Exception):
                raise stream_error(reply) from reply
            dropped += reply
        return dropped

    async def _replay_wide(self, letter: DeadLetter) -> bytes:
        """A script can't pass thousands of fields to XADD, a transaction can; it restarts if the letter changes."""
        call = self._replay(letter)
        outcomes: list[bytes] = []

        async def push(pipe: Pipeline) -> None:
            outcome, *rest = await pipe.eval(script(call.script), len(call.keys), *call.keys, *call.args)
            pipe.multi()  # type: ignore[no-untyped-call]
            if rest:
                pipe.execute_command("XADD", self._keys.stream(letter.partition), "*", *rest[0])
                pipe.xdel(self._keys.dead(letter.partition), letter.id)
            outcomes.append(b"replayed" if rest else outcome)

        dead = self._keys.dead(letter.partition)
        await self._client.node_of(dead).transaction(push, dead)
        return outcomes[-1]

    def _replay(self, letter: DeadLetter) -> Call:
        partition = letter.partition
        keys = [self._keys.dead(partition), self._keys.stream(partition), self._keys.deleted(partition)]
        return Call("replay", keys, [letter.id])


def _letter(partition: int, description: Sequence[Any]) -> DeadLetter:
    letter, reason, entry, size, fields, uid, conversation, *chunk = description
    return DeadLetter(
        partition,
        id=letter.decode(),
        reason=_text(reason) or "",
        entry=_text(entry) or "",
        bytes=size,
        fields=fields,
        uid=_text(uid),
        conversation_id=_text(conversation),
        chunk=ChunkFacts.of(*chunk),
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")
