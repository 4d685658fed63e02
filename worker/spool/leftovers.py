"""Files in state `writing` that no worker writes any more: a worker died, or its volume did not answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import structlog

from worker.errors import SpoolDamaged, StreamError
from worker.model.ids import EntryId
from worker.spool.names import SpoolFile, Stem
from worker.spool.record import read_record
from worker.spool.spool import Spool
from worker.stream.entries import Entries
from worker.stream.pages import ReadRequest

log = structlog.get_logger()


class Leftovers:
    """Decides what becomes of these files; `torn` holds the names of those that only a person may remove."""

    def __init__(self, spool: Spool, entries: Entries) -> None:
        self._spool = spool
        self._entries = entries
        self.torn: set[str] = set()

    async def settle(self, files: Sequence[SpoolFile]) -> None:
        """Remove files whose audio is still in Redis, make complete ones spooled, keep and report the others.

        Raises:
            StreamError: Redis can't say what it holds.
            OSError: the volume fails.
        """
        for file in files:
            if await self._is_in_redis(file.stem):
                await self._spool.run(partial(self._spool.volume.remove, file))
                log.info("spool.leftover_removed", file=file.name)
            else:
                await self._publish(file)
        self.torn &= {file.name for file in files}

    async def _publish(self, file: SpoolFile) -> None:
        """Make a complete file spooled.

        Its upload is harmless: the uploader recognises audio that is stored already, or was deleted.
        """
        volume = self._spool.volume
        try:
            read_record(await self._spool.run(partial(volume.read, file)), file.stem)
            await self._spool.run(partial(volume.publish, file))
        except FileNotFoundError:
            return
        except SpoolDamaged as error:
            self._keep(file, str(error))
            return
        log.warning("spool.leftover_published", file=file.name)

    def _keep(self, file: SpoolFile, damage: str) -> None:
        if file.name not in self.torn:
            log.error("spool.torn", file=file.name, bytes=file.stem.size, error=damage)
        self.torn.add(file.name)

    async def _is_in_redis(self, stem: Stem) -> bool:
        seals = await self._entries.seals(stem.partition)
        if any((seal.entries[0], seal.entries[-1]) == (stem.first, stem.last) for seal in seals):
            return True
        outer = [ReadRequest(stem.partition, _before(entry), 1) for entry in (stem.first, stem.last)]
        replies = await self._entries.pages.read(outer)
        for reply in replies:
            if isinstance(reply, StreamError):
                raise reply
        found = [[entry.id for entry in reply] for reply in replies if not isinstance(reply, StreamError)]
        return found == [[stem.first], [stem.last]]


def _before(entry: EntryId) -> EntryId:
    """The greatest id below `entry`."""
    ms, _, sequence = entry.partition("-")
    if int(sequence):
        return f"{ms}-{int(sequence) - 1}"
    return f"{max(0, int(ms) - 1)}-{2**64 - 1}"
