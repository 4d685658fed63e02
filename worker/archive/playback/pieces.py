"""The part of a blob that is heard."""

from __future__ import annotations

from typing import NamedTuple

from codec.blob import Audio
from worker.archive.playback.repeated_audio import MeasuredBlob
from worker.archive.playback.timeline import cropped


class Piece(NamedTuple):
    """Audio that begins at `start` (Unix seconds), `first` samples after the beginning of its blob."""

    start: float
    audio: Audio
    first: int
    source: MeasuredBlob


def piece_of(source: MeasuredBlob, audio: Audio, since: float | None, until: float | None) -> Piece:
    """The part of a blob's audio between `since` and `until` (Unix seconds); it may be empty."""
    start, part = cropped(source.start, audio, since, until)
    return Piece(start, part, round((start - source.start) * audio.sample_rate), source)
