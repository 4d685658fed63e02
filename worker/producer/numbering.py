"""Running numbers (`seq`) of the chunks of each conversation."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_SECONDS = 3600.0
"""A conversation that pushed nothing for so long is forgotten; an end alone forgets nothing, it may be resumed."""

MAX_CONVERSATIONS = 100_000
"""Past so many, the longest idle are forgotten earlier: some 25 MB."""


@dataclass(slots=True)
class _Counter:
    following: int
    used_at: float


class Numbering:
    """Counts from 0 in every conversation; its memory is bounded."""

    def __init__(self, clock: Callable[[], float], *, limit: int = MAX_CONVERSATIONS) -> None:
        self._clock = clock
        self._limit = limit
        self._counters: OrderedDict[str, _Counter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counters)

    def following(self, conversation_id: str) -> int:
        """The number that the conversation's next chunk gets."""
        counter = self._counters.get(conversation_id)
        return counter.following if counter else 0

    def take(self, conversation_id: str, seq: int | None = None) -> int:
        """Use up the next number, or `seq`: then counting goes on behind it, unless it is further already."""
        taken = self.following(conversation_id) if seq is None else seq
        self.resume(conversation_id, taken + 1)
        return taken

    def resume(self, conversation_id: str, following: int) -> None:
        """Let counting go on at `following`, unless it is further already."""
        self._counters[conversation_id] = _Counter(max(following, self.following(conversation_id)), self._clock())
        self._counters.move_to_end(conversation_id)
        self._forget()

    def _forget(self) -> None:
        horizon = self._clock() - IDLE_SECONDS
        while len(self._counters) > self._limit or next(iter(self._counters.values())).used_at < horizon:
            self._counters.popitem(last=False)
