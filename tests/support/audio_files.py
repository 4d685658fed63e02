"""Recorded speech as files of every format, as other programs write them, and ways in which such files get damaged."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.support.speech import speech_array

DAMAGE_BYTES = 1500


@dataclass(frozen=True)
class Kind:
    """A format as one program writes it: FFmpeg, or libsndfile where the container is in capitals.

    `claims` says that its header tells its length. `resumes` says that audio after a damage can be found again.
    """

    container: str
    codec: str
    rate: int = 16000
    options: Mapping[str, str] = field(default_factory=dict)
    claims: bool = True
    resumes: bool = True
    seekable: bool = True
    suffix: str = ""


NO_TAGS = {"write_xing": "0", "id3v2_version": "0"}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}

KINDS = {
    "mp3": Kind("mp3", "libmp3lame"),
    "mp3 without Xing": Kind("mp3", "libmp3lame", options=NO_TAGS, claims=False),
    "ogg opus": Kind("ogg", "libopus", 48000),
    "ogg vorbis": Kind("OGG", "VORBIS"),
    "flac": Kind("flac", "flac"),
    "flac of unknown length": Kind("flac", "flac", claims=False, seekable=False),
    "wav": Kind("wav", "pcm_s16le"),
    "wav without sizes": Kind("wav", "pcm_s16le", claims=False, seekable=False),
    "w64": Kind("w64", "pcm_s16le"),
    "aiff": Kind("aiff", "pcm_s16be"),
    "au": Kind("au", "pcm_s16be"),
    "caf": Kind("caf", "pcm_s16le"),
    "caf by libsndfile": Kind("CAF", "PCM_16"),
    "caf with ALAC": Kind("CAF", "ALAC_16"),
    "webm": Kind("webm", "libopus", 48000),
    "webm of a live recording": Kind("webm", "libopus", 48000, {"live": "1"}, claims=False, seekable=False),
    "matroska": Kind("matroska", "flac"),
    "m4a": Kind("ipod", "aac", resumes=False),
    "fragmented mp4": Kind("mp4", "aac", options=FRAGMENTS, resumes=False),
    "aac": Kind("adts", "aac", claims=False),
    "amr": Kind("amr", "libopencore_amrnb", 8000, claims=False, resumes=False),
}
EXACT = ("pcm", "flac", "PCM", "ALAC")
"""Codecs that give back every sample."""


def audio_file(kind: str, seconds: float, *, offset: float = 0.0) -> bytes:
    """Speech, `offset` seconds into the recording."""
    return _made(kind, seconds, offset)


@cache
def _made(kind: str, seconds: float, offset: float) -> bytes:
    chosen = KINDS[kind]
    samples = speech_array(seconds, chosen.rate, offset=offset)
    if chosen.container.isupper():
        file = io.BytesIO()
        soundfile.write(file, samples, chosen.rate, format=chosen.container, subtype=chosen.codec)
        return file.getvalue()
    return encoded(samples, chosen)


def encoded(samples: NDArray[np.int16], kind: Kind) -> bytes:
    """Mono samples in a file."""
    file = io.BytesIO()
    target: Any = file if kind.seekable else Pipe(file)
    with av.open(target, "w", kind.container, options=dict(kind.options)) as container:
        stream: Any = container.add_stream(kind.codec, rate=kind.rate)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = kind.rate, 0
        cut = av.AudioResampler(stream.format.name, "mono", kind.rate, stream.codec_context.frame_size or 1024)
        for part in [*cut.resample(frame), *cut.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return file.getvalue()


class Pipe:
    """What a program writes to or reads from if it can't seek."""

    def __init__(self, file: io.BytesIO) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        return self._file.write(data)


def _middle(data: bytes) -> int:
    return len(data) // 2


def overwritten(data: bytes) -> bytes:
    """Random bytes in the place of some in the middle."""
    at = _middle(data)
    return data[:at] + random.Random(at).randbytes(DAMAGE_BYTES) + data[at + DAMAGE_BYTES :]


def inserted(data: bytes) -> bytes:
    """Random bytes between others in the middle."""
    at = _middle(data)
    return data[:at] + random.Random(at).randbytes(DAMAGE_BYTES) + data[at:]


def lacking(data: bytes) -> bytes:
    """Without some kilobytes in the middle."""
    at = _middle(data)
    return data[:at] + data[at + 4 * DAMAGE_BYTES :]


def cut_off(data: bytes) -> bytes:
    """Only the first half, and a few bytes more, so that it ends inside a frame of any format."""
    return data[: _middle(data) + 7]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "overwritten": overwritten,
    "inserted": inserted,
    "lacking": lacking,
    "cut off": cut_off,
}


def mutilated(data: bytes, seed: int) -> bytes:
    """Some random damages at random places; the beginning is hit more often than by chance."""
    dice, damaged = random.Random(seed), bytearray(data)
    for _ in range(dice.randint(1, 6)):
        at = int(len(damaged) * dice.random() ** dice.choice((1, 4)))
        size = dice.choice((1, 4, 40, 3000))
        replaced = dice.choice((0, 1, size, len(damaged)))
        damaged[at : at + replaced] = dice.randbytes(dice.choice((0, 1, size)))
    return bytes(damaged)
