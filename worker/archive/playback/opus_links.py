"""Ogg Opus from blobs: their packets as they are stored; only audio that is not Opus is encoded."""

from __future__ import annotations

from collections.abc import Iterator

from codec.blob import Audio
from codec.container import packets
from codec.entry import BYTES_PER_SAMPLE, SAMPLE_RATES
from codec.opus import Encoder
from worker.archive.playback.pieces import Piece
from worker.archive.playback.timeline import Timeline
from worker.audio.pcm_converter import pcm_converter
from worker.audio.writing.ogg_opus import OPUS_RATE, OggOpusWriter, Trim

COMPLEXITY = 10
"""For old PCM: the best quality, as this audio is encoded only once."""


class OpusLinks:
    """Gives the bytes of one Ogg Opus file: a link for each piece, and for each gap one of silence.

    A piece that begins inside a blob is cut there: up to a second before it is in the file, and decoders drop it.
    `samples` counts those that are heard, at `sample_rate` Hz, and `encoded` the pieces that were not Opus.
    """

    def __init__(self, timeline: Timeline, sample_rate: int) -> None:
        self._timeline = timeline
        self._rate = sample_rate
        self._writer = OggOpusWriter()
        self.encoded = 0

    @property
    def samples(self) -> int:
        """The samples so far."""
        return round(self._writer.samples * self._rate / OPUS_RATE)

    def add(self, piece: Piece) -> Iterator[bytes]:
        """Put a piece after what was added before."""
        rate = piece.audio.sample_rate
        placement = self._timeline.place(piece.start)
        if placement.silence:
            silence = round(placement.silence * OPUS_RATE)
            self._timeline.append(silence / OPUS_RATE)
            yield from self._writer.silence(silence, rate)
        cut = round(placement.cut * rate)
        if piece.audio.samples <= cut:
            return
        self._timeline.append((piece.audio.samples - cut) / rate)
        yield from self._stored(piece, cut) if piece.source.content is not None else self._made(piece, cut)

    def finish(self) -> Iterator[bytes]:
        """Nothing: every link is complete."""
        return iter(())

    def _stored(self, piece: Piece, cut: int) -> Iterator[bytes]:
        facts, rate = piece.source.blob.facts, piece.audio.sample_rate
        pre_skip = facts.pre_skip or 0 if facts.sample_rate in SAMPLE_RATES else 0
        ratio = OPUS_RATE // rate
        trim = Trim((pre_skip + piece.first + cut) * ratio, (piece.audio.samples - cut) * ratio)
        return self._writer.link(packets(piece.source.content or b""), trim, rate)

    def _made(self, piece: Piece, cut: int) -> Iterator[bytes]:
        self.encoded += 1
        audio = _encodable(Audio(piece.audio.pcm[cut * BYTES_PER_SAMPLE :], piece.audio.sample_rate))
        encoder = Encoder(audio.sample_rate, complexity=COMPLEXITY)
        encoder.encode(audio.pcm)
        ratio, pre_skip = OPUS_RATE // audio.sample_rate, encoder.pre_skip
        trim = Trim(pre_skip * ratio, audio.samples * ratio)
        return self._writer.link(packets(encoder.finish()), trim, audio.sample_rate)


def _encodable(audio: Audio) -> Audio:
    """The audio at a rate that Opus has."""
    rate = min((rate for rate in SAMPLE_RATES if rate >= audio.sample_rate), default=max(SAMPLE_RATES))
    if rate == audio.sample_rate:
        return audio
    converter = pcm_converter(audio.sample_rate, rate)
    return Audio(converter.convert(audio.pcm) + converter.rest(), rate)
