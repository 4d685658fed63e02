"""What Redis records of lost entries, so that each loss is counted once, by one of all workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.errors import StreamError
from worker.model.ids import Conversation, EntryId
from worker.stream.client import Client
from worker.stream.keys import GROUP, Keys
from worker.stream.leases import Lease
from worker.stream.scripting import Call, texts

LOST_TTL = 24 * 3600.0
"""Seconds for which lost entries are remembered after the last one, so that `status` tells of them the next morning."""

MAX_LOST = 10_000
"""Lost entries that a partition remembers: some 600 kB of Redis' memory."""

LETTERS_LOOKED_AT = 100
"""The newest dead letters, among which a chunk that was in hand just now may be."""


@dataclass(frozen=True, slots=True)
class LossQuestion:
    """What became of some chunks of one conversation, which a worker had in hand: entry → identity.

    `server` and `stream` are as in `Holding`. `token` tells this inquiry from all others: only the first one that finds
    an entry lost gets it in its answers.
    """

    token: str
    partition: int
    server: str
    stream: str
    conversation: Conversation
    chunks: Mapping[EntryId, bytes]


class LossRecords:
    """The lost entries of all partitions under one prefix. Every method raises `StreamError`."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def count_unread_losses(self, leases: Sequence[Lease]) -> list[int | StreamError]:
        """How many more entries have left each stream since the last call, before an owner had read them.

        What Redis refuses, and a lost lease, are values.
        """
        return await self._client.gather([self._account(lease) for lease in leases])

    async def lost(self, questions: Sequence[LossQuestion]) -> list[list[EntryId] | StreamError | None]:
        """Ask for the entries that are lost, in one round trip; the entries of an answer are this worker's to count.

        Each entry is in the answers to one token only, and in all of them if the question is asked again. An answer is
        None if the server and the stream are still the same.
        """
        replies = await self._client.gather([self._lost(question) for question in questions])
        return [
            reply if isinstance(reply, StreamError) else None if reply == [b"same"] else texts(reply)[1:]
            for reply in replies
        ]

    async def record_lost(self, partition: int, entries: Sequence[EntryId]) -> None:
        """Record entries that are counted as lost, so that no inquiry counts them, too."""
        args: list[str | int] = ["counted", int(LOST_TTL * 1000), MAX_LOST, *entries]
        await self._client.run(Call("record_lost", [self._keys.lost(partition)], args))

    def _account(self, lease: Lease) -> Call:
        number, keys = lease.partition, self._keys
        return Call(
            "account",
            [*keys.fenced(number), keys.epoch(number), keys.lost(number)],
            [lease.token, int(LOST_TTL * 1000)],
        )

    def _lost(self, question: LossQuestion) -> Call:
        number, keys = question.partition, self._keys
        parts = [keys.stream(number), keys.seen(number, str(question.conversation))]
        args: list[str | bytes | int] = [GROUP, question.server, question.stream, question.token, int(LOST_TTL * 1000)]
        args += [MAX_LOST, LETTERS_LOOKED_AT, *question.conversation.tombstones]
        for entry, identity in question.chunks.items():
            args += [entry, identity]
        return Call("lost", [*parts, keys.deleted(number), keys.dead(number), keys.lost(number)], args)
