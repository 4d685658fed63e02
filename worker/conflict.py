"""What to do when an object's name is taken.

The bucket is the truth: Redis may have forgotten, for a failover loses its latest writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from codec.metadata import BlobMetadata
from worker.batch import EntryId, entry_order
from worker.seal import Seal


class Verdict(StrEnum):
    """What the object that was found is to the batch at hand."""

    SAME = "same"  # this very batch: our own upload whose reply was lost, or another owner's
    PART = "part"  # it holds other entries than the seal says, ours among them: what it holds is stored
    FOREIGN = "foreign"  # it has nothing to do with our entries


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, and which of the pending entries the found object holds."""

    verdict: Verdict
    covered: tuple[EntryId, ...] = ()


def judge(seal: Seal, found: Mapping[str, str], pending: Iterable[EntryId]) -> Judgement:
    """Compare a seal with the metadata of the object that has its name.

    `pending` are all entries of the conversation that this owner knows to be pending, the seal's among them. A blob
    holds all chunks of its conversation between its first and last entry, so the range tells what is stored.
    """
    metadata = BlobMetadata.from_mapping(found)
    first, last = metadata.first_entry, metadata.last_entry
    if first is None or last is None:
        return Judgement(Verdict.FOREIGN)
    if (first, last) == (seal.entries[0], seal.entries[-1]):
        return Judgement(Verdict.SAME, seal.entries)
    try:
        low, high = entry_order(first), entry_order(last)
    except ValueError:
        return Judgement(Verdict.FOREIGN)
    covered = tuple(entry for entry in pending if low <= entry_order(entry) <= high)
    ours = set(covered).intersection(seal.entries)
    return Judgement(Verdict.PART, covered) if ours else Judgement(Verdict.FOREIGN)
