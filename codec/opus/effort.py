"""How hard libopus works: less where there is no speech."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, Protocol

from codec.entry import BYTES_PER_SAMPLE
from codec.opus.speech_gate import BLOCKS_PER_SECOND, SpeechGate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from codec.libopus import CArg, Library

LONG_QUIET_BLOCKS = 3 * BLOCKS_PER_SECOND
"""Blocks without speech after which the bitrate sinks too."""

AUTO = -1000  # OPUS_AUTO of opus_defines.h


@dataclass(frozen=True, slots=True)
class Quiet:
    """How to encode audio without speech: at this complexity, and after three seconds at this many bits per second.

    None, and more than speech gets, change nothing.
    """

    complexity: int | None = None
    bitrate: int | None = None


AS_SPEECH = Quiet()


class Effort(NamedTuple):
    """What libopus spends. Without a bitrate it chooses one by the sample rate."""

    complexity: int
    bitrate: int | None = None


class Efforts(Protocol):
    """Divides audio by the effort that it gets."""

    def stretches(self, pcm: memoryview) -> Iterator[int]:
        """Give the size of each stretch of some blocks of PCM, in bytes, once the encoder is set for it."""


def efforts(encoder: Controls, sample_rate: int, speech: Effort, quiet: Quiet) -> Efforts:
    """Set an encoder for speech, and tell how it goes on.

    Raises:
        Exception: opuslib's, if libopus refuses a setting; also one that would be needed later.
    """
    levels = _levels(sample_rate, speech, quiet)
    for effort in reversed(levels):
        encoder.apply(effort)
    return SpeechEfforts(encoder, sample_rate, levels) if len(set(levels)) > 1 else SteadyEffort()


def _levels(sample_rate: int, speech: Effort, quiet: Quiet) -> tuple[Effort, Effort, Effort]:
    """For speech, where it is quiet, and where it has been quiet for long."""
    complexity = speech.complexity if quiet.complexity is None else min(quiet.complexity, speech.complexity)
    usual = sample_rate + 3000 if speech.bitrate is None else speech.bitrate  # libopus' choice for mono and 20 ms
    low = quiet.bitrate if quiet.bitrate is not None and quiet.bitrate < usual else speech.bitrate
    return speech, Effort(complexity, speech.bitrate), Effort(complexity, low)


class Controls:
    """The controls of one libopus encoder."""

    def __init__(self, library: Library, state: CArg) -> None:
        self._ctl, self._control, self._state = library.ctl, library.encoder.encoder_ctl, state

    def apply(self, effort: Effort) -> None:
        """Set complexity and bitrate."""
        self._control(self._state, self._ctl.set_complexity, effort.complexity)
        self._control(self._state, self._ctl.set_bitrate, AUTO if effort.bitrate is None else effort.bitrate)

    def hold_bandwidth(self) -> None:
        """Keep the bandwidth of the last packet.

        libopus would choose it anew by complexity and bitrate, and after a change speech would come back narrow.
        """
        self._control(self._state, self._ctl.set_bandwidth, self._control(self._state, self._ctl.get_bandwidth))

    def release_bandwidth(self) -> None:
        """Let libopus choose it again."""
        self._control(self._state, self._ctl.set_bandwidth, AUTO)


class SteadyEffort:
    """The same for all audio."""

    def stretches(self, pcm: memoryview) -> Iterator[int]:
        """All of it."""
        yield len(pcm)


class SpeechEfforts:
    """Full effort for speech, and less where it is quiet."""

    def __init__(self, encoder: Controls, sample_rate: int, levels: Sequence[Effort]) -> None:
        self._encoder = encoder
        self._gate = SpeechGate(sample_rate)
        self._block_samples = sample_rate // BLOCKS_PER_SECOND
        self._levels = levels
        self._level = 0

    def stretches(self, pcm: memoryview) -> Iterator[int]:
        """Divide it where speech may begin, and where it has ended."""
        samples, step = pcm.cast("h"), self._block_samples
        blocks = (samples[at : at + step] for at in range(0, len(samples), step))  # a batch's last one may be short
        for level, stretch in groupby(blocks, self._level_of):
            size = sum(map(len, stretch)) * BYTES_PER_SAMPLE
            if level != self._level:
                self._change(level)
            yield size

    def _level_of(self, block: memoryview) -> int:
        quiet = self._gate.quiet_blocks(block)
        return (quiet > 0) + (quiet > LONG_QUIET_BLOCKS)

    def _change(self, level: int) -> None:
        if self._level == 0:
            self._encoder.hold_bandwidth()
        self._encoder.apply(self._levels[level])
        if level == 0:
            self._encoder.release_bandwidth()
        self._level = level
