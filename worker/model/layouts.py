"""How many partitions share the conversations: one number, or two while the number is being changed."""

from __future__ import annotations

from dataclasses import dataclass

from codec.entry import partition_of


@dataclass(frozen=True, slots=True)
class Layouts:
    """The numbers of partitions that pushers may use; `current` is the one from before a change that is under way.

    Workers own the partitions of the largest number. So a conversation may change its stream at any moment: there its
    batch is cut in two, as it is when a worker stops.
    """

    current: int
    numbers: frozenset[int]

    @classmethod
    def single(cls, partitions: int) -> Layouts:
        """One number of partitions, for all."""
        return cls(partitions, frozenset({partitions}))

    @property
    def total(self) -> int:
        """How many partitions workers own."""
        return max(self.numbers)

    @property
    def is_changing(self) -> bool:
        """Whether pushers may use two numbers."""
        return len(self.numbers) > 1

    def partitions_of(self, conversation_id: str) -> list[int]:
        """The partitions in which a conversation may be, that of the current number first."""
        first = partition_of(conversation_id, self.current)
        others = {partition_of(conversation_id, number) for number in self.numbers} - {first}
        return [first, *sorted(others)]

    def __str__(self) -> str:
        """The numbers as `{prefix}:config` records them, the smallest first."""
        return ",".join(map(str, sorted(self.numbers)))
