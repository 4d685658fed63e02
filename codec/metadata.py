"""A blob's custom metadata: what its name and bytes don't tell."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from codec.arguments import check_types
from codec.entry import MAX_TIMESTAMP
from codec.names import format_timestamp

MIN_SAMPLE_RATE = 8_000
MAX_SAMPLE_RATE = 192_000

# Under these keys the newest writers in production describe plain PCM.
PRODUCTION_KEYS = {"start": "v2_start", "samples": "v2_samples", "sample-rate": "v2_sample_rate"}

_COUNT = re.compile(r"[0-9]{1,15}")
_SECONDS = re.compile(r"[0-9]{1,15}(\.[0-9]{1,30})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobMetadata:
    """What a blob says about itself; blobs from before metadata was introduced say nothing.

    `sample_rate` in Hz; `samples` and `pre_skip` count samples at that rate; `start` in Unix seconds; `chunks` is the
    number of stream entries, `first_entry` and `last_entry` are the ids of the first and the last one. `seqs` are the
    numbers that their pusher gave them, `ends` the numbers of chunks that ends of the conversation gave (both texts of
    `codec.sessions`). `trigger` is the reason why the batch was closed, `protection` the one that its chunks asked for.
    `key_id` names the secret. `stream` and `chunks_digest` are those of the manifest.
    """

    codec: str | None = None
    sample_rate: int | None = None
    samples: int | None = None
    pre_skip: int | None = None
    start: float | None = None
    chunks: int | None = None
    first_entry: str | None = None
    last_entry: str | None = None
    seqs: str | None = None
    ends: str | None = None
    trigger: str | None = None
    protection: str | None = None
    stream: str | None = None
    chunks_digest: str | None = None
    worker_version: str | None = None
    key_id: str | None = None

    def to_mapping(self) -> dict[str, str]:
        """The object's metadata; unknown values are left out."""
        values = {
            "codec": self.codec,
            "sample-rate": self.sample_rate,
            "samples": self.samples,
            "pre-skip": self.pre_skip,
            "start": None if self.start is None else format_timestamp(self.start),
            "chunks": self.chunks,
            "first-entry": self.first_entry,
            "last-entry": self.last_entry,
            "seqs": self.seqs,
            "ends": self.ends,
            "trigger": self.trigger,
            "protection": self.protection,
            "stream": self.stream,
            "chunks-digest": self.chunks_digest,
            "worker-version": self.worker_version,
            "key-id": self.key_id,
        }
        return {key: str(value) for key, value in values.items() if value is not None}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, str]) -> BlobMetadata:
        """Read an object's metadata; other keys are ignored, and a value that makes no sense counts as missing.

        Raises:
            WrongType: it is not a mapping.
        """
        check_types(Mapping, mapping=mapping)
        mapping = {key: value for key, value in mapping.items() if isinstance(value, str)}  # others may have written it
        theirs = {ours: mapping[key] for ours, key in PRODUCTION_KEYS.items() if key in mapping}
        mapping = theirs | mapping
        return cls(
            codec=mapping.get("codec"),
            sample_rate=_sample_rate(mapping.get("sample-rate")),
            samples=_count(mapping.get("samples")),
            pre_skip=_count(mapping.get("pre-skip")),
            start=_seconds(mapping.get("start")),
            chunks=_count(mapping.get("chunks")),
            first_entry=mapping.get("first-entry"),
            last_entry=mapping.get("last-entry"),
            seqs=mapping.get("seqs"),
            ends=mapping.get("ends"),
            trigger=mapping.get("trigger"),
            protection=mapping.get("protection"),
            stream=mapping.get("stream"),
            chunks_digest=mapping.get("chunks-digest"),
            worker_version=mapping.get("worker-version"),
            key_id=mapping.get("key-id"),
        )


class ExactSpan(NamedTuple):
    """The place in time that the newest writers in production note.

    `start` is in Unix seconds, finer than a name tells it; `samples` are at `sample_rate` Hz. Both are positive.
    """

    start: float
    samples: int
    sample_rate: int

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, str]) -> ExactSpan | None:
        """Read an object's metadata; None unless all three values are there and make sense."""
        start, samples, rate = (mapping.get(key) for key in PRODUCTION_KEYS.values())
        if not all(isinstance(text, str) for text in (start, samples, rate)):
            return None
        span = _seconds(start), _count(samples), _sample_rate(rate)
        if span[0] is None or not span[1] or span[2] is None or span[0] >= MAX_TIMESTAMP:
            return None
        return cls(span[0], span[1], span[2])


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and _COUNT.fullmatch(text) else None


def _sample_rate(text: str | None) -> int | None:
    rate = _count(text)
    return rate if rate is not None and MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE else None


def _seconds(text: str | None) -> float | None:
    if text is None or not _SECONDS.fullmatch(text):
        return None
    seconds = float(text)
    return seconds if math.isfinite(seconds) else None
