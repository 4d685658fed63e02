"""A real primary with replicas, watched by real sentinels: child processes on this machine that tests let fail over."""

from __future__ import annotations

import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import redis

from tests.support.certificates import tls_options
from tests.support.redis_server import POLL_SECONDS, RedisServer, free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SERVICE = "audio"
PATIENCE = 40.0
DOWN_AFTER_MS = 500


class Sentinel:
    """One sentinel process; its ports survive `kill` and the next `start`.

    Tests ask it at `port`. Clients use `public_port`, which is another one if they use TLS.
    """

    def __init__(self, directory: Path, lines: list[str], *, tls: bool) -> None:
        self.port = free_port()
        self.public_port = free_port() if tls else self.port
        self._config = directory / "sentinel.conf"
        self._directory = directory
        directory.mkdir(parents=True)
        place = [f"port {self.port}", "bind 127.0.0.1", f"dir {directory}"]
        if tls:
            place.append(f"tls-port {self.public_port}")
        self._config.write_text("\n".join([*place, *lines]) + "\n")
        self.is_hung = False
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def answers(self) -> bool:
        return self._process is not None and not self.is_hung

    def start(self) -> None:
        log = (self._directory / "sentinel.log").open("ab")
        self._process = subprocess.Popen(
            ["redis-server", self._config, "--sentinel"], stdin=subprocess.DEVNULL, stdout=log
        )
        log.close()

    def pause(self) -> None:
        """Hang it until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("the sentinel is not running")
        self._process.send_signal(number)
        self.is_hung = number is signal.SIGSTOP

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class RedisSentinels:
    """`servers` (a primary first, then its replica), and three sentinels that agree on them when `start` returns.

    With `tls`, a file with a certificate and its key, they speak TLS to each other and to clients of `url`. `lines` are
    more lines of the sentinels' configuration, `options` more options of the servers.
    """

    def __init__(
        self, directory: Path, *, tls: Path | None = None, lines: tuple[str, ...] = (), **options: str
    ) -> None:
        self._tls = tls
        self.servers: list[RedisServer] = []
        for number in range(2):
            place = directory / f"server{number}"
            place.mkdir(parents=True)
            encrypted = tls_options(tls) | {"tls_port": str(free_port())} if tls else {}
            self.servers.append(RedisServer(place, repl_diskless_sync_delay="0", **encrypted, **options))
        watch = [
            *(f"{name.replace('_', '-')} {value}" for name, value in (tls_options(tls) if tls else {}).items()),
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.port_of(self.servers[0])} 2",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 5000",
            *lines,
        ]
        self.sentinels = [Sentinel(directory / f"sentinel{number}", watch, tls=tls is not None) for number in range(3)]

    @property
    def places(self) -> str:
        return ",".join(f"127.0.0.1:{sentinel.public_port}" for sentinel in self.sentinels)

    @property
    def url(self) -> str:
        return f"{'rediss' if self._tls else 'redis'}+sentinel://{self.places}/{SERVICE}"

    def port_of(self, server: RedisServer) -> int:
        """The port that sentinels name."""
        return int(server.options["tls-port"]) if self._tls else server.port

    def start(self) -> None:
        primary, replica = self.servers
        for server in self.servers:
            server.start()
        self._ask(replica.port, "REPLICAOF", "127.0.0.1", self.port_of(primary))
        for sentinel in self.sentinels:
            sentinel.start()
        self._until(self._is_whole)

    def stop(self) -> None:
        for sentinel in self.sentinels:
            sentinel.kill()
        for server in self.servers:
            server.kill()

    def primary(self) -> RedisServer:
        """The primary in the eyes of the first sentinel that answers."""
        (port,) = {int(self._facts(sentinel)["port"]) for sentinel in self._answering()[:1]}
        return next(server for server in self.servers if self.port_of(server) == port)

    def fail_over(self) -> None:
        """Let the sentinels move the primary in good order; returns when all of them name the new one."""
        before = self.primary()
        self._until(lambda: self._ask(self._answering()[0].port, "SENTINEL", "FAILOVER", SERVICE) == b"OK")
        self.await_other(before)

    def await_other(self, before: RedisServer) -> None:
        """Wait until all sentinels that answer name another primary, which takes writes."""
        self._until(
            lambda: all(int(self._facts(sentinel)["port"]) != self.port_of(before) for sentinel in self._answering())
        )
        self._until(lambda: self._ask(self.primary().port, "ROLE")[0] == b"master")

    def await_replica(self, server: RedisServer) -> None:
        """Wait until a server follows the primary, and has all its data."""
        self._until(lambda: self._ask(server.port, "ROLE")[:1] == [b"slave"])
        self._until(lambda: self._ask(server.port, "ROLE")[3] == b"connected")

    def synchronised(self) -> bool:
        """Whether the replica has all that was written so far."""
        with self.primary().client() as client:
            client.set("synchronised", "?")
            return bool(client.wait(1, 1000))

    def _answering(self) -> list[Sentinel]:
        return [sentinel for sentinel in self.sentinels if sentinel.answers]

    def _facts(self, sentinel: Sentinel) -> dict[str, str]:
        flat = [word.decode() for word in self._ask(sentinel.port, "SENTINEL", "MASTER", SERVICE)]
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def _is_whole(self) -> bool:
        facts = [self._facts(sentinel) for sentinel in self.sentinels]
        return all(
            (one["num-slaves"], one["num-other-sentinels"], one["flags"]) == ("1", "2", "master") for one in facts
        ) and bool(self._ask(self.servers[1].port, "ROLE")[3] == b"connected")

    def _ask(self, port: int, *words: str | int) -> Any:  # noqa: ANN401 -- whatever Redis replies
        with redis.Redis(host="127.0.0.1", port=port, protocol=2) as client:
            client.response_callbacks.clear()
            return client.execute_command(*words)

    def _until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._holds(holds):
            if time.monotonic() > deadline:
                raise RuntimeError("the sentinels do not agree")
            time.sleep(POLL_SECONDS)

    @staticmethod
    def _holds(holds: Callable[[], bool]) -> bool:
        with suppress(redis.RedisError):
            return holds()
        return False
