"""Workers as child processes, and what the kernel, their log and their metrics say of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

from tests.support.paths import ROOT
from worker.errors import WorkerError

TICK = 1 / os.sysconf("SC_CLK_TCK")
POLL_SECONDS = 0.01
PATIENCE_SECONDS = 300.0
START_SECONDS = 30.0


class BenchFailed(WorkerError):
    """A process did not do what was to be measured; the message says which and how."""


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds in user and kernel mode, wall seconds, and the largest resident size in bytes."""

    cpu: float
    wall: float
    peak: int


class Worker:
    """`audio-batch-worker run` with its log in a file; killed when the with-block ends."""

    def __init__(
        self,
        environment: Mapping[str, str],
        log: Path,
        *,
        drain: bool = False,
        confine: Callable[[int], None] | None = None,
    ) -> None:
        self.log = log
        command = [sys.executable, "-m", "worker", "run", *(["--drain"] if drain else [])]
        self.began = time.perf_counter()
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=output, stderr=output)
        if confine is not None:
            confine(self.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def ended(self) -> Usage:
        """Wait until it ends by itself.

        Raises:
            BenchFailed: it failed.
        """
        _, status, used = os.wait4(self.pid, 0)
        wall = time.perf_counter() - self.began
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.returncode:
            raise BenchFailed(f"a worker ended with {self._process.returncode}: {self.log.read_text()[-1000:]}")
        return Usage(used.ru_utime + used.ru_stime, wall, used.ru_maxrss * 1024)

    def stop(self) -> Usage:
        """Ask it to stop, and wait."""
        self._process.send_signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """Like a node that dies."""
        self._process.kill()
        self._process.wait()

    def cpu(self) -> float:
        """CPU seconds so far, to a hundredth."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK

    def resident(self) -> int:
        """Bytes of memory it has now."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))

    def events(self, name: str) -> Iterator[dict[str, Any]]:
        """Its log events of one name so far."""
        for line in self.log.read_text().splitlines():
            if f'"{name}"' in line:
                yield json.loads(line)

    def url(self) -> str:
        """Where its probes and metrics are, once it listens."""
        wait_until(lambda: any(self.events("worker.started")), "a worker did not start", patience=START_SECONDS)
        return f"http://127.0.0.1:{next(self.events('worker.started'))['http_port']}"

    def ready(self) -> float:
        """Seconds from the start of the process until /readyz says yes."""
        url = self.url()
        wait_until(lambda: _answers(f"{url}/readyz"), "a worker did not become ready", patience=START_SECONDS)
        return time.perf_counter() - self.began

    def metrics(self) -> dict[str, float]:
        """Every sample by its name, with the labels as Prometheus writes them."""
        with urllib.request.urlopen(f"{self.url()}/metrics", timeout=30) as reply:  # noqa: S310 -- our own address
            families = text_string_to_metric_families(reply.read().decode())
            samples = [sample for family in families for sample in family.samples]
        return {_series(sample.name, sample.labels): sample.value for sample in samples}


def wait_until(condition: Callable[[], bool], failure: str, *, patience: float = PATIENCE_SECONDS) -> None:
    """Look again and again.

    Raises:
        BenchFailed: `failure`, after so many seconds.
    """
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise BenchFailed(f"{failure} within {patience:.0f} s")
        time.sleep(POLL_SECONDS)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310 -- our own address
            return bool(reply.status == 200)
    except OSError:
        return False


def _series(name: str, labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{inner}}}" if inner else name
