"""Makes sure that this producer and all other programs on the prefix have the same settings, before audio is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.stream.config import record_or_check

if TYPE_CHECKING:
    from worker.stream.client import Client
    from worker.stream.keys import Keys
    from worker.stream.servers.node import Node


class Agreement:
    """Compares settings with what Redis records: before the first audio, and when another server may have the record.

    One node of a cluster has the record. If it fails later, the others go on.
    """

    def __init__(self, client: Client, keys: Keys, partitions: int) -> None:
        self._client = client
        self._keys = keys
        self._partitions = partitions
        self._was_compared = False
        self._compared_with: Node | None = None

    async def compare(self) -> None:
        """Record the settings, or make sure that the recorded ones are ours. Raises `SettingsError`, `StreamError`."""
        await record_or_check(self._client, self._keys, self._partitions)
        self._was_compared = True
        self._compared_with = self._client.node_of(self._keys.config)

    async def compare_before(self, node: Node) -> None:
        """Compare if that is needed before audio goes to a node. Raises as `compare`."""
        recording = self._client.node_of(self._keys.config)
        if not self._was_compared or (recording is node and self._compared_with is not node):
            await self.compare()

    def doubt(self, node: Node) -> None:
        """Compare again before the next audio: a node may be another Redis now, or may have lost its data."""
        if self._compared_with is node:
            self._compared_with = None
