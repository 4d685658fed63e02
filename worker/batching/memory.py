"""The account of audio held in memory, which decides when reading pauses."""

from __future__ import annotations

READ_AHEAD = 32 * 1024 * 1024
"""Bytes of PCM that may wait for the encoder. They are seconds of its work, so more would only fill memory."""


class MemoryBudget:
    """Bytes of open and in-flight audio against MEMORY_LIMIT, and the part that waits for the encoder."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.queued = 0

    @property
    def exhausted(self) -> bool:
        """Whether reading must wait until batches are stored."""
        return self.used >= self.limit

    @property
    def behind(self) -> bool:
        """Whether the encoder has enough to do for now."""
        return self.queued >= min(READ_AHEAD, self.limit)
