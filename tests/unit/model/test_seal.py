"""The seal as Redis keeps it, the names of blobs, and the next free one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.entry import PROTECTIONS, Chunk
from codec.names import parse_name
from tests.support.ids import ids
from tests.support.seals import SEAL
from worker.batching.batch import Batch, seal_of
from worker.model.ids import Conversation
from worker.model.seal import Seal, later_name
from worker.model.states import Trigger


def entry_ids() -> st.SearchStrategy[str]:
    return st.builds("{}-{}".format, st.integers(0, 2**63), st.integers(0, 2**63))


@pytest.mark.slow
@given(
    uid=ids(),
    conversation_id=ids(),
    entries=st.lists(entry_ids(), min_size=1, max_size=20, unique=True),
    start=st.floats(0, 1e11),
    protection=st.sampled_from(PROTECTIONS),
)
def test_whoever_finds_a_seal_reads_exactly_what_was_sealed(
    uid: str, conversation_id: str, entries: list[str], start: float, protection: str
) -> None:
    seal = replace(
        SEAL,
        uid=uid,
        conversation_id=conversation_id,
        entries=tuple(entries),
        start=start,
        protection=protection,  # type: ignore[arg-type]
        silences={entries[-1]: 7},
    )
    assert Seal.from_json(seal.to_json()) == seal
    assert Seal.from_json(seal.to_json().encode()) == seal


def test_text_of_a_seal_that_was_read_is_the_text_it_was_read_from() -> None:
    """The done step compares texts, so a version that writes other spaces or fields must not change them."""
    text = json.dumps(json.loads(SEAL.to_json()) | {"later": 1}, indent=1)
    assert Seal.from_json(text).to_json() == text


def test_seal_of_an_earlier_version_is_read() -> None:
    text = (
        '{"codec":"opus","conversation_id":"c","entries":"1-0 1-1","last_start":1005.0,"markers":"2-0","object":'
        '"chunks/u/c/1000.000.opus.enc","protection":"enhanced","sample_rate":16000,"samples":160000,"silences":{},'
        '"start":1000.0,"stream":"5d5d","trigger":"end","uid":"u","v":1}'
    )
    seal = Seal.from_json(text)
    assert (seal.entries, seal.all_ids, seal.to_json()) == (("1-0", "1-1"), ("1-0", "1-1", "2-0"), text)


def test_equal_seals_have_equal_texts() -> None:
    assert replace(SEAL, silences={"b": 1, "a": 2}).to_json() == replace(SEAL, silences={"a": 2, "b": 1}).to_json()


@pytest.mark.parametrize("text", ["{}", '{"v": 2}', "nonsense", ""])
def test_what_is_no_seal_of_this_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"version|Expecting"):
        Seal.from_json(text)


def test_id_is_the_first_entry_and_all_ids_include_the_markers() -> None:
    assert SEAL.id == "1-0"
    assert SEAL.all_ids == ("1-0", "1-1", "12-0", "13-0")
    assert SEAL.conversation == Conversation("u", "c")


def sealed(*starts: float, protection: str = "enhanced", codec: str = "opus", naming: str = "start") -> Seal:
    chunks = [Chunk("u", "c", start, bytes(160_000), protection=protection) for start in starts]  # type: ignore[arg-type]
    batch = Batch.of(chunks[0])
    for number, chunk in enumerate(chunks):
        batch.add(f"1-{number}", chunk, chunk.identity(), 0)
    return seal_of(batch, Trigger.END, codec, naming, "5d" * 16)  # type: ignore[arg-type]


def test_seal_fixes_all_of_a_batch() -> None:
    seal = sealed(1000.0, 1005.5)
    assert (seal.entries, seal.start, seal.last_start, seal.samples) == (("1-0", "1-1"), 1000.0, 1005.5, 160_000)
    assert (seal.trigger, seal.sample_rate, seal.protection) == ("end", 16000, "enhanced")


@pytest.mark.parametrize(
    ("naming", "codec", "protection", "starts", "file"),
    [
        ("start", "opus", "enhanced", (1000.0, 1055.0), "1000.000.opus.enc"),
        ("start", "opus", "standard", (1000.0, 1055.0), "1000.000.opus"),
        ("start", "pcm", "e2ee", (1000.0, 1055.0), "1000.000.enc"),
        ("start", "pcm", "standard", (1000.0, 1055.0), "1000.000.bin"),
        ("range", "opus", "enhanced", (1000.0, 1055.0), "1000.000-1055.000.batch.enc"),
        ("range", "pcm", "standard", (1000.0, 1005.0, 1055.0), "1000.000-1055.000.batch.bin"),
        ("range", "pcm", "standard", (1000.0,), "1000.000.batch.bin"),
        ("range", "pcm", "standard", (1000.0, 999.5), "1000.000-1000.000.batch.bin"),
    ],
)
def test_name(naming: str, codec: str, protection: str, starts: tuple[float, ...], file: str) -> None:
    assert sealed(*starts, protection=protection, codec=codec, naming=naming).object == f"chunks/u/c/{file}"


@pytest.mark.parametrize(
    ("name", "step", "free"),
    [
        ("1000.000.opus.enc", 1, "1000.001.opus.enc"),
        ("1000.999.bin", 2, "1001.001.bin"),
        ("1700000000.123.opus", 1000, "1700000001.123.opus"),
        ("1000.000-1055.000.batch.enc", 1, "1000.001-1055.000.batch.enc"),
        ("1000.000-1000.000.batch.enc", 3, "1000.003-1000.003.batch.enc"),
        ("1000.000.batch.bin", 1, "1000.001.batch.bin"),
    ],
)
def test_later_name_starts_a_millisecond_later_and_stays_a_name(name: str, step: int, free: str) -> None:
    assert later_name(f"chunks/u/c/{name}", step) == f"chunks/u/c/{free}"
    parse_name(f"chunks/u/c/{free}")


@given(st.integers(0, 10**12), st.integers(1, 5000))
def test_every_step_gives_another_name(ms: int, steps: int) -> None:
    name = f"chunks/u/c/{ms / 1000:.3f}.opus.enc"
    assert later_name(name, steps) not in {name, later_name(name, steps + 1)}
