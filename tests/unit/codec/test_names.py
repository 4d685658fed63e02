from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.errors import BadName
from codec.names import Kind, format_timestamp, kind_of_new, object_name, parse_name, prefix
from tests.support.ids import BAD_IDS, GOOD_IDS, ids


@pytest.mark.parametrize(
    ("codec", "naming", "encrypted", "file"),
    [
        ("opus", "start", False, "1000.000.opus"),
        ("opus", "start", True, "1000.000.opus.enc"),
        ("opus", "range", False, "1000.000-1055.000.batch.bin"),
        ("opus", "range", True, "1000.000-1055.000.batch.enc"),
        ("pcm", "start", False, "1000.000.bin"),
        ("pcm", "start", True, "1000.000.enc"),
        ("pcm", "range", False, "1000.000-1055.000.batch.bin"),
        ("pcm", "range", True, "1000.000-1055.000.batch.enc"),
    ],
)
def test_names_of_new_blobs(codec: str, naming: str, encrypted: bool, file: str) -> None:
    kind = kind_of_new(codec, naming, encrypted=encrypted)  # type: ignore[arg-type]
    name = object_name("u", "c", 1000, end=1055, kind=kind)
    assert name == f"chunks/u/c/{file}"


def test_batch_of_one_chunk_has_no_range() -> None:
    assert object_name("u", "c", 7, kind=Kind.BATCH_ENCRYPTED) == "chunks/u/c/7.000.batch.enc"


def test_chunks_of_equal_time_make_a_range() -> None:
    assert object_name("u", "c", 7, end=7, kind=Kind.BATCH_ENCRYPTED) == "chunks/u/c/7.000-7.000.batch.enc"


def test_range_is_never_reversed_even_if_timestamps_jitter_backwards() -> None:
    assert object_name("u", "c", 7.5, end=7.4, kind=Kind.BATCH) == "chunks/u/c/7.500-7.500.batch.bin"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1700000000.0005, "1700000000.000"),
        (1700000000.9996, "1700000001.000"),
        (0.0, "0.000"),
        (-0.0, "0.000"),
        (1000, "1000.000"),
    ],
)
def test_timestamps_are_written_like_c_does(seconds: float, text: str) -> None:
    assert format_timestamp(seconds) == text


@pytest.mark.parametrize("seconds", [-1.0, -0.001, float("nan"), float("inf"), -float("inf"), 1e12])
def test_times_that_are_no_unix_seconds_get_no_name(seconds: float) -> None:
    with pytest.raises(BadName):
        object_name("u", "c", seconds, kind=Kind.OPUS_ENCRYPTED)


@pytest.mark.parametrize(
    ("file", "kind", "start", "end"),
    [
        ("1000.000.bin", Kind.PCM, 1000.0, None),
        ("1000.000.enc", Kind.PCM_ENCRYPTED, 1000.0, None),
        ("1000.000.opus", Kind.OPUS, 1000.0, None),
        ("1000.000.opus.enc", Kind.OPUS_ENCRYPTED, 1000.0, None),
        ("1000.000.batch.bin", Kind.BATCH, 1000.0, None),
        ("1000.000-1055.500.batch.bin", Kind.BATCH, 1000.0, 1055.5),
        ("1000.000.batch.enc", Kind.BATCH_ENCRYPTED, 1000.0, None),
        ("7.000-7.000.batch.enc", Kind.BATCH_ENCRYPTED, 7.0, 7.0),
        ("1000.bin", Kind.PCM, 1000.0, None),
        ("1000.1234.bin", Kind.PCM, 1000.1234, None),
        ("000.5.opus", Kind.OPUS, 0.5, None),
    ],
)
def test_files_of_every_kind_are_understood(file: str, kind: Kind, start: float, end: float | None) -> None:
    blob = parse_name(f"chunks/u/c/{file}")
    assert (blob.uid, blob.conversation_id, blob.kind, blob.start, blob.end) == ("u", "c", kind, start, end)
    assert blob.stem + kind.extension == file
    assert str(blob) == f"chunks/u/c/{file}"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "chunks/u/c",
        "chunks/u/c/",
        "chunks/u/c/.bin",
        "chunks/u/1000.000.bin",
        "chunks/u/c/d/1000.000.bin",
        "audio/u/c/1000.000.bin",
        "chunks/u/c/1000.000.txt",
        "chunks/u/c/1000.000.BIN",
        "chunks/u/c/1000.000.meta.json",
        "chunks/u/c/1000.000.batch.opus",
        "chunks/u/c/1000.000.opus.enc.tmp",
        "chunks/u/c/1e3.bin",
        "chunks/u/c/-5.000.bin",
        "chunks/u/c/nan.bin",
        "chunks/u/c/inf.bin",
        "chunks/u/c/1_000.bin",
        "chunks/u/c/ 1000.bin",
        "chunks/u/c/\u0661.bin",
        "chunks/u/c/1000.000\n.bin",
        "chunks/u/c/" + "9" * 400 + ".bin",
        "chunks/u/c/1000.000-1055.000.bin",
        "chunks/u/c/1000.000-abc.batch.bin",
        "chunks/u/c/1000.000-.batch.bin",
        "chunks/u/c/-1000.000.batch.bin",
        "chunks/u/c/1000.000-1055.000-2.batch.bin",
        "chunks/u/c/1055.000-1000.000.batch.bin",
        "chunks//c/1000.000.bin",
        "chunks/../c/1000.000.bin",
        "chunks/u/\x00/1000.000.bin",
    ],
)
def test_names_that_are_no_blobs_are_refused_shortly(name: str) -> None:
    with pytest.raises(BadName) as refused:
        parse_name(name)
    assert len(str(refused.value)) < 120


@pytest.mark.parametrize("value", BAD_IDS)
def test_ids_that_leave_their_place_make_no_name(value: str) -> None:
    with pytest.raises(BadName):
        object_name(value, "c", 0, kind=Kind.OPUS_ENCRYPTED)
    with pytest.raises(BadName):
        object_name("u", value, 0, kind=Kind.OPUS_ENCRYPTED)
    with pytest.raises(BadName):
        prefix(value)


@pytest.mark.parametrize("value", GOOD_IDS)
def test_unusual_ids_survive_the_way_through_a_name(value: str) -> None:
    blob = parse_name(object_name(value, value, 0, kind=Kind.OPUS_ENCRYPTED))
    assert (blob.uid, blob.conversation_id) == (value, value)


def test_prefixes_end_with_a_slash_so_that_abc_is_not_abcd() -> None:
    assert prefix("abc") == "chunks/abc/"
    assert prefix("abc", "d") == "chunks/abc/d/"


@given(
    ids(),
    ids(),
    st.floats(0, 1e11),
    st.none() | st.floats(0, 1e11),
    st.booleans(),
    st.sampled_from(["opus", "pcm"]),
    st.sampled_from(["start", "range"]),
)
def test_every_name_made_is_understood(
    uid: str, conversation: str, start: float, end: float | None, encrypted: bool, codec: str, naming: str
) -> None:
    kind = kind_of_new(codec, naming, encrypted=encrypted)  # type: ignore[arg-type]
    name = object_name(uid, conversation, start, end=end, kind=kind)
    blob = parse_name(name)
    assert str(blob) == name
    assert (blob.uid, blob.conversation_id, blob.kind.encrypted) == (uid, conversation, encrypted)
    assert blob.kind.batch == (naming == "range")
    assert format_timestamp(blob.start) == format_timestamp(start)


@given(
    st.one_of(
        st.text(),
        st.builds(
            "chunks/u/c/{}{}".format,
            st.text("0123456789.-e+_ a", max_size=20),
            st.sampled_from([kind.extension for kind in Kind]),
        ),
    )
)
def test_arbitrary_names_are_understood_or_refused(name: str) -> None:
    with contextlib.suppress(BadName):
        assert str(parse_name(name)) == name
