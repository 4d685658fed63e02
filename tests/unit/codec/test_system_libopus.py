"""What the system's libopus, such as Debian 12's 1.3.1, hears in our packets: exact lengths, no edge at the gate."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable, Iterable
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from codec.effort import AS_SPEECH, Quiet
from codec.speech_gate import BLOCKS_PER_SECOND, HANGOVER_BLOCKS
from numpy.typing import NDArray

from codec.container import packets, read_header
from codec.entry import SAMPLE_RATES
from codec.opus import Encoder, decode
from tests.support.noises import RATE, coloured, s16, to_level
from tests.support.speech import speech_array

FRAME = RATE // 50
BLOCK = RATE // BLOCKS_PER_SECOND
LOW = Quiet(complexity=1)
LOWEST = Quiet(complexity=1, bitrate=12_000)
CLOSED = slice((HANGOVER_BLOCKS + 2) * BLOCK, None)
Samples = NDArray[np.int16]


@cache
def system_libopus() -> ctypes.CDLL:
    found = ctypes.util.find_library("opus")
    assert found, "install libopus0, as .ci/setup does"
    library = ctypes.CDLL(found)
    library.opus_decoder_create.restype = ctypes.c_void_p
    library.opus_decode.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        *(ctypes.c_int32, ctypes.c_void_p),
        *(ctypes.c_int,) * 2,
    ]
    library.opus_decoder_destroy.argtypes = [ctypes.c_void_p]
    return library


def decoded_by_the_system(container: bytes) -> Samples:
    """As the production reader does it: every packet gives 20 ms at 16 kHz."""
    library, error = system_libopus(), ctypes.c_int()
    decoder = library.opus_decoder_create(RATE, 1, ctypes.byref(error))
    assert error.value == 0
    frames = [_frame(library, decoder, packet) for packet in packets(container)]
    library.opus_decoder_destroy(decoder)
    return np.concatenate(frames)


def _frame(library: ctypes.CDLL, decoder: int, packet: bytes) -> Samples:
    frame = np.zeros(FRAME, np.int16)
    assert library.opus_decode(decoder, packet, len(packet), frame.ctypes.data, FRAME, 0) == FRAME
    return frame


def decoded_by_us(container: bytes) -> Samples:
    return np.frombuffer(decode(container), "<i2")


DECODERS: dict[str, Callable[[bytes], Samples]] = {"system": decoded_by_the_system, "ours": decoded_by_us}


def encoded(samples: Samples, quiet: Quiet, rate: int = RATE) -> bytes:
    encoder = Encoder(rate, complexity=6, quiet=quiet)
    encoder.encode(samples.tobytes())
    return encoder.finish()


def room(seconds: float, slope: float) -> Samples:
    return s16(to_level(coloured(np.random.default_rng(3), slope, round(seconds * RATE)), -50))


def level(samples: Samples) -> float:
    return float(10 * np.log10(np.square(samples, dtype=float).mean()))


@pytest.mark.parametrize("rate", SAMPLE_RATES)
@pytest.mark.parametrize("quiet", [LOW, LOWEST])
def test_system_decodes_exactly_the_length_that_the_container_tells(rate: int, quiet: Quiet) -> None:
    count = 5 * rate + 77
    container = encoded(np.resize(room(5, 0.5), count), quiet, rate)
    heard = decoded_by_the_system(container)
    assert len(heard) == FRAME * sum(1 for _ in packets(container))
    assert read_header(container).pcm_bytes == 2 * (count * RATE // rate)
    assert len(heard) * 2 >= read_header(container).pcm_bytes


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("slope", [0, 0.5, 1], ids=["white", "pink", "brown"])
def test_level_of_steady_noise_hardly_steps_where_the_gate_closes(slope: float, decoder: str) -> None:
    samples = room(6, slope)
    full, less = (DECODERS[decoder](encoded(samples, quiet))[CLOSED] for quiet in (AS_SPEECH, LOW))
    assert abs(level(less) - level(full)) < 1.1  # who listens for it hears a step of one decibel in noise


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("quiet", [LOW, LOWEST])
def test_nothing_clicks_where_the_gate_opens_and_closes(quiet: Quiet, decoder: str) -> None:
    samples = room(9, 0.5)
    samples[3 * RATE : 4 * RATE] += speech_array(1)
    full, less = (DECODERS[decoder](encoded(samples, each)).astype(int) for each in (AS_SPEECH, quiet))
    switches = [3 * RATE, 4 * RATE + HANGOVER_BLOCKS * BLOCK]
    for switch in switches:
        around = slice(switch - BLOCK, switch + 4 * BLOCK)
        assert _step(less[around]) < 1.5 * max(_step(full[around]), _step(full[CLOSED][:RATE]))


def _step(samples: Iterable[int]) -> int:
    """The greatest between neighbours."""
    return max(abs(after - before) for before, after in pairwise(samples))
