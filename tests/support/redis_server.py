"""A real redis-server as a child process: started on a free port, crashed, hung, stopped and restarted by tests."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.demo.server import server_program

if TYPE_CHECKING:
    from pathlib import Path

START_SECONDS = 20
POLL_SECONDS = 0.01
DEFAULTS = {"save": "", "appendonly": "no", "maxmemory-policy": "noeviction"}


class RedisServer:
    """One server whose data live in `directory`; port and data survive `kill`, `stop` and the next `start`.

    `options` are redis.conf directives, with underscores for dashes: `maxmemory="8mb"`, `appendonly="yes"`.
    """

    def __init__(self, directory: Path, **options: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.bus_port = free_port()
        self.options = DEFAULTS | {name.replace("_", "-"): value for name, value in options.items()}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def log(self) -> str:
        path = self.directory / "redis.log"
        return path.read_text() if path.exists() else ""

    def client(self, timeout: float | None = None) -> redis.Redis:
        """A client that retries nothing, and waits `timeout` seconds for a reply."""
        return redis.Redis(host="127.0.0.1", port=self.port, retry=Retry(NoBackoff(), 0), socket_timeout=timeout)

    def start(self) -> None:
        """Return when it answers PING, with its data loaded.

        Raises:
            RuntimeError: it died or stays silent; the message ends with its log.
        """
        if self._process is not None:
            raise RuntimeError("redis-server runs already")
        self._process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._ended(POLL_SECONDS) or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"redis-server did not start: {self.log[-2000:]}")

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def stop(self) -> None:
        """End it the polite way, as a Kubernetes rollout does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Crash it: nothing is flushed."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Hang it: connections stay open and nothing answers until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _command(self) -> list[str]:
        place = {"bind": "127.0.0.1", "port": str(self.port), "dir": str(self.directory), "logfile": "redis.log"}
        if "cluster-enabled" in self.options:
            place["cluster-port"] = str(self.bus_port)
        return [
            server_program(),
            *(part for name, value in (place | self.options).items() for part in (f"--{name}", value)),
        ]

    def _answers(self) -> bool:
        # Another server may have been faster on this port, so its process id has to be ours.
        try:
            with self.client() as client:
                return bool(client.info("server")["process_id"] == self._running.pid)
        except redis.RedisError:
            return False

    def _ended(self, timeout: float) -> bool:
        try:
            self._running.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        self._running.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._signal(signal.SIGCONT)
        self._signal(number)
        self._process.wait()
        self._process = None

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("redis-server is not running")
        return self._process


def free_port() -> int:
    """A port that no outgoing connection takes before a server does: the system gives them others, the higher ones."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            return port
