"""What a worker process takes while it runs: memory, file descriptors, the age of what it has not stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import aiohttp
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from tests.support.process import Process
from worker.runtime.metrics import PREFIX

LOOK_SECONDS = 1.0
MIB = 1024 * 1024


@dataclass(slots=True)
class Meter:
    """A look per second: seconds since the first one, resident MiB, open descriptors, oldest audio in seconds."""

    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    oldest: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def slope(self) -> float:
        """MiB per minute that the memory grew, over the last two thirds of the time."""
        first = len(self.seconds) // 3
        return float(np.polyfit(self.seconds[first:], self.memory[first:], 1)[0] * 60)

    @property
    def growth(self) -> float:
        """MiB by which the highest of the last third exceeds the highest of the middle one."""
        first = len(self.memory) // 3
        return max(self.memory[2 * first :]) - max(self.memory[first : 2 * first])

    @property
    def busy(self) -> float:
        """CPU seconds per second."""
        return (self.cpu[-1] - self.cpu[0]) / (self.seconds[-1] - self.seconds[0])

    def figures(self) -> list[str]:
        return [
            f"memory: {_course(self.memory)} MiB, {self.slope:+.2f} MiB per minute over the last two thirds",
            f"descriptors: {_course(self.descriptors)}",
            f"oldest audio not stored: {max(self.oldest):.1f} s at most",
            f"CPU: {self.busy:.2f} of a core",
        ]


def _course(values: Sequence[float]) -> str:
    return f"{values[0]:.0f} at first, {max(values):.0f} at most, {values[-1]:.0f} at last"


@asynccontextmanager
async def metered(process: Process) -> AsyncIterator[Meter]:
    """Look at a worker that has started until the block is left."""
    await process.said("worker.started")
    meter, port = Meter(), process.events("worker.started")[0]["http_port"]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        looking = asyncio.create_task(_look(meter, session))
        try:
            yield meter
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking


async def _look(meter: Meter, session: aiohttp.ClientSession) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        values = await _values(session)
        meter.seconds.append(loop.time() - began)
        meter.memory.append(values["process_resident_memory_bytes"] / MIB)
        meter.descriptors.append(int(values["process_open_fds"]))
        meter.oldest.append(values[f"{PREFIX}_oldest_unstored_seconds"])
        meter.cpu.append(values["process_cpu_seconds_total"])
        await asyncio.sleep(LOOK_SECONDS)


async def _values(session: aiohttp.ClientSession) -> dict[str, float]:
    async with session.get("/metrics") as response:
        families = text_string_to_metric_families(await response.text())
        return {sample.name: sample.value for family in families for sample in family.samples}
