"""The values that all parts of one worker share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from worker.runtime.digest import Digest
from worker.runtime.metrics import Metrics
from worker.runtime.spans import NoSpans, Spans
from worker.runtime.timing import Timing


@dataclass(frozen=True, slots=True)
class Context:
    """A worker's metrics, its waits, its monotonic clock in seconds, the digest of its log events, and its spans."""

    metrics: Metrics = field(default_factory=Metrics)
    timing: Timing = field(default_factory=Timing)
    clock: Callable[[], float] = time.monotonic
    digest: Digest = field(default_factory=Digest)
    spans: Spans = field(default_factory=NoSpans)
