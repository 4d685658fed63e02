"""STORE_URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codec.entry import MAX_TIMESTAMP
from codec.names import Kind, object_name
from worker.errors import SettingsError
from worker.stores import LONGEST_PREFIX, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.gcs.server import GcsServer


@pytest.mark.parametrize(
    "url",
    [
        "",
        "bucket",
        "s3://bucket",
        "gs://",
        "gs:///prefix",
        "gs://Bucket",
        "gs://a b",
        "gs://b",
        "file://host/dir",
        "file:",
    ],
)
def test_a_url_that_is_no_store_is_refused_by_the_name_of_its_setting(url: str) -> None:
    with pytest.raises(SettingsError, match="STORE_URL"):
        open_store(url)


async def test_an_emulator_is_found_as_by_every_client(gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url)
    store = open_store(f"gs://{gcs_server.bucket}")
    await store.check()
    await store.close()


async def test_the_longest_prefix_leaves_room_for_the_longest_name(gcs_server: GcsServer) -> None:
    name = object_name(256 * "u", 256 * "c", 0.0, end=MAX_TIMESTAMP - 1, kind=Kind.BATCH_ENCRYPTED)
    longest = f"gs://{gcs_server.bucket}/{LONGEST_PREFIX * 'p'}"
    store = open_store(longest, emulator_host=gcs_server.url)
    await store.create(name, b"content", {})
    assert await store.read(name) == b"content"
    await store.close()
    with pytest.raises(SettingsError, match=r"STORE_URL has a prefix of 441 bytes; no more than 440"):
        open_store(f"{longest}p")


@pytest.mark.parametrize("suffix", ["", "/"])
async def test_the_prefix_goes_before_every_name(gcs_server: GcsServer, suffix: str) -> None:
    store = open_store(f"gs://{gcs_server.bucket}/a/b c{suffix}", emulator_host=gcs_server.url)

    await store.create("chunks/1", b"", {})
    await store.close()

    assert list(gcs_server.objects()) == ["a/b c/chunks/1"]


async def test_objects_outside_the_prefix_are_not_listed(gcs_server: GcsServer) -> None:
    whole = open_store(f"gs://{gcs_server.bucket}", emulator_host=gcs_server.url)
    part = open_store(f"gs://{gcs_server.bucket}/a", emulator_host=gcs_server.url)
    for name in ("a/1", "ab/2", "b/3"):
        await whole.create(name, b"", {})

    assert [info.name async for info in part.list("")] == ["1"]
    await whole.close()
    await part.close()


def test_opening_makes_no_directory(tmp_path: Path) -> None:
    open_store(f"file://{tmp_path}/new/dir")

    assert not (tmp_path / "new").exists()


async def test_a_directory_is_percent_encoded_and_made_on_first_use(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/some%20new/dir")

    await store.create("chunks/1", b"x", {})

    assert (tmp_path / "some new" / "dir" / "chunks" / "1").read_bytes() == b"x"


async def test_an_emulator_host_may_lack_its_scheme(gcs_server: GcsServer) -> None:
    store = open_store(f"gs://{gcs_server.bucket}", emulator_host=gcs_server.url.removeprefix("http://") + "/")

    await store.check()
    await store.close()
