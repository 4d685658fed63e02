from __future__ import annotations

import pytest

from tests.support.spooled_blobs import ORIGIN, record_of, seal_of
from worker.model.ids import Conversation
from worker.spool.names import FileState, SpoolFile, SpoolOwner, Stem, conversation_digest, parse_spool_name
from worker.spool.record import stem_of

LONG = "ü" * 128


@pytest.mark.parametrize("state", FileState)
def test_a_file_is_named_and_read_back(state: FileState) -> None:
    stem = stem_of(record_of(seal_of("12-0", "30-7")).header, 99)
    file = SpoolFile(stem, state, "0a1b" if state is FileState.WRITING else "")
    assert parse_spool_name(file.name) == file


def test_ids_of_any_length_fit_into_a_file_name() -> None:
    seal = seal_of("1" * 19 + "-0", "9" * 19 + "-" + "9" * 19, conversation_id=LONG, uid=LONG)
    stem = stem_of(record_of(seal, partition=4095).header, 10**11)
    assert len(SpoolFile(stem, FileState.UPLOADING).name) < 255


@pytest.mark.parametrize(
    "name",
    [
        "",
        "lost+found",
        "x.spooled",
        "1-0_2-0_0_00000000_0000000000000000_5.torn",
        "1-0_2-0_0_00000000_0000000000000000_5.ready",
        ".clock",
        ".nfs0000000100000001",
    ],
)
def test_other_files_are_none_of_the_spool(name: str) -> None:
    assert parse_spool_name(name) is None


def test_only_files_that_are_being_written_have_a_token() -> None:
    stem = Stem("1-0", "2-0", 0, "0" * 8, "0" * 16, 5)
    assert parse_spool_name(f"{stem}.writing") is None
    assert parse_spool_name(f"{stem}.abcd.spooled") is None


def test_conversations_users_and_origins_are_told_apart() -> None:
    conversations = [Conversation(*pair) for pair in ("aa", "ab", "ba", "bb")]
    assert len({conversation_digest(conversation) for conversation in conversations}) == 4
    assert len({SpoolOwner(store, prefix).digest for store in ("gs://a", "gs://b") for prefix in ("p", "q")}) == 4
    assert SpoolOwner("gs://test-bucket/", "pcm").digest == ORIGIN.digest


def test_ids_sort_as_numbers() -> None:
    early, late = (
        SpoolFile(stem_of(record_of(seal_of(entry)).header, 1), FileState.SPOOLED) for entry in ("9-10", "10-9")
    )
    assert early.order < late.order
