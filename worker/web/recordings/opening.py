"""Keeps the recordings that were opened last: a player asks for many ranges of one and the same file."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from codec.entry import BYTES_PER_SAMPLE, SAMPLE_RATES
from worker.archive import AudioCache, BadSelection, SeekableRecording
from worker.audio.writing.wav import MAX_WAV_BYTES
from worker.model.ids import Conversation

if TYPE_CHECKING:
    from worker.web.site import Site

FRESH_SECONDS = 5.0
"""How long an opened recording counts as what is stored now, where no version is asked for."""


class Changed(web.HTTPGone):
    """The recording of the asked version is not what is stored now."""

    def __init__(self) -> None:
        super().__init__(text="the conversation has changed since: load the page again")


@dataclass(slots=True)
class _Opened:
    recording: SeekableRecording
    at: float


class OpenedRecordings:
    """Recordings of conversations, at most `PageLimits.recordings`."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._cache = AudioCache(site.limits.audio_bytes)
        self._opened: OrderedDict[Conversation, _Opened] = OrderedDict()
        self._locks: dict[Conversation, asyncio.Lock] = {}

    async def get(self, conversation: Conversation, version: str = "") -> SeekableRecording:
        """The recording of a conversation as it is now, or the one of a version.

        Raises:
            Changed: the version is another one now.
            NothingStored: it has no blob.
            StoreError: the store does not answer.
        """
        lock = self._locks.setdefault(conversation, asyncio.Lock())
        try:
            async with lock:
                opened = self._opened.get(conversation) or await self._open(conversation)
                old = self._site.clock() > opened.at + FRESH_SECONDS
                if opened.recording.version != version if version else old:
                    opened = await self._open(conversation)
        finally:
            if not lock.locked():
                self._locks.pop(conversation, None)
        if version and opened.recording.version != version:
            raise Changed
        self._opened.move_to_end(conversation)
        return opened.recording

    async def _open(self, conversation: Conversation) -> _Opened:
        recording = await self._site.need_archive().seekable(*conversation, cache=self._cache)
        opened = _Opened(fitting(recording), self._site.clock())
        self._opened[conversation] = opened
        while len(self._opened) > self._site.limits.recordings:
            self._opened.popitem(last=False)
        return opened


OPENED = web.AppKey("opened", OpenedRecordings)


def fitting(recording: SeekableRecording) -> SeekableRecording:
    """The recording at the highest rate at which it fits into a WAV.

    Raises:
        BadSelection: it does not fit at any rate: it is longer than 74 hours.
    """
    seconds = recording.samples / recording.sample_rate
    for rate in [recording.sample_rate, *sorted(SAMPLE_RATES, reverse=True)]:
        if rate <= recording.sample_rate and seconds * rate * BYTES_PER_SAMPLE < MAX_WAV_BYTES:
            return recording if rate == recording.sample_rate else recording.at_rate(rate)
    raise BadSelection(
        f"the recording has {seconds / 3600:.0f} hours, more than a WAV can hold; `export` gives parts of it by --from"
    )
