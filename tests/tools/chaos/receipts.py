"""What a cluster has acknowledged to pushers, and which of it a failover has lost: the replica had not received it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.tools.chaos.talks import Talk
from tests.tools.simulation.redis_model import Id


@dataclass(frozen=True, slots=True)
class Receipt:
    """A node has confirmed a chunk, which is `number` of its conversation, under an id."""

    port: int
    key: str
    entry: Id
    conversation: str
    number: int


@dataclass(slots=True)
class Receipts:
    """All that pushers were told. `lost` are numbers of chunks by conversation, once no copy of them is left."""

    _by_node: dict[tuple[int, str], list[Receipt]] = field(default_factory=lambda: defaultdict(list))
    _copies: Counter[tuple[str, int]] = field(default_factory=Counter)
    lost: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def note(self, port: int, key: str, entry: Id, talk: Talk, number: int) -> None:
        """A node has confirmed a chunk."""
        receipt = Receipt(port, key, entry, talk.conversation_id, number)
        self._by_node[port, key].append(receipt)
        self._copies[talk.conversation_id, number] += 1

    def deposed(self, port: int, received: Mapping[str, Id]) -> int:
        """Another node took over from one, and had `received` these last ids; returns how many entries that has lost.

        `received` names all streams that the former primary had.
        """
        gone = [
            receipt
            for key, last in received.items()
            for receipt in self._by_node.pop((port, key), [])
            if receipt.entry > last
        ]
        for receipt in gone:
            self._copies[receipt.conversation, receipt.number] -= 1
            if not self._copies[receipt.conversation, receipt.number]:
                self.lost[receipt.conversation].add(receipt.number)
        return len(gone)
