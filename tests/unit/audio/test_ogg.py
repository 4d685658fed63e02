"""Pages and links of Ogg Opus, compared with what the RFCs say and with what FFmpeg reads."""

from __future__ import annotations

import io
import os

import av
import numpy as np
import pytest

from codec.container import packets
from codec.opus import Encoder
from tests.support.ogg_reader import read_ogg_opus, slow_crc
from tests.support.speech import speech
from worker.audio.ogg import Page, crc, lacing_values, read_page_header
from worker.audio.writing.ogg_opus import MAX_PRE_SKIP, OggOpusWriter, Trim, packet_samples


def opus(seconds: float, rate: int = 16000) -> tuple[list[bytes], Encoder]:
    encoder = Encoder(rate, complexity=5)
    encoder.encode(speech(seconds, rate))
    return list(packets(encoder.finish())), encoder


def test_crc_is_that_of_rfc_3533() -> None:
    assert crc(b"123456789") == 0x89A1897F
    for size in (0, 1, 27, 300, 65307):
        data = os.urandom(size)
        assert crc(data) == slow_crc(data)


@pytest.mark.parametrize(("size", "values"), [(0, [0]), (1, [1]), (254, [254]), (255, [255, 0]), (511, [255, 255, 1])])
def test_packet_of_a_multiple_of_255_bytes_ends_with_an_empty_segment(size: int, values: list[int]) -> None:
    assert list(lacing_values(bytes(size))) == values


def test_page_has_at_most_255_segments() -> None:
    page = Page((bytes(254),) * 255, 7, 1, 2).pack()
    header = read_page_header(page)
    assert header is not None
    assert header.size == len(page) == 27 + 255 + 255 * 254
    with pytest.raises(ValueError, match="256 segments"):
        Page((b"",) * 256, 7, 1, 2).pack()


@pytest.mark.parametrize(
    ("first", "samples"),
    [(0x00, 480), (0x08, 960), (0x48, 960), (0x18, 2880), (0x60, 480), (0x68, 960), (0x80, 120), (0xF8, 960)],
)
def test_packets_tell_their_length_in_the_first_byte(first: int, samples: int) -> None:
    assert packet_samples(bytes((first,))) == samples
    assert packet_samples(bytes((first | 1, 0))) == 2 * samples
    assert packet_samples(bytes((first | 3, 2))) == 2 * samples


@pytest.mark.parametrize("keep", [1, 959, 960, 48000, 96001, 3 * 48000])
def test_link_is_as_long_as_wanted_to_the_sample(keep: int) -> None:
    made, encoder = opus(3)
    data = b"".join(OggOpusWriter().link(made, Trim(encoder.pre_skip * 3, keep), 16000))

    (link,) = read_ogg_opus(data)
    assert (link.pre_skip, link.samples, link.input_rate, link.ended) == (encoder.pre_skip * 3, keep, 16000, True)
    with av.open(io.BytesIO(data), "r") as container:
        assert sum([frame.samples for frame in container.decode(container.streams.audio[0])]) == keep


def test_packets_long_before_a_cut_are_left_out_but_not_those_that_lead_to_it() -> None:
    made, encoder = opus(10)
    whole = b"".join(OggOpusWriter().link(made, Trim(encoder.pre_skip * 3, 480000), 16000))
    data = b"".join(OggOpusWriter().link(made, Trim(encoder.pre_skip * 3 + 240000, 48000), 16000))

    (cut,), (original,) = read_ogg_opus(data), read_ogg_opus(whole)
    assert 48000 <= cut.pre_skip < MAX_PRE_SKIP
    assert cut.samples == 48000
    assert len(cut.packets) < 110
    heard, there = (np.frombuffer(link.pcm(16000), "<i2").astype(int) for link in (cut, original))
    assert np.std(heard - there[80000:96000]) < 0.01 * np.std(heard)


def test_too_few_packets_make_a_shorter_link() -> None:
    made, encoder = opus(1)
    writer = OggOpusWriter()
    (link,) = read_ogg_opus(b"".join(writer.link(made, Trim(encoder.pre_skip * 3, 480000), 16000)))
    assert link.samples == writer.samples == len(made) * 960 - link.pre_skip


@pytest.mark.parametrize("samples", [1, 960, 48001, 10 * 48000 + 17])
def test_silence_is_silent_and_as_long_as_wanted(samples: int) -> None:
    (link,) = read_ogg_opus(b"".join(OggOpusWriter().silence(samples, 16000)))
    assert link.samples == samples
    assert link.pcm(48000) == bytes(2 * samples)
