"""What could not be read of a file, in words and in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_FLAWS = 100
"""Flaws that are kept in words; a file may have one in every packet."""


MOST_LINES = 10
"""Flaws that a person is told one by one."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something that is wrong with a file at `at` seconds of what was read.

    `lost` are the seconds of audio that are missing there, as far as that is known. `silence` says that silence of this
    length is in their place.
    """

    at: float
    what: str
    lost: float = 0.0
    silence: bool = False

    def __str__(self) -> str:
        about = "" if not self.lost else f" ({'' if self.silence else 'about '}{self.lost:.2f} s)"
        instead = ", silence is in its place" if self.silence else ""
        return f"at {self.at:.2f} s {self.what}{about}{instead}"


@dataclass(slots=True)
class ReadReport:
    """What came out of a file; it is final when all chunks have been read.

    `claimed` are the seconds that the file says it has, None if it does not say. `cancelled` are the seconds in which
    channels cancelled each other, so that one of them was taken.
    """

    claimed: float | None = None
    seconds: float = 0.0
    cancelled: float = 0.0
    flaws: list[Flaw] = field(default_factory=list)
    more_flaws: int = 0

    @property
    def complete(self) -> bool:
        """Whether all that the file should have came out."""
        return not self.flaws

    @property
    def lost(self) -> float:
        """The seconds that are known to be missing."""
        return sum(flaw.lost for flaw in self.flaws)

    def lines(self) -> Iterator[str]:
        """What a person should know, a line each."""
        yield from map(str, self.flaws[:MOST_LINES])
        if more := len(self.flaws[MOST_LINES:]) + self.more_flaws:
            yield f"and {more:,} more such places"
        if self.cancelled:
            yield (
                f"its channels cancel each other for {self.cancelled:.2f} s (left = -right): one of them was taken,"
                " because their mean is silence"
            )

    def add(self, flaw: Flaw) -> None:
        """Note a flaw; beyond MOST_FLAWS only their number."""
        if len(self.flaws) < MOST_FLAWS:
            self.flaws.append(flaw)
        else:
            self.more_flaws += 1
