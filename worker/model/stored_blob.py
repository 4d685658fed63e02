"""Where the audio of a batch is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from codec.metadata import BlobMetadata
from worker.model.causes import OrphanFate
from worker.model.holding import Holding
from worker.model.ids import EntryId
from worker.model.seal import Seal


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """Where the audio is, which entries are in it, and whether these are all entries of the batch.

    `upload` identifies the object, even if another object gets its name later. `created` says that this batch's own
    upload has made the object. `identities` belong to the chunks that are known to be in it. `spooled` says that the
    object will appear later, and under a later name if this one is taken. `orphan` is set if the seal was gone when
    the object was stored.
    """

    name: str
    size: int
    metadata: BlobMetadata
    covered: Sequence[EntryId]
    upload: str
    complete: bool = True
    created: bool = False
    spooled: bool = False
    identities: bytes = b""
    orphan: Orphan | None = None


@dataclass(slots=True)
class Orphan:
    """An object whose seal was gone when its upload ended.

    `missing` are its entries that are known to have left Redis: they are only in this object. An inquiry about the
    other ones in `holding` tells what a failover has lost. `deleted` says that its audio was deleted
    on demand, so that it must go whatever Redis says.
    """

    partition: int
    seal: Seal
    stored: StoredBlob
    fate: OrphanFate = OrphanFate.WAITING
    missing: set[EntryId] = field(default_factory=set)
    deleted: bool = False
    holding: Holding | None = None
