"""The file store: where things lie, and that neither a kill nor a hostile name does harm."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import google_crc32c
import pytest

from worker.errors import SettingsError, StoreError
from worker.stores.files import FileStore
from worker.stores.tree import TEMPORARY_MAX_AGE, Tree

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

NAME = "chunks/user/conversation/1000.000.opus.enc"
BARE = [".metadata", ".metadata/.lock", ".metadata/.store", ".metadata/.tmp"]

DAMAGED_METADATA = [
    "",
    "{",
    "[]",
    '{"metadata": 1}',
    '{"metadata": {"samples": 16000}}',
    '{"metadata": [["codec", "pcm"]]}',
    '{"crc32c": "x"}',
    '{"crc32c": 1e999}',
    "[" * 100_000,
    pytest.param(" " * 1024 * 1024 + "{}", id="large"),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


def everything_in(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@pytest.fixture
def files(root: Path) -> FileStore:
    return FileStore(root)


async def test_a_blob_and_its_metadata_lie_where_documented(files: FileStore, root: Path) -> None:
    await files.create(NAME, b"content", {"codec": "opus"})

    assert (root / NAME).read_bytes() == b"content"
    assert json.loads((root / ".metadata" / f"{NAME}.json").read_text()) == {
        "metadata": {"codec": "opus"},
        "crc32c": google_crc32c.value(b"content"),
        "size": 7,
    }


async def test_a_blob_put_there_by_other_means_is_readable(files: FileStore, root: Path) -> None:
    (root / NAME).parent.mkdir(parents=True)
    (root / NAME).write_bytes(b"years old")

    assert await files.read(NAME) == b"years old"
    [info] = [info async for info in files.list("")]
    assert (info.name, info.size, info.metadata, info.crc32c) == (NAME, 9, {}, None)
    await files.copy(NAME, "chunks/copied")
    copied = await files.stat("chunks/copied")
    assert copied is not None
    assert copied.crc32c == google_crc32c.value(b"years old")


async def test_blob_that_others_put_where_nothing_was_ever_written_is_deleted(files: FileStore, root: Path) -> None:
    (root / NAME).parent.mkdir(parents=True)
    (root / NAME).write_bytes(b"years old")

    assert await files.delete(NAME)
    assert [info async for info in files.list("")] == []


async def test_read_notices_a_damaged_blob(files: FileStore, root: Path) -> None:
    await files.create(NAME, b"content", {})
    (root / NAME).write_bytes(b"cOntent")

    with pytest.raises(StoreError) as caught:
        await files.read(NAME)

    assert caught.value.cause == "corrupt"


@pytest.mark.parametrize("damage", DAMAGED_METADATA)
async def test_damaged_metadata_is_reported(files: FileStore, root: Path, damage: str) -> None:
    await files.create(NAME, b"content", {})
    (root / ".metadata" / f"{NAME}.json").write_text(damage or "\0")

    with pytest.raises(StoreError, match=r"\.metadata") as caught:
        await files.stat(NAME)

    assert caught.value.cause == "corrupt"


@pytest.mark.parametrize("damage", DAMAGED_METADATA)
async def test_damaged_metadata_hides_no_object_from_the_list(files: FileStore, root: Path, damage: str) -> None:
    for name in ("chunks/a", "chunks/b"):
        await files.create(name, b"content", {"codec": "pcm"})
    (root / ".metadata" / "chunks" / "a.json").write_text(damage or "\0")

    infos = [info async for info in files.list("chunks/")]

    assert [(info.name, info.size, info.metadata, bool(info.flaw)) for info in infos] == [
        ("chunks/a", 7, {}, True),
        ("chunks/b", 7, {"codec": "pcm"}, False),
    ]


async def test_metadata_that_is_no_file_hides_no_object_from_the_list(files: FileStore, root: Path) -> None:
    await files.create("chunks/a", b"content", {"codec": "pcm"})
    described = root / ".metadata" / "chunks" / "a.json"
    described.unlink()
    described.mkdir()

    [info] = [info async for info in files.list("chunks/")]

    assert (info.name, info.metadata) == ("chunks/a", {})
    assert "Is a directory" in info.flaw


async def test_folders_are_listed_without_their_contents(files: FileStore) -> None:
    long = "ü" * 128
    for uid in ("b", "a", long, "\ufffd"):
        await files.create(f"chunks/{uid}/talk/1.000.opus", b"", {})

    assert [folder async for folder in files.folders("chunks/")] == [
        f"chunks/{uid}/" for uid in sorted(("b", "a", long, "\ufffd"))
    ]
    assert [folder async for folder in files.folders("")] == ["chunks/"]
    assert [folder async for folder in files.folders("nothing/")] == []


async def test_a_file_whose_name_is_no_utf8_is_an_object_like_others(files: FileStore, root: Path) -> None:
    await files.create("chunks/x", b"", {})
    odd = os.fsdecode(b"chunks/\xff")
    (root / odd).write_bytes(b"content")

    assert [info.name async for info in files.list("chunks/")] == ["chunks/x", odd]
    assert await files.read(odd) == b"content"
    assert await files.delete(odd)


async def test_delete_leaves_no_file_and_no_empty_directory(files: FileStore, root: Path) -> None:
    await files.create(NAME, b"content", {})
    await files.create("chunks/user/other/1.000.bin", b"content", {})

    await files.delete(NAME)
    assert not (root / NAME).parent.exists()
    assert (root / "chunks/user/other/1.000.bin").exists()
    await files.delete("chunks/user/other/1.000.bin")

    assert everything_in(root) == BARE


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "../out",
        "chunks/../../out",
        "chunks/./x",
        "chunks//x",
        "chunks/",
        ".",
        "..",
        "a\0b",
        ".metadata/x",
        ".lock",
        ".store/x",
    ],
)
async def test_a_name_that_would_leave_the_directory_is_refused_by_every_call(
    files: FileStore, root: Path, name: str
) -> None:
    await files.create("chunks/x", b"", {})
    for attempt in (
        files.create(name, b"", {}),
        files.stat(name),
        files.read(name),
        files.copy("chunks/x", name),
        files.copy(name, "chunks/y"),
        files.delete(name),
    ):
        with pytest.raises(StoreError) as caught:
            await attempt
        assert caught.value.cause == "name"
    assert [path.name for path in root.parent.iterdir()] == ["blobs"]


@pytest.mark.parametrize("prefix", ["/", "../", "chunks/../../", ".metadata/", ".metadata/chunks/"])
async def test_list_stays_inside_the_directory_and_out_of_its_own_files(
    files: FileStore, root: Path, prefix: str
) -> None:
    await files.create("chunks/x", b"", {})
    (root.parent / "outside").write_text("x")

    assert [info async for info in files.list(prefix)] == []


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere")], ids=["directory", "link"])
async def test_what_is_no_file_in_a_blobs_place_is_an_error_that_says_so(
    files: FileStore, root: Path, make: Callable[[Path], None]
) -> None:
    await files.create("a/other", b"data", {})
    make(root / "a" / "b")
    with pytest.raises(StoreError, match=r"a/b is not a file .* move it away") as refusal:
        await files.create("a/b", b"data", {})
    assert refusal.value.cause == "name"


async def test_a_symbolic_link_is_neither_followed_nor_written_through(files: FileStore, root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    await files.create("chunks/x", b"", {})
    (root / "chunks" / "user").symlink_to(outside)
    (root / "chunks" / "file").symlink_to(outside / "secret")

    for attempt in (
        files.create("chunks/user/new", b"", {}),
        files.read("chunks/user/secret"),
        files.delete("chunks/user/secret"),
        files.read("chunks/file"),
        files.create("chunks/file", b"", {}),
    ):
        with pytest.raises(StoreError) as caught:
            await attempt
        assert caught.value.cause == "name"
    assert [info.name async for info in files.list("")] == ["chunks/x"]
    assert [path.name for path in outside.iterdir()] == ["secret"]


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (errno.ENOSPC, "full"),
        (errno.EDQUOT, "full"),
        (errno.EROFS, "permission"),
        (errno.EACCES, "permission"),
        (errno.EIO, "disk"),
    ],
)
async def test_a_failing_disk_has_a_cause_and_leaves_nothing(
    files: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch, number: int, cause: str
) -> None:
    def failing(_: int) -> None:
        raise OSError(number, os.strerror(number))

    await files.check()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(StoreError, match=os.strerror(number)) as caught:
            await files.create(NAME, b"content", {})

    assert caught.value.cause == cause
    assert await files.stat(NAME) is None
    assert everything_in(root) == BARE
    await files.create(NAME, b"content", {})


@pytest.mark.parametrize(
    "name",
    [f"chunks/{253 * 'u'}\\/\\uuu/c/1000.000.bin", "/".join(30 * [200 * "x"])],
    ids=["a longer one's", "too long"],
)
async def test_a_name_no_file_can_have_is_refused(files: FileStore, name: str) -> None:
    with pytest.raises(StoreError) as caught:
        await files.create(name, b"", {})

    assert caught.value.cause == "name"


async def test_check_says_which_setting_names_an_unusable_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    with pytest.raises(SettingsError, match=r"STORE_URL.*file"):
        await FileStore(tmp_path / "file").check()


async def test_check_removes_what_killed_writers_left_but_not_what_goes_on(files: FileStore, root: Path) -> None:
    temporary = root / ".metadata" / ".tmp"
    temporary.mkdir(parents=True)
    long_ago = time.time() - TEMPORARY_MAX_AGE - 60
    for name in ("old", "new"):
        (temporary / name).write_text("half")
    os.utime(temporary / "old", (long_ago, long_ago))

    await files.check()

    assert [path.name for path in temporary.iterdir()] == ["new"]


async def test_ids_longer_than_a_files_name_leave_nothing_behind_when_their_blob_is_deleted(
    files: FileStore, root: Path
) -> None:
    name = f"chunks/{256 * 'u'}/{256 * 'c'}/1000.000.opus.enc"
    await files.create(name, b"content", {})
    first, rest = f"{253 * 'u'}\\", "\\uuu"
    assert (
        root / "chunks" / first / rest / f"{253 * 'c'}\\" / "\\ccc" / "1000.000.opus.enc"
    ).read_bytes() == b"content"
    assert await files.delete(name)
    assert everything_in(root) == BARE


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def move_away(root: Path) -> Path:
    return root.rename(root.with_name("volume"))


def unmount(root: Path) -> Callable[[], None]:
    """Leave an empty directory where the store was; returns what brings the store back."""
    volume = move_away(root)
    root.mkdir()

    def mount() -> None:
        assert everything_in(root) == [], "something was written below the mount point"
        root.rmdir()
        volume.rename(root)

    return mount


def calls(files: FileStore) -> dict[str, Callable[[], Awaitable[object]]]:
    async def listing() -> list[str]:
        return [info.name async for info in files.list("")]

    return {
        "create": lambda: files.create("chunks/new", b"", {}),
        "stat": lambda: files.stat(NAME),
        "list": listing,
        "read": lambda: files.read(NAME),
        "copy": lambda: files.copy(NAME, "chunks/copy"),
        "delete": lambda: files.delete(NAME),
        "check": files.check,
        "identity": files.identity,
    }


CALLS = ["create", "stat", "list", "read", "copy", "delete", "check", "identity"]


@pytest.mark.parametrize("call", CALLS)
async def test_a_volume_that_is_gone_refuses_everything_until_it_is_back(
    files: FileStore, root: Path, call: str
) -> None:
    await files.create(NAME, b"content", {})
    mount = unmount(root)

    with pytest.raises(StoreError, match=rf"{root} is not the directory that it was: is the volume mounted") as caught:
        await calls(files)[call]()

    assert caught.value.cause == "unmounted"
    mount()
    assert await files.read(NAME) == b"content"
    await calls(files)[call]()


@pytest.mark.parametrize("call", CALLS)
async def test_a_directory_that_is_gone_is_not_made_again(files: FileStore, root: Path, call: str) -> None:
    await files.check()
    move_away(root)

    with pytest.raises(StoreError) as caught:
        await calls(files)[call]()

    assert caught.value.cause == "unmounted"
    assert root.name not in names_in(root.parent)


async def test_another_store_in_the_same_place_is_refused(files: FileStore, root: Path) -> None:
    await files.create(NAME, b"content", {})
    move_away(root)
    await FileStore(root).create("chunks/other", b"", {})

    with pytest.raises(StoreError) as caught:
        await files.create("chunks/new", b"", {})

    assert caught.value.cause == "unmounted"
    assert everything_in(root / "chunks") == ["other"]


@pytest.mark.parametrize("call", ["stat", "list", "read", "identity"])
async def test_reading_learns_which_directory_it_is(files: FileStore, root: Path, call: str) -> None:
    await FileStore(root).create(NAME, b"content", {})
    await calls(files)[call]()
    mount = unmount(root)

    with pytest.raises(StoreError) as caught:
        await files.create("chunks/new", b"", {})

    assert caught.value.cause == "unmounted"
    mount()


async def test_everybody_who_opens_a_directory_finds_the_same_id(root: Path) -> None:
    stores = [FileStore(root) for _ in range(8)]

    await asyncio.gather(*[store.create(f"chunks/{n}", b"", {}) for n, store in enumerate(stores)])

    [identity] = {await store.identity() for store in stores}
    assert len(identity) == 32
    assert {await FileStore(root).identity()} == {identity}


async def test_a_look_that_the_very_first_write_overtakes_is_no_trouble_and_forgets_nothing(
    files: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = Tree.marker

    def overtaken(tree: Tree) -> str:
        found = marker(tree)
        monkeypatch.undo()
        files._recognised(mark=True)  # what the write does in another thread
        return found

    monkeypatch.setattr(Tree, "marker", overtaken)

    assert await files.stat(NAME) is None
    unmount(root)
    with pytest.raises(StoreError, match="volume mounted"):
        await files.stat(NAME)


async def test_a_store_from_before_there_were_ids_gets_one_when_it_is_checked(files: FileStore, root: Path) -> None:
    await FileStore(root).create(NAME, b"years old", {})
    (root / ".metadata" / ".store").unlink()

    assert await files.identity() == ""
    assert await files.read(NAME) == b"years old"
    await files.check()

    assert len(await files.identity()) == 32
    assert await files.read(NAME) == b"years old"


async def test_reading_gives_no_id(files: FileStore, root: Path) -> None:
    (root / NAME).parent.mkdir(parents=True)
    (root / NAME).write_bytes(b"years old")

    for call in ("stat", "list", "read", "identity"):
        await calls(files)[call]()

    assert not (root / ".metadata").exists()
