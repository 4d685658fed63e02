"""What is encoded: a minute of 16 kHz mono PCM of each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tests.support.speech import speech

RATE = 16000
SECONDS = 60
MINUTE_BYTES = SECONDS * RATE * 2
CHUNK_SECONDS = 5
CHUNK_BYTES = CHUNK_SECONDS * RATE * 2
NOISE_DBFS = -60


def silence() -> bytes:
    """Digital silence: a muted microphone."""
    return bytes(MINUTE_BYTES)


def spoken() -> bytes:
    """Recorded speech."""
    return speech(SECONDS, RATE)


def noise() -> bytes:
    """White noise, as soft as a quiet room."""
    level = 32768 * 10 ** (NOISE_DBFS / 20)
    samples = np.random.default_rng(7).normal(0, level, SECONDS * RATE)
    return np.rint(samples).astype("<i2").tobytes()


def half_silence() -> bytes:
    """Speech for five seconds, digital silence for five seconds, and so on."""
    turns = (spoken()[at : at + CHUNK_BYTES] for at in range(0, MINUTE_BYTES, 2 * CHUNK_BYTES))
    return b"".join(turn + bytes(CHUNK_BYTES) for turn in turns)


SCENES: Mapping[str, Callable[[], bytes]] = {
    "speech": spoken,
    "silence": silence,
    "noise": noise,
    "50 % silence": half_silence,
}


def chunks(pcm: bytes) -> list[bytes]:
    """Cut into what a pusher sends."""
    return [pcm[at : at + CHUNK_BYTES] for at in range(0, len(pcm), CHUNK_BYTES)]
