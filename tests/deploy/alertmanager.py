"""A real Alertmanager that hands alerts to the test by severity, each to a webhook of its own."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web

from tests.deploy.chart import find_tool
from tests.support.redis_server import free_port
from tests.support.waiting import within

PATIENCE = 30.0
LOOK_SECONDS = 0.1
SEVERITIES = ("page", "ticket")


class Alertmanager:
    """Runs from `async with` on, with its configuration and data in `directory`.

    `address` is its host and port. `received` holds the alerts that came, by the severity whose webhook they came to.
    """

    def __init__(self, directory: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.received: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._directory = directory
        self._log = directory / "alertmanager.log"
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._hooks = web.AppRunner(self._application())
        await self._hooks.setup()
        site = web.TCPSite(self._hooks, "127.0.0.1", 0)
        await site.start()
        config = self._directory / "alertmanager.yaml"
        config.write_text(yaml.safe_dump(_configuration(self._hooks.addresses[0][1])))
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                find_tool("alertmanager") or "alertmanager",
                f"--config.file={config}",
                f"--storage.path={self._directory / 'alertmanager'}",
                f"--web.listen-address={self.address}",
                "--cluster.listen-address=",
                stdout=log,
                stderr=log,
            )
        try:
            await self._started()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def until(self, *names: str) -> None:
        """Wait until alerts of all these names have been received."""
        async with within(PATIENCE, lambda: f"{names}, received is {dict(self.received)}"):
            while not set(names) <= {a["labels"]["alertname"] for alerts in self.received.values() for a in alerts}:
                self._arrived.clear()
                await self._arrived.wait()

    def _application(self) -> web.Application:
        application = web.Application()
        application.router.add_post("/{severity}", self._receive)
        return application

    async def _receive(self, request: web.Request) -> web.Response:
        self.received[request.match_info["severity"]] += (await request.json())["alerts"]
        self._arrived.set()
        return web.Response()

    async def _started(self) -> None:
        async with (
            within(PATIENCE, lambda: f"Alertmanager is ready: {self._log.read_text()[-2000:]}"),
            aiohttp.ClientSession() as http,
        ):
            while not await self._is_ready(http):
                assert self._process.returncode is None, self._log.read_text()[-2000:]
                await asyncio.sleep(LOOK_SECONDS)

    async def _is_ready(self, http: aiohttp.ClientSession) -> bool:
        with suppress(aiohttp.ClientError):
            async with http.get(f"http://{self.address}/-/ready") as reply:
                return reply.status == 200
        return False

    async def _end(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._hooks.cleanup()


def _configuration(port: int) -> dict[str, Any]:
    routes = [{"receiver": severity, "matchers": [f'severity="{severity}"']} for severity in SEVERITIES]
    receivers = [
        {"name": severity, "webhook_configs": [{"url": f"http://127.0.0.1:{port}/{severity}"}]}
        for severity in SEVERITIES
    ]
    route = {"receiver": "others", "group_wait": "0s", "group_interval": "1s", "group_by": ["..."], "routes": routes}
    return {"route": route, "receivers": [{"name": "others"}, *receivers]}
