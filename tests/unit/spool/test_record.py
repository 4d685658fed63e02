from __future__ import annotations

import json

import google_crc32c
import pytest

from tests.support.spooled_blobs import record_of, seal_of
from worker.errors import SpoolDamaged
from worker.spool.record import HEAD, MAGIC, read_record, read_record_header, stem_of

RECORD = record_of(seal_of("1-0", "2-0"))
CONTENT = RECORD.to_bytes()
STEM = stem_of(RECORD.header, len(CONTENT))


def test_what_is_written_is_read_back() -> None:
    assert read_record(CONTENT, STEM) == RECORD
    assert read_record_header(CONTENT)[0] == RECORD.header


@pytest.mark.parametrize("size", [0, 5, HEAD.size - 1, HEAD.size, HEAD.size + 9, len(CONTENT) - 5001, len(CONTENT) - 1])
def test_a_torn_file_is_noticed(size: int) -> None:
    with pytest.raises(SpoolDamaged):
        read_record(CONTENT[:size], STEM)


def test_every_flipped_bit_is_noticed() -> None:
    for position in range(0, len(CONTENT), 7):
        damaged = bytearray(CONTENT)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(SpoolDamaged):
            read_record(bytes(damaged), STEM)


def test_a_file_that_grew_is_noticed() -> None:
    with pytest.raises(SpoolDamaged):
        read_record(CONTENT + b"\0", STEM)


def test_a_file_under_another_name_is_noticed() -> None:
    other = stem_of(record_of(seal_of("1-0", "2-0", conversation_id="other")).header, len(CONTENT))
    with pytest.raises(SpoolDamaged):
        read_record(CONTENT, other)


@pytest.mark.parametrize(
    "change",
    [
        {"seal": "{}"},
        {"seal": 5},
        {"metadata": []},
        {"size": "many"},
        {"store": None, "partition": None},
        {"seal": seal_of("1-0", "2-0", object="chunks/user/another/1000.000.opus").to_json()},
        {"seal": seal_of("1-0", "2-0", object="../../etc/passwd").to_json()},
        {"seal": seal_of(start=1.0).to_json()},
    ],
)
def test_a_forged_header_leads_nowhere(change: dict[str, object]) -> None:
    _, end = read_record_header(CONTENT)
    text = json.dumps(json.loads(CONTENT[HEAD.size : end]) | change).encode()
    forged = HEAD.pack(MAGIC, len(text), google_crc32c.value(text)) + text + CONTENT[end:]
    with pytest.raises(SpoolDamaged):
        read_record(forged, STEM)


def test_a_header_of_absurd_length_is_not_even_looked_for() -> None:
    with pytest.raises(SpoolDamaged):
        read_record_header(HEAD.pack(MAGIC, 2**32 - 1, 0) + b"{}")
