"""Stream entries that are neither audio nor an end, of every kind that a broken or hostile pusher may send."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

Fields = dict[bytes, bytes]

FIELDS = (b"uid", b"conversation_id", b"timestamp", b"pcm")
NUMBERS = (b"", b"-1", b"nan", b"inf", b"1e308", b"0x10", b"9" * 400, b"1_000", b" 1", "٣".encode())
IDS = (b"", b".", b"..", b"a/b", b"../../etc/passwd", b"\\", b"a\x00", b"a\n", b"\x7f", b"\xff\xfe", b"x" * 257)


def hostile(random: Random) -> Fields:
    """One entry that has to end in the dead letters."""
    return random.choice(KINDS)(random)


def _chunk(random: Random) -> Fields:
    return {b"uid": b"u", b"conversation_id": b"c%d" % random.randrange(50), b"timestamp": b"1700000000", b"pcm": b"ab"}


def _without_a_field(random: Random) -> Fields:
    fields = _chunk(random)
    del fields[random.choice(FIELDS)]
    return fields


def _wrong_number(random: Random) -> Fields:
    field = random.choice((b"timestamp", b"sample_rate", b"seq"))
    return _chunk(random) | {field: random.choice(NUMBERS)}


def _wrong_id(random: Random) -> Fields:
    return _chunk(random) | {random.choice(FIELDS[:2]): random.choice(IDS)}


def _no_audio(random: Random) -> Fields:
    return _chunk(random) | {b"pcm": random.choice((b"", b"a"))}


def _unknown_protection(random: Random) -> Fields:
    return _chunk(random) | {b"protection": random.choice((b"", b"none", b"ENHANCED", b"\xff"))}


def _unknown_field(random: Random) -> Fields:
    return _chunk(random) | {random.randbytes(random.randrange(4, 40)): random.randbytes(random.randrange(2000))}


def _audio_with_an_end(random: Random) -> Fields:
    return _chunk(random) | {b"end": random.choice((b"1", b"0", b"yes"))}


def _noise(random: Random) -> Fields:
    return {random.randbytes(6): random.randbytes(random.randrange(300)) for _ in range(random.randrange(1, 20))}


KINDS: tuple[Callable[[Random], Fields], ...] = (
    _without_a_field,
    _wrong_number,
    _wrong_id,
    _no_audio,
    _unknown_protection,
    _unknown_field,
    _audio_with_an_end,
    _noise,
)
