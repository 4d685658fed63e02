"""Blobs of a conversation become one recording: fetched in parallel, placed in order, streamed block by block."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from codec.blob import Audio
from codec.entry import SAMPLE_RATES
from worker.archive.blobs.alternatives import AudioAlternatives, all_exact
from worker.archive.blobs.listing import Blob, UnknownObject
from worker.archive.blobs.ordered import ordered
from worker.archive.blobs.progress import Progress, unseen
from worker.archive.blobs.read_ahead import AHEAD, AHEAD_BYTES, footprint
from worker.archive.blobs.reading import Problem, Reader
from worker.archive.playback.opus_links import OpusLinks
from worker.archive.playback.pieces import Piece, piece_of
from worker.archive.playback.repeated_audio import MeasuredBlob, Repeat, RepeatFilter, longest
from worker.archive.playback.resampling import Resampler
from worker.archive.playback.selection import Selected
from worker.archive.playback.timeline import MergeRules, Timeline
from worker.errors import NothingReadable, NothingStored, StoreError, WrongSecrets


@dataclass(slots=True)
class DownloadReport:
    """The report on a recording; it is final when the recording has been streamed.

    `start` is in Unix seconds, `samples` are at `sample_rate` (Hz). `silence` is the seconds of gaps that were filled,
    `left_out` of gaps that were not. `shifted` is the most seconds by which audio was moved because of an overlap.
    `trimmed` is the seconds of audio that were cut because of overlaps. `blobs` counts the blobs in the recording.
    `repeated` are blobs that were left out because their audio is in another blob too. `missing` are the timestamps for
    which nothing is stored. `unknown` are the conversation's objects that are not blobs. `encoded` counts blobs of PCM
    that became Opus for an Ogg file.
    """

    sample_rate: int
    start: float | None = None
    samples: int = 0
    blobs: int = 0
    silence: float = 0.0
    left_out: float = 0.0
    shifted: float = 0.0
    trimmed: float = 0.0
    problems: list[Problem] = field(default_factory=list)
    missing: list[float] = field(default_factory=list)
    repeated: list[Repeat] = field(default_factory=list)
    unknown: list[UnknownObject] = field(default_factory=list)
    encoded: int = 0

    @property
    def seconds(self) -> float:
        """Length of the recording in seconds."""
        return self.samples / self.sample_rate

    @property
    def complete(self) -> bool:
        """Whether all requested audio could be read."""
        return not self.problems and not self.missing

    def check(self) -> None:
        """Make sure that there is audio in the recording; for use when it has been streamed.

        Raises:
            NothingStored: no audio lies in the selected time.
            NothingReadable: blobs are there, but none could be read; `WrongSecrets` if the secrets open none of them.
            StoreError: the store refuses to give any of them.
        """
        if self.blobs:
            return
        if not self.problems:
            raise NothingStored("no audio lies in the selected time")
        first, number = self.problems[0], len(self.problems)
        if all(problem.undecryptable for problem in self.problems):
            raise WrongSecrets(
                f"the audio is stored, but none of {number} blobs can be read with the given secrets;"
                f" {first.name}: {first.reason}; give the secret that encrypted it"
            )
        causes = [problem.cause for problem in self.problems if problem.cause is not None]
        if len(causes) == number:
            raise StoreError(f"none of {number} blobs can be read; {first.name}: {first.reason}", cause=causes[0])
        raise NothingReadable(
            f"the audio is stored, but none of {number} blobs can be read; {first.name}: {first.reason}"
        )


class Renderer(Protocol):
    """Makes the bytes of a recording from pieces; `samples` counts those in it, at the report's rate."""

    @property
    def samples(self) -> int:
        """The samples so far."""
        ...

    def add(self, piece: Piece) -> Iterator[bytes]:
        """Put a piece after what was added before."""
        ...

    def finish(self) -> Iterator[bytes]:
        """What is still held."""
        ...


class Download:
    """One recording as a stream: iterate over its PCM (s16le mono) once, then read its `report`.

    Raises, while iterated:
        RuntimeError: it has been iterated before; the report describes that iteration.
        StoreError: the store does not answer. Blobs that can't be read raise nothing; they are problems in the report,
            whose `check` tells whether there was any audio.
    """

    def __init__(
        self,
        reader: Reader,
        selected: Selected,
        *,
        rules: MergeRules,
        sample_rate: int | None,
        progress: Progress = unseen,
    ) -> None:
        self._reader = reader
        self._sources = selected.sources
        self._selection = selected.selection
        self._exact = all_exact(selected.sources)
        self._rules = rules.exact() if self._exact else rules
        self._progress = progress
        self._begun = False
        self._wants_packets = False
        self.report = DownloadReport(sample_rate or highest_rate(selected.sources), missing=list(selected.missing))

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        timeline = Timeline(self._rules)
        async with aclosing(self._rendered(Resampler(timeline, self.report.sample_rate), timeline)) as blocks:
            async for pcm in blocks:
                yield pcm

    async def ogg_opus(self) -> AsyncGenerator[bytes, None]:
        """The recording as the bytes of an Ogg Opus file, in place of PCM: Opus packets are copied as they are stored.

        Each blob is a link of its own. Its decoded samples are those of the blob. PCM is encoded: `report.encoded`
        counts it. Raises as iteration does.
        """
        timeline = Timeline(self._rules)
        links = OpusLinks(timeline, self.report.sample_rate)
        self._wants_packets = True
        async with aclosing(self._rendered(links, timeline)) as blocks:
            async for pages in blocks:
                yield pages
        self.report.encoded = links.encoded

    async def _rendered(self, renderer: Renderer, timeline: Timeline) -> AsyncGenerator[bytes, None]:
        if self._begun:
            raise RuntimeError("a download can be iterated once: begin another one")
        self._begun = True
        fetched = ordered(self._sources, self._fetch, limit=AHEAD, weight=footprint, budget=AHEAD_BYTES)
        heard = RepeatFilter(self._reader)
        async with aclosing(fetched) as sources:
            number = 0
            async for span, problems in sources:
                self.report.problems += problems
                if span is not None and span.audio is not None and not await self._is_repeated(heard, span):
                    for block in self._placed(renderer, span, span.audio):
                        yield block
                number += 1
                self._progress(number, len(self._sources))
        for block in renderer.finish():
            yield block
        self._conclude(timeline, renderer.samples)

    @property
    def expected_seconds(self) -> float:
        """Its length in seconds, as far as it is known without reading: blobs of unknown length count as empty."""
        timeline = Timeline(self._rules)
        for source in self._sources:
            known = next((blob.duration for blob in source.alternatives if blob.duration is not None), 0.0)
            start = max(source.start, self._selection.since or 0.0)
            end = min(source.start + known, math.inf if self._selection.until is None else self._selection.until)
            if end > start:
                placement = timeline.place(start)
                timeline.append(placement.silence + timeline.trim(placement, end - start))
        return timeline.seconds - timeline.left_out

    async def pcm(self) -> bytes:
        """All its PCM at once."""
        return b"".join([block async for block in self])

    def _conclude(self, timeline: Timeline, samples: int) -> None:
        report = self.report
        report.start, report.samples = timeline.start, samples
        report.silence, report.left_out = timeline.silence, timeline.left_out
        report.shifted, report.trimmed = timeline.shifted, timeline.trimmed

    async def _is_repeated(self, heard: RepeatFilter, span: MeasuredBlob) -> bool:
        whole = await heard.holder(span)
        if whole is not None:
            self.report.repeated.append(Repeat(span.blob.path, whole.blob.path))
        return whole is not None

    def _placed(self, renderer: Renderer, span: MeasuredBlob, audio: Audio) -> Iterator[bytes]:
        piece = piece_of(span, audio, self._selection.since, self._selection.until)
        if piece.audio.samples:
            self.report.blobs += 1
            yield from renderer.add(piece)

    async def _fetch(self, source: AudioAlternatives) -> tuple[MeasuredBlob | None, list[Problem]]:
        if self._wants_packets:  # the same audio as Opus, if there is some, needs no encoder
            source = AudioAlternatives(sorted(source.alternatives, key=lambda blob: blob.codec != "opus"))
        return await longest(source, self._read)

    async def _read(self, blob: Blob) -> MeasuredBlob:
        if not self._wants_packets:
            audio = await self._reader.audio(blob)
            return MeasuredBlob(blob, audio.duration, audio, self._exact)
        content = await self._reader.content(blob)
        audio = await self._reader.decoded(blob, content)
        return MeasuredBlob(blob, audio.duration, audio, self._exact, content if blob.codec == "opus" else None)


def highest_rate(sources: list[AudioAlternatives]) -> int:
    """The highest rate of the sources in Hz, up to the highest that pushers may use."""
    found = max(blob.sample_rate for source in sources for blob in source.alternatives)
    return min(found, max(SAMPLE_RATES))
