"""What encoder and decoder share: frames of 20 ms, mono. PCM is s16le."""

from __future__ import annotations

from codec.entry import BYTES_PER_SAMPLE, SAMPLE_RATES

CHANNELS = 1
FRAMES_PER_SECOND = 50
SECOND_BYTES = max(SAMPLE_RATES) * BYTES_PER_SAMPLE  # at the highest rate
