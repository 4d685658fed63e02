"""A real Prometheus that scrapes the pods of a Deployment every second."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml

from tests.deploy.chart import NAMESPACE, RELEASE, find_tool
from tests.deploy.pods import Pod
from tests.redis_server import _free_port

SCRAPE_SECONDS = 1
RATE_WINDOW = f"{4 * SCRAPE_SECONDS}s"
"""What Grafana makes of $__rate_interval at this scrape interval."""

PATIENCE = 30.0
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a result: its labels, and (Unix seconds, value) in the order of time, NaN left out."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]


class Prometheus:
    """Runs from `async with` on, with its configuration and data in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._targets = directory / "targets.json"
        self._address = f"127.0.0.1:{_free_port()}"

    async def __aenter__(self) -> Self:
        self.scrape([])
        job = {"job_name": RELEASE, "file_sd_configs": [{"files": [str(self._targets)]}]}
        times = {"scrape_interval": f"{SCRAPE_SECONDS}s", "scrape_timeout": f"{SCRAPE_SECONDS}s"}
        config = self._directory / "prometheus.yaml"
        config.write_text(yaml.safe_dump({"global": times, "scrape_configs": [job]}))
        self._process = await asyncio.create_subprocess_exec(
            find_tool("prometheus") or "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={self._directory / 'data'}",
            f"--web.listen-address={self._address}",
            "--log.level=error",
        )
        self._http = aiohttp.ClientSession(f"http://{self._address}")
        async with asyncio.timeout(PATIENCE):
            while not await self._is_ready():  # noqa: ASYNC110 -- it can only be looked at
                await asyncio.sleep(LOOK_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()
        self._process.kill()
        await self._process.wait()

    def scrape(self, pods: Sequence[Pod]) -> None:
        """Scrape these pods, labelled as the chart's PodMonitor has it, and no others; those without a port wait."""
        targets = [
            {
                "targets": [f"127.0.0.1:{pod.facts['http_port']}"],
                "labels": {"namespace": NAMESPACE, "pod": pod.name},
            }
            for pod in pods
            if pod.facts
        ]
        text = json.dumps(targets)
        if not self._targets.exists() or self._targets.read_text() != text:
            written = self._targets.with_suffix(".new")
            written.write_text(text)
            written.rename(self._targets)

    async def at(self, query: str, time: float) -> list[Series]:
        """A query's result at one moment (Unix seconds)."""
        return await self._result("query", query=query, time=time)

    async def during(self, query: str, start: float, end: float, step: float) -> list[Series]:
        """A query's result from `start` to `end`, every `step` seconds."""
        return await self._result("query_range", query=query, start=start, end=end, step=step)

    async def until(self, query: str) -> None:
        """Wait until a query has a result."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while not await self._result("query", query=query):
            assert asyncio.get_running_loop().time() < deadline, f"no result within {PATIENCE:.0f} s: {query}"
            await asyncio.sleep(LOOK_SECONDS)

    async def _is_ready(self) -> bool:
        with suppress(aiohttp.ClientError):
            async with self._http.get("/-/ready") as reply:
                return reply.status == 200
        return False

    async def _result(self, what: str, **parameters: str | float) -> list[Series]:
        async with self._http.get(f"/api/v1/{what}", params=parameters) as reply:
            answer = await reply.json()
        assert answer["status"] == "success", answer
        found = [_series(entry) for entry in answer["data"]["result"]]
        return [series for series in found if series.points]


def _series(entry: dict[str, Any]) -> Series:
    values = entry.get("values") or [entry["value"]]
    points = [(float(time), float(value)) for time, value in values if value != "NaN"]
    return Series(entry["metric"], points)
