"""Tells where PCM may hold speech: by its level, beside that of the room.

It is for saving effort, never for leaving audio out. So it is open in doubt, and costs next to nothing beside encoding.
"""

from __future__ import annotations

import math
from operator import mul, sub
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

BLOCKS_PER_SECOND = 10

STRIDES: Mapping[int, int] = {8000: 11, 12000: 17, 16000: 23, 24000: 37, 48000: 71}
"""Sample rate → the step between samples that are looked at: 70 of a block give its level to a decibel. Steps are
prime, so that a tone of a round frequency does not meet every look in the same phase."""

STEPS_PER_SECOND = 2000

HANGOVER_BLOCKS = 10
"""Blocks for which the gate stays open after the last one that opened it, and at the start."""

REST_BLOCKS = 2
"""Blocks that are not looked at after a loud one: the gate stays open anyway, and speech costs a third."""

MARGIN = 10**0.36
"""3.6 dB: what is so far above the room's level opens the gate. With 3 dB, steady noise opens it now and then."""

RISE = 10**0.01
"""By how much the room's level may rise per block: 1 dB a second. It sinks at once."""


def _power(dbfs: float) -> float:
    """The mean square of 16-bit samples at a level in dBFS, of which 0 is that of a full-scale square wave."""
    return 32768.0**2 * 10 ** (dbfs / 10)


ALWAYS_OPEN = _power(-42)
LEAST_ROOM = _power(-77)
DIGITAL_SILENCE = 1.0


class SpeechGate:
    """Follows one stream of blocks of 100 ms.

    The room's level is the least of the last seconds. It is taken of the steps that the signal makes within half a
    millisecond: they are small in rumble and hum, which fill most rooms, and know no constant offset.
    """

    def __init__(self, sample_rate: int) -> None:
        self._stride = STRIDES[sample_rate]
        self._step_samples = sample_rate // STEPS_PER_SECOND
        self._room = math.inf
        self._since_open = self._rest = 0

    def quiet_blocks(self, block: memoryview) -> int:
        """How many blocks in a row, this one included, hold no speech; 0 while the gate is open.

        `block` has 16-bit samples as its items.
        """
        if self._rest:
            self._rest -= 1
            self._since_open += 1
        else:
            self._since_open = 0 if self._opens(block) else self._since_open + 1
        return max(0, self._since_open - HANGOVER_BLOCKS)

    def _opens(self, block: memoryview) -> bool:
        samples = block[:: self._stride].tolist()
        power = _mean_square(samples) - (sum(samples) / len(samples)) ** 2
        if power > ALWAYS_OPEN:
            self._rest = REST_BLOCKS
            return True
        if power < DIGITAL_SILENCE:  # a muted microphone tells nothing of the room
            return False
        steps = _mean_square(list(map(sub, block[self._step_samples :: self._stride].tolist(), samples)))
        self._room = min(steps, self._room * RISE)
        return steps > MARGIN * max(self._room, LEAST_ROOM)


def _mean_square(samples: list[int]) -> float:
    total: int = sum(map(mul, samples, samples))
    return total / max(1, len(samples))
