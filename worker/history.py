"""What is remembered of a conversation's chunks: enough to recognise twins, and to count gaps in `seq`."""

from __future__ import annotations

IDENTITY_BYTES = 8
MAX_IDENTITIES = 4096
"""An hour of 5-second chunks, more than a full minute of 20 ms ones; 32 KiB at most."""
MAX_BYTES = MAX_IDENTITIES * IDENTITY_BYTES


class History:
    """The identities of a conversation's latest chunks, held or stored, as one string of 8-byte digests."""

    __slots__ = ("_identities", "_next_seq", "touched_at")

    def __init__(self) -> None:
        self._identities = bytearray()
        self._next_seq: int | None = None
        self.touched_at = 0.0

    def holds(self, identity: bytes) -> bool:
        """Whether a chunk with this identity was here before."""
        at = self._identities.find(identity)
        while at >= 0:
            if at % IDENTITY_BYTES == 0:
                return True
            at = self._identities.find(identity, at + 1)
        return False

    def note(self, identity: bytes) -> None:
        """Remember a chunk; the oldest is forgotten when there are too many."""
        self._identities += identity
        if len(self._identities) > MAX_BYTES:
            del self._identities[:-MAX_BYTES]

    def precede(self, stored: bytes) -> None:
        """Remember chunks that came before all that are remembered."""
        self._identities[:0] = stored
        del self._identities[:-MAX_BYTES]

    def follow(self, seq: int) -> int:
        """Numbers skipped before `seq` if positive, places it came too late if negative, 0 if it was due.

        The first number seen only sets the beginning: a worker may come in the middle of a conversation.
        """
        if self._next_seq is None:
            self._next_seq = seq
        skipped = seq - self._next_seq
        self._next_seq = max(self._next_seq, seq + 1)
        return skipped
