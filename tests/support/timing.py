"""How long workers in the test's own process wait."""

from __future__ import annotations

from dataclasses import replace

from worker.runtime.timing import Backoff, DeliveryTiming, ReadingTiming, StoreTiming, Timing

SHORT_TURNS = Timing(reading=ReadingTiming(poll=0.05))
"""Workers in the test's own process look into their streams more often than they have to."""

SHORT_RESTS = replace(
    SHORT_TURNS,
    reading=replace(SHORT_TURNS.reading, rest=0.05),
    delivery=DeliveryTiming(recovery_rest=0.05, losses=0.05),
    store=StoreTiming(retry=Backoff(0.02, 0.2)),
)
"""Whatever rests after trouble rests shortly, too."""
