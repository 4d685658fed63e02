"""Dead letters: looked at without their audio, pushed again exactly once and exactly as they were, or dropped."""

from __future__ import annotations

import asyncio
import json
import re
import tracemalloc
import wave
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from codec.entry import Chunk
from tests.support.command import command
from tests.support.dead_letters import DeadLetterStreams, Fields, dead_letter_streams
from tests.support.redis_server import RedisServer
from worker.errors import AudioFileError, StreamError
from worker.model.causes import ReplayOutcome
from worker.model.ids import Conversation
from worker.model.reasons import kind_of
from worker.settings import Settings
from worker.stream.inspection import letter_groups
from worker.stream.inspection.conversation_view import PAGE, ChunkFacts
from worker.stream.inspection.dead_letters import DeadLetter, DeadLetters
from worker.stream.keys import Keys

MakeSettings = Callable[..., Settings]

WIDE = [part for number in range(5000) for part in (b"field %d" % number, b"\x00\xff%d" % number)]


@pytest.fixture
async def streams(settings: MakeSettings) -> AsyncIterator[DeadLetterStreams]:
    async with dead_letter_streams(settings()) as found:
        yield found


def chunk(conversation_id: str = "c", seq: int = 0, **changes: str) -> list[bytes | str]:
    fields = Chunk("u", conversation_id, 1000.0 + seq, b"\x01\x02" * 800, seq=seq).fields() | changes
    return [part for field in fields.items() for part in field]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([b"pcm", bytes(range(256)), b"\x00\r\n", b"\xff\xfe"], id="binary"),
        pytest.param([b"uid", b"a", b"uid", b"b", b"uid", b"a"], id="one name three times"),
        pytest.param([b"z", b"1", b"a", b"2", b"m", b""], id="in its own order"),
        pytest.param([b"reason", b"r", b"entry", b"e", b"at", b"1"], id="looks like a trailer"),
        pytest.param([b"packed", b"not MessagePack"], id="looks packed"),
        pytest.param(WIDE, id="more fields than a script can pass"),
    ],
)
async def test_replay_restores_an_entry_exactly(streams: DeadLetterStreams, fields: Fields) -> None:
    await streams.dead_letter(fields)
    (letter,) = await streams.found()

    assert await streams.letters.replay(letter) is ReplayOutcome.REPLAYED

    assert await streams.raw(streams.keys.stream(0)) == [fields]
    assert await streams.found() == []


@pytest.mark.parametrize("fields", [[b"a", b"1"], WIDE], ids=["narrow", "wide"])
async def test_replay_after_a_lost_reply_pushes_nothing_twice(streams: DeadLetterStreams, fields: Fields) -> None:
    await streams.dead_letter(fields)
    (letter,) = await streams.found()
    await streams.letters.replay(letter)

    assert await streams.letters.replay(letter) is ReplayOutcome.GONE

    assert len(await streams.raw(streams.keys.stream(0))) == 1


@pytest.mark.parametrize("fields", [[b"a", b"1"], WIDE], ids=["narrow", "wide"])
async def test_of_many_replays_at_once_one_succeeds(streams: DeadLetterStreams, fields: Fields) -> None:
    await streams.dead_letter(fields)
    (letter,) = await streams.found()

    outcomes = await asyncio.gather(*(streams.letters.replay(letter) for _ in range(8)))

    assert sorted(outcomes) == [ReplayOutcome.GONE] * 7 + [ReplayOutcome.REPLAYED]
    assert await streams.raw(streams.keys.stream(0)) == [fields]


@pytest.mark.parametrize("fields", [[b"a", b"1"], WIDE], ids=["narrow", "wide"])
async def test_full_redis_refuses_a_replay_and_keeps_the_letter(
    own_redis: Callable[..., RedisServer], settings: MakeSettings, fields: Fields
) -> None:
    server = own_redis()
    async with dead_letter_streams(settings(redis_url=server.url)) as streams:
        await streams.dead_letter(fields)
        (letter,) = await streams.found()
        await streams.client.nodes[0].redis.config_set("maxmemory", "1kb")

        with pytest.raises(StreamError, match="maxmemory"):
            await streams.letters.replay(letter)

        assert await streams.found() == [letter]
        assert await streams.raw(streams.keys.stream(0)) == []


async def test_replayed_poison_can_be_quarantined_again(streams: DeadLetterStreams) -> None:
    await streams.dead_letter(chunk(), "poison")
    conversation = Conversation("u", "c")
    (letter,) = await streams.found()
    await streams.letters.replay(letter)
    tries = []
    for _ in range(4):
        async with streams.owned() as (lease, entries):
            lease.clean = False  # as if the owner before had died
            survivors = (await entries.take_over(lease)).survivors
            await entries.accept([(lease, await streams.ids())])
            if survivors:
                tries.append(await entries.mark_suspect(lease, conversation))
    async with streams.owned() as (lease, entries):
        assert await entries.dead_letter(lease, dict.fromkeys(survivors, "poison again")) == 1

    (again,) = await streams.found()
    assert tries == [1, 2, 3]
    assert again.reason == "poison again"
    assert await streams.letters.replay(again) is ReplayOutcome.REPLAYED
    assert await streams.raw(streams.keys.stream(0)) == [[_bytes(part) for part in chunk()]]


@pytest.mark.parametrize("tombstone", ["u/", "u/c"], ids=["user", "conversation"])
async def test_deleted_audio_does_not_come_back(streams: DeadLetterStreams, tombstone: str) -> None:
    entry = await streams.dead_letter(chunk())
    (letter,) = await streams.found()
    await streams.client.nodes[0].redis.hset(streams.keys.deleted(0), tombstone, entry.partition("-")[0])

    assert await streams.letters.replay(letter) is ReplayOutcome.DELETED

    assert await streams.raw(streams.keys.stream(0)) == []
    assert await streams.found() == [letter]


async def test_letter_that_no_worker_wrote_is_shown_and_not_pushed(streams: DeadLetterStreams) -> None:
    await streams.client.nodes[0].redis.xadd(streams.keys.dead(0), {"uid": "u", "note": "by hand"})
    (letter,) = await streams.found()

    assert (letter.reason, letter.uid) == ("", "u")
    assert await streams.letters.replay(letter) is ReplayOutcome.FOREIGN


@pytest.mark.slow
async def test_letters_are_listed_in_order_over_many_pages(streams: DeadLetterStreams) -> None:
    entries = [await streams.dead_letter(chunk(seq=seq), f"reason {seq}") for seq in range(2 * PAGE)]

    letters = await streams.found()

    assert [letter.entry for letter in letters] == entries
    assert [letter.chunk.seq for letter in letters] == list(range(2 * PAGE))


async def test_letter_tells_whose_it_is_and_what_it_holds(streams: DeadLetterStreams) -> None:
    fields = chunk("talk", seq=7, sample_rate="8000")
    await streams.dead_letter(fields, "too loud")

    (letter,) = await streams.found()

    assert (letter.uid, letter.conversation_id, letter.reason) == ("u", "talk", "too loud")
    assert (letter.bytes, letter.fields) == (sum(len(_bytes(part)) for part in fields), len(fields) // 2)
    assert (letter.chunk.seq, letter.chunk.start, letter.chunk.samples, letter.chunk.end) == (7, 1007.0, 800, 1007.1)


async def test_hostile_fields_are_listed(streams: DeadLetterStreams) -> None:
    await streams.dead_letter([b"uid", b"\xff" * 5000, b"seq", b"-1", b"timestamp", b"nan", b"sample_rate", b"0"])

    (letter,) = await streams.found()

    assert len(letter.uid or "") <= 256
    assert (letter.chunk.seq, letter.chunk.start, letter.chunk.samples) == (None, None, None)


def dead_lettered(settings: Settings, *letters: tuple[list[bytes | str], str, int]) -> None:
    """Make dead letters of (fields, reason, partition)s, for a command to find."""

    async def dead_letter() -> None:
        async with dead_letter_streams(settings) as streams:
            for letter in letters:
                await streams.dead_letter(*letter)

    asyncio.run(dead_letter())


@pytest.fixture
def three(settings: MakeSettings) -> Settings:
    """Settings of a prefix with three dead letters."""
    made = settings()
    dead_lettered(
        made,
        (chunk("c", 0, color="blue"), "field b'color'", 0),
        (chunk("d", 1), "poison: 3 workers", 0),
        (chunk("c", 2), "poison: 3 workers", 1),
    )
    return made


@pytest.mark.parametrize(
    ("options", "seqs"),
    [
        ([], [0, 1, 2]),
        (["--partition", "0"], [0, 1]),
        (["--reason", "poison"], [1, 2]),
        (["--reason", "poison", "--partition", "1"], [2]),
        (["--conversation", "c"], [0, 2]),
        (["--uid", "nobody"], []),
    ],
)
def test_filters_choose_letters(three: Settings, options: list[str], seqs: list[int]) -> None:
    listed = json.loads(command(three, "dead-letters", "ls", "--json", *options).stdout)

    assert [letter["chunk"]["seq"] for letter in listed] == seqs
    assert all(0 <= letter["age_s"] < 60 for letter in listed)


def test_id_as_listed_chooses_one_letter(three: Settings) -> None:
    chosen = json.loads(command(three, "dead-letters", "ls", "--json").stdout)[1]["id"]

    result = command(three, "dead-letters", "replay", "--id", chosen, "--json")

    assert json.loads(result.stdout) == [{"letter": chosen, "outcome": "replayed"}]
    assert len(json.loads(command(three, "dead-letters", "ls", "--json").stdout)) == 2


@pytest.mark.parametrize("verb", [["ls"], ["replay"], ["drop", "--yes"]], ids=" ".join)
def test_letter_that_is_named_and_not_there_is_told(three: Settings, verb: list[str]) -> None:
    there = json.loads(command(three, "dead-letters", "ls", "--json").stdout)[1]["id"]

    result = command(three, "dead-letters", *verb, "--id", there, "--id", "0/1-1", "--json")

    assert (result.exit_code, result.stderr) == (3, "no such dead letter: 0/1-1\n")
    assert json.loads(result.stdout)


@pytest.mark.parametrize("number", ["-1", "8"])
def test_partition_that_does_not_exist_is_told(settings: MakeSettings, number: str) -> None:
    result = command(settings(partitions=8), "dead-letters", "ls", "--partition", number)
    assert result.exit_code == 2
    assert f"there is no partition {number}, only 0 to 7" in result.stderr


def test_table_tells_whose_how_big_and_why(three: Settings) -> None:
    result = command(three, "dead-letters", "ls")

    assert result.exit_code == 0
    for told in ("u/c #0", "u/d #1", "1.7 kB", "field b'color'", "poison: 3 workers", "dead letters: 3"):
        assert told in result.stdout


def test_letters_that_redis_refuses_to_push_stop_no_other(three: Settings) -> None:
    keys = Keys(three.stream_prefix)
    with redis.Redis.from_url(three.redis_url) as client:
        client.delete(keys.stream(0))
        client.set(keys.stream(0), "another program's")

    result = command(three, "dead-letters", "replay", "--all")

    assert (result.exit_code, result.stdout) == (1, "replayed 1 of 3\n")
    assert result.stderr.count("stays: Redis refuses to push it: ") == 2


@pytest.mark.parametrize("verb", ["replay", "drop"])
def test_nothing_happens_to_letters_that_nobody_chose(three: Settings, verb: str) -> None:
    result = command(three, "dead-letters", verb, "--yes") if verb == "drop" else command(three, "dead-letters", verb)

    assert result.exit_code == 2
    assert len(json.loads(command(three, "dead-letters", "ls", "--json").stdout)) == 3


@pytest.mark.parametrize(("answer", "left"), [("n\n", 3), ("", 3), ("y\n", 1)])
@pytest.mark.usefixtures("terminal")
def test_drop_asks_first(three: Settings, answer: str, left: int) -> None:
    result = command(three, "dead-letters", "drop", "--reason", "poison", answer=answer)

    assert result.exit_code == (0 if left == 1 else 1)
    assert len(json.loads(command(three, "dead-letters", "ls", "--json").stdout)) == left


@pytest.mark.parametrize("answer", ["y\n", "", None])
def test_drop_without_a_terminal_needs_yes(three: Settings, answer: str | None) -> None:
    result = command(three, "dead-letters", "drop", "--reason", "poison", answer=answer)

    assert result.exit_code == 2
    assert "nothing is removed without --yes" in result.stderr
    assert len(json.loads(command(three, "dead-letters", "ls", "--json").stdout)) == 3


def test_drop_with_yes_does_not_ask(three: Settings) -> None:
    result = command(three, "dead-letters", "drop", "--all", "--yes", "--json")

    assert json.loads(result.stdout) == {"dropped": 3}


def test_replay_of_what_must_not_come_back_is_told_and_fails(three: Settings, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.hset(f"{three.stream_prefix}:{{0}}:deleted", "u/c", 10**15)

    result = command(three, "dead-letters", "replay", "--all")

    assert result.exit_code == 1
    assert "replayed 2 of 3" in result.stdout
    assert "was deleted since" in result.stderr


@pytest.fixture
def many(settings: MakeSettings, redis_server: RedisServer) -> Settings:
    """Settings of a prefix with 20,000 dead letters of 4 kinds of reason."""
    made = settings()
    reasons = (
        "timestamp {} looks like milliseconds; give Unix seconds",
        "field '{}' does not belong in this kind of entry; own fields begin with x-",
        "sample_rate '{}' is not supported; give 8000, 12000, 16000, 24000 or 48000",
        "pcm is empty",
    )
    with redis_server.client() as client, client.pipeline(transaction=False) as pipe:
        for number in range(20_000):
            fields = {"uid": "u", "conversation_id": f"c{number}", "reason": reasons[number % 4].format(number)}
            pipe.xadd(f"{made.stream_prefix}:{{{number % 8}}}:dead", fields | {"entry": f"{number + 1}-0", "at": "1"})
        pipe.execute()
    return made


@pytest.mark.slow
def test_twenty_thousand_letters_are_a_line_per_kind_of_reason(many: Settings) -> None:
    result = command(many, "dead-letters", "ls")

    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) < 25
    assert result.stdout.count("5,000") == 4
    assert "looks like milliseconds" in " ".join(result.stdout.split())
    assert "dead letters: 20000" in result.stdout
    grouped = json.loads(command(many, "dead-letters", "ls", "--by-reason", "--json").stdout)
    assert (grouped["count"], [group["count"] for group in grouped["reasons"]]) == (20_000, [5_000] * 4)
    assert grouped["reasons"][0]["example"]["reason"]


def test_a_reason_copied_from_the_groups_chooses_all_letters_of_the_group(settings: MakeSettings) -> None:
    made = settings()
    dead_lettered(
        made,
        *((chunk("c", number), f"sample_rate '{number}' is not supported; give 8000", 0) for number in range(3)),
        (chunk("c", 3), "pcm is empty", 0),
    )
    shown = command(made, "dead-letters", "ls").stdout
    copied = next(line for line in shown.splitlines() if "sample_rate" in line).partition("sample_rate")
    grouped = json.loads(command(made, "dead-letters", "ls", "--by-reason", "--json").stdout)["reasons"]

    for reason in ("".join(copied[1:]).strip(), grouped[0]["kind"]):
        listed = json.loads(command(made, "dead-letters", "ls", "--json", "--reason", reason).stdout)
        assert [letter["chunk"]["seq"] for letter in listed] == [0, 1, 2]
    one = json.loads(command(made, "dead-letters", "ls", "--json", "--reason", "'1' is not supported").stdout)
    assert [letter["chunk"]["seq"] for letter in one] == [1]


@pytest.mark.slow
def test_memory_stays_flat_however_many_letters_there_are(many: Settings) -> None:
    """A tenth of the letters takes as much as all; holding them would take 10 MB."""

    def peak(*options: str) -> int:
        tracemalloc.start()
        result = command(many, "dead-letters", *options)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert result.exit_code == 0
        return most - 4 * len(result.output)  # the test's runner keeps what was printed

    few = peak("ls", "--partition", "0", "--by-reason", "--json")
    assert peak("ls", "--by-reason", "--json") < few + 1_000_000
    assert peak("replay", "--partition", "1") < few + 1_000_000


@pytest.mark.parametrize("options", [["--limit", "2"], ["--limit", "2", "--json"]])
def test_limit_lists_the_first_letters(three: Settings, options: list[str]) -> None:
    shown = command(three, "dead-letters", "ls", *options).stdout

    assert "color" in shown
    assert shown.count("poison: 3 workers") == 1
    if "--json" in options:
        assert [letter["chunk"]["seq"] for letter in json.loads(shown)] == [0, 1]


def test_each_lists_letter_by_letter(three: Settings) -> None:
    assert command(three, "dead-letters", "ls", "--each").stdout.count("poison: 3 workers") == 2
    assert command(three, "dead-letters", "ls").stdout.count("poison: 3 workers") == 1


def test_replay_by_reason_pushes_these_and_no_others(three: Settings) -> None:
    result = command(three, "dead-letters", "replay", "--reason", "poison")

    assert result.stdout == "replayed 2 of 2\n"
    left = json.loads(command(three, "dead-letters", "ls", "--json").stdout)
    assert [letter["reason"] for letter in left] == ["field b'color'"]


def test_letter_that_comes_back_during_a_replay_is_not_met_again(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker refuses it again at once; the replay would go on without end."""
    made = settings()
    dead_lettered(made, (chunk(seq=0), "bad", 0), (chunk(seq=1), "bad", 0))
    replay = DeadLetters.replay

    async def refused_again(self: DeadLetters, letter: DeadLetter) -> ReplayOutcome:
        outcome = await replay(self, letter)
        fields = {"uid": "u", "reason": "bad", "entry": "1-0", "at": "1"}
        dead = self._keys.dead(0)
        await self._client.command(lambda pipe: pipe.xadd(dead, fields), dead)  # type: ignore[arg-type]
        return outcome

    monkeypatch.setattr(DeadLetters, "replay", refused_again)
    assert command(made, "dead-letters", "replay", "--all").stdout == "replayed 2 of 2\n"


def test_export_writes_audio_and_fields_for_a_person_to_repair(settings: MakeSettings, tmp_path: Path) -> None:
    made = settings()
    pcm = b"\x01\x02" * 800
    dead_lettered(
        made,
        (chunk("c", 0, timestamp="1795923578452", sample_rate="44100"), "looks like milliseconds", 0),
        ([b"uid", b"\xff", b"pcm", pcm + b"\x03", b"x-id", b"7"], "uid of 1 bytes is not UTF-8", 0),
        ([b"pcm", pcm, b"sample_rate", b"fast"], "uid is missing", 1),
        ([b"packed", b"x", b"pcm", b"", b"pcm", pcm, b"pcm", pcm], "odd", 2),
    )
    names = [
        letter["id"].replace("/", "-") for letter in json.loads(command(made, "dead-letters", "ls", "--json").stdout)
    ]

    result = command(made, "dead-letters", "export", str(tmp_path / "out"))

    assert (result.exit_code, result.stdout) == (0, f"exported 4 dead letters to {tmp_path / 'out'}\n")
    first, second, third, fourth = (json.loads((tmp_path / "out" / f"{name}.json").read_text()) for name in names)
    assert dict(first["fields"])["timestamp"] == "1795923578452"
    assert (first["reason"], first["letter"]) == ("looks like milliseconds", names[0].replace("-", "/", 1))
    assert second["fields"] == [["uid", {"base64": "/w=="}], ["pcm", {"file": f"{names[1]}.wav"}], ["x-id", "7"]]
    assert dict(third["fields"])["pcm"] == {"file": f"{names[2]}.pcm"}
    assert [value for _, value in fourth["fields"][1:]] == [
        "",
        {"file": f"{names[3]}.wav"},
        {"file": f"{names[3]}-2.wav"},
    ]
    for name, rate in ((names[0], 44100), (names[1], 16000)):
        with wave.open(str(tmp_path / "out" / f"{name}.wav")) as file:
            assert (file.getframerate(), file.readframes(10_000)) == (rate, pcm)
    assert (tmp_path / "out" / f"{names[2]}.pcm").read_bytes() == pcm
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o600}
    assert len(json.loads(command(made, "dead-letters", "ls", "--json").stdout)) == 4


def test_export_overwrites_nothing(three: Settings, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").touch()

    result = command(three, "dead-letters", "export", str(tmp_path / "out"))

    assert isinstance(result.exception, AudioFileError)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_export_takes_the_letters_of_a_filter(three: Settings, tmp_path: Path) -> None:
    result = command(three, "dead-letters", "export", str(tmp_path / "out"), "--reason", "poison", "--json")

    assert json.loads(result.stdout) == {"exported": 2, "directory": str(tmp_path / "out")}


@given(st.text(alphabet="ab 0189.'\"\\\\…", max_size=60))
def test_kind_of_a_reason_has_no_values(reason: str) -> None:
    assert not re.search("[0-9]", kind_of(reason))


def test_summary_of_endless_kinds_of_reasons_is_bounded() -> None:
    found = letter_groups.LetterSummary()
    for number in range(1000):
        word = "".join(chr(97 + int(digit)) for digit in str(number))
        found.add(DeadLetter(0, f"{number}-0", word, "1-0", 2, 1, None, None, ChunkFacts("", None, None, None, 16000)))
    assert len(found.groups) == letter_groups.MOST_GROUPS + 1
    assert (found.count, found.bytes) == (1000, 2000)
    assert found.groups[letter_groups.OTHERS].last_ms == 999


def test_foreign_text_cannot_steer_the_terminal(settings: MakeSettings) -> None:
    made = settings()
    dead_lettered(made, ([b"uid", b"\x1b[2J[red]", b"conversation_id", b"c\r\n"], "[bold]why :bell:", 0))

    shown = command(made, "dead-letters", "ls").stdout

    assert "\x1b" not in shown
    assert r"\x1b[2J[red]/c\x0d\x0a" in shown
    assert "[bold]why :bell:" in shown


def _bytes(part: bytes | str) -> bytes:
    return part.encode() if isinstance(part, str) else part
