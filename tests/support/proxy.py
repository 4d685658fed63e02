"""A TCP proxy in front of a server, for faults that a test places exactly: cut, stalled, refused, a reply lost."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Self

READ_BYTES = 64 * 1024
END_SECONDS = 1.0


@dataclass(slots=True)
class _Fault:
    request: bytes
    happened: asyncio.Event
    armed_for: _Link | None = None


@dataclass(slots=True, eq=False)
class _Link:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class Proxy:
    """Forwards connections to a port of this machine: `async with Proxy(server.port) as proxy: connect(proxy.url)`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._port = 0
        self._listener: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._fault: _Fault | None = None
        self._stalling: _Fault | None = None
        self._dropping: _Fault | None = None
        self.connections = 0

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.resume()
        await self.refuse()
        if self._serving:  # they end by themselves, for their links are cut
            await asyncio.wait(self._serving, timeout=END_SECONDS)
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    async def accept(self) -> None:
        """Listen, after `refuse` on the same port as before."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Cut all connections and refuse new ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        self.cut()
        if listener is not None:
            await listener.wait_closed()

    def cut(self) -> None:
        """Reset all connections; what was on its way either way may be lost."""
        for link in self._links:
            link.abort()

    def turn_to(self, target: int) -> None:
        """Cut all connections; new ones go to another port, as after a failover behind one name."""
        self._target = target
        self.cut()

    def stall(self) -> None:
        """Keep connections open, take new ones, and let nothing through."""
        self._flowing.clear()

    def resume(self) -> None:
        """Let everything through again, what was held back included."""
        self._flowing.set()

    def stall_at(self, request: bytes) -> asyncio.Event:
        """Let nothing through from the next request on that holds `request`; set by then."""
        self._stalling = _Fault(request, asyncio.Event())
        return self._stalling.happened

    def drop_reply(self, to: bytes) -> asyncio.Event:
        """Forward the next request that holds `to`, then reset its connection instead of its reply; set by then."""
        self._fault = _Fault(to, asyncio.Event())
        return self._fault.happened

    def drop_request(self, request: bytes) -> asyncio.Event:
        """Reset the connection of the next request that holds `request` instead of forwarding it; set by then."""
        self._dropping = _Fault(request, asyncio.Event())
        return self._dropping.happened

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self.connections += 1
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        await self._forward(_Link(writer, server_writer), reader, server_reader)

    async def _forward(self, link: _Link, requests: asyncio.StreamReader, replies: asyncio.StreamReader) -> None:
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump_requests(link, requests))
                group.create_task(self._pump_replies(link, replies))
        finally:
            self._links.discard(link)
            link.abort()

    async def _pump_requests(self, link: _Link, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            tail = b""
            while data := await reader.read(READ_BYTES):
                self._stall_with(tail + data)
                await self._flowing.wait()
                if self._drops_request(tail + data):
                    break
                self._arm(link, tail + data)
                tail = data[-READ_BYTES // 1024 :]
                link.server.write(data)
                await link.server.drain()
        link.abort()

    async def _pump_replies(self, link: _Link, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(READ_BYTES):
                await self._flowing.wait()
                if self._drops(link):
                    break
                link.client.write(data)
                await link.client.drain()
        link.abort()

    def _stall_with(self, request: bytes) -> None:
        if self._stalling is not None and self._stalling.request in request:
            self._stalling.happened.set()
            self._stalling = None
            self.stall()

    def _drops_request(self, request: bytes) -> bool:
        if self._dropping is None or self._dropping.request not in request:
            return False
        self._dropping.happened.set()
        self._dropping = None
        return True

    def _arm(self, link: _Link, request: bytes) -> None:
        if self._fault is not None and self._fault.armed_for is None and self._fault.request in request:
            self._fault.armed_for = link

    def _drops(self, link: _Link) -> bool:
        if self._fault is None or self._fault.armed_for is not link:
            return False
        self._fault.happened.set()
        self._fault = None
        return True
