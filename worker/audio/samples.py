"""Converts samples from numbers to PCM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FULL_SCALE = 32768
"""The 16-bit value of 1.0 in floating-point audio."""


def s16le(samples: NDArray[np.floating[Any]]) -> bytes:
    """Samples on the scale of 16 bits as bytes, rounded and clipped."""
    rounded: NDArray[np.int16] = np.clip(np.rint(samples), -FULL_SCALE, FULL_SCALE - 1).astype("<i2")
    return rounded.tobytes()
