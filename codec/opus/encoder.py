"""An incremental encoder from PCM to a container."""

from __future__ import annotations

import ctypes
import weakref
from contextlib import contextmanager
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from codec.arguments import NOTHING, check_types
from codec.container import HEADER, PACKET_LENGTH, rendition_bytes
from codec.entry import BYTES_PER_SAMPLE
from codec.errors import EncodingFailed
from codec.libopus import library
from codec.libopus.repacketizer import MAX_PACKET_BYTES
from codec.libopus.scratch import Scratch
from codec.opus.effort import AS_SPEECH, Controls, Effort, Quiet, efforts
from codec.opus.frames import CHANNELS, FRAMES_PER_SECOND, SECOND_BYTES
from codec.opus.speech_gate import BLOCKS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from codec.libopus import CArg, Library

Application: TypeAlias = Literal["audio", "voip"]
"""What libopus is told about its use. `audio` keeps the low frequencies, which `voip` filters away. Modes, bytes and
CPU are the same, because `audio` also tells it that the signal is a voice: else it would choose CELT for it."""

APPLICATIONS: Mapping[Application, int] = {"voip": 2048, "audio": 2049}  # opus_defines.h
SIGNAL_VOICE = 3001  # opus_defines.h
ZEROS = bytes(SECOND_BYTES)

SETTLING_FRAMES = 25
"""Frames of digital silence after which decoded audio is silent to 2 units of the last place: at its input, libopus has
a high-pass filter of 3 Hz, which rings for so long."""

SILENT_PACKET = PACKET_LENGTH.pack(0)
"""An empty packet with its length: every decoder conceals 20 ms for it, and after silence it conceals with silence."""

FRAMES_PER_BLOCK = FRAMES_PER_SECOND // BLOCKS_PER_SECOND
"""Frames that are decided on and encoded together."""

FRAMES_AT_ONCE = 52 * FRAMES_PER_BLOCK
"""Frames that libopus encodes in a row without our own code between them: a chunk of 5 s has 250."""

PART_BYTES = 4096
"""Packets are kept in parts of at least this many bytes. One growing buffer moves whenever it grows, and thousands of
such buffers leave holes in memory, half as large again as the buffers."""

PACKET_LENGTHS = [PACKET_LENGTH.pack(size) for size in range(MAX_PACKET_BYTES + 1)]

EARLY_SAMPLES: Mapping[Application, Mapping[int, int]] = {"audio": {24000: 1, 48000: 2}, "voip": {24000: 2, 48000: 3}}
"""At these rates speech passes through libopus' resampler and comes out this many samples earlier than the look-ahead
says. Without this correction, the cross-correlation of 24 s of recorded speech with the decoded speech peaks at -1.0
and -2.1 (audio), or at -1.5 and -3.0 (voip). At lower rates it peaks at the look-ahead (audio), or within half a sample
of it (voip)."""

_frames = Scratch(FRAMES_AT_ONCE * SECOND_BYTES // FRAMES_PER_SECOND)  # PCM to encode
_packets = Scratch(FRAMES_AT_ONCE * MAX_PACKET_BYTES)  # the encoded packets


class Encoder:
    """Encodes one stream of mono PCM piece by piece and holds the growing container.

    The pieces may end anywhere inside a frame. Different encoders may work in different threads at once, but a single
    one must be used by one thread at a time: libopus aborts the process otherwise. After an error it only accepts
    `close`.

    Raises:
        EncodingFailed: libopus does not accept the sample rate or a setting.
        LibopusMissing: libopus can't be loaded.
        WrongType: a setting is not a whole number.
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        complexity: int,
        bitrate: int | None = None,
        dtx: bool = False,
        application: Application = "audio",
        quiet: Quiet = AS_SPEECH,
    ) -> None:
        check_types(int, sample_rate=sample_rate, complexity=complexity)
        check_types(int, NOTHING, bitrate=bitrate)
        check_types(bool, dtx=dtx)
        check_types(str, application=application)
        check_types(Quiet, quiet=quiet)
        self._library = library()
        self._sample_rate = sample_rate
        self._application = application
        self._frame_samples = sample_rate // FRAMES_PER_SECOND
        self._frame_bytes = self._frame_samples * BYTES_PER_SAMPLE
        self._block_bytes = FRAMES_PER_BLOCK * self._frame_bytes
        self._samples = 0
        self._packets = 0
        self._tail = b""
        self._parts: list[bytes] = []
        self._part = bytearray()
        self._size = HEADER.size
        state = self._create(Effort(complexity, bitrate), quiet, dtx=dtx)
        self._state = ctypes.byref(state.contents)
        self._silence = bytes(self._frame_bytes)
        self._silent_frames = 0

    @property
    def samples(self) -> int:
        """Samples taken so far."""
        return self._samples

    @property
    def pre_skip(self) -> int:
        """Samples, at the encoder's rate, by which decoded speech comes late."""
        return self._look_ahead - EARLY_SAMPLES[self._application].get(self._sample_rate, 0)

    @property
    def size(self) -> int:
        """Bytes of the container so far."""
        return self._size

    def encode(self, pcm: bytes) -> None:
        """Append whole samples.

        Raises:
            EncodingFailed: the bytes end inside a sample, libopus refused a frame, or the encoder is closed.
        """
        if len(pcm) % BYTES_PER_SAMPLE:
            raise EncodingFailed(f"{len(pcm)} bytes of PCM do not end at a whole sample")
        self._require_open()
        self._append(pcm)
        self._samples += len(pcm) // BYTES_PER_SAMPLE

    def silence(self, samples: int) -> None:
        """Append `samples` zero samples.

        Raises:
            EncodingFailed: as for `encode`.
        """
        while samples > 0:
            step = min(samples, self._sample_rate)
            self.encode(ZEROS[: step * BYTES_PER_SAMPLE])
            samples -= step

    def finish(self) -> bytes:
        """Flush the look-ahead, return the container and free the encoder.

        The decoded container holds `pre_skip` other samples, then every sample, then silence to the end of the last
        frame. Without samples the container is empty.

        Raises:
            EncodingFailed: as for `encode`.
        """
        self._require_open()
        if self._samples:
            self._append(bytes((self._look_ahead + self._frame_samples - 1) * BYTES_PER_SAMPLE))
            self._encode_blocks(self._tail, 0, len(self._tail) // self._frame_bytes * self._frame_bytes)
        pcm_bytes = rendition_bytes(self._samples, self._sample_rate)
        self.close()
        container = b"".join([HEADER.pack(self._packets, pcm_bytes), *self._parts, self._part])
        self._parts, self._part = [], bytearray()  # a caller that keeps the encoder must not hold everything twice
        return container

    def close(self) -> None:
        """Free the encoder's state; a second call is harmless, and a forgotten encoder is freed with its object."""
        self._free()

    def _create(self, speech: Effort, quiet: Quiet, *, dtx: bool) -> Any:  # noqa: ANN401 -- opuslib has no types
        binding, ctl = self._library.encoder, self._library.ctl
        with _translated(self._library):
            state = binding.create_state(self._sample_rate, CHANNELS, APPLICATIONS[self._application])
            self._free = weakref.finalize(self, binding.destroy, state)
            self._free.atexit = False  # a thread may still encode while the interpreter ends
            binding.encoder_ctl(state, ctl.set_dtx, int(dtx))
            if self._application == "audio":
                binding.encoder_ctl(state, ctl.set_signal, SIGNAL_VOICE)
            self._efforts = efforts(Controls(self._library, state), self._sample_rate, speech, quiet)
            self._look_ahead: int = binding.encoder_ctl(state, ctl.get_lookahead)
        return state

    def _append(self, pcm: bytes) -> None:
        start = 0
        if self._tail:
            start = self._block_bytes - len(self._tail)
            self._tail += pcm[:start]
            if len(self._tail) < self._block_bytes:
                return
            self._encode_blocks(self._tail, 0, self._block_bytes)
        end = start + max(0, len(pcm) - start) // self._block_bytes * self._block_bytes
        self._encode_blocks(pcm, start, end)
        self._tail = pcm[end:]

    def _encode_blocks(self, pcm: bytes, start: int, end: int) -> None:
        step = FRAMES_AT_ONCE * self._frame_bytes
        for at in range(start, end, step):
            self._encode_some(pcm, at, min(at + step, end))

    def _encode_some(self, pcm: bytes, start: int, end: int) -> None:
        view = _frames.view[: end - start]
        view[:] = memoryview(pcm)[start:end]
        pieces, at = _frames.slots(self._frame_bytes), 0
        for size in self._efforts.stretches(view):
            for skippable, count in self._runs(pcm, start, start + size):
                if skippable:
                    self._hold(SILENT_PACKET * count, count)
                else:
                    self._encode_run(pieces[at : at + count])
                at += count
            start += size

    def _runs(self, pcm: bytes, start: int, end: int) -> Iterator[tuple[bool, int]]:
        """Divide frames into runs to encode and runs to skip.

        A muted microphone and a filled gap are exact zeros. Once the encoder has settled on them, empty packets sound
        the same, cost no CPU and a quarter of the bytes; when the audio comes back the encoder goes on as if no time
        had passed.
        """
        if pcm.find(self._silence, start, end) < 0:  # the usual case: one search instead of one per frame
            self._silent_frames = 0
            yield False, (end - start) // self._frame_bytes
            return
        run, skipping = 0, False
        for offset in range(start, end, self._frame_bytes):
            silent = pcm.startswith(self._silence, offset)
            self._silent_frames = self._silent_frames + 1 if silent else 0
            skip = self._silent_frames > SETTLING_FRAMES
            if run and skip != skipping:
                yield skipping, run
                run = 0
            run, skipping = run + 1, skip
        yield skipping, run

    def _encode_run(self, pieces: Sequence[CArg]) -> None:
        # Between two frames Python runs only the call itself: libopus leaves the caches cold, and with cold caches
        # every other step costs a multiple.
        samples, room, slots = repeat(self._frame_samples), repeat(MAX_PACKET_BYTES), _packets.slots(MAX_PACKET_BYTES)
        sizes = list(map(self._library.encode, repeat(self._state), pieces, samples, slots, room))
        if min(sizes) < 0:
            raise EncodingFailed(f"libopus refused a frame: {self._library.describe(min(sizes))}")
        view, starts = _packets.view, range(0, len(sizes) * MAX_PACKET_BYTES, MAX_PACKET_BYTES)
        packets = zip(starts, sizes, strict=True)
        parts = [part for at, size in packets for part in (PACKET_LENGTHS[size], view[at : at + size])]
        self._hold(b"".join(parts), len(sizes))

    def _hold(self, packets: bytes, count: int) -> None:
        self._part += packets
        self._packets += count
        self._size += len(packets)
        if len(self._part) >= PART_BYTES:
            self._parts.append(bytes(self._part))
            self._part = bytearray()

    def _require_open(self) -> None:
        if not self._free.alive:
            raise EncodingFailed("the encoder is closed")


@contextmanager
def _translated(library: Library) -> Iterator[None]:
    try:
        yield
    except library.error as error:
        code = getattr(error, "code", 0)
        raise EncodingFailed(f"libopus refused the encoder's settings: {library.describe(code)}") from error
