"""The demo as a person starts it: a process that needs nothing and leaves nothing behind but its directory."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import wave
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.support.speech import speech
from worker.demo.place import prepared
from worker.demo.recordings import recorded
from worker.demo.speech import SpeechSource, recording
from worker.errors import AudioFileError

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = (sys.executable, "-m", "worker", "demo", "--out")
PATIENCE = 120

Demo = subprocess.CompletedProcess[str]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "demo out"


@pytest.fixture
def demo(out: Path) -> Callable[..., Demo]:
    """Run it to its end, in an environment that is set up for another worker."""
    foreign = {"PARTITIONS": "3", "STREAM_PREFIX": "other", "STORE_URL": "gs://other", "REDIS_URL": "redis://other"}

    def run(*arguments: str) -> Demo:
        environment = os.environ | foreign
        return subprocess.run(
            [*COMMAND, str(out), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    return run


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "my.wav"
    _write(path, speech(10, 12000), 12000)
    return path


def _write(path: Path, pcm: bytes, rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(pcm)


def _facts(finished: Demo) -> dict[str, Any]:
    assert finished.returncode == 0, finished.stderr
    facts: dict[str, Any] = json.loads(finished.stdout)
    return facts


def test_recorded_speech_comes_back_whole_aligned_and_audible(demo: Callable[..., Demo], out: Path) -> None:
    facts = _facts(demo("--json"))
    conversations = facts["conversations"]
    assert [c["sample_rate"] for c in conversations] == [16000, 8000, 16000]
    assert [c["protection"] for c in conversations] == ["enhanced", "enhanced", "standard"]
    for found in conversations:
        assert found["pushed_seconds"] == 120
        assert found["exported_samples"] == found["pushed_samples"] == 120 * found["sample_rate"]
        assert found["lag_samples"] == [0, 0]
        assert found["score"] > 4
        assert [blob["seconds"] for blob in found["blobs"]] == [60, 60]
        assert all((out / blob["name"]).stat().st_size == blob["bytes"] for blob in found["blobs"])
    assert (facts["left_entries"], facts["dead_letters"], facts["events"], facts["good"]) == (0, 0, 6, True)


def test_own_file_can_be_played_again_and_again(demo: Callable[..., Demo], out: Path, wav: Path) -> None:
    first = _facts(demo("--wav", str(wav), "--json"))
    (out / "mine.txt").write_text("kept")
    again = _facts(demo("--wav", str(wav), "--json"))
    for facts in (first, again):
        (found,) = facts["conversations"]
        assert found["exported_samples"] == found["pushed_samples"] == 120000
        assert found["lag_samples"] == [0]
        assert len(found["blobs"]) == 1
    assert len(list(out.glob("chunks/**/*.opus.enc"))) == 1
    assert (out / "mine.txt").read_text() == "kept"
    with wave.open(str(out / "own.wav")) as exported:
        assert (exported.getframerate(), exported.getnframes()) == (12000, 120000)


def test_table_names_what_was_pushed_stored_and_where_to_listen(
    demo: Callable[..., Demo], out: Path, wav: Path
) -> None:
    finished = demo("--wav", str(wav))
    assert finished.returncode == 0, finished.stderr
    for text in ("10 s, 240 kB", "1 blob", "all 120,000", "WB-PESQ 4.", str(out / "own.wav"), "chunks/demo/own/"):
        assert text in finished.stdout


def test_directory_of_others_is_not_touched(demo: Callable[..., Demo], out: Path, wav: Path) -> None:
    (out / "chunks").mkdir(parents=True)
    (out / "chunks" / "precious").touch()
    finished = demo("--wav", str(wav))
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1].endswith("no demo made it: choose another directory with --out")
    assert [path.name for path in out.rglob("*")] == ["chunks", "precious"]


def test_second_demo_in_the_same_directory_says_so_and_touches_nothing(
    demo: Callable[..., Demo], out: Path, wav: Path
) -> None:
    with prepared(out):
        (out / "chunks").mkdir()
        (out / "chunks" / "of the first").touch()
        second = demo("--wav", str(wav))
        assert (second.returncode, second.stdout) == (1, "")
        assert second.stderr == (
            f"audio-batch-worker: another demo runs in {out}: wait until it has ended, or choose another directory with"
            " --out\n"
        )
        assert (out / "chunks" / "of the first").exists()
    assert _facts(demo("--wav", str(wav), "--json"))["good"]


@pytest.mark.parametrize(
    ("sent", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)]
)
def test_interrupted_demo_leaves_nothing_running(
    out: Path, tmp_path: Path, sent: signal.Signals, exit_code: int
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen([*COMMAND, str(out)], env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = urlsplit(next(word for word in process.stderr.readline().split() if word.startswith("redis://")))
        with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
            connection.sendall(b"PING\r\n")
            assert connection.recv(16) == b"+PONG\r\n"
            process.send_signal(sent)
            assert connection.recv(1) == b""  # the server is gone
        assert process.wait(PATIENCE) == exit_code
    if sent != signal.SIGKILL:
        assert not list(temporary.iterdir())


def test_where_no_recording_is_installed_the_reader_speaks(tmp_path: Path) -> None:
    assert len(recording(SpeechSource(16000))) / 16000 == 24.73
    assert len(recording(SpeechSource(8000, tmp_path))) / 8000 == 24.73


def test_recording_that_is_no_speech_of_ours_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "a.wav", speech(1, 8000), 8000)
    with pytest.raises(AudioFileError, match="is not mono at 16000 Hz"):
        recording(SpeechSource(16000, tmp_path))


def test_every_recording_begins_elsewhere() -> None:
    assert len({each.pcm[:32000] for each in recorded()}) == 3
