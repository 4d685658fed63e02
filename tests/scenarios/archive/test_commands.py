"""The commands on real blobs: what they print, where, and with which exit code."""

from __future__ import annotations

import asyncio
import json
import os
import re
import wave
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from pydantic import SecretStr
from typer.testing import Result

from codec.crypto import key_id
from tests.support.command import command
from tests.support.gcs.server import GcsServer
from tests.support.ogg_reader import read_ogg_opus
from tests.support.redis_server import RedisServer
from tests.support.secret import TEST_SECRET
from tests.support.speech import speech
from tests.support.stored_blobs import OLD_SECRET, T0, ConversationFolder, key_of
from worker.archive import AudioFormat
from worker.audio.reading.reader import open_audio
from worker.cli import options
from worker.errors import AudioFileError, SettingsError
from worker.settings import Settings
from worker.stores.base import Store
from worker.stream.keys import Keys

EXPORT = ("export", "--uid", "user", "--conversation", "talk")

pytestmark = pytest.mark.usefixtures("no_waiting_between_tries")


async def run(settings: Settings, *arguments: str, answer: str | None = None) -> Result:
    """In a thread, because a command has an event loop of its own."""
    return await asyncio.to_thread(command, settings, *arguments, answer=answer)


@pytest.fixture
async def talk(local_folder: ConversationFolder) -> ConversationFolder:
    """Half a minute: Opus, PCM of years ago, and the same PCM in Opus too."""
    await local_folder.put(".opus.enc", T0, speech(10), described=True)
    await local_folder.put(".enc", T0 + 10, speech(10, offset=10))
    await local_folder.put(".opus", T0 + 10, speech(10, offset=10), described=True)
    await local_folder.put(".bin", T0 + 20, speech(10, offset=20))
    return local_folder


async def test_ls_shows_a_table_and_other_objects(talk: ConversationFolder, environment: Settings) -> None:
    await talk.put_bytes("notes.txt", b"x")

    result = await run(environment, "ls", "--uid", "user")

    assert result.exit_code == 0
    assert "2023-11-14 22:13:20" in result.stdout
    assert f"{T0:.3f}.opus.enc" in result.stdout
    assert "3 blobs, 30.0 s, 689,094 bytes; 1 more with the same audio as one of them" in result.stdout
    assert "no blob" in result.stderr


@pytest.mark.parametrize(
    "asked",
    [
        "ls --uid user",
        "verify",
        "convert --all",
        "files --uid user --conversation talk",
        "export --uid user --conversation talk -o {out}",
        "copy --uid user --from talk --to other",
        "audit --uid user --conversation talk",
    ],
)
async def test_thousand_objects_that_are_no_blobs_are_counted_and_only_the_first_named(
    talk: ConversationFolder, environment: Settings, redis_server: RedisServer, tmp_path: Path, asked: str
) -> None:
    for number in range(1000):
        await talk.put_bytes(f"notes{number:04}.txt", b"x")

    settings = environment.model_copy(update={"redis_url": redis_server.url})
    result = await run(settings, *asked.format(out=tmp_path / "out.wav").split())

    lines = result.stderr.splitlines()
    assert sum("notes0" in line for line in lines) == 5
    assert "and 995 more of 1,000 objects that are no blobs" in lines


@pytest.mark.parametrize("asked", ["ls --uid user", "files --uid user --conversation talk"])
@pytest.mark.parametrize("as_json", [False, True])
async def test_secret_that_blobs_name_and_nobody_gave_is_told_once(
    local_folder: ConversationFolder, environment: Settings, asked: str, as_json: bool
) -> None:
    for start in (T0, T0 + 1):
        await local_folder.put(".opus.enc", start, speech(1), described=True, more=key_of(OLD_SECRET))
    await local_folder.put(".opus.enc", T0 + 2, speech(1), described=True, more=key_of(TEST_SECRET))

    wrong = await run(environment, *asked.split(), *(["--json"] if as_json else []))
    right = await run(environment.model_copy(update={"encryption_secrets_old": SecretStr(OLD_SECRET)}), *asked.split())

    told = [line for line in wrong.stderr.splitlines() if "ENCRYPTION_SECRETS_OLD" in line]
    assert len(told) == 1
    assert f"2 blobs are encrypted with the secret {key_id(OLD_SECRET)}" in told[0]
    assert (wrong.exit_code, right.exit_code, right.stderr) == (0, 0, "")


async def test_ls_as_json_has_every_fact(talk: ConversationFolder, environment: Settings) -> None:
    document = json.loads((await run(environment, "ls", "--uid", "user", "--conversation", "talk", "--json")).stdout)

    first = document["blobs"][0]
    assert first["name"] == talk.names[0]
    assert (first["kind"], first["codec"], first["protection"]) == (".opus.enc", "opus", "enhanced")
    assert (first["start"], first["end"], first["duration"]) == (T0, T0 + 10, 10)
    assert document["others"] == []


@pytest.mark.parametrize("command", ["ls", "verify", "rm --store-only --dry-run", "copy --from talk --to other"])
async def test_names_that_strangers_chose_can_not_steer_the_terminal(
    talk: ConversationFolder, environment: Settings, command: str
) -> None:
    await talk.put_bytes("\x1b[2J\u202e.txt", b"x")

    result = await run(environment, *command.split(), "--uid", "user")

    assert r"talk/\x1b[2J\x202e.txt" in result.output
    assert "\x1b" not in result.output


async def test_ls_shows_names_letter_by_letter(local_folder: ConversationFolder, environment: Settings) -> None:
    local_folder.conversation = "a:bell:b [red]\u202e\u2028"
    await local_folder.put(".bin", T0, speech(1))

    result = await run(environment, "ls", "--uid", "user")

    assert r"a:bell:b [red]\x202e\x2028" in result.stdout


@pytest.mark.parametrize("moment", ["nan", "inf", "-inf"])
async def test_what_is_no_moment_is_refused(environment: Settings, tmp_path: Path, moment: str) -> None:
    whose = ("--uid", "user", "--conversation", "talk", "-o", str(tmp_path / "x.wav"))
    for option in ("--from", "--to", "--at"):
        result = await run(environment, "export", *whose, option, moment)
        assert (result.exit_code, "is not a moment" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("moment", "message"),
    [
        ("20231114", "may be a date or Unix seconds"),
        ("1_700_000_010", "is neither Unix seconds nor ISO 8601"),
        ("\uff11\uff17\uff10\uff10", "is neither Unix seconds nor ISO 8601"),
        ("yesterday", "is neither Unix seconds nor ISO 8601"),
    ],
)
def test_what_may_mean_another_moment_is_refused(moment: str, message: str) -> None:
    with pytest.raises(typer.BadParameter, match=message):
        options.moment(moment)


@pytest.mark.parametrize(
    "moment", [f"{T0:.0f}", "1.7e9", "2023-11-14T22:13:20", "20231114T221320", "20231114T231320+01"]
)
def test_moments_are_unix_seconds_or_iso_8601(moment: str) -> None:
    assert options.moment(moment) == T0
    assert options.moment("20231114.0") == 20231114


@pytest.mark.usefixtures("talk")
async def test_export_writes_a_wav(environment: Settings, tmp_path: Path) -> None:
    out = tmp_path / "out.wav"

    result = await run(environment, "export", "--uid", "user", "--conversation", "talk", "-o", str(out))

    assert (result.exit_code, result.stderr) == (0, "")
    assert "30.00 s at 16000 Hz from 3 blobs" in result.stdout
    with wave.open(str(out)) as file:
        assert file.getnframes() == 30 * 16000


@pytest.mark.usefixtures("talk")
@pytest.mark.parametrize("name", ["out.m4a", "out.wma", "out.wav.gz", "out.dat"])
async def test_export_refuses_a_name_that_promises_another_format(
    environment: Settings, tmp_path: Path, name: str
) -> None:
    out = tmp_path / name
    result = await run(environment, "export", "--uid", "user", "--conversation", "talk", "-o", str(out))
    assert "give a name that ends with .wav, .pcm, .raw, .flac, .mp3, .opus, .ogg or .oga" in str(result.exception)
    assert not out.exists()


@pytest.mark.usefixtures("talk")
@pytest.mark.parametrize("name", ["out", "out.WAV"])
async def test_export_without_an_extension_is_a_wav(environment: Settings, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    await run(environment, "export", "--uid", "user", "--conversation", "talk", "-o", str(out))
    assert out.read_bytes()[:4] == b"RIFF"


@pytest.mark.usefixtures("talk")
@pytest.mark.parametrize("form", AudioFormat)
async def test_export_to_standard_output_puts_only_audio_there(
    environment: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: AudioFormat
) -> None:
    monkeypatch.chdir(tmp_path)
    result = await run(environment, *EXPORT, "-o", "-", "--format", form, "--json")

    assert result.exit_code == 0
    assert json.loads(result.stderr[result.stderr.index("{") :])["seconds"] == 30
    assert list(tmp_path.glob("-*")) == []  # noqa: ASYNC240
    piped = tmp_path / "piped"
    piped.write_bytes(result.stdout_bytes)
    with open_audio(piped, raw_rate=16000 if form == "pcm" else None) as audio:
        pcm = b"".join(audio.chunks(5))
        assert abs(len(pcm) / 2 / audio.sample_rate - 30) < 0.1
        assert audio.report.flaws == []


@pytest.mark.usefixtures("talk")
async def test_export_replaces_a_file_only_if_told(environment: Settings, tmp_path: Path) -> None:
    out = tmp_path / "out.wav"
    out.write_bytes(b"mine")

    refused = await run(environment, *EXPORT, "-o", str(out))
    assert refused.exit_code == 2
    assert "is there already" in refused.stderr
    assert "--force" in refused.stderr
    assert out.read_bytes() == b"mine"

    assert (await run(environment, *EXPORT, "-o", str(out), "--force")).exit_code == 0
    assert out.stat().st_size == 44 + 30 * 32000


@pytest.mark.usefixtures("talk")
async def test_export_as_opus_tells_what_had_to_be_encoded(environment: Settings, tmp_path: Path) -> None:
    result = await run(environment, *EXPORT, "-o", str(tmp_path / "out.ogg"))
    assert "out.ogg: 30.00 s at 16000 Hz from 3 blobs" in result.stdout
    assert result.stderr == "1 blob of PCM had to be encoded as Opus\n"
    assert len(read_ogg_opus((tmp_path / "out.ogg").read_bytes())) == 3


@pytest.mark.usefixtures("talk")
@pytest.mark.parametrize(("name", "rate"), [("out.ogg", "16000"), ("out.mp3", "15000")])
async def test_export_refuses_rates_that_a_format_has_not(
    environment: Settings, tmp_path: Path, name: str, rate: str
) -> None:
    result = await run(environment, *EXPORT, "-o", str(tmp_path / name), "--rate", rate)
    assert result.exit_code != 0
    assert "--rate" in result.stderr + str(result.exception)
    assert list(tmp_path.glob("out*")) == []  # noqa: ASYNC240


@pytest.mark.usefixtures("talk")
async def test_export_never_replaces_a_device(environment: Settings, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"  # as good as /dev/null, which it would take away from everybody
    os.mkfifo(pipe)
    result = await run(environment, "export", "--uid", "user", "--conversation", "talk", "-o", str(pipe))
    assert "it is there and no file" in str(result.exception)
    assert pipe.is_fifo()


@pytest.mark.usefixtures("talk")
@pytest.mark.parametrize("extension", [".wav", ".pcm"])
async def test_export_to_a_name_that_is_too_long_is_one_sentence(
    environment: Settings, tmp_path: Path, extension: str
) -> None:
    out = tmp_path / f"{'x' * 252}{extension}"
    result = await run(environment, "export", "--uid", "user", "--conversation", "talk", "-o", str(out))
    assert isinstance(result.exception, AudioFileError)
    assert "File name too long" in str(result.exception)


@pytest.mark.usefixtures("talk")
async def test_export_of_a_part(environment: Settings, tmp_path: Path) -> None:
    chosen = ["export", "--uid", "user", "--conversation", "talk", "-o", str(tmp_path / "out.pcm"), "--json"]

    times = await run(environment, *chosen, "--from", "2023-11-14T22:13:25", "--to", f"{T0 + 12.5}")
    stamps = await run(environment, *chosen, "--force", "--at", f"{T0 + 20:.3f}", "--at", "5", "--rate", "8000")

    assert json.loads(times.stdout)["samples"] == 7.5 * 16000
    assert (json.loads(stamps.stdout)["samples"], json.loads(stamps.stdout)["missing"]) == (80000, [5.0])
    assert stamps.exit_code == 3


async def test_export_with_a_damaged_blob_says_so_and_exits_with_3(
    talk: ConversationFolder, environment: Settings, tmp_path: Path
) -> None:
    await talk.put_bytes(f"{T0 + 30:.3f}.opus", b"12345")

    result = await run(environment, "export", "--uid", "user", "--conversation", "talk", "-o", str(tmp_path / "o.wav"))

    assert result.exit_code == 3
    assert "Opus data too short: 5 bytes" in result.stderr
    assert (tmp_path / "o.wav").exists()


@pytest.mark.usefixtures("talk")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--uid", "user", "--conversation", "nothing"], "no audio of user/nothing is stored"),
        (["--uid", "user", "--conversation", "talk", "--from", "10", "--to", "5"], "is empty"),
    ],
)
async def test_what_can_not_be_exported_is_one_sentence(
    environment: Settings, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = await run(environment, "export", *arguments, "-o", str(tmp_path / "o.wav"))

    assert result.exit_code == 1
    assert message in str(result.exception)
    assert not (tmp_path / "o.wav").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "--uid", "a/b", "--conversation", "talk", "-o", "never.wav"),
        ("ls", "--uid", "user", "--conversation", ".."),
        ("copy", "--uid", "user", "--from", "talk", "--from", "", "--to", "all"),
        ("verify", "--uid", "a\\b"),
        ("convert", "--uid", "u" * 257),
        ("rm", "--uid", "."),
    ],
)
async def test_an_id_that_no_object_can_have_is_wrong_usage(environment: Settings, arguments: tuple[str, ...]) -> None:
    result = await run(environment, *arguments)

    assert result.exit_code == 2
    assert "Invalid value" in result.stderr


async def test_former_secrets_come_from_the_environment(
    local_folder: ConversationFolder, environment: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_folder.secret = OLD_SECRET
    await local_folder.put(".enc", T0, speech(1))
    arguments = ("export", "--uid", "user", "--conversation", "talk", "-o", str(tmp_path / "o.wav"))

    refused = await run(environment, *arguments)
    monkeypatch.setenv("ENCRYPTION_SECRETS_OLD", f"{'x' * 32},{OLD_SECRET}")
    opened = await run(environment, *arguments)

    assert refused.exit_code == 1
    assert "none of 1 blobs can be read" in str(refused.exception)
    assert opened.exit_code == 0


async def test_files_groups(talk: ConversationFolder, environment: Settings) -> None:
    await talk.put(".bin", T0 + 500, speech(1))

    document = json.loads((await run(environment, "files", "--uid", "user", "--conversation", "talk", "--json")).stdout)

    assert [file["duration"] for file in document["files"]] == [30.0, 1.0]


async def test_files_keeps_to_the_gap_tolerance(local_folder: ConversationFolder, environment: Settings) -> None:
    await local_folder.put(".bin", T0, speech(5))
    await local_folder.put(".bin", T0 + 6.5, speech(5))
    tight = environment.model_copy(update={"gap_tolerance": 0.5})

    result = await run(tight, "files", "--uid", "user", "--conversation", "talk")

    assert result.stdout.splitlines()[-1] == "1 file, 11.5 s"


async def test_files_does_not_call_skipped_what_it_lists(
    local_folder: ConversationFolder, environment: Settings
) -> None:
    alone = await local_folder.put_bytes(f"{T0:.3f}.opus", b"123")
    replaced = await local_folder.put_bytes(f"{T0 + 1:.3f}.opus", b"123")
    await local_folder.put(".bin", T0 + 1, speech(1))

    result = await run(environment, "files", "--uid", "user", "--conversation", "talk")

    first, second = result.stderr.splitlines()
    assert first.startswith(f"listed without its exact length: {alone}: Opus data too short")
    assert second.startswith(f"skipped {replaced}: Opus data too short")
    assert "was used instead" in second
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (3, "1 file, 1.0 s")


@pytest.mark.usefixtures("talk")
@pytest.mark.parametrize(("conversation", "last"), [("talk", "1 file, 30.0 s"), ("none", "0 files, 0.0 s")])
async def test_files_ends_with_what_it_found(environment: Settings, conversation: str, last: str) -> None:
    result = await run(environment, "files", "--uid", "user", "--conversation", conversation)
    assert result.stdout.splitlines()[-1] == last


async def test_store_that_is_asked_again_is_told_in_a_sentence(environment: Settings, gcs_server: GcsServer) -> None:
    gcs_server.fail("list", status=503)
    there = {"store_url": f"gs://{gcs_server.bucket}", "storage_emulator_host": gcs_server.url}

    result = await run(environment.model_copy(update=there), "ls", "--uid", "user")

    assert result.exit_code == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("trying again in 0.0 s: listing chunks/user/: HTTP 503")


@pytest.mark.usefixtures("talk")
async def test_copy_merges_and_says_what_it_did(environment: Settings) -> None:
    arguments = ("copy", "--uid", "user", "--from", "talk", "--to", "merged")

    assert "4 blobs would be copied" in (await run(environment, *arguments, "--dry-run")).stdout
    assert "4 blobs copied, 0 were there already" in (await run(environment, *arguments)).stdout
    assert "0 blobs copied, 4 were there already" in (await run(environment, *arguments)).stdout


async def test_rm_deletes_after_telling_redis(talk: ConversationFolder, environment: Settings) -> None:
    dry = await run(environment, "rm", "--uid", "user", "--dry-run")
    one = await run(environment, "rm", "--uid", "user", "--conversation", "talk", "--at", f"{T0:.3f}")
    rest = await run(environment, "rm", "--uid", "user", "--conversation", "talk", "--json")

    assert dry.stdout.splitlines() == sorted(talk.names)
    assert one.stdout.splitlines() == [talk.names[0]]
    document = json.loads(rest.stdout)
    assert (len(document["deleted"]), document["redis_told"], document["left"]) == (3, True, [])
    assert await talk.files() == []


async def test_rm_of_a_whole_user_without_a_terminal_needs_yes(talk: ConversationFolder, environment: Settings) -> None:
    for answer in ("y\n", ""):
        refused = await run(environment, "rm", "--uid", "user", answer=answer)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "deletes all recordings of the user user; nothing is removed without --yes" in refused.stderr
    assert len(await talk.files()) == 4

    sure = await run(environment, "rm", "--uid", "user", "--yes")

    assert (sure.exit_code, await talk.files()) == (0, [])


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(("answer", "exit_code", "left"), [("n\n", 1, 4), ("\n", 1, 4), ("", 1, 4), ("y\n", 0, 0)])
async def test_rm_of_a_whole_user_asks_with_what_is_there(
    talk: ConversationFolder, environment: Settings, answer: str, exit_code: int, left: int
) -> None:
    await ConversationFolder(talk.store, conversation="other").put(".bin", T0, b"ab")

    result = await run(environment, "rm", "--uid", "user", answer=answer)

    assert (
        "Delete 5 objects of 2 conversations of the user user, and what is still on its way, for good?" in result.stderr
    )
    assert result.exit_code == exit_code
    assert len(await talk.files()) == left


@pytest.mark.usefixtures("terminal")
async def test_rm_of_one_conversation_does_not_ask(talk: ConversationFolder, environment: Settings) -> None:
    result = await run(environment, "rm", "--uid", "user", "--conversation", "talk")

    assert (result.exit_code, await talk.files()) == (0, [])


async def test_rm_tells_what_the_store_refuses_to_delete(
    gcs: Store, gcs_server: GcsServer, environment: Settings
) -> None:
    folder = ConversationFolder(gcs)
    for number in range(3):
        await folder.put(".bin", T0 + number, b"ab")
    gcs_server.fail("delete", status=403, reason="forbidden", message="under a hold", name=folder.names[1], times=99)
    there = {"store_url": f"gs://{gcs_server.bucket}", "storage_emulator_host": gcs_server.url}

    result = await run(environment.model_copy(update=there), "rm", "--uid", "user", "--yes", "--json")
    again = await run(environment.model_copy(update=there), "rm", "--uid", "user", "--yes")

    document = json.loads(result.stdout)
    assert (result.exit_code, len(document["deleted"])) == (3, 2)
    assert [left["name"] for left in document["left"]] == [folder.names[1]]
    assert (again.exit_code, again.stdout) == (3, "")
    assert f"not deleted: {folder.names[1]}: deleting {folder.names[1]}: HTTP 403: under a hold" in again.stderr


async def test_rm_refuses_when_redis_can_not_be_told(
    talk: ConversationFolder, settings: Callable[..., Settings], tmp_path: Path
) -> None:
    unreachable = settings(redis_url="redis://127.0.0.1:1", store_url=(tmp_path / "store").as_uri())

    refused = await run(unreachable, "rm", "--uid", "user", "--yes")
    left = await talk.files()
    forced = await run(unreachable, "rm", "--uid", "user", "--store-only", "--yes")

    assert refused.exit_code == 1
    assert "nothing is deleted" in str(refused.exception)
    assert len(left) == 4
    assert forced.exit_code == 0
    assert await talk.files() == []


async def test_rm_without_any_redis_deletes_and_says_what_it_could_not_make_sure_of(
    talk: ConversationFolder, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = environment.model_copy(update={"redis_url": "redis://127.0.0.1:1"})
    nowhere.model_fields_set.discard("redis_url")
    monkeypatch.setattr("worker.settings.load", lambda: nowhere)

    result = await run(environment, "rm", "--uid", "user", "--yes")

    assert "audio that is still on its way will be stored" in result.stderr
    assert result.exit_code == 3
    assert await talk.files() == []


async def test_rm_says_that_replicas_may_not_know(
    talk: ConversationFolder, settings: Callable[..., Settings], tmp_path: Path, own_redis: Callable[..., RedisServer]
) -> None:
    primary, replica = own_redis(repl_diskless_sync_delay="0"), own_redis()
    with primary.client() as leader, replica.client() as follower:
        follower.replicaof("127.0.0.1", primary.port)
        leader.xadd(Keys("pcm").stream(0), {"a": "b"})
        while not leader.wait(1, 1000):
            leader.xadd(Keys("pcm").stream(0), {"a": "b"})
    replica.pause()
    there = settings(redis_url=primary.url, store_url=(tmp_path / "store").as_uri(), stream_prefix="pcm")

    result = await run(there, "rm", "--uid", "user", "--yes", "--json")

    document = json.loads(result.stdout)
    assert (result.exit_code, document["replicas"], document["unconfirmed_replicas"]) == (3, 1, 1)
    assert await talk.files() == []
    assert (
        "1 of 1 replicas have not confirmed the deletion" in (await run(there, "rm", "--uid", "user", "--yes")).stderr
    )


async def test_verify_tells_what_is_broken_and_takes_up_its_report(
    talk: ConversationFolder, environment: Settings, tmp_path: Path
) -> None:
    await talk.put(".bin", T0 + 99, speech(1))
    await talk.put_bytes(f"{T0 + 200:.3f}.opus", b"12345")
    report = str(tmp_path / "report.jsonl")

    first = await run(environment, "verify", "--report", report)
    second = await run(environment, "verify", "--uid", "user", "--report", report, "--json")

    assert first.exit_code == second.exit_code == 3
    assert "5 objects are intact" in first.stdout
    assert re.findall("gap of [0-9.]+ s", first.stdout) == ["gap of 69.0 s"]
    assert "Opus data too short" in first.stderr
    assert (json.loads(second.stdout)["known"], len(json.loads(second.stdout)["damaged"])) == (5, 1)


async def test_convert_needs_a_yes(talk: ConversationFolder, environment: Settings) -> None:
    planned = await run(environment, "convert", "--uid", "user")
    files = await talk.files()
    done = await run(environment, "convert", "--uid", "user", "--yes", "--json")

    assert "2 blobs of 640,032 bytes would be converted" in planned.stdout
    assert f"{T0 + 10:.3f}.enc" in files
    assert {json.loads(line)["outcome"] for line in done.stdout.splitlines()} == {"converted"}
    assert done.exit_code == 0
    assert all("opus" in file for file in await talk.files())


@pytest.mark.parametrize(
    "arguments",
    [
        "ls --uid user",
        "verify",
        "convert --all --yes",
        "rm --uid user --store-only --yes",
        "rm --uid user --conversation talk --at 1",
        "copy --uid user --from talk --to other",
        "files --uid user --conversation talk",
        "export --uid user --conversation talk -o never.wav",
        "audit --uid user --conversation talk",
        "ls",
    ],
)
async def test_store_url_that_names_no_directory_is_refused(
    environment: Settings, tmp_path: Path, arguments: str
) -> None:
    directory = tmp_path / "mistyped"

    result = await run(environment.model_copy(update={"store_url": directory.as_uri()}), *arguments.split())

    assert f"STORE_URL: there is no directory {directory}: it is mistyped" in f"{result.stderr} {result.exception}"
    assert isinstance(result.exception, SettingsError) or result.exit_code == 2
    assert (result.stdout, directory.exists()) == ("", False)


async def test_a_missing_store_url_is_named(environment: Settings) -> None:
    result = await run(environment.model_copy(update={"store_url": ""}), "ls", "--uid", "user")

    assert "STORE_URL is not set" in str(result.exception)
