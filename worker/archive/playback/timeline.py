"""Places pieces of audio in time: gaps become silence, overlaps are shifted or trimmed. Pure arithmetic on time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Real
from typing import NamedTuple

from codec.arguments import check_types
from codec.blob import Audio
from codec.entry import BYTES_PER_SAMPLE
from worker.model.jitter import GAP_TOLERANCE

LONGEST_FILL = 24 * 3600.0
"""Seconds: recordings do not have longer pauses, but a wrong timestamp may ask for thousands of years."""

TRUSTED_TOLERANCE = 0.001
"""Seconds by which a trusted timestamp may be off: names are rounded to the millisecond."""


@dataclass(frozen=True, slots=True)
class MergeRules:
    """How blobs are put together; `gap_tolerance` in seconds.

    Timestamps jitter, sample counts do not. Audio within the tolerance of its place by the sample count follows without
    a gap. A longer gap becomes silence (`fill_gaps`). Audio that would begin before the end of the placed audio is
    shifted to that end. `trim_overlaps` trusts the timestamps: it cuts the beginning of audio that overlaps. Blobs that
    all have exact starts (`Blob.exact_start`) are placed by these, as with `trim_overlaps`.

    Raises:
        WrongType: a value has a wrong type.
    """

    fill_gaps: bool = True
    trim_overlaps: bool = False
    gap_tolerance: float = GAP_TOLERANCE

    def __post_init__(self) -> None:
        check_types(bool, fill_gaps=self.fill_gaps, trim_overlaps=self.trim_overlaps)
        check_types(Real, gap_tolerance=self.gap_tolerance)

    def exact(self) -> MergeRules:
        """The same rules for audio whose timestamps are exact: gaps count from a millisecond on, overlaps are cut."""
        return replace(self, trim_overlaps=True)

    @property
    def longest_fill(self) -> float:
        """The most seconds of silence in one place."""
        return LONGEST_FILL if self.fill_gaps else 0.0


class Adjustment(NamedTuple):
    """The adjustment before a piece of audio: seconds of silence, or seconds to cut off its beginning."""

    silence: float = 0.0
    cut: float = 0.0


class Timeline:
    """Places pieces of audio in the order of their starts.

    `shifted` is the most seconds by which audio had to be moved. `silence` and `left_out` are seconds of gaps that were
    filled and of gaps that were not. `trimmed` are seconds of audio that were cut off because of overlaps.
    """

    def __init__(self, rules: MergeRules) -> None:
        self._rules = rules
        self._start: float | None = None
        self._seconds = 0.0
        self.shifted = 0.0
        self.silence = 0.0
        self.left_out = 0.0
        self.trimmed = 0.0

    @property
    def start(self) -> float | None:
        """Start of the first piece in Unix seconds."""
        return self._start

    @property
    def seconds(self) -> float:
        """Seconds from the first start to the end of the piece that was placed last."""
        return self._seconds

    def place(self, start: float) -> Adjustment:
        """Decide on audio that should begin at `start` (Unix seconds)."""
        if self._start is None:
            self._start = start
            return Adjustment()
        drift = start - self._start - self._seconds
        if drift > self._tolerance:
            return self._after_gap(drift)
        if drift < 0 and self._rules.trim_overlaps:
            return Adjustment(cut=-drift if drift < -TRUSTED_TOLERANCE else 0.0)
        if drift < -self._rules.gap_tolerance:
            self.shifted = max(self.shifted, -drift)
        return Adjustment()

    def append(self, seconds: float) -> None:
        """Note that so many seconds of audio or silence were put at the end."""
        self._seconds += seconds

    def trim(self, placement: Adjustment, seconds: float) -> float:
        """The seconds that are left of a piece of so many `seconds` at its place; the others count as trimmed."""
        cut = min(placement.cut, seconds)
        self.trimmed += cut
        return seconds - cut

    @property
    def _tolerance(self) -> float:
        return TRUSTED_TOLERANCE if self._rules.trim_overlaps else self._rules.gap_tolerance

    def _after_gap(self, drift: float) -> Adjustment:
        if drift <= self._rules.longest_fill:
            self.silence += drift
            return Adjustment(silence=drift)
        self.left_out += drift
        self._seconds += drift  # the time passed nevertheless
        return Adjustment()


def cropped(start: float, audio: Audio, since: float | None, until: float | None) -> tuple[float, Audio]:
    """The start and the audio of the part between `since` and `until` (Unix seconds); the part may be empty."""
    first, last = 0, audio.samples
    if since is not None:
        first = round(min(max(0.0, since - start), audio.duration) * audio.sample_rate)
    if until is not None:
        last = max(first, round(min(max(0.0, until - start), audio.duration) * audio.sample_rate))
    if (first, last) == (0, audio.samples):
        return start, audio
    pcm = audio.pcm[first * BYTES_PER_SAMPLE : last * BYTES_PER_SAMPLE]
    return start + first / audio.sample_rate, Audio(pcm, audio.sample_rate)
