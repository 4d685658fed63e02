"""Remembers enough of a conversation's chunks to recognise duplicates and to count gaps in `seq`."""

from __future__ import annotations

IDENTITY_BYTES = 8
MAX_IDENTITIES = 4096
"""Over 5 hours of 5-second chunks, over a minute of 20 ms ones; 32 KiB at most."""
MAX_BYTES = MAX_IDENTITIES * IDENTITY_BYTES

MAX_SESSIONS = 16
"""Sessions whose next number is remembered; the least recently used is forgotten first."""


class RecentChunks:
    """The identities of a conversation's latest chunks, held or stored, as one string of 8-byte digests.

    `reached` is the latest end of the chunks that came here (Unix seconds), `touched_at` when the last one came.
    """

    __slots__ = ("_identities", "_next_seq", "_other_sessions", "_session", "reached", "touched_at")

    def __init__(self) -> None:
        self._identities = bytearray()
        # The session used last; nearly all conversations have one only, so a mapping for all would cost more memory.
        self._session: bytes | None = None
        self._next_seq: int | None = None
        self._other_sessions: dict[bytes | None, int] | None = None
        self.reached = 0.0
        self.touched_at = 0.0

    def holds(self, identity: bytes) -> bool:
        """Whether a chunk with this identity is remembered."""
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
        """Remember chunks that are older than all remembered ones."""
        self._identities[:0] = stored
        del self._identities[:-MAX_BYTES]

    def follow(self, session: bytes | None, seq: int) -> int:
        """Numbers skipped before `seq` if positive, by how many it came too late if negative, 0 if it was due.

        The first number of a session only sets its start: a worker may begin in the middle of a conversation.
        """
        self._turn_to(session)
        if self._next_seq is None:
            self._next_seq = seq
        skipped = seq - self._next_seq
        self._next_seq = max(self._next_seq, seq + 1)
        return skipped

    def missing_at_end(self, session: bytes | None, seq: int | None) -> int:
        """Chunks missing at the end of a session that says it has pushed `seq` chunks; 0 if that is unknown.

        They count as skipped from now on, so a repeated end counts nothing twice.
        """
        self._turn_to(session)
        if seq is None or self._next_seq is None:
            return 0
        missing = max(0, seq - self._next_seq)
        self._next_seq += missing
        return missing

    def _turn_to(self, session: bytes | None) -> None:
        if session == self._session:
            return
        following = self._other_sessions.pop(session, None) if self._other_sessions else None
        if self._next_seq is not None:
            self._other_sessions = self._other_sessions or {}
            self._other_sessions[self._session] = self._next_seq
            if len(self._other_sessions) == MAX_SESSIONS:  # with the new session there would be one too many
                del self._other_sessions[next(iter(self._other_sessions))]
        self._session, self._next_seq = session, following
