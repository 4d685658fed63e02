"""Steering the Cloud Storage test server from another process, by HTTP under /_control/, and a client that does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from tests.support.gcs.faults import Gate
    from tests.support.gcs.server import GcsServer

SETTINGS = {"max_page", "send_hashes", "rewrite_requests", "access_token"}  # attributes of `Api`


class Control:
    """The server's end.

    POST faults (`Fault`'s fields), DELETE faults, GET faults tells the hits by action; POST gates (`Gate`'s fields)
    gives `{"gate": n}`, GET gates/n waits for `?requests=` arrivals, DELETE gates/n opens; GET counts, DELETE counts;
    GET objects `?bucket=`; GET data `?name=`; PUT settings.
    """

    def __init__(self, server: GcsServer) -> None:
        self._server = server
        self._actions = {
            ("POST", "faults"): self._add_fault,
            ("DELETE", "faults"): self._clear_faults,
            ("GET", "faults"): self._fault_hits,
            ("POST", "gates"): self._add_gate,
            ("GET", "gates"): self._await_gate,
            ("DELETE", "gates"): self._open_gate,
            ("GET", "counts"): self._counts,
            ("DELETE", "counts"): self._clear_counts,
            ("GET", "objects"): self._objects,
            ("GET", "data"): self._data,
            ("PUT", "settings"): self._set,
        }

    async def handle(self, request: web.Request) -> web.Response:
        action = self._actions.get((request.method, request.match_info["what"].partition("/")[0]))
        if action is None:
            raise web.HTTPNotFound
        return await action(request)

    async def _add_fault(self, request: web.Request) -> web.Response:
        self._server.fail(**await request.json())
        return web.json_response({})

    async def _clear_faults(self, _: web.Request) -> web.Response:
        self._server.script.faults.clear()
        return web.json_response({})

    async def _fault_hits(self, _: web.Request) -> web.Response:
        return web.json_response(self._server.script.hits)

    async def _add_gate(self, request: web.Request) -> web.Response:
        self._server.hold(**await request.json())
        return web.json_response({"gate": len(self._server.script.gates) - 1})

    async def _await_gate(self, request: web.Request) -> web.Response:
        await self._gate(request).reached(int(request.query.get("requests", "1")))
        return web.json_response({})

    async def _open_gate(self, request: web.Request) -> web.Response:
        self._gate(request).open()
        return web.json_response({})

    async def _counts(self, _: web.Request) -> web.Response:
        return web.json_response(self._server.counts())

    async def _clear_counts(self, _: web.Request) -> web.Response:
        self._server.requests.clear()
        return web.json_response({})

    async def _objects(self, request: web.Request) -> web.Response:
        found = self._server.objects(request.query.get("bucket"))
        return web.json_response([stored.resource() for stored in found.values()])

    async def _data(self, request: web.Request) -> web.Response:
        found = self._server.objects(request.query.get("bucket")).get(request.query["name"])
        if found is None:
            raise web.HTTPNotFound
        return web.Response(body=found.data)

    async def _set(self, request: web.Request) -> web.Response:
        for key, value in (await request.json()).items():
            if key not in SETTINGS:
                raise web.HTTPBadRequest(text=f"unknown setting {key}")
            setattr(self._server.api, key, value)
        return web.json_response({})

    def _gate(self, request: web.Request) -> Gate:
        return self._server.script.gates[int(request.match_info["what"].partition("/")[2])]


class GcsClient:
    """The other end, with the in-process server's method names; use it as an async context manager."""

    def __init__(self, url: str, bucket: str) -> None:
        self.url = url
        self.bucket = bucket
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(raise_for_status=True, timeout=aiohttp.ClientTimeout(total=120))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def fail(self, match: str, action: str = "status", **details: object) -> None:
        await self._json("POST", "faults", {"match": match, "action": action, **details})

    async def clear_faults(self) -> None:
        await self._json("DELETE", "faults")

    async def fault_hits(self) -> dict[str, int]:
        """How many requests have met a fault so far, by its action."""
        return dict(await self._json("GET", "faults"))

    async def hold(self, match: str = "insert.*", stage: str = "commit", name: str = "*") -> int:
        """The number of a new gate, for `reached` and `open`."""
        reply = await self._json("POST", "gates", {"match": match, "stage": stage, "name": name})
        return int(reply["gate"])

    async def reached(self, gate: int, requests: int = 1) -> None:
        await self._json("GET", f"gates/{gate}?requests={requests}")

    async def open(self, gate: int) -> None:
        await self._json("DELETE", f"gates/{gate}")

    async def counts(self) -> dict[str, Any]:
        return dict(await self._json("GET", "counts"))

    async def clear_counts(self) -> None:
        await self._json("DELETE", "counts")

    async def objects(self) -> dict[str, dict[str, Any]]:
        """The object resources by name, without their data."""
        return {resource["name"]: resource for resource in await self._json("GET", "objects")}

    async def data(self, name: str) -> bytes:
        async with self._open_session().get(f"{self.url}/_control/data", params={"name": name}) as reply:
            return await reply.read()

    async def set(self, **settings: object) -> None:
        await self._json("PUT", "settings", settings)

    async def _json(self, method: str, what: str, body: dict[str, object] | None = None) -> Any:  # noqa: ANN401 -- JSON
        async with self._open_session().request(method, f"{self.url}/_control/{what}", json=body) as reply:
            return await reply.json()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("enter it first")
        return self._session
