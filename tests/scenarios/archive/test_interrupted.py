"""Ctrl-C in a long command: it says how far it came, and what to do next."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.support.gcs.server import GcsServer
from tests.support.process import Process, environment
from tests.support.speech import speech
from tests.support.stored_blobs import T0, ConversationFolder
from worker.settings import Settings
from worker.stores.base import Store

LAST = f"{T0 + 2:.3f}"


@pytest.mark.parametrize(
    ("arguments", "held", "said"),
    [
        (
            "convert --all --yes",
            "download",
            r"stopped: \d blobs converted: .* bytes became .*; the same command goes on",
        ),
        ("verify", "download", r"stopped: \d objects are intact, \d s; 0 are not"),
        (
            "verify --report {out}",
            "download",
            r"stopped: \d objects are intact, \d s; 0 are not; the same command goes on",
        ),
        (
            "copy --uid user --from talk --to b",
            "rewrite",
            r"stopped: \d of [03] blobs are copied; the same .* the rest",
        ),
        ("rm --uid user --store-only --yes", "delete", r"stopped: \d objects? deleted; the same .* the rest"),
        (
            "export --uid user --conversation talk -o {out}.wav",
            "download",
            r"stopped: \d of [03] blobs were read; no file",
        ),
    ],
)
async def test_a_stopped_command_says_how_far_it_came(
    gcs: Store, gcs_server: GcsServer, environment: Settings, tmp_path: Path, arguments: str, held: str, said: str
) -> None:
    folder = ConversationFolder(gcs)
    for number in range(3):
        await folder.put(".bin", T0 + number, speech(1, offset=number))
    gate = gcs_server.hold(held, "request", name=f"*{LAST}.bin")
    words = arguments.format(out=tmp_path / "out").split()

    async with Process(variables(environment, gcs_server), *words) as process:
        await gate.reached()
        process.signal(signal.SIGINT)
        code = await process.ended()

    assert code == 130
    assert any(re.match(said, line) for line in process.lines), process.lines
    assert not any("Traceback" in line for line in process.lines)
    assert not (tmp_path / "out.wav").exists()


def variables(settings: Settings, server: GcsServer) -> dict[str, str]:
    return environment(settings) | {"STORE_URL": f"gs://{server.bucket}", "STORAGE_EMULATOR_HOST": server.url}
