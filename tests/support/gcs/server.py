"""A Cloud Storage server for tests, over HTTP, in memory: strict as the real one, and able to fail on demand.

In a test, `async with GcsServer() as server` on a free port. `python -m tests.support.gcs.server --port 0` is a process
of its own, which prints `{"url": …, "bucket": …}` and is steered under /_control/ (see `control`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import struct
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from tests.support.gcs.api import CLASS_A, CLASS_B, LOOK_UPS, Api, Call, Reply
from tests.support.gcs.control import Control
from tests.support.gcs.faults import REFUSALS, Action, Fault, Gate, Script, Stage
from tests.support.gcs.objects import ApiError, Buckets, StoredObject

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BODY = 1024**3
ALWAYS = 10**9
PUBLISHING = ("insert.media", "insert.multipart")


@dataclass(frozen=True)
class Recorded:
    """What a request said of itself when it arrived."""

    kind: str
    name: str
    content_length: int | None
    query: dict[str, str]


class GcsServer:
    """Listens from `start` to `stop`; see `Fault` and `Gate` for what can be made to happen."""

    def __init__(self, buckets: Sequence[str] = ("test-bucket",), *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.api = Api(Buckets(tuple(buckets)))
        self.bucket = next(iter(buckets), "")
        self.script = Script()
        self.requests: list[Recorded] = []
        self.aborted = 0  # requests whose client left before the body was complete
        self._active = 0
        self._peers: set[object] = set()
        self._idle = asyncio.Condition()
        self._address = (host, port)
        self._runner: web.AppRunner | None = None
        self._stopping = asyncio.Event()
        self.url = ""

    async def start(self) -> Self:
        application = web.Application(client_max_size=MAX_BODY)
        application.router.add_route("*", "/_control/{what:.*}", Control(self).handle)
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.0)
        await self._runner.setup()
        self._stopping.clear()
        site = web.TCPSite(self._runner, *self._address)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self._address = (host, port)
        self.url = f"http://{host}:{port}"
        return self

    async def stop(self) -> None:
        """Stop listening, as an outage does: objects stay, and `start` comes back on the same port."""
        self.script.clear()
        self._stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def fail(self, match: str, action: Action = "status", **details: object) -> Fault:
        """Let requests of a kind that fits the glob `match` fail; `details` are `Fault`'s fields. Once by default."""
        fault = Fault(match, action, **details)  # type: ignore[arg-type]
        self.script.faults.append(fault)
        return fault

    def refuse(self, match: str, refusal: str, name: str = "*") -> Fault:
        """Answer matching requests as Cloud Storage does for one of the `REFUSALS`, from now on."""
        return self.fail(match, "status", name=name, times=ALWAYS, **REFUSALS[refusal])

    def hold(self, match: str = "insert.*", stage: Stage = "commit", name: str = "*") -> Gate:
        """Hold matching requests at a stage until the gate is opened. Before "commit" some have no name yet."""
        gate = Gate(match, stage, name)
        self.script.gates.append(gate)
        return gate

    def objects(self, bucket: str | None = None) -> dict[str, StoredObject]:
        """The live objects of a bucket by name."""
        return self.api.buckets.objects(bucket or self.bucket)

    def count(self, *patterns: str) -> int:
        """Requests so far, failed ones included, whose kind fits one of the globs."""
        return sum(any(fnmatchcase(request.kind, pattern) for pattern in patterns) for request in self.requests)

    @property
    def connections(self) -> int:
        """How many connections requests came by."""
        return len(self._peers)

    async def settled(self) -> None:
        """Return when no request is being served."""
        async with self._idle:
            await self._idle.wait_for(lambda: self._active == 0)

    def counts(self) -> dict[str, Any]:
        """Requests by kind, and how many were billed as class A and B, looked something up, or made no sense."""
        return {
            "kinds": dict(Counter(request.kind for request in self.requests)),
            "class_a": self.count(*CLASS_A),
            "class_b": self.count(*CLASS_B),
            "look_ups": self.count(*LOOK_UPS),
            "unknown": self.count("unknown"),
            "aborted": self.aborted,
        }

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        call = Call.classify(request.method, request.raw_path, request.query, request.headers)
        self.requests.append(Recorded(call.kind, call.name, request.content_length, dict(request.query)))
        self._peers.add(request.transport.get_extra_info("peername") if request.transport else None)
        self._active += 1
        try:
            return await self._serve_call(request, call)
        finally:
            self._active -= 1
            async with self._idle:
                self._idle.notify_all()

    async def _serve_call(self, request: web.Request, call: Call) -> web.StreamResponse:
        await self.script.wait("request", call.kind, call.name)
        try:
            body = await request.read()
        except OSError:
            self.aborted += 1
            return web.Response()
        try:
            return await self._answer(request, call, body)
        except ApiError as error:
            return web.json_response(error.body(), status=error.status)

    async def _answer(self, request: web.Request, call: Call, body: bytes) -> web.StreamResponse:
        call.take(body)
        fault = self.script.take(call.kind, call.name)
        if fault is not None and (refusal := await self._refuse(request, fault)) is not None:
            return refusal
        await self.script.wait("commit", call.kind, call.name)
        reply = self._perform(call, fault.action if fault else None, f"{request.scheme}://{request.host}")
        await self.script.wait("reply", call.kind, call.name)
        if fault is not None and fault.action == "drop_reply":
            return _reset(request)
        if fault is not None and (answer := _made_up(fault)) is not None:
            return answer
        if fault is not None and fault.action == "misdescribe" and reply.json is not None:
            reply.json = {**reply.json, **fault.changes}
        if fault is not None and fault.action == "truncate":
            return await _truncated(request, reply)
        return _response(reply)

    async def _refuse(self, request: web.Request, fault: Fault) -> web.StreamResponse | None:
        if fault.action == "reset":
            return _reset(request)
        if fault.action == "stall":
            await self._stopping.wait()
            return _reset(request)
        if fault.action == "latency":
            await asyncio.sleep(fault.seconds)
        return None if fault.done else _made_up(fault)

    def _perform(self, call: Call, action: Action | None, base_url: str) -> Reply:
        if action == "corrupt":
            call.data = _flipped(call.data)
        reply = self.api.perform(call, base_url)
        if action == "corrupt":
            reply.data = _flipped(reply.data)
        if action == "keep_other_bytes" and call.kind in PUBLISHING:
            kept = self.api.buckets.put(call.bucket, call.name, _flipped(call.data), call.resource)
            reply.json = kept.resource()
        return reply


def _flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:] if data else data


def _reset(request: web.Request) -> web.Response:
    if request.transport is not None:
        # A linger time of zero makes the kernel send RST, not FIN.
        linger = struct.pack("ii", 1, 0)
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        request.transport.abort()
    return web.Response()


async def _truncated(request: web.Request, reply: Reply) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_length = len(reply.data)
    await response.prepare(request)
    await response.write(reply.data[: len(reply.data) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def _made_up(fault: Fault) -> web.Response | None:
    """The answer that a fault puts in the place of the real one, if it does."""
    if fault.action == "status":
        error = ApiError(fault.status, fault.reason, fault.message)
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        return web.json_response(error.body(), status=error.status, headers=headers)
    if fault.action == "garbage":
        return web.Response(text="<html>Please log in to the network</html>", content_type="text/html")
    if fault.action == "other_json":
        return web.json_response(fault.body)
    if fault.action == "answer":
        text = fault.body if isinstance(fault.body, str) else json.dumps(fault.body)
        return web.Response(status=fault.status, headers=fault.headers, text=text, content_type="application/json")
    return None


def _response(reply: Reply) -> web.Response:
    if reply.json is not None:
        return web.json_response(reply.json, status=reply.status, headers=reply.headers)
    return web.Response(status=reply.status, body=reply.data, headers=reply.headers)


async def _run(arguments: argparse.Namespace) -> None:
    server = GcsServer(arguments.bucket or ["test-bucket"], host=arguments.host, port=arguments.port)
    async with server:
        print(json.dumps({"url": server.url, "bucket": server.bucket}), flush=True)  # noqa: T201 -- its interface
        await asyncio.Event().wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--bucket", action="append", help="a bucket that exists; may be repeated [test-bucket]")
    return parser


if __name__ == "__main__":
    asyncio.run(_run(_parser().parse_args()))
