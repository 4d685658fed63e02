"""Counts dead letters by the kind of their reason."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from worker.model.reasons import kind_of
from worker.stream.inspection.dead_letters import DeadLetter

MOST_GROUPS = 50
OTHERS = "other reasons"


@dataclass(slots=True)
class LetterGroup:
    """Letters of one kind of reason; `example` is the first of them, times are Redis' in ms.

    `alike` says that all have the reason of the example, values included.
    """

    example: DeadLetter
    first_ms: int
    last_ms: int
    count: int = 0
    bytes: int = 0
    alike: bool = True

    def add(self, letter: DeadLetter) -> None:
        """Count a letter."""
        self.alike = self.alike and letter.reason == self.example.reason
        self.first_ms, self.last_ms = min(self.first_ms, letter.moved_ms), max(self.last_ms, letter.moved_ms)
        self.count += 1
        self.bytes += letter.bytes


@dataclass(slots=True)
class LetterSummary:
    """All letters by kind of reason; beyond `MOST_GROUPS` kinds the rest is one group."""

    groups: dict[str, LetterGroup] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of letters."""
        return sum(group.count for group in self.groups.values())

    @property
    def bytes(self) -> int:
        """Bytes of all letters."""
        return sum(group.bytes for group in self.groups.values())

    def add(self, letter: DeadLetter) -> None:
        """Count a letter."""
        kind = kind_of(letter.reason)
        if kind not in self.groups and len(self.groups) >= MOST_GROUPS:
            kind = OTHERS
        self.groups.setdefault(kind, LetterGroup(letter, letter.moved_ms, letter.moved_ms)).add(letter)

    def ordered(self) -> list[tuple[str, LetterGroup]]:
        """The groups, the largest first."""
        return sorted(self.groups.items(), key=lambda item: -item[1].count)


async def summarize_letters(letters: AsyncIterator[DeadLetter]) -> LetterSummary:
    """Count letters by kind of reason."""
    found = LetterSummary()
    async for letter in letters:
        found.add(letter)
    return found
