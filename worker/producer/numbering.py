"""Running numbers (`seq`) of the chunks of each conversation, and the session within which they are unique."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from codec.entry import MAX_SESSION_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_SECONDS = 3600.0
"""A conversation without pushes for this long is forgotten; an end alone forgets nothing, because it may resume."""

MAX_CONVERSATIONS = 100_000
"""Above this number, those that were idle longest are forgotten earlier; so many take some 25 MB."""

_SUFFIX_BYTES = 4
MAX_BASE_BYTES = MAX_SESSION_BYTES - len(".") - 2 * _SUFFIX_BYTES
"""The longest session that leaves room for a suffix."""


class Number(NamedTuple):
    """Session and `seq`, which tell a chunk apart from all others of its conversation."""

    session: bytes
    seq: int


@dataclass(slots=True)
class _Counter:
    session: bytes
    following: int
    used_at: float


class Numbering:
    """Counts from 0 in every conversation; its memory is bounded.

    Once a conversation was forgotten, all that begin later get a session with a new random suffix. So no number occurs
    twice in one session, although forgotten conversations leave no trace.
    """

    def __init__(self, session: bytes, clock: Callable[[], float], *, limit: int = MAX_CONVERSATIONS) -> None:
        self._base = session
        self._session = session
        self._clock = clock
        self._limit = limit
        self._counters: OrderedDict[str, _Counter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counters)

    def following(self, conversation_id: str) -> Number:
        """The number that the conversation's next chunk gets."""
        return self.pushed(conversation_id) or Number(self._session, 0)

    def pushed(self, conversation_id: str) -> Number | None:
        """How many chunks its session has pushed of a conversation; None if the conversation is not known."""
        counter = self._counters.get(conversation_id)
        return Number(counter.session, counter.following) if counter else None

    def take(self, conversation_id: str) -> Number:
        """Use up the next number."""
        taken = self.following(conversation_id)
        self.resume(conversation_id, taken.session, taken.seq + 1)
        return taken

    def skip(self, conversation_id: str, session: bytes, seq: int) -> None:
        """Note that a chunk came with a number of its own, so that this is never given again."""
        if session == self.following(conversation_id).session:
            self.resume(conversation_id, session, seq + 1)

    def resume(self, conversation_id: str, session: bytes, following: int) -> None:
        """Continue to count at `following`, unless the count is further already in this session."""
        current = self.following(conversation_id)
        if current.session == session:
            following = max(following, current.seq)
        self._counters[conversation_id] = _Counter(session, following, self._clock())
        self._counters.move_to_end(conversation_id)
        self._forget()

    def _forget(self) -> None:
        horizon = self._clock() - IDLE_SECONDS
        before = len(self._counters)
        while len(self._counters) > self._limit or next(iter(self._counters.values())).used_at < horizon:
            self._counters.popitem(last=False)
        if len(self._counters) < before:
            self._session = self._base + b"." + secrets.token_hex(_SUFFIX_BYTES).encode()
