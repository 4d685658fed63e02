"""A file becomes the entries that a pusher would have made of it, or one sentence says why not."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import wave
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import soundfile

from codec.entry import Chunk, End, parse, partition_of
from tests.support.audio_files import audio_file, overwritten
from tests.support.command import command
from tests.support.harness import eventually
from tests.support.process import Process, environment
from tests.support.proxy import Proxy
from tests.support.speech import speech, speech_array
from worker.audio.reading.source import ByteSource
from worker.audio.writing.wav import wav_header
from worker.errors import AudioFileError, SettingsError, StreamError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.redis_cluster import RedisCluster
    from tests.support.redis_server import RedisServer
    from worker.settings import Settings

WHOSE = ("--uid", "u1", "--conversation", "c1")
SECONDS = 12
"""Two chunks of five seconds and one of two."""


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "speech.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(speech(SECONDS))
    return path


def entries(server: RedisServer, settings: Settings, conversation: str = "c1") -> list[Chunk | End]:
    with server.client() as client:
        stream = f"{settings.stream_prefix}:{{{partition_of(conversation, settings.partitions)}}}"
        found = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(stream))
    return [parse(fields) for _, fields in found]


def chunks(server: RedisServer, settings: Settings) -> list[Chunk]:
    return [entry for entry in entries(server, settings) if isinstance(entry, Chunk)]


def pushed(settings: Settings, *arguments: str) -> dict[str, Any]:
    result = command(settings, "push", *arguments, *WHOSE, "--json")
    assert result.exit_code == 0, result.output
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


def test_a_file_becomes_numbered_chunks_and_an_end(
    redis_server: RedisServer, settings: Callable[..., Settings], recording: Path
) -> None:
    facts = pushed(settings(), str(recording), "--start", "1000.5")
    pcm = speech(SECONDS)
    assert entries(redis_server, settings()) == [
        Chunk("u1", "c1", 1000.5, pcm[:160000], seq=0),
        Chunk("u1", "c1", 1005.5, pcm[160000:320000], seq=1),
        Chunk("u1", "c1", 1010.5, pcm[320000:], seq=2),
        End("u1", "c1", seq=3),
    ]
    partition = partition_of("c1", settings().partitions)
    assert facts == {
        "file": str(recording),
        "uid": "u1",
        "conversation": "c1",
        "start": 1000.5,
        "seconds": 12.0,
        "samples": 192000,
        "sample_rate": 16000,
        "source_rate": 16000,
        "bytes": 384000,
        "chunks": 3,
        "next_seq": 3,
        "partition": partition,
        "stream": f"{settings().stream_prefix}:{{{partition}}}",
        "ended": True,
        "complete": True,
        "lost_seconds": 0,
        "cancelled_seconds": 0,
        "flaws": [],
    }


def test_options_reach_the_entries(
    redis_server: RedisServer, settings: Callable[..., Settings], recording: Path
) -> None:
    options = "--chunk-seconds", "10", "--protection", "standard", "--no-end", "--start", "1970-01-01T00:01:00"
    assert pushed(settings(), str(recording), *options)["ended"] is False
    first, second = entries(redis_server, settings())
    assert isinstance(first, Chunk)
    assert isinstance(second, Chunk)
    assert [first.timestamp, second.timestamp] == [60, 70]
    assert [first.duration, second.duration] == [10, 2]
    assert {first.protection, second.protection} == {"standard"}


def test_a_conversation_goes_on_with_the_next_number(
    redis_server: RedisServer, settings: Callable[..., Settings], recording: Path
) -> None:
    next_seq = pushed(settings(), str(recording), "--no-end")["next_seq"]
    assert pushed(settings(), str(recording), "--first-seq", str(next_seq))["chunks"] == 3
    assert [chunk.seq for chunk in chunks(redis_server, settings())] == [0, 1, 2, 3, 4, 5]
    assert entries(redis_server, settings())[-1] == End("u1", "c1", seq=6)


def test_the_same_command_again_makes_the_same_chunks(
    redis_server: RedisServer, settings: Callable[..., Settings], recording: Path
) -> None:
    for _ in range(2):
        pushed(settings(), str(recording), "--start", "7", "--first-seq", "4")
    identities = [chunk.identity() for chunk in chunks(redis_server, settings())]
    assert identities[:3] == identities[3:]


def test_audio_starts_now_unless_told(
    redis_server: RedisServer, settings: Callable[..., Settings], recording: Path
) -> None:
    before = time.time()
    pushed(settings(), str(recording))
    assert before - 0.001 <= chunks(redis_server, settings())[0].timestamp <= time.time()


def test_stereo_of_an_unsupported_rate_is_pushed_at_a_supported_one(
    redis_server: RedisServer, settings: Callable[..., Settings], tmp_path: Path
) -> None:
    path = tmp_path / "stereo.flac"
    soundfile.write(path, np.zeros((44100, 2), np.int16), 44100)
    facts = pushed(settings(), str(path))
    (chunk,) = chunks(redis_server, settings())
    assert (chunk.sample_rate, chunk.samples) == (facts["sample_rate"], facts["samples"]) == (48000, 48000)


def test_audio_of_a_rate_that_opus_has_not_is_said_to_be_resampled(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    path = tmp_path / "music.flac"
    soundfile.write(path, np.ones(44100, np.int16), 44100)
    assert pushed(settings(), str(path))["source_rate"] == 44100
    result = command(settings(), "push", str(path), *WHOSE)
    assert "pushed 1.00 s at 48000 Hz, resampled from 44100 Hz (96,000 bytes)" in result.stdout


def test_damaged_file_is_pushed_but_for_the_damage_and_exits_with_3(
    redis_server: RedisServer, settings: Callable[..., Settings], tmp_path: Path
) -> None:
    path = tmp_path / "damaged.mp3"
    path.write_bytes(overwritten(audio_file("mp3", SECONDS)))
    result = command(settings(), "push", str(path), *WHOSE, "--json")

    facts = json.loads(result.stdout)
    assert (result.exit_code, facts["complete"]) == (3, False)
    assert sum(chunk.samples for chunk in chunks(redis_server, settings())) == facts["samples"] > 11 * 16000
    assert 0 < facts["lost_seconds"] < 2
    assert "can't be decoded" in facts["flaws"][0]
    *flaws, advice = result.stderr.splitlines()
    assert flaws == [f"{path}: {flaw}" for flaw in facts["flaws"]]
    assert "--first-seq 3" in advice


def test_opposite_channels_are_warned_of(settings: Callable[..., Settings], tmp_path: Path) -> None:
    path = tmp_path / "opposite.wav"
    left = speech_array(2).clip(-32767)
    soundfile.write(path, np.column_stack([left, -left]), 16000)
    result = command(settings(), "push", str(path), *WHOSE)
    assert result.exit_code == 0
    assert "channels cancel each other" in result.stderr


def test_bare_samples_are_pushed_at_their_rate(
    redis_server: RedisServer, settings: Callable[..., Settings], tmp_path: Path
) -> None:
    path = tmp_path / "bare.raw"
    path.write_bytes(speech(2, 8000))
    assert pushed(settings(), str(path), "--raw", "8000")["sample_rate"] == 8000
    assert chunks(redis_server, settings())[0].pcm == speech(2, 8000)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_standard_input_is_pushed(
    redis_server: RedisServer, settings: Callable[..., Settings], recording: Path, name: str
) -> None:
    variables = {**os.environ, **environment(settings())}
    arguments = [sys.executable, "-m", "worker", "push", name, *WHOSE, "--start", "7"]
    with subprocess.Popen(["cat", str(recording)], stdout=subprocess.PIPE) as cat:
        subprocess.run(arguments, env=variables, stdin=cat.stdout, stdout=subprocess.DEVNULL, check=True)
    assert b"".join(chunk.pcm for chunk in chunks(redis_server, settings())) == speech(SECONDS)


@pytest.mark.slow
async def test_ctrl_c_does_not_wait_for_a_pipe(
    redis_server: RedisServer, settings: Callable[..., Settings], recording: Path, tmp_path: Path
) -> None:
    chosen, pipe = settings(), tmp_path / "pipe"
    os.mkfifo(pipe)
    header_and_chunks = await asyncio.to_thread(lambda: recording.read_bytes()[:-100_000])
    async with Process(environment(chosen), "push", str(pipe), *WHOSE, "--start", "7") as process:
        with await asyncio.to_thread(lambda: pipe.open("wb")) as writer:
            await asyncio.to_thread(writer.write, header_and_chunks)
            await asyncio.to_thread(writer.flush)
            await eventually(lambda: chunks(redis_server, chosen))
            process.signal(signal.SIGINT)
            assert await process.ended() == 130
    assert "chunks of" in process.lines[-1]
    assert "with --start 7.0" in process.lines[-1]


def test_disk_that_fails_tells_how_far_it_came(
    redis_server: RedisServer, settings: Callable[..., Settings], recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = ByteSource.take

    def failing(source: ByteSource, size: int) -> bytes:
        if source.position > 250_000:
            raise OSError(errno.EIO, "Input/output error")
        return take(source, size)

    monkeypatch.setattr(ByteSource, "take", failing)
    result = command(settings(), "push", str(recording), *WHOSE, "--start", "7")
    assert isinstance(result.exception, AudioFileError)
    assert f"{recording} can't be read: Input/output error" in str(result.exception)
    there = len(chunks(redis_server, settings()))
    assert result.stderr == (
        f"stopped: {there} of 3 chunks of {recording} are in Redis; with --start 7.0 the same command completes them\n"
    )


def test_realtime_takes_as_long_as_the_audio(
    redis_server: RedisServer, settings: Callable[..., Settings], tmp_path: Path
) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, np.ones(6400, np.int16), 16000)
    started = time.monotonic()
    pushed(settings(), str(path), "--realtime", "--chunk-seconds", "0.1")
    assert time.monotonic() - started >= 0.4
    assert len(chunks(redis_server, settings())) == 4


def test_the_sentence_for_people_tells_what_is_where(settings: Callable[..., Settings], recording: Path) -> None:
    result = command(settings(), "push", str(recording), *WHOSE, "--no-end")
    assert "pushed 12.00 s at 16000 Hz (384,000 bytes) as 3 chunks into test-" in result.stdout
    assert result.stdout.endswith("; go on with --first-seq 3\n")
    assert result.stderr == ""


def test_what_a_worker_would_refuse_is_one_sentence_and_nothing_is_pushed(
    redis_server: RedisServer, settings: Callable[..., Settings], recording: Path
) -> None:
    result = command(settings(), "push", str(recording), *WHOSE, "--start", "-5")
    assert isinstance(result.exception, WorkerError)
    assert "timestamp -5.0 is not Unix seconds" in str(result.exception)
    with redis_server.client() as client:
        assert client.keys(f"{settings().stream_prefix}:{{*") == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("--start", "yesterday"),
        ("--start", "inf"),
        ("--uid", "a/b"),
        ("--conversation", ".."),
        ("--chunk-seconds", "0"),
        ("--chunk-seconds", "61"),
        ("--protection", "none"),
        ("--first-seq", "-1"),
    ],
    ids=" ".join,
)
def test_a_wrong_option_or_its_value_is_named(
    settings: Callable[..., Settings], recording: Path, arguments: tuple[str, ...]
) -> None:
    result = command(settings(), "push", str(recording), *WHOSE, *arguments)
    assert result.exit_code == 2
    assert any(argument in result.stderr for argument in arguments)


def test_no_audio_file_is_one_sentence(settings: Callable[..., Settings], tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no audio")
    for file in (path, tmp_path / "absent.wav"):
        result = command(settings(), "push", str(file), *WHOSE)
        assert isinstance(result.exception, AudioFileError)
        assert str(file) in str(result.exception)


def test_a_redis_that_is_not_there_at_the_start_fails_at_once(
    settings: Callable[..., Settings], recording: Path, own_redis: Callable[..., RedisServer]
) -> None:
    server = own_redis()
    server.kill()
    result = command(settings(redis_url=server.url), "push", str(recording), *WHOSE)
    assert isinstance(result.exception, StreamError)


def test_another_number_of_partitions_is_refused(settings: Callable[..., Settings], recording: Path) -> None:
    pushed(settings(), str(recording))
    result = command(settings(partitions=9), "push", str(recording), *WHOSE)
    assert isinstance(result.exception, SettingsError)
    assert "set PARTITIONS=8" in str(result.exception)


@pytest.mark.slow
async def test_a_full_redis_is_waited_for_and_said_once(
    settings: Callable[..., Settings], recording: Path, own_redis: Callable[..., RedisServer]
) -> None:
    server = own_redis(maxmemory="1kb")
    chosen = settings(redis_url=server.url)
    async with Process(environment(chosen), "push", str(recording), *WHOSE, "--start", "0") as process:
        await process.said(f"waiting for 127.0.0.1:{server.port}; Redis: OutOfMemoryError")
        with server.client() as admin:
            admin.config_set("maxmemory", "0")
        assert await process.ended() == 0
        assert len(process.lines) == 2
        assert process.lines[1] == "Redis takes audio again"
    assert [chunk.seq for chunk in chunks(server, chosen)] == [0, 1, 2]


@pytest.mark.slow
async def test_ctrl_c_tells_what_did_not_get_into_redis(
    settings: Callable[..., Settings], recording: Path, own_redis: Callable[..., RedisServer]
) -> None:
    server = own_redis(maxmemory="1kb")
    arguments = ("push", str(recording), *WHOSE, "--start", "7")
    async with Process(environment(settings(redis_url=server.url)), *arguments) as process:
        await process.said("; Redis: OutOfMemoryError")
        process.signal(signal.SIGINT)
        assert await process.ended() == 130
    assert "entries are not known to be in Redis: Redis: OutOfMemoryError" in process.lines[-2]
    assert process.lines[-1] == (
        f"stopped: 0 of 3 chunks of {recording} are in Redis; with --start 7.0 the same command completes them"
    )


@pytest.mark.slow
def test_files_go_to_the_nodes_of_a_cluster(
    own_cluster: Callable[..., RedisCluster], settings: Callable[..., Settings], recording: Path
) -> None:
    cluster = own_cluster(3)
    chosen = settings(redis_url=cluster.url)
    owners = set()
    for conversation in ("c0", "c1", "c5"):  # one for each node
        result = command(chosen, "push", str(recording), "--uid", "u1", "--conversation", conversation)
        assert result.exit_code == 0, result.output
        stream = f"{chosen.stream_prefix}:{{{partition_of(conversation, chosen.partitions)}}}"
        owners.add(owner := cluster.owner(stream))
        pushed = [entry for entry in entries(owner, chosen, conversation) if entry.conversation_id == conversation]
        assert [entry.seq for entry in pushed] == [0, 1, 2, 3]
    assert len(owners) == 3


@pytest.mark.slow
async def test_what_redis_confirmed_and_lost_is_told(
    settings: Callable[..., Settings], tmp_path: Path, own_redis: Callable[..., RedisServer]
) -> None:
    server = own_redis()
    chosen = settings(redis_url=server.url)
    samples = tmp_path / "samples.pcm"
    samples.write_bytes(bytes(3 * 32000))
    options = ("--raw", "16000", "--realtime", "--chunk-seconds", "0.1", "--start", "7")
    async with Process(environment(chosen), "push", str(samples), *WHOSE, *options) as process:
        await eventually(lambda: chunks(server, chosen))
        await asyncio.to_thread(server.restart)
        assert await process.ended() == 1
    assert re.search(r"Redis has lost \d+ entries of .*samples.pcm that it had confirmed", process.lines[-1])
    assert process.lines[-1].endswith("with --start 7.0 the same command pushes them again")


@pytest.mark.slow
async def test_ctrl_c_while_redis_takes_everything_tells_what_is_there(
    redis_server: RedisServer, settings: Callable[..., Settings], recording: Path
) -> None:
    chosen = settings()
    arguments = ("push", str(recording), *WHOSE, "--start", "7", "--chunk-seconds", "0.2")
    async with Process(environment(chosen), *arguments, "--realtime") as process:
        await eventually(lambda: chunks(redis_server, chosen))
        process.signal(signal.SIGINT)
        assert await process.ended() == 130
    there = len(chunks(redis_server, chosen))
    assert process.lines[-1].startswith(f"stopped: {there} of 60 chunks of {recording} are in Redis; with --start 7.0 ")

    async with Process(environment(chosen), *arguments) as process:
        assert await process.ended() == 0
    assert {chunk.identity() for chunk in chunks(redis_server, chosen)[:there]} <= {
        chunk.identity() for chunk in chunks(redis_server, chosen)[there:]
    }


@pytest.mark.slow
async def test_a_connection_cut_in_the_middle_loses_nothing(
    redis_server: RedisServer, proxy: Proxy, settings: Callable[..., Settings], recording: Path
) -> None:
    chosen = settings(redis_url=proxy.url)
    lost = proxy.drop_reply(to=b"XADD")
    async with Process(environment(chosen), "push", str(recording), *WHOSE) as process:
        await lost.wait()
        assert await process.ended() == 0
    assert list(dict.fromkeys(chunk.seq for chunk in chunks(redis_server, chosen))) == [0, 1, 2]


def _read_all(terminal: int) -> Iterator[bytes]:
    with suppress(OSError), os.fdopen(terminal, "rb", buffering=0) as output:  # a terminal that was left reads as EIO
        while data := output.read(4096):
            yield data


@pytest.mark.slow
@pytest.mark.parametrize(("options", "steps"), [((), (b"3/3",)), (("--realtime", "--chunk-seconds", "0.4"), (b"0/2",))])
def test_a_person_at_a_terminal_sees_the_progress(
    settings: Callable[..., Settings], recording: Path, options: tuple[str, ...], steps: tuple[bytes, ...]
) -> None:
    if options:
        recording.write_bytes(wav_header(16000, 25600) + speech(0.8))
    watching, terminal = pty.openpty()
    arguments = [sys.executable, "-m", "worker", "push", str(recording), *WHOSE, *options]
    variables = {**os.environ, **environment(settings()), "TERM": "xterm", "COLUMNS": "120"}
    subprocess.run(arguments, env=variables, stderr=terminal, stdout=subprocess.DEVNULL, check=True)
    os.close(terminal)
    shown = b"".join(_read_all(watching))
    assert b"pushing chunks" in shown
    assert all(step in shown for step in steps)
    assert b"/?" not in shown


@pytest.mark.slow
def test_progress_counts_only_what_redis_has_accepted(
    settings: Callable[..., Settings], recording: Path, own_redis: Callable[..., RedisServer]
) -> None:
    server = own_redis(maxmemory="1mb")
    watching, terminal = pty.openpty()
    arguments = [sys.executable, "-m", "worker", "push", str(recording), *WHOSE]
    variables = {**os.environ, **environment(settings(redis_url=server.url)), "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(arguments, env=variables, stderr=terminal, stdout=subprocess.DEVNULL) as process:
        os.close(terminal)
        shown, while_full = b"", b""
        for data in _read_all(watching):
            shown += data
            if not while_full and b"/3" in shown.partition(b"waiting for")[2]:
                while_full = shown
                with server.client() as admin:
                    admin.config_set("maxmemory", "0")
    assert process.returncode == 0
    assert set(re.findall(rb"./3", while_full)) == {b"0/3"}
    assert b"3/3" in shown


@pytest.mark.slow
def test_standard_input_that_is_closed_is_one_sentence(settings: Callable[..., Settings]) -> None:
    variables = {**os.environ, **environment(settings())}
    arguments = ("sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "worker", "push", "-", *WHOSE)
    done = subprocess.run(arguments, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "audio-batch-worker: standard input can't be read: it is closed\n"


@pytest.mark.slow
def test_name_of_a_file_does_not_control_the_terminal(
    settings: Callable[..., Settings], tmp_path: Path, recording: Path
) -> None:
    strange = recording.rename(tmp_path / "a\x1b[31m.wav")
    assert "a\\x1b[31m.wav: pushed 12.00 s" in command(settings(), "push", str(strange), *WHOSE).stdout
    strange.write_bytes(b"nothing")
    arguments = (sys.executable, "-m", "worker", "push", str(strange), *WHOSE)
    variables = {**os.environ, **environment(settings())}
    done = subprocess.run(arguments, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "a\\x1b[31m.wav has no known audio format" in done.stderr
