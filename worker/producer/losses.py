"""Counts confirmed entries that Redis has lost: after a failover, before anything more goes to the new primary."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import NoPermissionError

from worker.errors import StreamError
from worker.model.causes import ONE_PARTITION, StreamCause
from worker.model.ids import START
from worker.producer.receipts import Receipts
from worker.stream.servers.reply_limit import at_most

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from worker.model.ids import EntryId
    from worker.stream.client import Client
    from worker.stream.keys import Keys
    from worker.stream.servers.node import Node

MAX_REPLY_BYTES = 64 * 1024 * 1024
"""Redis tells a stream's greatest id together with its first and its last entry, which others have pushed."""

NO_STREAM = "no such key"

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Losses:
    """Compares what was confirmed with what is there, when a partition is at another server than before.

    A user of Redis that may not ask (INFO, XINFO STREAM) pushes all the same, and nothing is counted.
    """

    def __init__(self, client: Client, keys: Keys, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._keys = keys
        self._receipts = Receipts(clock)
        self._is_permitted = True
        self.entries = 0

    async def server_of(self, node: Node) -> str:
        """Count what the server has lost; returns the id of the server process and its data's history.

        Empty if it does not tell, or is not a primary: a replica that lags has lost nothing. Raises `StreamError`.
        """
        if not self._is_permitted:
            return ""
        try:
            facts = await self._client.command_at(node, lambda pipe: pipe.info("server", "replication"))
        except StreamError as error:
            if error.cause is not StreamCause.REFUSED:
                raise
            self._give_up(error)
            return ""
        if facts["role"] != "master":
            return ""
        server = f"{facts['run_id']}:{facts['master_replid']}"
        here = [n for n in self._receipts.from_others(server) if self._client.node_of(self._keys.stream(n)) is node]
        await self.count(node, here, server)
        return server

    async def count(self, node: Node, partitions: Iterable[int], server: str) -> None:
        """Count what a server has lost of those partitions that were at another one before. Raises `StreamError`."""
        for partition in partitions:
            if self._counts(server) and self._receipts.is_from_other(partition, server):
                greatest = await self._greatest(node, partition)
                if greatest is not None:
                    self._report(node, partition, self._receipts.compare(partition, greatest, server))

    def confirmed(self, partition: int, entry: EntryId, server: str) -> None:
        """Note that a server has confirmed an entry."""
        if self._counts(server):
            self._receipts.note(partition, entry, server)

    def _counts(self, server: str) -> bool:
        return self._is_permitted and bool(server)

    async def _greatest(self, node: Node, partition: int) -> EntryId | None:
        """The greatest id that a stream has ever had; None if this does not show now."""
        try:
            with at_most(MAX_REPLY_BYTES):
                stream = self._keys.stream(partition)
                facts = await self._client.command_at(node, lambda pipe: pipe.xinfo_stream(stream))
        except StreamError as error:
            if NO_STREAM in str(error):
                return START
            if isinstance(error.__cause__, NoPermissionError):
                self._give_up(error)
            elif error.cause is StreamCause.LARGE:
                self._receipts.forget(partition)
            elif error.cause not in ONE_PARTITION:
                raise
            return None
        greatest: bytes = facts["last-generated-id"]
        return greatest.decode()

    def _give_up(self, error: StreamError) -> None:
        self._is_permitted = False
        log.info("producer.losses_not_counted", error=str(error))

    def _report(self, node: Node, partition: int, lost: Iterable[EntryId]) -> None:
        if lost := list(lost):
            self.entries += len(lost)
            log.error(
                "producer.lost", partition=partition, entries=len(lost), first=lost[0], last=lost[-1], node=node.name
            )
