"""Alerts on their way to people: by the chart's rules in a real Prometheus, through a real Alertmanager."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.deploy.alertmanager import Alertmanager
from tests.deploy.chart import render
from tests.deploy.prometheus import Alerting, Prometheus

pytestmark = [pytest.mark.helm, pytest.mark.prometheus, pytest.mark.alertmanager]

RUNBOOKS = "https://runbooks.example/RUNBOOKS.md"
METRICS = """\
audio_batch_lost_entries_total 3
audio_batch_dead_letters_total{kind="chunk"} 1
"""


@asynccontextmanager
async def worker_in_trouble() -> AsyncIterator[int]:
    """Something on a port that has the metrics of a worker which lost entries and made a dead letter."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=METRICS)

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_a_page_and_a_ticket_come_to_their_receivers_with_their_runbooks(tmp_path: Path) -> None:
    rules = render({"prometheusRule": {"enabled": True, "runbookURL": RUNBOOKS, "alertLabels": {"team": "audio"}}})
    async with worker_in_trouble() as port, Alertmanager(tmp_path) as manager:
        alerting = Alerting(rules.one("PrometheusRule")["spec"], manager.address)
        async with Prometheus(tmp_path, alerting) as prometheus:
            prometheus.scrape_ports({"abw-0": port})
            await manager.until("AudioBatchEntriesLost", "AudioBatchDeadLetters")

    (page,), (ticket,) = manager.received["page"], manager.received["ticket"]
    same = {"namespace": "audio", "job": "abw", "team": "audio"}
    assert page["labels"] == same | {"alertname": "AudioBatchEntriesLost", "severity": "page"}
    assert page["annotations"]["runbook_url"] == f"{RUNBOOKS}#audiobatchentrieslost"
    assert page["annotations"]["summary"] == "Audio entries vanished from Redis before they were stored"
    assert ticket["labels"] == same | {"alertname": "AudioBatchDeadLetters", "severity": "ticket", "kind": "chunk"}
    assert ticket["annotations"]["runbook_url"] == f"{RUNBOOKS}#audiobatchdeadletters"
    assert ticket["annotations"]["summary"] == "Entries went to the dead letters (chunk)"
    assert " dead-letters ls" in ticket["annotations"]["description"]
