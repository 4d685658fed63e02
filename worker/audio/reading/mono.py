"""Mixes channels to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CANCELLED = 0.01
"""The mean of the channels has less than this part of their mean power: they are out of phase, as L = -R is.

One channel among a hundred has more. 20 dB is more than any two microphones differ in one room."""

AUDIBLE = 1e-7
"""Mean power, of 1.0 at full scale, above which a block counts: some 10 units of 16 bits."""


class MonoMixer:
    """Gives the mean of all channels, or one channel where they cancel each other.

    `cancelled` are the seconds in which they did.
    """

    def __init__(self) -> None:
        self.cancelled = 0.0
        self._channel = 0

    def mix(self, block: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
        """One channel from a block of channels, a row each."""
        if len(block) == 1:
            only: NDArray[np.float32] = block[0]
            return only
        mean: NDArray[np.float32] = block.mean(axis=0)
        powers = np.square(block).mean(axis=1)
        if float(powers.mean()) < AUDIBLE or _power(mean) >= CANCELLED * float(powers.mean()):
            return mean
        if not self.cancelled:
            self._channel = int(np.argmax(powers))  # the same one in all blocks, so that its phase does not turn
        self.cancelled += block.shape[1] / rate
        chosen: NDArray[np.float32] = block[self._channel % len(block)]
        return chosen


def as_float(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Samples of any type on the scale of 1.0; NaN becomes 0, and louder samples are clipped."""
    if samples.dtype.kind == "f":
        # A NaN would spoil all further output of a resampler, and one loud channel the mean.
        limited: NDArray[np.float32] = np.clip(np.nan_to_num(samples), -1, 1).astype(np.float32)
        return limited
    if samples.dtype.kind == "u":
        centred: NDArray[np.float32] = (samples.astype(np.float32) - np.float32(128)) / np.float32(128)
        return centred
    full_scale = np.float32(1 << 8 * samples.dtype.itemsize - 1)
    scaled: NDArray[np.float32] = samples.astype(np.float32) / full_scale
    return scaled


def _power(samples: NDArray[np.float32]) -> float:
    return float(np.square(samples).mean())
