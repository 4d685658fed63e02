"""Names of the Redis keys.

Every key of a partition starts with its stream key, whose braces are the Redis Cluster hash tag: one partition is one
slot, so each multi-key step stays inside one slot. A command that asks for several partitions does so for speed only:
`Client.together` tells how many it may name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_PARTITIONS = 256
MAX_PARTITIONS = 16384
"""As many as a Redis Cluster has slots."""

PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
"""Allowed values of STREAM_PREFIX: braces would make another hash tag."""

GROUP = "workers"
"""The one consumer group, created at id 0 so that nothing pushed before the first worker is missed."""

CONTRACT_VERSION = "1"
"""Recorded in `{prefix}:config`; increased when old and new programs can no longer share a stream."""


TYPES = {
    "": "stream",
    "lease": "string",
    "epoch": "hash",
    "ready": "hash",
    "done": "stream",
    "dead": "stream",
    "trials": "hash",
    "deleted": "hash",
    "lost": "hash",
    "seen": "string",
    "withdrawn": "string",
}
"""Redis types of a partition's keys, by what follows the stream key."""

STREAM_KEY = re.compile(r"(?P<prefix>[^{}]*):\{(?P<partition>0|[1-9][0-9]{0,8})\}(:(?P<part>[a-z]+)(:.*)?)?", re.DOTALL)
"""A key of a partition."""


def expected_type(key: str) -> str:
    """The Redis type that workers keep under one of their keys."""
    found = STREAM_KEY.fullmatch(key)
    return "hash" if found is None else TYPES.get(found["part"] or "", "hash")


@dataclass(frozen=True, slots=True)
class Keys:
    """All keys under one STREAM_PREFIX."""

    prefix: str

    @property
    def config(self) -> str:
        """Hash: PARTITIONS and the contract version."""
        return f"{self.prefix}:config"

    @property
    def workers(self) -> str:
        """Hash: worker id → "expiry-in-ms JSON"."""
        return f"{self.prefix}:workers"

    def stream(self, partition: int) -> str:
        """Stream of a partition: its entries are exactly the audio that is not stored yet."""
        return f"{self.prefix}:{{{partition}}}"

    def lease(self, partition: int) -> str:
        """String with expiry: the token of the owner."""
        return f"{self.stream(partition)}:lease"

    def fenced(self, partition: int) -> list[str]:
        """The first keys of every script that only the owner may run."""
        return [self.lease(partition), self.stream(partition)]

    def epoch(self, partition: int) -> str:
        """Hash: how often the lease was taken (`generation`), and whether the last owner left cleanly (`clean`).

        Also the server process that the last owner saw (`server`), the stream's last entry when an owner last saw
        another server (`changed`), the last entry that is older than the stream's id (`born`), the last entry that was
        read (`highest`), how many were read (`accepted`), how many left the stream unread (`missed`), and whether
        these are to be counted anew (`recount`).
        """
        return f"{self.stream(partition)}:epoch"

    def ready(self, partition: int) -> str:
        """Hash: first entry id of a sealed batch → the seal."""
        return f"{self.stream(partition)}:ready"

    def done(self, partition: int) -> str:
        """Capped stream: one event per stored blob."""
        return f"{self.stream(partition)}:done"

    def dead(self, partition: int) -> str:
        """Stream: entries that can't be processed, with the reason."""
        return f"{self.stream(partition)}:dead"

    def trials(self, partition: int) -> str:
        """Hash: conversation whose processing may have killed workers → how often it was tried."""
        return f"{self.stream(partition)}:trials"

    def deleted(self, partition: int) -> str:
        """Hash, the tombstones: "uid/" or "uid/conversation" → the stream's last entry at the deletion."""
        return f"{self.stream(partition)}:deleted"

    def lost(self, partition: int) -> str:
        """Hash with expiry: lost entry → the token of the inquiry that counts it; `unread`: how many more were lost."""
        return f"{self.stream(partition)}:lost"

    def seen(self, partition: int, conversation: str) -> str:
        """String with expiry: a line with the last entry, then 8-byte identities of the chunks stored last."""
        return f"{self.stream(partition)}:seen:{conversation}"

    def withdrawn(self, partition: int, upload: str) -> str:
        """String with expiry: the maker of this upload has lost its seal, and removes the object."""
        return f"{self.stream(partition)}:withdrawn:{upload}"
