"""`spool ls`, `verify` and `drain`, and the spool's line in `status`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command import command
from tests.support.spooled_blobs import in_state, record_of, seal_of, spool, states
from worker.errors import SettingsError
from worker.settings import Settings
from worker.spool import summary
from worker.spool.names import FileState, SpoolOwner
from worker.spool.volume import Volume

SEALS = [seal_of("1000-0", "2000-0"), seal_of("3000-0", conversation_id="other")]


@pytest.fixture
def chosen(settings: Callable[..., Settings], directory: Path) -> Settings:
    return settings(spool_dir=directory)


@pytest.fixture
def filled(chosen: Settings, directory: Path) -> Path:
    """With two blobs."""
    origin = SpoolOwner(chosen.store_url, chosen.stream_prefix)
    spool(Volume(directory), *(record_of(seal, origin=origin) for seal in SEALS))
    return directory


def damage(directory: Path) -> Path:
    path = min(in_state(directory, FileState.SPOOLED))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return path


@pytest.mark.usefixtures("filled")
def test_ls_names_the_objects_oldest_first(chosen: Settings) -> None:
    result = command(chosen, "spool", "ls")
    assert [line.split()[-1] for line in result.stdout.splitlines()] == [seal.object for seal in SEALS]
    assert "1970-01-01 00:00:01  spooled" in result.stdout
    assert "spooled 2" in result.stderr


@pytest.mark.usefixtures("filled")
def test_ls_tells_programs_where_each_blob_belongs(chosen: Settings) -> None:
    first, _ = json.loads(command(chosen, "spool", "ls", "--json").stdout)
    assert (first["object"], first["first_entry"], first["state"]) == (SEALS[0].object, "1000-0", "spooled")
    assert (first["store"], first["prefix"]) == (chosen.store_url, chosen.stream_prefix)


def test_verify_finds_what_is_damaged_and_changes_nothing(chosen: Settings, filled: Path) -> None:
    assert command(chosen, "spool", "verify").exit_code == 0
    path = damage(filled)
    result = command(chosen, "spool", "verify", "--json")
    assert result.exit_code == 3
    report = json.loads(result.stdout)
    assert (report["intact"], [item["file"] for item in report["damaged"]]) == (1, [path.name])
    assert states(filled) == ["spooled", "spooled"]


def test_verify_names_a_torn_file_whose_header_is_lost(chosen: Settings, filled: Path) -> None:
    path = min(in_state(filled, FileState.SPOOLED))
    path.write_bytes(b"")
    assert path.name in command(chosen, "spool", "verify").stdout
    assert path.name in command(chosen, "spool", "ls").stdout


def test_drain_uploads_everything(chosen: Settings, filled: Path, tmp_path: Path) -> None:
    result = command(chosen, "spool", "drain")
    assert (result.exit_code, result.stdout) == (0, "stored 2; left 0\n")
    assert all((tmp_path / "store" / seal.object).is_file() for seal in SEALS)
    assert states(filled) == []


def test_drain_leaves_blobs_in_the_spool_while_the_stores_volume_is_gone(
    chosen: Settings, filled: Path, tmp_path: Path
) -> None:
    for _ in range(2):  # the first makes the store, the second records it
        assert command(chosen, "spool", "drain").exit_code == 0
    spool(Volume(filled), record_of(seal_of("5000-0"), origin=SpoolOwner(chosen.store_url, chosen.stream_prefix)))
    (tmp_path / "store").rename(tmp_path / "volume")
    (tmp_path / "store").mkdir()
    result = command(chosen, "spool", "drain")
    assert isinstance(result.exception, SettingsError)
    assert "the volume may not be mounted" in str(result.exception)
    assert states(filled) == ["spooled"]
    assert list((tmp_path / "store").iterdir()) == []


def test_drain_says_what_it_had_to_leave(chosen: Settings, filled: Path) -> None:
    damage(filled)
    result = command(chosen, "spool", "drain", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout) == {"outcomes": {"stored": 1}, "left": 1}


@pytest.mark.parametrize("name", ["ls", "verify", "drain"])
def test_without_a_directory_the_setting_is_named(name: str, settings: Callable[..., Settings], tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    for wrong in (None, absent):
        result = command(settings(spool_dir=wrong), "spool", name)
        assert isinstance(result.exception, SettingsError)
        assert "SPOOL_DIR" in str(result.exception)
    assert not absent.exists()


@pytest.mark.usefixtures("filled")
def test_status_counts_what_waits(chosen: Settings) -> None:
    shown = command(chosen, "status").stdout
    assert "in the spool" in shown
    assert "spooled 2, uploading 0" in shown
    assert json.loads(command(chosen, "status", "--json").stdout)["spool"]["blobs"]["spooled"] == 2


def test_a_summary_of_nothing_is_empty(tmp_path: Path) -> None:
    assert summary(tmp_path / "absent").waiting == 0
