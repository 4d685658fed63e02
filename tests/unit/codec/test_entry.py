from __future__ import annotations

import contextlib
import zlib
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.entry import MAX_CHUNK_BYTES, PROTECTIONS, SAMPLE_RATES, Chunk, End, parse, partition_of
from codec.errors import BadEntry
from tests.support.ids import BAD_IDS, GOOD_IDS, ids

AUDIO = {b"uid": b"u", b"conversation_id": b"c", b"timestamp": b"1700000000.5", b"pcm": b"\1\0\2\0"}
END = {b"uid": b"u", b"conversation_id": b"c", b"end": b"1"}


FIELD_NAMES = st.sampled_from(
    [b"uid", b"conversation_id", b"timestamp", b"pcm", b"sample_rate", b"protection", b"seq", b"end", b"\xff"]
)


def chunks() -> st.SearchStrategy[Chunk]:
    return st.builds(
        Chunk,
        uid=ids(),
        conversation_id=ids(),
        timestamp=st.integers(0, 10**10 * 10**6).map(lambda microseconds: microseconds / 1e6),
        pcm=st.binary(min_size=1, max_size=100).map(lambda half: half + half),
        sample_rate=st.sampled_from(SAMPLE_RATES),
        protection=st.sampled_from(PROTECTIONS),
        seq=st.none() | st.integers(0, 10**15 - 1),
        extensions=extensions(),
    )


def extensions() -> st.SearchStrategy[dict[str, bytes]]:
    own = st.text("abcXYZ019-_.:", min_size=1, max_size=20).map(lambda name: f"x-{name}")
    return st.dictionaries(st.sampled_from(["traceparent", "tracestate"]) | own, st.binary(max_size=100), max_size=8)


def raw(fields: dict[str, bytes | str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() if isinstance(value, str) else value for name, value in fields.items()}


def refusal(fields: dict[bytes, bytes]) -> str:
    with pytest.raises(BadEntry) as refused:
        parse(fields)
    assert len(refused.value.reason) < 150
    assert refused.value.reason.isprintable()
    return refused.value.reason


def test_smallest_chunk_is_encrypted_16_khz_audio() -> None:
    chunk = parse(AUDIO)
    assert chunk == Chunk("u", "c", 1700000000.5, b"\1\0\2\0", 16000, "enhanced", None, trimmed=False)
    assert isinstance(chunk, Chunk)
    assert (chunk.samples, chunk.duration, chunk.encrypted) == (2, 2 / 16000, True)


def test_optional_fields_of_a_chunk() -> None:
    chunk = parse(AUDIO | {b"sample_rate": b"8000", b"protection": b"standard", b"seq": b"0"})
    assert isinstance(chunk, Chunk)
    assert (chunk.sample_rate, chunk.protection, chunk.seq, chunk.encrypted) == (8000, "standard", 0, False)


def test_e2ee_is_encrypted() -> None:
    chunk = parse(AUDIO | {b"protection": b"e2ee"})
    assert isinstance(chunk, Chunk)
    assert chunk.encrypted


def test_end_of_a_conversation() -> None:
    assert parse(END) == End("u", "c")


def test_end_tells_how_many_chunks_its_session_has_pushed() -> None:
    assert parse(END | {b"seq": b"12", b"session": b"a life"}) == End("u", "c", seq=12, session=b"a life")


@pytest.mark.parametrize("fields", [AUDIO, END])
@pytest.mark.parametrize("session", [b"", b"x" * 65])
def test_session_has_1_to_64_bytes(fields: dict[bytes, bytes], session: bytes) -> None:
    assert refusal(fields | {b"session": session}) == f"session has {len(session)} bytes; it needs 1 to 64"


def test_odd_byte_count_keeps_all_whole_samples_and_says_so() -> None:
    chunk = parse(AUDIO | {b"pcm": b"\1\0\2\0\3"})
    assert isinstance(chunk, Chunk)
    assert (chunk.pcm, chunk.trimmed) == (b"\1\0\2\0", True)


@pytest.mark.parametrize("name", [b"uid", b"conversation_id", b"timestamp", b"pcm"])
def test_missing_field_is_named(name: bytes) -> None:
    fields = dict(AUDIO)
    del fields[name]
    assert refusal(fields) == f"{name.decode()} is missing"


def test_entry_without_any_known_field_is_no_chunk() -> None:
    assert refusal({}) == "uid is missing"


@pytest.mark.parametrize("name", [b"codec", b"UID", b"", b"\xff\xfe", b"x" * 10_000])
def test_unknown_fields_are_refused(name: bytes) -> None:
    assert "does not belong" in refusal(AUDIO | {name: b"1"})
    assert "does not belong" in refusal(END | {name: b"1"})


@pytest.mark.parametrize("name", [b"timestamp", b"pcm", b"sample_rate", b"protection"])
def test_audio_and_end_do_not_mix(name: bytes) -> None:
    assert "does not belong" in refusal(END | {name: b"1"})


@pytest.mark.parametrize("value", [b"", b"0", b"true", b"11", b"1\n"])
def test_end_is_one_and_nothing_else(value: bytes) -> None:
    assert "is not 1" in refusal(END | {b"end": value})


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b" 1", b"1 ", b"1\n", b"abc", b"nan", b"inf", b"-inf", b"1e400", b"1e9", b"-1", b"+1", b"1_000"),
        *(b".5", b"5.", b"0x10", b"1,5", b"1.2.3", b"9" * 13, b"1." + b"0" * 31, "\u0661".encode(), b"\xff"),
    ],
)
def test_timestamps_that_are_no_decimal_unix_seconds_are_refused(value: bytes) -> None:
    assert refusal(AUDIO | {b"timestamp": value}).startswith("timestamp ")


@pytest.mark.parametrize("value", [b"", b"44100", b"016000", b"16000.0", b" 16000", b"-8000", b"\xff"])
def test_unsupported_sample_rates_are_refused(value: bytes) -> None:
    assert refusal(AUDIO | {b"sample_rate": value}).startswith("sample_rate ")


@pytest.mark.parametrize("value", [b"", b"Enhanced", b"none", b"standard ", b"\xff"])
def test_unknown_protections_are_refused_instead_of_stored_in_clear(value: bytes) -> None:
    assert refusal(AUDIO | {b"protection": value}).startswith("protection ")


@pytest.mark.parametrize("value", [b"", b"-1", b"1.0", b"x", b"1" * 16, b"\xff"])
def test_seq_is_a_counter(value: bytes) -> None:
    assert refusal(AUDIO | {b"seq": value}).startswith("seq ")


@pytest.mark.parametrize("pcm", [b"", b"\1", bytes(MAX_CHUNK_BYTES + 1), bytes(MAX_CHUNK_BYTES + 2)])
def test_pcm_of_impossible_size_is_refused(pcm: bytes) -> None:
    assert refusal(AUDIO | {b"pcm": pcm}).startswith("pcm ")


def test_largest_pcm_is_taken() -> None:
    chunk = parse(AUDIO | {b"pcm": bytes(MAX_CHUNK_BYTES)})
    assert isinstance(chunk, Chunk)
    assert len(chunk.pcm) == MAX_CHUNK_BYTES


@pytest.mark.parametrize("value", BAD_IDS)
@pytest.mark.parametrize("name", [b"uid", b"conversation_id"])
def test_ids_that_leave_their_place_in_the_object_name_are_refused(name: bytes, value: str) -> None:
    raw_value = value.encode("utf-8", "surrogatepass")
    assert refusal(AUDIO | {name: raw_value}).startswith(f"{name.decode()} ")
    assert refusal(END | {name: raw_value}).startswith(f"{name.decode()} ")


@pytest.mark.parametrize("value", GOOD_IDS)
def test_unusual_ids_are_taken(value: str) -> None:
    chunk = parse(AUDIO | {b"uid": value.encode(), b"conversation_id": value.encode()})
    assert (chunk.uid, chunk.conversation_id) == (value, value)


@pytest.mark.parametrize(
    "change",
    [{"sample_rate": 16000.0}, {"timestamp": Fraction(3, 2)}, {"timestamp": np.float32(1.5)}, {"seq": 7}],
    ids=str,
)
def test_what_a_pusher_may_push_a_worker_takes(change: dict[str, Any]) -> None:
    values: dict[str, Any] = {"uid": "u", "conversation_id": "c", "timestamp": 1.0, "pcm": b"12"}
    fields = Chunk(**values | change).fields()
    assert isinstance(parse({name.encode(): as_bytes(value) for name, value in fields.items()}), Chunk)


def as_bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value


def test_ids_must_be_utf8() -> None:
    assert refusal(AUDIO | {b"uid": b"\xff\xfe"}) == "uid of 2 bytes is not UTF-8"


@pytest.mark.parametrize(
    "change",
    [
        {"sample_rate": 44100},
        {"protection": "none"},
        {"seq": -1},
        {"timestamp": float("nan")},
        {"timestamp": -0.0001},
        {"timestamp": 999_999_999_999.9999},
        {"pcm": b"\1"},
        {"uid": ""},
        {"uid": None},
        {"conversation_id": 7},
        {"timestamp": "now"},
        {"timestamp": None},
        {"timestamp": True},
        {"pcm": "text"},
        {"pcm": bytearray(2)},
        {"sample_rate": "16000"},
        {"protection": None},
        {"protection": ["standard"]},
        {"seq": "1"},
        {"seq": 1.0},
        {"seq": True},
        {"timestamp": 10**400},
        {"timestamp": Fraction(10**400)},
        {"session": "text"},
        {"extensions": None},
        {"extensions": "x-a"},
        {"extensions": {"x-a": 1}},
        {"extensions": {b"x-a": b"1"}},
        {"extensions": {"x-a": "\udc80"}},
        {"extensions": {"codec": "opus"}},
    ],
    ids=str,
)
def test_pusher_learns_of_a_bad_value_before_it_pushes(change: dict[str, Any]) -> None:
    chunk = Chunk("u", "c", 0.0, b"\1\0")
    with pytest.raises(BadEntry):
        replace(chunk, **change)


PARENT, STATE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "congo=t61rcWkgMzE"


@pytest.mark.parametrize("fields", [AUDIO, END])
@pytest.mark.parametrize(
    "more",
    [
        {b"traceparent": PARENT.encode(), b"tracestate": STATE.encode()},
        {b"tracestate": b""},
        {b"x-request-id": b"\xff\x00"},
        {f"x-{number}".encode(): b"1" for number in range(16)},
        {b"x-" + 62 * b"n": bytes(4096 - 64)},
    ],
    ids=["trace", "no trace", "bytes", "many", "large"],
)
def test_extensions_are_taken_and_kept(fields: dict[bytes, bytes], more: dict[bytes, bytes]) -> None:
    content = parse(fields | more)
    assert raw(content.fields()).items() >= more.items()


@pytest.mark.parametrize("fields", [AUDIO, END])
@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({f"x-{number}".encode(): b"1" for number in range(17)}, "there are 17 fields for traces and own purposes, mo"),
        ({b"x-" + 62 * b"n": bytes(4096 - 63)}, "own purposes have 4097 bytes, more than 4096"),
        ({b"traceparent": bytes(5000)}, "have 5011 bytes, more than 4096"),
        ({b"x-": b"1"}, "field 'x-' is not traceparent, tracestate or x- and 1 to 62 printable ASCII characters"),
        ({b"x-" + 63 * b"n": b"1"}, "field of 65 bytes is not traceparent"),
        ({"x-ü".encode(): b"1"}, "is not traceparent"),
        ({b"x-\xff": b"1"}, "is not traceparent"),
        (
            {b"X-Request-Id": b"1"},
            "field 'X-Request-Id' does not belong in this kind of entry; own fields begin with x-",
        ),
        ({b"baggage": b"1"}, "field 'baggage' does not belong"),
    ],
)
def test_extensions_beyond_their_bounds_are_refused(
    fields: dict[bytes, bytes], more: dict[bytes, bytes], reason: str
) -> None:
    assert reason in refusal(fields | more)


def test_text_in_extensions_becomes_utf_8() -> None:
    chunk = Chunk("u", "c", 0.0, b"\1\0", extensions={"x-name": "ü", "traceparent": PARENT})
    assert chunk.extensions == {"x-name": "ü".encode(), "traceparent": PARENT.encode()}
    assert hash(chunk) == hash(replace(chunk, extensions={}))


@given(chunks(), extensions())
def test_extensions_don_t_change_the_identity(chunk: Chunk, own: dict[str, bytes]) -> None:
    assert replace(chunk, extensions=own).identity() == chunk.identity()


@pytest.mark.parametrize(
    ("own", "trace"),
    [
        ({}, None),
        ({"traceparent": PARENT}, (PARENT, None)),
        ({"traceparent": PARENT, "tracestate": STATE}, (PARENT, STATE)),
        ({"tracestate": STATE}, None),
        ({"traceparent": "\n", "tracestate": STATE}, None),
        ({"traceparent": b"\xff"}, None),
        ({"traceparent": PARENT, "tracestate": b"\xff"}, (PARENT, None)),
    ],
)
def test_trace_is_what_a_tracing_system_can_read(own: dict[str, bytes], trace: object) -> None:
    assert Chunk("u", "c", 0.0, b"\1\0", extensions=own).trace == trace


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (b"1795923578452", "milliseconds"),
        (b"1795923578452.25", "milliseconds"),
        (b"1795923578452000", "microseconds"),
        (b"1795923578452000000", "nanoseconds"),
    ],
)
def test_timestamp_in_another_unit_is_told(value: bytes, unit: str) -> None:
    shown = value.partition(b".")[0].decode()
    expected = f"timestamp {shown} looks like {unit}; give Unix seconds"
    assert refusal(AUDIO | {b"timestamp": value}) == expected
    with pytest.raises(BadEntry, match=f"looks like {unit}; give Unix seconds"):
        Chunk("u", "c", float(value), b"\1\0")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({b"sample_rate": b"44100"}, "sample_rate '44100' is not supported; give 8000, 12000, 16000, 24000 or 48000"),
        ({b"protection": b"none"}, "protection 'none' is unknown; give standard, enhanced or e2ee"),
        ({b"seq": b"-1"}, "seq '-1' is not a counter from 0 to 999999999999999"),
        ({b"timestamp": b"now"}, "timestamp 'now' is not Unix seconds as decimal text"),
        ({b"timestamp": b"\xff\xfe"}, "timestamp of 2 bytes is not Unix seconds as decimal text"),
        ({b"timestamp": b"x" * 33}, "timestamp of 33 bytes is not Unix seconds as decimal text"),
    ],
)
def test_reason_tells_what_to_give(change: dict[bytes, bytes], reason: str) -> None:
    assert refusal(AUDIO | change) == reason


@given(st.binary(max_size=60), FIELD_NAMES)
def test_no_reason_shows_how_python_writes_bytes(value: bytes, name: bytes) -> None:
    reason = ""
    try:
        parse(AUDIO | {name: value})
    except BadEntry as error:
        reason = error.reason
    assert repr(value) not in reason
    assert repr(name) not in reason


@given(chunks())
def test_chunk_survives_the_way_through_an_entry(chunk: Chunk) -> None:
    parsed = parse(raw(chunk.fields()))
    assert isinstance(parsed, Chunk)
    assert replace(parsed, timestamp=chunk.timestamp) == chunk
    assert abs(parsed.timestamp - chunk.timestamp) < 1e-6
    assert parsed.identity() == chunk.identity()


@given(ids(), ids(), extensions())
def test_end_survives_the_way_through_an_entry(uid: str, conversation_id: str, own: dict[str, bytes]) -> None:
    end = End(uid, conversation_id, extensions=own)
    assert parse(raw(end.fields())) == end


@given(st.dictionaries(FIELD_NAMES, st.sampled_from([b"1", b"", b"8000", b"\xff", b"a/b"]) | st.binary(max_size=60)))
def test_arbitrary_entries_are_understood_or_refused_with_a_short_reason(fields: dict[bytes, bytes]) -> None:
    with contextlib.suppress(BadEntry):
        assert isinstance(parse(fields), Chunk | End)


@given(st.binary(min_size=1), FIELD_NAMES)
def test_reason_is_short_whatever_the_fields_hold(value: bytes, name: bytes) -> None:
    refusal(AUDIO | {b"end": b"1", name: value * 1000})


@given(chunks(), FIELD_NAMES, st.binary(max_size=60))
def test_one_changed_field_never_breaks_the_parser(chunk: Chunk, name: bytes, value: bytes) -> None:
    with contextlib.suppress(BadEntry):
        parse(raw(chunk.fields()) | {name: value})


def test_partition_is_crc32_of_the_conversation() -> None:
    assert partition_of("conversation", 64) == zlib.crc32(b"conversation") % 64
    assert {partition_of(f"c{number}", 8) for number in range(200)} == set(range(8))


def test_retry_repeats_the_identity() -> None:
    first = parse(AUDIO | {b"seq": b"5"})
    again = parse(AUDIO | {b"seq": b"5"})
    assert isinstance(first, Chunk)
    assert isinstance(again, Chunk)
    assert first.identity() == again.identity()
    assert len(first.identity()) == 8


@pytest.mark.parametrize(
    "other",
    [
        Chunk("u", "c", 5.0, bytes(640), seq=6),
        Chunk("u", "c", 5.0, bytes(642), seq=5),
        Chunk("u", "c", 5.0, bytes(639) + b"\1", seq=5),
        Chunk("u", "c", 5.0, bytes(640)),
        Chunk("u", "c", 6.0, bytes(640), seq=5),
        Chunk("u", "c", 5.0, bytes(640), seq=5, session=b"a"),
    ],
)
def test_silence_that_differs_in_anything_is_no_repetition(other: Chunk) -> None:
    assert Chunk("u", "c", 5.0, bytes(640), seq=5).identity() != other.identity()


def test_without_seq_the_timestamp_tells_duplicates_from_repeated_silence() -> None:
    chunk = Chunk("u", "c", 1700000000.123456, bytes(640))
    assert chunk.identity() == replace(chunk).identity()
    assert chunk.identity() != replace(chunk, timestamp=1700000005.123456).identity()
    assert chunk.identity() != Chunk("u", "c", 0.0, bytes(640), seq=1700000000123456 % 10**15).identity()
