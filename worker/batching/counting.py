"""Counts the chunks that come, and what their numbers and times say of missing audio."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from codec.entry import Chunk
from codec.sessions import session_name
from worker.batching.resumed_batch import ParsedEntry
from worker.model.causes import GapHandling
from worker.model.recent_chunks import RecentChunks
from worker.model.states import Trigger
from worker.runtime.context import Context

log = structlog.get_logger()


class ChunkCounter:
    """The metrics of the chunks of one partition; `belongs` tells whether a conversation is of this partition."""

    def __init__(self, belongs: Callable[[str], bool], context: Context) -> None:
        self._belongs = belongs
        self._metrics = context.metrics
        self._digest = context.digest

    def chunk(self, chunk: Chunk, history: RecentChunks) -> None:
        """Count a chunk that has come, and the numbers that are missing before it."""
        self._metrics.chunks.inc()
        self._metrics.received_bytes.inc(len(chunk.pcm))
        self._metrics.received_seconds.inc(chunk.duration)
        if chunk.trimmed:
            self._metrics.trimmed.inc()
        if not self._belongs(chunk.conversation_id):
            self._metrics.misplaced.inc()
        skipped = history.follow(chunk.session, chunk.seq) if chunk.seq is not None else 0
        if skipped > 0:
            self._metrics.seq_missing.inc(skipped)
        elif skipped < 0:
            self._metrics.seq_reordered.inc()

    def deleted(self) -> None:
        """Count a chunk whose audio was deleted on demand."""
        self._metrics.deleted.inc()

    def silence(self, samples: int, sample_rate: int) -> None:
        """Count a gap that becomes silence; there is none without samples."""
        if samples:
            self._metrics.gaps.labels(GapHandling.SILENCE).inc()
            self._metrics.silence_seconds.inc(samples / sample_rate)

    def cut(self, trigger: Trigger) -> None:
        """Count a gap if that is why a batch closes."""
        if trigger is Trigger.GAP:
            self._metrics.gaps.labels(GapHandling.CLOSED).inc()

    def end(self, end: ParsedEntry, history: RecentChunks, *, batch_is_open: bool) -> None:
        """Count the chunks that an end tells of and that never came; log them if no blob can note them."""
        missing = history.missing_at_end(end.content.session, end.content.seq)
        self._metrics.seq_missing.inc(missing)
        if missing and not batch_is_open:
            self._digest.note(
                log.warning,
                "end.chunks_missing",
                conversation=str(end.conversation),
                session=session_name(end.content.session),
                pushed=end.content.seq,
                sums={"missing": missing},
            )
