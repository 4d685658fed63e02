"""Prometheus metrics: stable names, bounded labels (never a uid or a conversation)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from worker.model.causes import (
    COUNTED_REWINDS,
    SETTLED_FATES,
    DeadLetterKind,
    GapHandling,
    LastOwner,
    SpoolCause,
    SpoolOutcome,
    StoreCause,
    StreamCause,
    Verdict,
)
from worker.model.states import HELD_STATES, Trigger

PREFIX = "audio_batch"
STAGE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
DELAY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
BLOB_SECONDS_BUCKETS = (1, 5, 10, 20, 30, 40, 50, 55, 59, 60, 61, 90)


class Metrics:
    """All series of one worker process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._add_audio()
        self._add_partitions()
        self._add_refusals()
        self._add_oddities()
        self._add_process()
        self._add_spool()
        self.build_info = self._gauge("build_info", "Always 1", "version", "libopus", "revision")

    def _add_audio(self) -> None:
        self.chunks = self._counter("chunks", "Audio chunks accepted from the streams")
        self.received_bytes = self._counter("received_bytes", "Bytes of PCM accepted from the streams")
        self.received_seconds = self._counter("received_seconds", "Seconds of audio accepted from the streams")
        self.stored_bytes = self._counter("stored_bytes", "Bytes of finished blobs that are stored and done")
        self.stored_seconds = self._counter("stored_seconds", "Seconds of audio stored and done, filled gaps included")
        self.batches = self._counter("batches", "Batches done, by what closed them", trigger=Trigger)
        self.batch_audio = self._histogram("batch_audio_seconds", "Audio per stored blob", BLOB_SECONDS_BUCKETS)
        self.stage = self._histogram(
            "stage_seconds", "Wall time of encode, seal, upload, done per batch", STAGE_BUCKETS, "stage"
        )
        self.closed_to_done = self._histogram(
            "closed_to_done_seconds", "Wall time from closing a batch to its done step", STAGE_BUCKETS
        )

    def _add_partitions(self) -> None:
        self.oldest_unstored = self._gauge("oldest_unstored_seconds", "Age of the oldest entry not stored yet")
        self.backlog_entries = self._gauge("backlog_entries", "Entries in the owned streams, stored ones are gone")
        self.backlog_bytes = self._gauge("backlog_bytes", "Redis memory of the owned streams, estimated from samples")
        self.batch_states = self._gauge("batches_in_state", "Batches that this worker holds, by state", "state")
        for state in HELD_STATES:
            self.batch_states.labels(state)
        self.partitions_owned = self._gauge("partitions_owned", "Partitions whose lease this worker holds")
        self.unowned = self._gauge("partitions_unowned", "Partitions without a live lease, as this worker sees it")
        self.workers = self._gauge("workers", "Live workers, as this worker sees it")
        self.takeovers = self._counter(
            "takeovers", "Partitions taken over, by how the last owner left", previous=LastOwner
        )
        self.leases_lost = self._counter("leases_lost", "Leases lost without releasing them")
        self.rewinds = self._counter(
            "rewinds", "Partitions read again from their start, by cause", cause=COUNTED_REWINDS
        )

    def _add_refusals(self) -> None:
        self.retries = self._counter("store_retries", "Store requests repeated, by cause", cause=StoreCause)
        self.conflicts = self._counter(
            "store_conflicts",
            "Uploads that found their name taken, by what has it; same is the batch itself, as after a crash",
            outcome=Verdict,
        )
        self.abandoned = self._counter(
            "abandoned_uploads",
            "Objects whose upload lost its seal, by what became of them; only uncounted ones are removed",
            fate=SETTLED_FATES,
        )
        self.store_failing = self._gauge(
            "store_failing_seconds", "Seconds for which the store has refused everything; 0 while it is asked nothing"
        )
        self.redis_errors = self._counter(
            "redis_errors",
            "Failed Redis requests, by cause; config: others are configured otherwise",
            cause=StreamCause,
        )

    def _add_oddities(self) -> None:
        self.duplicates = self._counter("duplicates", "Chunks left out because a producer sent them twice")
        self.gaps = self._counter("gaps", "Timestamp gaps, by what became of them", handling=GapHandling)
        self.silence_seconds = self._counter("silence_seconds", "Seconds of silence encoded to fill gaps")
        self.seq_missing = self._counter("seq_missing", "Chunk numbers that were skipped")
        self.seq_reordered = self._counter("seq_reordered", "Chunks that came after a higher number")
        self.strays = self._gauge("stray_entries", "Entries in streams that no worker reads, as one worker sees them")
        self.trimmed = self._counter("trimmed_chunks", "Chunks with half a sample at the end, cut off")
        self.misplaced = self._counter("misplaced_chunks", "Chunks in another stream than that of their conversation")
        self.dead_letters = self._counter(
            "dead_letters", "Entries moved to the dead letters, by kind", kind=DeadLetterKind
        )
        self.failures = self._counter("batch_failures", "Batches that failed and are tried again, by error", error=())
        self.recoveries = self._counter(
            "recoveries", "Conversations looked up in the store because Redis had lost writes"
        )
        self.dead_held = self._gauge(
            "dead_letters_held", "Dead letters of the owned partitions that no person has removed"
        )
        self.dead_bytes = self._gauge("dead_letters_bytes", "Redis memory that they take, estimated from samples")
        self.lost = self._counter("lost_entries", "Entries that vanished from a stream without being stored")
        self.deleted = self._counter("deleted_entries", "Entries dropped because their audio was deleted on demand")

    def _add_process(self) -> None:
        self.loop_delay = self._histogram("event_loop_delay_seconds", "Lateness of a timer", DELAY_BUCKETS)
        self.memory = self._gauge("memory_bytes", "Bytes of open and in-flight audio held")
        self.memory_limit = self._gauge("memory_limit_bytes", "MEMORY_LIMIT")
        self.paused = self._gauge("reading_paused", "1 while reading waits for memory")
        self.redis_memory = self._gauge("redis_memory_bytes", "used_memory of Redis")
        self.redis_memory_limit = self._gauge("redis_memory_limit_bytes", "maxmemory of Redis, 0 without a limit")
        self.redis_policy = self._gauge("redis_eviction_policy", "1 for Redis' maxmemory-policy", "policy")
        self.redis_persistence = self._gauge(
            "redis_persistence", "1 for the state of Redis' append-only file: on, unknown, off or failing", "state"
        )
        self.redis_replicas = self._gauge(
            "redis_replicas", "Replicas that Redis has; of a cluster, those of the node with the fewest"
        )
        self.redis_nodes = self._gauge(
            "redis_nodes", "Redis servers with slots: those that answer (up) or not (down)", "state"
        )

    def _add_spool(self) -> None:
        self.spool_bytes = self._gauge("spool_bytes", "Bytes of blobs in the spool")
        self.spool_limit = self._gauge("spool_limit_bytes", "SPOOL_MAX_BYTES")
        self.spool_oldest = self._gauge("spool_oldest_seconds", "Age of the oldest audio that waits in the spool")
        self.spool_refusals = self._counter(
            "spool_refusals",
            "Blobs that the spool did not take, by cause",
            cause=SpoolCause,
        )
        self.spool_uploads = self._counter(
            "spool_uploads", "Blobs that left the spool, by outcome", outcome=SpoolOutcome
        )
        self.spool_blobs = self._gauge("spool_blobs", "Blobs in the spool, by state", "state")

    def _counter(self, name: str, text: str, **labels: Iterable[str]) -> Counter:
        """At most one label; its usual values count from 0, because rate() can't see the first value of a series."""
        counter = Counter(f"{PREFIX}_{name}", text, list(labels), registry=self.registry)
        for value in chain.from_iterable(labels.values()):
            counter.labels(value)
        return counter

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", text, labels, buckets=buckets, registry=self.registry)
