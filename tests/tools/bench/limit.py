"""The limit: a loop in C around opus_encode, of the library, settings and audio that the worker has.

Without a C compiler the loop runs in Python, which costs about a hundredth more.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codec.libopus import library
from codec.opus.encoder import APPLICATIONS, SIGNAL_VOICE
from tests.tools.bench.audio import RATE

FRAME_SAMPLES = RATE // 50
MAX_PACKET_BYTES = 1276
SOURCE = """
#include <stdint.h>
typedef int32_t (*encode_function)(void *, const int16_t *, int, unsigned char *, int32_t);
int32_t encode_all(encode_function encode, void *state, const int16_t *pcm, int32_t frames, int32_t samples,
                   unsigned char *packets)
{
    int32_t used = 0;
    for (int32_t i = 0; i < frames; i++) {
        int32_t size = encode(state, pcm + i * samples, samples, packets + used + 2, 1276);
        if (size < 0) return size;
        packets[used] = size & 255;
        packets[used + 1] = size >> 8;
        used += 2 + size;
    }
    return used;
}
"""


@dataclass(frozen=True, slots=True)
class Encoded:
    """CPU seconds, and bytes with 2 for each packet's length."""

    cpu: float
    bytes: int


class Limit:
    """Encodes audio-minutes as fast as libopus can."""

    def __init__(self, directory: Path) -> None:
        self._loop = _compiled(directory)

    @property
    def is_compiled(self) -> bool:
        """Whether the loop is C."""
        return self._loop is not None

    def encode(self, pcm: bytes, *, complexity: int, bitrate: int | None = None, dtx: bool = False) -> Encoded:
        """One fresh encoder over all whole frames; its making is part of the time."""
        packets = ctypes.create_string_buffer(len(pcm) // 2 // FRAME_SAMPLES * (2 + MAX_PACKET_BYTES))
        ctypes.memset(packets, 1, len(packets))  # the kernel's page faults are not libopus' work
        began = time.thread_time()
        state = _state(complexity, bitrate, dtx=dtx)
        used = self._run(state, pcm, packets)
        library().encoder.destroy(state)
        return Encoded(time.thread_time() - began, used)

    def _run(self, state: Any, pcm: bytes, packets: ctypes.Array[ctypes.c_char]) -> int:
        frames = len(pcm) // 2 // FRAME_SAMPLES
        if self._loop is None:
            return _run_in_python(state, pcm, frames, packets)
        encode = ctypes.cast(ctypes.CDLL(library().path).opus_encode, ctypes.c_void_p)
        return int(self._loop(encode, state, pcm, frames, FRAME_SAMPLES, packets))


def _compiled(directory: Path) -> Any:
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    source, target = directory / "loop.c", directory / "loop.so"
    source.write_text(SOURCE)
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", target, source], check=True)
    return ctypes.CDLL(str(target)).encode_all


def _state(complexity: int, bitrate: int | None, *, dtx: bool) -> Any:
    binding, ctl = library().encoder, library().ctl
    state = binding.create_state(RATE, 1, APPLICATIONS["audio"])
    binding.encoder_ctl(state, ctl.set_signal, SIGNAL_VOICE)
    binding.encoder_ctl(state, ctl.set_complexity, complexity)
    binding.encoder_ctl(state, ctl.set_dtx, int(dtx))
    if bitrate is not None:
        binding.encoder_ctl(state, ctl.set_bitrate, bitrate)
    return state


def _run_in_python(state: Any, pcm: bytes, frames: int, packets: ctypes.Array[ctypes.c_char]) -> int:
    encode, byref, place = library().encode, ctypes.byref, ctypes.byref(state.contents)
    source = ctypes.c_char.from_address(ctypes.cast(ctypes.c_char_p(pcm), ctypes.c_void_p).value or 0)
    used = 0
    for frame in range(0, frames * FRAME_SAMPLES * 2, FRAME_SAMPLES * 2):
        used += 2 + encode(place, byref(source, frame), FRAME_SAMPLES, byref(packets, used + 2), MAX_PACKET_BYTES)
    return used
