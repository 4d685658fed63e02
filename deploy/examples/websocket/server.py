"""A WebSocket server for microphones: each message is a chunk, which `audio_batch_worker.producer` takes to Redis.

    REDIS_URL=redis://localhost:6379/0 python server.py --port 8000

A client connects to /audio?uid=alice&conversation=lunch&session=5f3a…&rate=16000. It numbers its chunks itself, and
keeps each one until it is confirmed. So the server has no state, and a client that loses its connection goes on at any
other server: a chunk that comes twice has the same values, and is stored once.

| message | from | content |
|---|---|---|
| binary | client | little-endian: `f64` Unix seconds of the first sample, `u32` number of the chunk, then s16le PCM |
| text `end 12` | client | the conversation is over, and had 12 chunks |
| text `12` | server | Redis has the chunks before number 12 |
| text `ended` | server | Redis has the end, and all before it |
"""

from __future__ import annotations

import argparse
import asyncio
import os
import struct
from collections.abc import AsyncIterator, Mapping

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web
from audio_batch_worker.codec.entry import Chunk, End
from audio_batch_worker.producer import BadEntry, BufferFull, Producer

HEADER = struct.Struct("<dI")
MOST_BYTES = 1024 * 1024
MOST_SECONDS = 10.0
"""For which a full buffer may hold up a client. Then it is told to come back later, and keeps its audio so long."""

PRODUCER = web.AppKey("producer", Producer)


class Connection:
    """One client at this server: takes its chunks, and confirms what Redis has."""

    def __init__(self, socket: web.WebSocketResponse, producer: Producer, query: Mapping[str, str]) -> None:
        self._socket = socket
        self._producer = producer
        self._ids = query["uid"], query["conversation"]
        self._session = query["session"].encode()
        self._rate = int(query.get("rate", "16000"))
        self._taken: int | None = None
        self._ended = False
        self._news = asyncio.Event()

    async def take(self, message: WSMessage) -> None:
        """Give a chunk or an end to the producer. Raises `BadEntry`, `BufferFull`, `ValueError`."""
        if message.type is WSMsgType.BINARY:
            await self._take_chunk(message.data)
        elif message.type is WSMsgType.TEXT:
            await self._take_end(message.data)
        self._news.set()

    async def confirm(self) -> None:
        """Tell the client, again and again, what Redis has: only then may it forget a chunk."""
        while True:
            await self._news.wait()
            self._news.clear()
            taken, ended = self._taken, self._ended
            await self._producer.flush()
            if taken is not None:
                await self._socket.send_str(str(taken))
            if ended:
                await self._socket.send_str("ended")

    async def _take_chunk(self, data: bytes) -> None:
        if len(data) < HEADER.size:
            raise ValueError("a message is shorter than its header")
        timestamp, seq = HEADER.unpack_from(data)
        pcm = data[HEADER.size :]
        chunk = Chunk(*self._ids, timestamp, pcm, self._rate, seq=seq, session=self._session)
        await self._producer.put(chunk, within=MOST_SECONDS)
        self._taken = seq + 1

    async def _take_end(self, text: str) -> None:
        word, _, chunks = text.partition(" ")
        if word != "end":
            raise ValueError("a text is not an end")
        await self._producer.put(End(*self._ids, int(chunks), self._session), within=MOST_SECONDS)
        self._ended = True


async def audio(request: web.Request) -> web.WebSocketResponse:
    """The life of one connection."""
    socket = web.WebSocketResponse(heartbeat=20.0, max_msg_size=MOST_BYTES)
    await socket.prepare(request)
    confirming: asyncio.Task[None] | None = None
    try:
        connection = Connection(socket, request.app[PRODUCER], request.query)
        confirming = asyncio.create_task(connection.confirm())
        async for message in socket:
            await connection.take(message)
    except BufferFull:
        await socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"Redis takes no audio")
    except (BadEntry, KeyError, ValueError) as error:
        await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=str(error).encode()[:100])
    finally:
        if confirming is not None:
            confirming.cancel()
            await asyncio.wait([confirming])
    return socket


async def producing(app: web.Application) -> AsyncIterator[None]:
    """One producer for all connections; at the end it sends what it holds."""
    producer = Producer(
        os.environ["REDIS_URL"],
        partitions=int(os.environ.get("PARTITIONS", "256")),
        prefix=os.environ.get("STREAM_PREFIX", "pcm"),
    )
    async with producer:
        app[PRODUCER] = producer
        yield


async def ready(request: web.Request) -> web.Response:
    """Whether Redis takes audio, for a load balancer."""
    trouble = request.app[PRODUCER].stats().trouble
    return web.Response(text=trouble.message if trouble else "ok", status=503 if trouble else 200)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104 -- clients come from elsewhere
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    app = web.Application()
    app.cleanup_ctx.append(producing)
    app.add_routes([web.get("/audio", audio), web.get("/readyz", ready)])
    web.run_app(app, host=arguments.host, port=arguments.port, access_log=None)


if __name__ == "__main__":
    main()
