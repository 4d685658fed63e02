"""Converts the sample rate of PCM without gaps, piece by piece. Only a real conversion needs the extra `audio`."""

from __future__ import annotations

from typing import Protocol

from worker.runtime.extras import extra_imports


class PcmConverter(Protocol):
    """Takes s16le mono PCM of `source_rate` Hz, and gives it at another rate."""

    source_rate: int

    def convert(self, pcm: bytes) -> bytes:
        """Take a piece of audio; give what can be computed so far."""
        ...

    def rest(self) -> bytes:
        """What it still holds, at the end."""
        ...


class Unchanged:
    """A converter between equal rates."""

    def __init__(self, rate: int) -> None:
        self.source_rate = rate

    def convert(self, pcm: bytes) -> bytes:
        """The same PCM."""
        return pcm

    def rest(self) -> bytes:
        """Nothing."""
        return b""


def pcm_converter(source_rate: int, rate: int) -> PcmConverter:
    """A converter from one rate in Hz to another one.

    Raises:
        ExtraMissing: the rates differ, and the extra `audio` is not installed.
    """
    if source_rate == rate:
        return Unchanged(rate)
    with extra_imports():
        from worker.audio.rate_converter import PcmRateConverter  # noqa: PLC0415 -- numpy, which `run` does without

    return PcmRateConverter(source_rate, rate)
