"""Pictures of audio for the demo's report: a spectrogram as PNG, a waveform as the points of a line."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from worker.audio.peaks import PER_SECOND, peaks

COLUMNS = 720
ROWS = 128
WINDOW = 512
"""Samples of one spectrum."""

FLOOR_DB = -85.0
"""The level that is black, in dB below a full-scale sine."""

ANCHORS = ((0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21), (252, 255, 164))
"""Colours from silent to loud, evenly spaced in dB; loudness shows in black and white too."""


def spectrogram(pcm: bytes) -> bytes:
    """A PNG of `COLUMNS` x `ROWS` pixels: time to the right, frequency up to half the sample rate upwards."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float64) / 32768
    if len(samples) < WINDOW:
        samples = np.pad(samples, (0, WINDOW - len(samples)))
    starts = np.linspace(0, len(samples) - WINDOW, COLUMNS).astype(int)
    frames = samples[starts[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)
    levels = np.abs(np.fft.rfft(frames)[:, : 2 * ROWS]) / (WINDOW / 4)
    decibels = 20 * np.log10(np.maximum(levels.reshape(COLUMNS, ROWS, 2).max(axis=2), 1e-9))
    shares = np.clip(1 - decibels / FLOOR_DB, 0, 1)
    return png((shares.T[::-1] * 255).astype(np.uint8))


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture with a palette: https://www.w3.org/TR/png-3/."""
    height, width = pixels.shape
    places = np.linspace(0, 255, len(ANCHORS))
    anchors = np.array(ANCHORS)
    palette = np.stack([np.interp(np.arange(256), places, anchors[:, channel]) for channel in range(3)], axis=1)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"PLTE", palette.astype(np.uint8).tobytes()), (b"IDAT", zlib.compress(rows, 9)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*each) for each in (*chunks, (b"IEND", b"")))


def waveform(pcm: bytes, sample_rate: int) -> str:
    """The outline of a waveform as points of SVG, for a picture of so many units as there are peaks, and 256 high."""
    levels = peaks(pcm, sample_rate)
    above = [f"{place},{128 - level / 2:.0f}" for place, level in enumerate(levels)]
    below = [f"{place},{128 + level / 2:.0f}" for place, level in enumerate(levels)]
    return " ".join(above + below[::-1])


def width_of_waveform(seconds: float) -> int:
    """The units that it is wide."""
    return max(1, round(seconds * PER_SECOND))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
