"""Every command with one bad object: it does all others, names the bad one and why, and its exit code says so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import Result

from tests.support.command import command
from tests.support.gcs.server import GcsServer
from tests.support.speech import speech
from tests.support.stored_blobs import T0, ConversationFolder
from worker.settings import Settings
from worker.stores import open_store
from worker.stores.base import Store

pytestmark = pytest.mark.usefixtures("no_waiting_between_tries")

FOREIGN_SECRET = "a secret that this operator never had at all"
BAD = f"chunks/user/talk/{T0 + 10:.3f}"

READING = ("export", "files", "verify")
COMMANDS = {
    "ls": "ls --uid user",
    "files": "files --uid user --conversation talk",
    "export": "export --uid user --conversation talk -o {out} --json",
    "verify": "verify --uid user",
    "convert": "convert --uid user --yes",
    "copy": "copy --uid user --from talk --to other",
    "rm": "rm --uid user --store-only --yes",
    "audit": "audit --uid user --conversation talk",
}


@dataclass
class Place:
    """A conversation of two good blobs of PCM, with room for a bad one between them."""

    folder: ConversationFolder
    server: GcsServer
    settings: Settings
    directory: Path | None

    @property
    def store(self) -> Store:
        return self.folder.store


Making = Callable[[Place], Awaitable[str]]


async def unreadable(place: Place) -> str:
    return await place.folder.put_bytes(f"{T0 + 10:.3f}.opus", b"12345")


async def unreadable_pcm(place: Place) -> str:
    return await place.folder.put_bytes(f"{T0 + 10:.3f}.enc", b"12345")


async def of_another_secret(place: Place) -> str:
    foreign = ConversationFolder(place.store, secret=FOREIGN_SECRET)
    return await foreign.put(".enc", T0 + 10, speech(10, offset=10))


async def of_a_bad_name(place: Place) -> str:
    return await place.folder.put_bytes(f"{T0 + 10:.3f}-yesterday.bin", b"ab")


async def with_bad_metadata(place: Place) -> str:
    """In a bucket, metadata are texts; a directory has what other programs wrote there."""
    name = await place.folder.put(".bin", T0 + 10, speech(10, offset=10))
    assert place.directory is not None
    (place.directory / ".metadata" / f"{name}.json").write_text('{"metadata": {"samples": 160000}}')
    return name


def refused(kind: str, refusal: str) -> Making:
    async def put(place: Place) -> str:
        name = await place.folder.put(".bin", T0 + 10, speech(10, offset=10))
        if refusal == "vanished":
            place.server.fail(
                kind, status=404, reason="notFound", message="No such object", name=f"{BAD}*", times=10**9
            )
        else:
            place.server.refuse(kind, refusal, name=f"*{T0 + 10:.3f}*")
        return name

    return put


ALL_BUT_RM = tuple(name for name in COMMANDS if name != "rm")
# What is bad: how it comes into being, the words of the reason, and the commands that it keeps from doing their work.
OBJECTS: dict[str, tuple[Making, str, tuple[str, ...]]] = {
    "bytes": (unreadable, "Opus data too short", READING),
    "PCM bytes": (unreadable_pcm, "segment 1 at offset 0", ("export", "verify", "convert")),
    "secret": (of_another_secret, "segment 1 at offset 0", ("export", "verify", "convert")),
    "name": (of_a_bad_name, "has a range, but is not a batch", ALL_BUT_RM),
    "get 403": (refused("download", "forbidden"), "HTTP 403", ("export", "verify", "convert")),
    "vanished": (refused("download", "vanished"), "deleted meanwhile", ("export", "verify", "convert")),
    "delete 403": (refused("delete", "forbidden"), "HTTP 403", ("convert", "rm")),
    "delete held": (refused("delete", "event hold"), "release the hold", ("convert", "rm")),
    "insert 403": (refused("insert.*", "forbidden"), "HTTP 403", ("convert",)),
    "rewrite 403": (refused("rewrite", "forbidden"), "HTTP 403", ("copy",)),
    "metadata": (with_bad_metadata, "is not what this program writes", ("ls", "export", "verify", "convert", "copy")),
}
# Objects that are no blobs are named, but do not make the others incomplete.
NOT_INCOMPLETE = [("name", name) for name in ALL_BUT_RM if name != "verify"]


@pytest.fixture
async def place(
    request: pytest.FixtureRequest, gcs_server: GcsServer, environment: Settings, tmp_path: Path
) -> AsyncIterator[Place]:
    """A bucket, or, if the test says so, a directory."""
    directory = tmp_path / "store" if request.param == "file" else None
    there = (
        {"store_url": directory.as_uri()}
        if directory
        else {"store_url": f"gs://{gcs_server.bucket}", "storage_emulator_host": gcs_server.url}
    )
    store = open_store(there["store_url"], emulator_host=gcs_server.url)
    folder = ConversationFolder(store)
    for second in (0, 20):
        await folder.put(".bin", T0 + second, speech(10, offset=second))
    yield Place(folder, gcs_server, environment.model_copy(update=there), directory)
    await store.close()


def parametrised() -> list[object]:
    return [
        pytest.param("file" if bad == "metadata" else "gs", name, bad, id=f"{name}-{bad}")
        for name in COMMANDS
        for bad in OBJECTS
    ]


@pytest.mark.parametrize(("place", "name", "bad"), parametrised(), indirect=["place"])
async def test_one_bad_object_stops_no_other(place: Place, tmp_path: Path, name: str, bad: str) -> None:
    make, reason, concerned = OBJECTS[bad]
    object_name = await make(place)
    arguments = [part.format(out=tmp_path / "out.wav") for part in COMMANDS[name].split()]

    result: Result = await asyncio.to_thread(command, place.settings, *arguments)

    assert "Traceback" not in result.output
    told = name in concerned
    assert (reason in result.stderr + result.stdout) is told, result.output
    assert (object_name in result.stderr) is told
    assert result.exit_code == _exit_code(name, bad, told=told), result.output
    if told:
        (line,) = [line for line in result.stderr.splitlines() if object_name in line]
        assert reason in line
    place.server.script.clear()
    await _check_others(place, name, result, object_name)


def _exit_code(name: str, bad: str, *, told: bool) -> int:
    if name == "audit":  # seconds are missing, the length is not known, or the metadata can't be read
        return {"name": 1, "PCM bytes": 1, "bytes": 2, "metadata": 2}.get(bad, 0)
    return 3 if told and (bad, name) not in NOT_INCOMPLETE else 0


async def _check_others(place: Place, name: str, result: Result, bad: str) -> None:
    """The two good blobs were treated."""
    names = [info.name async for info in place.store.list("chunks/")]
    files = [each.rpartition("/")[2] for each in names if each != bad]
    first, last = f"{T0:.3f}", f"{T0 + 20:.3f}"
    if name in ("ls", "audit"):
        assert f"{first}.bin" in result.stdout
        assert f"{last}.bin" in result.stdout
    elif name == "files":
        assert "1 file, 30.0 s" in result.stdout  # a bad blob of 10 s, or a gap of 10 s
    elif name == "export":
        assert json.loads(result.stdout)["blobs"] >= 2
    elif name == "verify":
        assert "2 objects are intact" in result.stdout or "3 objects are intact" in result.stdout
    elif name == "convert":
        assert {f"{first}.opus", f"{last}.opus"} <= set(files)
        assert not {f"{first}.bin", f"{last}.bin"} & set(files)
    elif name == "copy":
        assert {f"chunks/user/other/{stem}.bin" for stem in (first, last)} <= set(names)
    else:
        assert files == []
