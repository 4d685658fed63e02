"""Encoding off the event loop: each batch's audio goes through its own encoder, in order, in a pool of threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple, Protocol

from codec.names import Codec
from codec.opus import Application, Encoder
from codec.opus.effort import AS_SPEECH, Quiet
from worker.batching.memory import MemoryBudget

ENCODER_STATE_BYTES = 32 * 1024
"""Memory that an open encoder takes beside its packets (libopus 1.6 mono: 31,668 bytes)."""


@dataclass(frozen=True, slots=True)
class OpusSettings:
    """How libopus encodes; see the settings OPUS_*."""

    complexity: int
    bitrate: int | None = None
    dtx: bool = False
    application: Application = "audio"
    quiet: Quiet = AS_SPEECH

    def encoder(self, sample_rate: int) -> Encoder:
        """A new encoder at `sample_rate`."""
        return Encoder(
            sample_rate,
            complexity=self.complexity,
            bitrate=self.bitrate,
            dtx=self.dtx,
            application=self.application,
            quiet=self.quiet,
        )


class ContentEncoder(Protocol):
    """Turns PCM into a blob's content: Opus, or PCM as it is."""

    @property
    def size(self) -> int:
        """Bytes of encoded audio so far."""

    @property
    def samples(self) -> int:
        """Samples taken in so far."""

    @property
    def pre_skip(self) -> int:
        """Samples that a decoder drops at the start."""

    def encode(self, pcm: bytes) -> None:
        """Append audio."""

    def silence(self, samples: int) -> None:
        """Append silence."""

    def finish(self) -> bytes:
        """Return the content and keep none of it; the encoder can't be used after that."""


class PcmEncoder:
    """Content of a `pcm` blob: the samples themselves."""

    pre_skip = 0

    def __init__(self) -> None:
        self._content = bytearray()
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes taken so far."""
        return self._size

    @property
    def samples(self) -> int:
        """Samples taken so far."""
        return self._size // 2

    def encode(self, pcm: bytes) -> None:
        """Append audio."""
        self._content += pcm
        self._size += len(pcm)

    def silence(self, samples: int) -> None:
        """Append zeros."""
        self.encode(bytes(2 * samples))

    def finish(self) -> bytes:
        """All samples."""
        content, self._content = bytes(self._content), bytearray()
        return content


class _Piece(NamedTuple):
    silence: int
    pcm: bytes


class BatchEncoder:
    """One batch's audio on its way through an encoder.

    Only one thread works on it at a time, because two threads in one encoder would abort the process. The encoder is
    made when the first audio comes, because an owner may inherit thousands of sealed batches at once.
    """

    def __init__(self, begin: Callable[[], ContentEncoder], pool: ThreadPoolExecutor, budget: MemoryBudget) -> None:
        self._begin = begin
        self._pool = pool
        self._budget = budget
        self._waiting: list[_Piece] = []
        self._job: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._released = False
        self._held = 0

    @cached_property
    def _encoder(self) -> ContentEncoder:
        return self._begin()

    @property
    def samples(self) -> int:
        """Samples encoded so far, silence included."""
        return self._encoder.samples

    @property
    def pre_skip(self) -> int:
        """Samples that a decoder drops at the start."""
        return self._encoder.pre_skip

    def append(self, pcm: bytes, silence: int = 0) -> None:
        """Queue audio, after `silence` samples of silence."""
        if self._held == 0:
            self._hold(ENCODER_STATE_BYTES)
        self._waiting.append(_Piece(silence, pcm))
        self._budget.queued += len(pcm)
        self._hold(len(pcm))
        if self._job is None:
            self._start()

    async def idle(self) -> None:
        """Wait until all queued audio is encoded."""
        while self._job is not None:
            await asyncio.wait([self._job])

    async def finish(self) -> bytes:
        """Return the batch's content when all audio is encoded. Raises the error of the encoder."""
        await self.idle()
        if self._error is not None:
            raise self._error
        content = await asyncio.get_running_loop().run_in_executor(self._pool, self._encoder.finish)
        self._hold(len(content) - self._held)
        return content

    def release(self) -> None:
        """Give back the memory; the encoder can't be used after that."""
        self._released = True
        self._budget.queued -= _pcm_bytes(self._waiting)
        self._waiting.clear()
        self._hold(-self._held)

    def _start(self) -> None:
        pieces, self._waiting = self._waiting, []
        self._job = asyncio.get_running_loop().run_in_executor(self._pool, self._encode, pieces)
        self._job.add_done_callback(partial(self._settle, _pcm_bytes(pieces)))

    def _encode(self, pieces: list[_Piece]) -> None:
        for silence, pcm in pieces:
            if silence:
                self._encoder.silence(silence)
            self._encoder.encode(pcm)

    def _settle(self, encoded: int, job: asyncio.Future[None]) -> None:
        self._budget.queued -= encoded
        self._job = None
        if job.cancelled():
            return
        error = job.exception()
        if isinstance(error, Exception):
            self._error = error
        elif not self._released:
            self._hold(ENCODER_STATE_BYTES + self._encoder.size + _pcm_bytes(self._waiting) - self._held)
            if self._waiting:
                self._start()

    def _hold(self, change: int) -> None:
        self._held += change
        self._budget.used += change


def _pcm_bytes(pieces: list[_Piece]) -> int:
    return sum(len(piece.pcm) for piece in pieces)


@dataclass(frozen=True, slots=True)
class EncoderPool:
    """Starts encoders with the worker's encoder settings."""

    opus: Callable[[int], ContentEncoder]
    pool: ThreadPoolExecutor
    budget: MemoryBudget

    def start(self, codec: Codec, sample_rate: int) -> BatchEncoder:
        """An encoder at `sample_rate` that makes the content of a `codec` blob."""
        begin = PcmEncoder if codec == "pcm" else partial(self.opus, sample_rate)
        return BatchEncoder(begin, self.pool, self.budget)
