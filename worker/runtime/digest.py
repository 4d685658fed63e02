"""One log line per happening: an event that comes many times at once becomes one line with its number.

One restart of Redis reaches every partition, and one outage of the store every batch. A line for each would hide all
other lines.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

HOLD_SECONDS = 1.0
"""How long the first event of a kind is held, to be logged together with those that follow."""

REST_SECONDS = 10.0
"""Between two lines of one kind, while its events go on."""

MOST_TALLIED = 5
"""Values of a tally that a line names, the most frequent ones."""

Say = Callable[..., Any]
"""A method of a logger, as `log.warning`."""


@dataclass(slots=True)
class _Held:
    """The events of one kind that are not logged yet; `details` are those of the first."""

    say: Say
    event: str
    details: Mapping[str, object] = field(default_factory=dict)
    times: int = 0
    sums: Counter[str] = field(default_factory=Counter)
    tallies: dict[str, Counter[str]] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None

    def log(self) -> None:
        most = {
            name: [{"value": value, "times": times} for value, times in tally.most_common(MOST_TALLIED)]
            for name, tally in self.tallies.items()
        }
        self.say(self.event, **self.details, **self.sums, **most, times=self.times)


class Digest:
    """Holds events shortly and logs each kind in one line; without an event loop it logs at once."""

    def __init__(self, hold: float = HOLD_SECONDS, rest: float = REST_SECONDS) -> None:
        self._hold = hold
        self._rest = rest
        self._held: dict[Hashable, _Held] = {}

    def note(
        self,
        say: Say,
        event: str,
        kind: Hashable = "",
        /,
        *,
        sums: Mapping[str, int] | None = None,
        tallies: Mapping[str, Mapping[str, int]] | None = None,
        **details: object,
    ) -> None:
        """Log an event soon.

        Args:
            say: how it is logged, as `log.warning`.
            event: its name.
            kind: events of one name and kind become one line; there must be few kinds.
            sums: numbers that are added up.
            tallies: numbers by value, of which the line names the largest.
            details: fields of the line; those of the first event count.
        """
        held = self._held.get((event, kind)) or self._begin(event, kind, self._hold)
        if not held.times:
            held.say, held.details = say, details
        held.times += 1
        held.sums.update(sums or {})
        for name, tally in (tallies or {}).items():
            held.tallies.setdefault(name, Counter()).update(tally)
        if held.timer is None:
            self._flush((event, kind))

    def flush(self) -> None:
        """Log all that is held."""
        for key in list(self._held):
            self._flush(key)

    def _begin(self, event: str, kind: Hashable, seconds: float) -> _Held:
        held = self._held[event, kind] = _Held(_unsaid, event)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return held
        held.timer = loop.call_later(seconds, self._due, (event, kind))
        return held

    def _due(self, key: tuple[str, Hashable]) -> None:
        """Log what is held of a kind; what follows within the rest is held until its end."""
        if self._flush(key):
            self._begin(*key, self._rest)

    def _flush(self, key: Hashable) -> bool:
        held = self._held.pop(key)
        if held.timer is not None:
            held.timer.cancel()
        if held.times:
            held.log()
        return held.times > 0


def _unsaid(*_: object, **__: object) -> None:
    """Nothing is logged while no event has come."""
