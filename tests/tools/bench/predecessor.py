"""The predecessor's way, as a process of its own: one opuslib call per frame over joined bytes, blocking uploads.

A minute is kept as PCM, encoded at once when it is full, encrypted, and uploaded by the official client in a thread.
Importing libraries is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes.util
import importlib
import json
import os
import subprocess
import sys
import time
import warnings
from importlib.util import find_spec
from typing import Any

from codec.container import Header
from codec.crypto import derive_key, encrypt
from tests.support.paths import ROOT
from tests.tools.bench.audio import RATE, chunks, spoken
from tests.tools.bench.processes import BenchFailed
from tests.tools.bench.surroundings import SECRET, Surroundings

FRAME_SAMPLES = RATE // 50
FRAME_BYTES = 2 * FRAME_SAMPLES
SYSTEM_LIBRARY = "BENCH_SYSTEM_LIBOPUS"
"""Variable that names a libopus.so to take for the system's, where Debian 12's is not installed."""


def system_libopus() -> str | None:
    """The library that opuslib finds by itself."""
    return os.environ.get(SYSTEM_LIBRARY) or ctypes.util.find_library("opus")


def missing() -> str | None:
    """Why this can't be measured here; None if it can."""
    if find_spec("google.cloud") is None or find_spec("google.cloud.storage") is None:
        return "google-cloud-storage is not installed: make bench installs it (pip install -e .[bench])"
    return None


def measure(world: Surroundings, libopus: str, *, minutes: int) -> float:
    """CPU seconds per audio-minute with that library at its default settings.

    Raises:
        BenchFailed: the process failed.
    """
    command = [sys.executable, "-m", "tests.tools.bench.predecessor", "--libopus", libopus, "--minutes", str(minutes)]
    environment = os.environ | {"STORAGE_EMULATOR_HOST": world.store_url}
    done = subprocess.run(
        [*command, "--bucket", world.bucket], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchFailed(f"the predecessor's way failed: {done.stderr[-1000:]}")
    return float(json.loads(done.stdout)["cpu"]) / minutes


async def _work(bucket: Any, minutes: int) -> None:
    pieces = chunks(spoken())
    for number in range(minutes):
        buffer: list[bytes] = []
        for piece in pieces:
            buffer.append(piece)
            await asyncio.sleep(0)
        name = f"chunks/predecessor/{os.getpid()}/{number}.000.opus.enc"
        blob = encrypt(derive_key(SECRET, "predecessor"), _encode(b"".join(buffer)))
        await asyncio.to_thread(_upload, bucket, name, blob)


def _encode(pcm: bytes) -> bytes:
    import opuslib  # noqa: PLC0415 -- importing loads the library that _load has named

    encoder = opuslib.Encoder(RATE, 1, opuslib.APPLICATION_VOIP)
    packets = []
    for at in range(0, len(pcm), FRAME_BYTES):
        packet = encoder.encode(pcm[at : at + FRAME_BYTES], FRAME_SAMPLES)
        packets.append(len(packet).to_bytes(2, "little") + packet)
    return Header(len(packets), len(pcm)).pack() + b"".join(packets)


def _upload(bucket: Any, name: str, data: bytes) -> None:
    bucket.blob(name).upload_from_string(data, content_type="application/octet-stream")


def _bucket(name: str) -> Any:
    # Needed here alone, and installed for the bench alone.
    credentials = importlib.import_module("google.auth.credentials").AnonymousCredentials()
    return importlib.import_module("google.cloud.storage").Client(project="bench", credentials=credentials).bucket(name)


def _load(libopus: str) -> None:
    found = ctypes.util.find_library
    ctypes.util.find_library = lambda name: libopus if name == "opus" else found(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        importlib.import_module("opuslib")


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--libopus", required=True)
    parser.add_argument("--minutes", type=int, required=True)
    parser.add_argument("--bucket", required=True)
    arguments = parser.parse_args()
    _load(arguments.libopus)
    bucket = _bucket(arguments.bucket)
    _upload(bucket, f"chunks/predecessor/{os.getpid()}/warm", b"")
    began = time.process_time()
    asyncio.run(_work(bucket, arguments.minutes))
    print(json.dumps({"cpu": time.process_time() - began}))  # noqa: T201 -- its interface


if __name__ == "__main__":
    _main()
