"""Computes where each blob lies in a recording, to the sample, without its audio."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from worker.archive.blobs.alternatives import AudioAlternatives
from worker.archive.playback.repeated_audio import MeasuredBlob
from worker.archive.playback.timeline import MergeRules, Timeline


@dataclass(frozen=True, slots=True)
class PlacedBlob:
    """A blob that is heard from the sample `first` on, for `samples`, both at the recording's rate.

    Before it, `silence` samples fill a gap, and `left_out` seconds of a longer gap are not in the recording. `cut`
    samples at the blob's own rate are not heard, because audio before it overlaps.
    """

    span: MeasuredBlob
    source: AudioAlternatives
    first: int
    samples: int
    silence: int = 0
    left_out: float = 0.0
    cut: int = 0

    @property
    def last(self) -> int:
        """The sample after its end."""
        return self.first + self.samples

    @property
    def cut_seconds(self) -> float:
        """Seconds at its beginning that are not heard."""
        return self.cut / self.span.blob.sample_rate


def place_blobs(
    spans: Sequence[MeasuredBlob], sources: Sequence[AudioAlternatives], rules: MergeRules, rate: int
) -> Iterator[PlacedBlob]:
    """Blobs in time order at their places in a recording of `rate` Hz, the same as those in a download.

    Blobs of which nothing is heard are left out.
    """
    timeline = Timeline(rules)
    run = _Run(0, 0)
    for span, source in zip(spans, sources, strict=True):
        own_rate, left_out = span.blob.sample_rate, timeline.left_out
        adjustment = timeline.place(span.start)
        silence = round(adjustment.silence * rate)
        timeline.append(silence / rate)
        heard = timeline.trim(adjustment, span.seconds)
        cut = round(adjustment.cut * own_rate)
        samples = round(span.seconds * own_rate) - cut
        if heard <= 0 or samples <= 0:
            if silence:
                run = _Run(run.end(rate) + silence, own_rate)
            continue
        if silence or own_rate != run.own_rate:
            run = _Run(run.end(rate) + silence, own_rate)
        first = run.end(rate)
        run.samples += samples
        timeline.append(samples / own_rate)
        yield PlacedBlob(span, source, first, run.end(rate) - first, silence, timeline.left_out - left_out, cut)


@dataclass(slots=True)
class _Run:
    """Blobs of one rate without a gap: their lengths are rounded together, as one resampler does it."""

    first: int
    own_rate: int
    samples: int = 0

    def end(self, rate: int) -> int:
        return self.first + (round(self.samples * rate / self.own_rate) if self.own_rate else 0)
