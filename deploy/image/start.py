"""The image's files, started as a pod starts them."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from audio_batch_worker.codec.entry import Chunk, partition_of
from audio_batch_worker.demo.server import server_program
from programs import Failed, run, say
from redis import Redis
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

START_SECONDS = 20
SECONDS, RATE = 5, 16000
CHECKS = (
    ("the user is not root", 'test "$(id -u)" -ne 0 && id'),
    ("only /tmp can be written", "! touch /opt/venv/x /etc/x 2>/dev/null && touch /tmp/x && echo yes"),
    ("no tests of packages", "! find /opt/venv -type d -name tests | grep . && echo yes"),
    ("no pip, no compiler", "! command -v pip && ! command -v cc && ! command -v gcc && echo yes"),
    ("the helm test's tools are there", "for tool in python3 date grep mktemp sleep; do which $tool || exit 1; done"),
)
STORE = "mkdir /tmp/store && audio-batch-worker run --drain >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }"
LIST = "audio-batch-worker ls --uid image --json"


class Started:
    """Runs commands as the image's user, with its variables, a read-only root and an empty /tmp."""

    def __init__(self, root: Path, config: Mapping[str, Any]) -> None:
        self._root = root
        self._config = config

    def entrypoint(self, *arguments: str) -> str:
        """What the entry point prints with these arguments. Raises `Failed`."""
        return self.run(*self._config["Entrypoint"], *arguments)

    def run(self, *command: str, environment: Mapping[str, str] | None = None) -> str:
        """What a command prints. Raises `Failed`."""
        root = shlex.quote(str(self._root))
        mounts = [f"mount --bind {root} {root}", f"mount -t proc proc {root}/proc", f"mount --bind /dev {root}/dev"]
        mounts += [f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp", f"mount -o remount,ro,bind {root} {root}"]
        variables = [*self._config["Env"], *(f"{name}={value}" for name, value in (environment or {}).items())]
        inside = shlex.join(["sh", "-c", f"cd {self._config['WorkingDir']} && exec {shlex.join(command)}"])
        start = f"exec chroot --userspec={self._config['User']} {root} /usr/bin/env -i {shlex.join(variables)} {inside}"
        return run("unshare", "--mount", "--pid", "--fork", "sh", "-c", " && ".join([*mounts, start]))


def check(started: Started) -> None:
    """Start the image in the ways that matter, and tell each. Raises `Failed`."""
    say(f"checked: it starts: {', '.join(started.entrypoint('--version').splitlines()[:2])}")
    for what, script in CHECKS:
        say(f"checked: {what}: {started.run('sh', '-c', script).strip().splitlines()[-1]}")
    say(f"checked: it stores what is pushed: {_stored(started)}")


def _stored(started: Started) -> str:
    chunk = Chunk("image", "first", 1_700_000_000.0, bytes(2 * RATE * SECONDS), RATE)
    with _redis() as client:
        client.xadd(f"pcm:{{{partition_of('first', 256)}}}", dict(chunk.fields()))
        environment = {
            "REDIS_URL": f"redis://127.0.0.1:{client.get_connection_kwargs()['port']}/0",
            "STORE_URL": "file:///tmp/store",
            "ENCRYPTION_SECRET": "a secret of 32 bytes for one chunk",
            "HTTP_PORT": "0",
        }
        told = started.run("sh", "-c", f"{{ {STORE}; }} && {LIST}", environment=environment)
    (blob,) = json.loads(told)["blobs"]
    if blob["duration"] != SECONDS:
        raise Failed(f"{blob['duration']} s are stored of {SECONDS} s: {told}")
    return f"{blob['name']}, {blob['duration']} s"


@contextmanager
def _redis() -> Iterator[Redis]:
    """A server of this machine, for one chunk."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        place = ("--bind", "127.0.0.1", "--port", str(port), "--dir", directory, "--save", "")
        server = subprocess.Popen([server_program(), *place], stdout=subprocess.DEVNULL)
        try:
            with Redis(port=port) as client:
                _await_answer(client)
                yield client
        finally:
            server.kill()
            server.wait()


def _await_answer(client: Redis) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with suppress(RedisError):
            client.ping()
            return
        time.sleep(0.05)
    raise Failed("the Redis server of this machine does not answer")
