"""A microphone at the WebSocket servers: sends PCM from standard input, and goes on at the next server after a failure.

ffmpeg -i speech.mp3 -f s16le -ac 1 -ar 16000 - | python client.py alice lunch http://a:8000 http://b:8000
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import secrets
import struct
import sys
import time
from collections import deque
from typing import BinaryIO, NamedTuple

from aiohttp import ClientError, ClientSession, ClientWebSocketResponse, WSCloseCode

HEADER = struct.Struct("<dI")
CHUNK_SECONDS = 5
MOST_KEPT = 720
"""Chunks that wait to be confirmed: an hour of audio, 115 MB. A file waits then; a microphone would lose audio."""

PAUSE = 0.2


class Chunk(NamedTuple):
    """What was recorded, with the number and the time that it has in every attempt."""

    seq: int
    timestamp: float
    pcm: bytes

    @property
    def message(self) -> bytes:
        """As the server takes it."""
        return HEADER.pack(self.timestamp, self.seq) + self.pcm


class Recording:
    """The chunks that the server has not confirmed yet, and how many there were."""

    def __init__(self) -> None:
        self.kept: deque[Chunk] = deque()
        self.count = 0
        self.complete = False
        self.stored = False
        self._changed = asyncio.Condition()

    async def record(self, source: BinaryIO, start: float, rate: int) -> None:
        """Read until the source ends; the sample count keeps time."""
        while len(pcm := await asyncio.to_thread(source.read, 2 * rate * CHUNK_SECONDS)) > 1:
            async with self._changed:
                await self._changed.wait_for(lambda: len(self.kept) < MOST_KEPT)
                self.kept.append(Chunk(self.count, start + self.count * CHUNK_SECONDS, pcm))
                self.count += 1
                self._changed.notify_all()
        async with self._changed:
            self.complete = True
            self._changed.notify_all()

    async def wait_beyond(self, seq: int) -> None:
        """Wait until there is a chunk from this number on, or there never will be."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.count > seq or self.complete)

    async def confirm(self, text: str) -> None:
        """Forget what Redis has."""
        async with self._changed:
            self.stored = text == "ended"
            while not self.stored and self.kept and self.kept[0].seq < int(text):
                self.kept.popleft()
            self._changed.notify_all()


async def send(recording: Recording, socket: ClientWebSocketResponse) -> None:
    """Send over one connection what is not confirmed, then what follows."""
    following = recording.kept[0].seq if recording.kept else recording.count
    while True:
        for chunk in [chunk for chunk in recording.kept if chunk.seq >= following]:
            await socket.send_bytes(chunk.message)
            following = chunk.seq + 1
        if recording.complete and following == recording.count:
            await socket.send_str(f"end {recording.count}")
            return
        await recording.wait_beyond(following)


async def talk(recording: Recording, socket: ClientWebSocketResponse) -> None:
    """Use one connection until it breaks, or all is stored."""
    sending = asyncio.create_task(send(recording, socket))
    try:
        async for message in socket:
            await recording.confirm(message.data)
            if recording.stored:
                return
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    if socket.close_code == WSCloseCode.POLICY_VIOLATION:
        sys.exit("the server refuses this audio")


async def main() -> None:
    """Send a recording, at one server after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("uid")
    parser.add_argument("conversation")
    parser.add_argument("servers", nargs="+")
    parser.add_argument("--rate", type=int, default=16000)
    parser.add_argument("--start", type=float, default=time.time(), help="Unix seconds of the first sample")
    given = parser.parse_args()
    query = {"uid": given.uid, "conversation": given.conversation, "session": secrets.token_hex(8), "rate": given.rate}
    recording = Recording()
    microphone = asyncio.create_task(recording.record(sys.stdin.buffer, given.start, given.rate))
    async with ClientSession() as session:
        for server in itertools.cycle(given.servers):
            try:
                async with session.ws_connect(f"{server}/audio", params=query, heartbeat=10.0) as socket:
                    await talk(recording, socket)
            except (ClientError, ConnectionError, TimeoutError) as error:
                sys.stderr.write(f"{server}: {error}\n")
            if recording.stored:
                break
            await asyncio.sleep(PAUSE)
    await microphone


if __name__ == "__main__":
    asyncio.run(main())
