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
from tests.support.redis_server import free_port
from tests.support.waiting import within

SCRAPE_SECONDS = 1
RATE_WINDOW = f"{4 * SCRAPE_SECONDS}s"
"""What Grafana makes of $__rate_interval at this scrape interval."""

PATIENCE = 30.0
LOOK_SECONDS = 0.1
ANSWER_SECONDS = 2.0
"""Whoever takes longer to say that it is ready is asked again."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a result: its labels, and (Unix seconds, value) in the order of time, NaN left out."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Alerting:
    """Rules (the `spec` of a PrometheusRule), and the host and port of the Alertmanager that gets their alerts."""

    rules: Mapping[str, Any]
    alertmanager: str


class Prometheus:
    """Runs from `async with` on, with its configuration and data in `directory`."""

    def __init__(self, directory: Path, alerting: Alerting | None = None) -> None:
        self._directory = directory
        self._alerting = alerting
        self._targets = directory / "targets.json"
        self._data = directory / "data"
        self._log = directory / "prometheus.log"
        self._address = f"127.0.0.1:{free_port()}"

    async def __aenter__(self) -> Self:
        self.scrape([])
        config = self._directory / "prometheus.yaml"
        config.write_text(yaml.safe_dump(self._configuration()))
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                find_tool("prometheus") or "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={self._data}",
                f"--web.listen-address={self._address}",
                "--log.level=error",
                stderr=log,
            )
        self._http = aiohttp.ClientSession(f"http://{self._address}")
        try:
            await self._started()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    def scrape(self, pods: Sequence[Pod]) -> None:
        """Scrape these pods, labelled as the chart's PodMonitor has it, and no others; those without a port wait."""
        self.scrape_ports({pod.name: pod.facts["http_port"] for pod in pods if pod.facts})

    def scrape_ports(self, ports: Mapping[str, int]) -> None:
        """Scrape these ports of this machine, by the names of pods, and no others."""
        targets = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"namespace": NAMESPACE, "pod": name}}
            for name, port in ports.items()
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
        async with within(PATIENCE, lambda: f"a result of {query}"):
            while not await self._result("query", query=query):  # noqa: ASYNC110 -- it can only be looked at
                await asyncio.sleep(LOOK_SECONDS)

    def _configuration(self) -> dict[str, Any]:
        job = {"job_name": RELEASE, "file_sd_configs": [{"files": [str(self._targets)]}]}
        every = f"{SCRAPE_SECONDS}s"
        times = {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every}
        config: dict[str, Any] = {"global": times, "scrape_configs": [job]}
        if self._alerting:
            rules = self._directory / "rules.yaml"
            rules.write_text(yaml.safe_dump(dict(self._alerting.rules)))
            receivers = [{"static_configs": [{"targets": [self._alerting.alertmanager]}]}]
            config |= {"rule_files": [str(rules)], "alerting": {"alertmanagers": receivers}}
        return config

    async def _started(self) -> None:
        async with within(PATIENCE, lambda: f"Prometheus is ready: {self._log.read_text()[-2000:]}"):
            while not await self._is_ready():
                assert self._process.returncode is None, f"Prometheus did not start: {self._log.read_text()[-2000:]}"
                await asyncio.sleep(LOOK_SECONDS)

    async def _is_ready(self) -> bool:
        # Another server may have been faster on this port, so the directory of its data has to be ours.
        with suppress(aiohttp.ClientError, TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                async with self._http.get("/-/ready") as reply:
                    ready = reply.status == 200
                async with self._http.get("/api/v1/status/flags") as reply:
                    return ready and (await reply.json())["data"]["storage.tsdb.path"] == str(self._data)
        return False

    async def _end(self) -> None:
        await self._http.close()
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _result(self, what: str, **parameters: str | float) -> list[Series]:
        async with (
            within(PATIENCE, lambda: f"Prometheus answers {what} {parameters}"),
            self._http.get(f"/api/v1/{what}", params=parameters) as reply,
        ):
            answer = await reply.json()
        assert answer["status"] == "success", answer
        found = [_series(entry) for entry in answer["data"]["result"]]
        return [series for series in found if series.points]


def _series(entry: dict[str, Any]) -> Series:
    values = entry.get("values") or [entry["value"]]
    points = [(float(time), float(value)) for time, value in values if value != "NaN"]
    return Series(entry["metric"], points)
