"""Empties the spool into the store: round after round, the oldest first, beside all other workers on the volume."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import NamedTuple

import structlog

from worker.errors import SpoolDamaged, StoreError, StreamError
from worker.model.causes import SpoolOutcome
from worker.model.ids import entry_ms
from worker.runtime.context import Context
from worker.spool.leftovers import Leftovers
from worker.spool.names import WAITING, FileFlaw, FileState, SpoolFile
from worker.spool.record import read_record
from worker.spool.spool import Spool
from worker.spool.uploader import Uploader

TOUCHES_PER_LEASE = 6
SCAN_SHARE = 20
"""The next scan comes after the usual wait, or after SCAN_SHARE times the length of the last scan if that is longer."""

ROUND_FILES = 1000
"""Blobs uploaded between two scans."""

Refusal = (StoreError, StreamError, OSError)

log = structlog.get_logger()


class Pace(NamedTuple):
    """How many blobs are uploaded at once, and the seconds after which an untouched claim lapses."""

    concurrency: int
    lease: float


class Drainer:
    """Uploads what any worker on the volume has spooled for this origin.

    `outcomes` counts what became of the blobs. A claim that was not touched for `lease` seconds, by the volume's clock,
    counts as that of a dead worker. If that worker lives, two workers do the same work, which is harmless.
    """

    def __init__(
        self,
        spool: Spool,
        uploader: Uploader,
        leftovers: Leftovers,
        pace: Pace,
        context: Context,
    ) -> None:
        self.lease = pace.lease
        self._spool = spool
        self._volume = spool.volume
        self._uploader = uploader
        self._leftovers = leftovers
        self._health = uploader.health
        self._metrics = context.metrics
        self._clock = context.clock
        self._timing = context.timing.spool
        self._concurrency = pace.concurrency
        self.outcomes: Counter[SpoolOutcome] = Counter()
        self._claims: set[SpoolFile] = set()
        self._damaged: set[str] = set()
        self._unknown: set[str] = set()
        self._scan_wait = self._timing.scan

    async def run(self) -> None:
        """Empty the spool until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.keep_claims(), name="spool claims")
            group.create_task(self._repeat(), name="spool rounds")

    async def round(self) -> None:
        """Settle the files that dead workers left, then upload the blobs that wait.

        Raises:
            StoreError, StreamError, OSError: the first refusal, which ends the round.
        """
        ours = await self._scan()
        await self._settle([file for file in ours if file not in self._claims])
        waiting = [file for file in ours if file.state is FileState.SPOOLED and file.name not in self._damaged]
        if len(waiting) > ROUND_FILES:
            self._spool.arrived.set()
        await self._upload_all(waiting[:ROUND_FILES])
        if not any(map(self._waits, ours)) and self._spool.trouble is None:
            self._health.nothing_waits()

    async def left(self) -> int:
        """Blobs that can still be uploaded, by us or by others. Raises OSError."""
        return sum(map(self._waits, await self._scan()))

    async def keep_claims(self) -> None:
        """Touch our claims until cancelled, to show that their uploads go on."""
        while True:
            await asyncio.sleep(self.lease / TOUCHES_PER_LEASE)
            for claim in list(self._claims):
                with suppress(OSError):
                    await self._spool.run(partial(self._volume.touch, claim))

    async def _repeat(self) -> None:
        refusals = 0
        while True:
            self._spool.arrived.clear()
            try:
                await self.round()
            except Exception as error:  # after any error, the worker goes on reading and storing
                refusals += 1
                known = isinstance(error, Refusal)
                log.warning("spool.waits", error=str(error), refusals=refusals, exc_info=None if known else error)
                await asyncio.sleep(self._wait_after(error, refusals))
                continue
            refusals = 0
            with suppress(TimeoutError):
                async with asyncio.timeout(self._scan_wait):
                    await self._spool.arrived.wait()

    async def _scan(self) -> list[SpoolFile]:
        began = self._clock()
        listing = await self._spool.scan()
        self._scan_wait = max(self._timing.scan, SCAN_SHARE * (self._clock() - began))
        ours = [file for file in listing.files if file.stem.origin == self._spool.origin.digest]
        self._damaged &= {file.name for file in ours}
        self._metrics.spool_bytes.set(listing.bytes)
        self._report_unknown(set(listing.unknown))
        self._observe(ours)
        await self._observe_age(ours)
        return ours

    def _report_unknown(self, names: set[str]) -> None:
        """Log new files that the spool leaves alone: a program with other names may have put audio there."""
        if new := names - self._unknown:
            log.warning("spool.unknown_files", files=len(new), first=min(new))
        self._unknown = names

    async def _settle(self, files: Sequence[SpoolFile]) -> None:
        """Finish removals, release the claims of dead workers, and settle the files that they left half-written."""
        for file in [file for file in files if file.state is FileState.DONE]:
            await self._spool.run(partial(self._volume.remove, file))
        held = [file for file in files if file.state in (FileState.WRITING, FileState.UPLOADING)]
        ages = await self._spool.run(partial(self._volume.ages, held))
        lapsed = [file for file, age in ages.items() if age > self.lease]
        for file in [file for file in lapsed if file.state is FileState.UPLOADING]:
            log.warning("spool.claim_lapsed", file=file.name, age_s=round(ages[file]))
            await self._spool.run(partial(self._volume.release, file))
            self._spool.arrived.set()
        await self._leftovers.settle([file for file in lapsed if file.state is FileState.WRITING])

    async def _upload_all(self, files: Sequence[SpoolFile]) -> None:
        queue = iter(files)
        refusals: list[Exception] = []
        if self._health.failing_since is not None:  # one upload finds out whether it still does
            await self._work(islice(queue, 1), refusals)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._concurrency, len(files))):
                group.create_task(self._work(queue, refusals), name="spool upload")
        if refusals:
            raise refusals[0]

    async def _work(self, queue: Iterator[SpoolFile], refusals: list[Exception]) -> None:
        while not refusals and (file := next(queue, None)) is not None:
            try:
                await self._drain(file)
            except Refusal as error:
                refusals.append(error)
            except Exception:  # no error may stop the other blobs
                log.exception("spool.failed", file=file.name)
                self._damaged.add(file.name)

    async def _drain(self, file: SpoolFile) -> None:
        claiming = asyncio.ensure_future(self._spool.run(partial(self._volume.claim, file)))
        try:
            claim = await asyncio.shield(claiming)
            if claim is not None:
                await self._upload(claim, file)
        finally:  # also if cancelled during the claim: the blob must not wait until the claim lapses
            claim = await claiming
            if claim is not None:
                await self._spool.complete(partial(self._volume.release, claim))  # gone if it was finished

    async def _upload(self, claim: SpoolFile, file: SpoolFile) -> None:
        self._claims.add(claim)
        try:
            record = read_record(await self._spool.run(partial(self._volume.read, claim)), claim.stem)
            name = await self._uploader.upload(record)
            await self._spool.run(partial(self._volume.finish, claim))
        except FileNotFoundError:  # our claim had lapsed, and another worker was faster
            return
        except SpoolDamaged as error:
            self._damaged.add(file.name)
            log.error("spool.damaged", file=file.name, error=str(error))  # noqa: TRY400 -- the message says it all
        else:
            self._report(record.header.seal.object, name, file)
        finally:
            self._claims.discard(claim)

    def _waits(self, file: SpoolFile) -> bool:
        return file.state in WAITING and file.name not in self._damaged

    def _report(self, wanted: str, name: str | None, file: SpoolFile) -> None:
        if name is None:
            outcome = SpoolOutcome.DELETED
        else:
            outcome = SpoolOutcome.STORED if name == wanted else SpoolOutcome.RENAMED
        self.outcomes[outcome] += 1
        self._metrics.spool_uploads.labels(outcome).inc()
        age = (self._uploader.now_ms() - entry_ms(file.stem.first)) / 1000
        log.info(
            "spool.uploaded",
            object=wanted,
            outcome=outcome,
            stored_as=name,
            bytes=file.stem.size,
            age_s=round(age, 1),
        )

    def _observe(self, files: Sequence[SpoolFile]) -> None:
        states: dict[str, FileState | FileFlaw] = {file.name: file.state for file in files}
        states |= dict.fromkeys(self._damaged, FileFlaw.DAMAGED) | dict.fromkeys(self._leftovers.torn, FileFlaw.TORN)
        counts = Counter(states.values())
        for state in (*FileState, *FileFlaw):
            self._metrics.spool_blobs.labels(state).set(counts[state])
        self._spool.unreadable = len(self._damaged | self._leftovers.torn)
        self._spool.waiting = sum(map(self._waits, files))

    async def _observe_age(self, files: Sequence[SpoolFile]) -> None:
        """Measure the age of the oldest audio that waits; if its id is from the future, take the age of its file."""
        oldest = next((file for file in files if file.state in WAITING), None)
        age = 0.0 if oldest is None else (self._uploader.now_ms() - entry_ms(oldest.stem.first)) / 1000
        if oldest is not None and age < 0:
            age = (await self._spool.run(partial(self._volume.ages, [oldest]))).get(oldest, 0.0)
        self._spool.oldest = max(0.0, age)
        self._metrics.spool_oldest.set(self._spool.oldest)

    def _wait_after(self, error: Exception, refusals: int) -> float:
        if isinstance(error, StoreError) and error.retry_after is not None:
            return min(error.retry_after, self._timing.retry.longest)
        return self._timing.retry.after(refusals)
