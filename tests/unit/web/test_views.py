"""What the page is told: users, conversations, time lines, waveforms, the verdict, dead letters, events."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from codec.entry import partition_of
from tests.support.dead_letters import Fields, dead_letter_streams
from tests.support.harness import eventually
from tests.support.speech import speech
from tests.support.stored_blobs import T0, ConversationFolder, describe_again, noise
from tests.support.web_page import web_page
from worker.audio.peaks import PER_SECOND, peaks
from worker.model.done_event import DoneEvent
from worker.web.site import PageOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp
    import redis.asyncio

    from tests.support.web_page import WebPage
    from worker.settings import Settings

TALK = "uid=user&conversation=talk"
HOSTILE = '<img src=x onerror=alert(1)>\u202e"&'


async def told(http: aiohttp.ClientSession, path: str) -> Any:  # noqa: ANN401 -- JSON
    async with http.get(path) as reply:
        assert reply.status == 200, await reply.text()
        return await reply.json()


async def first_event(http: aiohttp.ClientSession, path: str) -> Any:  # noqa: ANN401 -- JSON
    async with http.get(path) as reply:
        assert reply.content_type == "text/event-stream"
        line = await reply.content.readuntil(b"\n\n")
        return json.loads(line.removeprefix(b"data: "))


async def test_users_come_page_by_page_and_by_the_beginning_of_their_id(
    http: aiohttp.ClientSession, local_folder: ConversationFolder
) -> None:
    for number in range(7):
        await ConversationFolder(local_folder.store, uid=f"user-{number}").put(".bin", T0, b"ab")
    await ConversationFolder(local_folder.store, uid="another").put(".bin", T0, b"ab")

    first = await told(http, "/api/users?prefix=user-&limit=4")
    second = await told(http, f"/api/users?prefix=user-&limit=4&after={first['users'][-1]}")
    assert (first["users"] + second["users"], first["more"], second["more"]) == (
        [f"user-{number}" for number in range(7)],
        True,
        False,
    )


async def test_conversations_come_with_their_times_lengths_and_sizes(
    http: aiohttp.ClientSession, local_folder: ConversationFolder
) -> None:
    await local_folder.put(".bin", T0, noise(2))
    await local_folder.put(".opus", T0 + 10, speech(2))  # its length is not known
    other = ConversationFolder(local_folder.store, conversation=HOSTILE.replace("/", ""))
    await other.put(".bin", T0 + 86400, noise(1))

    both = (await told(http, "/api/conversations?uid=user"))["conversations"]
    assert [each["conversation"] for each in both] == [HOSTILE, "talk"]
    talk = both[1]
    assert (talk["start"], talk["end"], talk["seconds"], talk["blobs"], talk["unmeasured"]) == (T0, T0 + 10, 2.0, 2, 1)
    for day, expected in (("2023-11-14", ["talk"]), ("2023-11-15", [HOSTILE]), ("2023-11-16", [])):
        found = await told(http, f"/api/conversations?uid=user&day={day}")
        assert [each["conversation"] for each in found["conversations"]] == expected
    found = await told(http, "/api/conversations?uid=user&prefix=ta")
    assert [each["conversation"] for each in found["conversations"]] == ["talk"]


async def test_the_time_line_has_every_blob_at_its_place(
    http: aiohttp.ClientSession, local_folder: ConversationFolder
) -> None:
    for start in (0, 2, 9):
        await local_folder.put(".opus.enc", T0 + start, speech(2, offset=start), described=True)
    bad = await local_folder.put_bytes(
        f"{T0 + 11:.3f}.opus.enc", b"?" * 300, {"sample-rate": "16000", "samples": "16000"}
    )
    await local_folder.put_bytes("notes.txt", b"not audio")

    found = await told(http, f"/api/conversation?{TALK}")
    assert [(each["at"], each["seconds"], each["silence"]) for each in found["blobs"]] == [
        (0, 2, 0),
        (2, 2, 0),
        (9, 2, 5),
        (11, 1, 0),
    ]
    assert (found["seconds"], found["start"], found["sample_rate"]) == (12, T0, 16000)
    assert found["blobs"][0]["protection"] == "enhanced"
    assert [other["name"] for other in found["unknown"]] == ["chunks/user/talk/notes.txt"]

    async with http.get(f"/audio.wav?{TALK}") as reply:
        await reply.read()
    found = await told(http, f"/api/conversation?{TALK}")
    assert [problem["name"] for problem in found["problems"]] == [bad]


async def test_the_waveform_comes_blob_by_blob_the_shown_part_first(
    http: aiohttp.ClientSession, local_folder: ConversationFolder
) -> None:
    pcms = [speech(3, offset=3 * number) for number in range(4)]
    for number, pcm in enumerate(pcms):
        await local_folder.put(".bin", T0 + 3 * number, pcm)
    for _ in range(2):  # the second time from memory
        async with http.get(f"/api/waveform?{TALK}&from=6&to=9") as reply:
            lines = [json.loads(line) for line in (await reply.text()).splitlines()]
        assert [line["blob"] for line in lines] in ([2, 1, 3, 0], [2, 3, 1, 0])
        for line in lines:
            assert base64.b64decode(line["peaks"]) == peaks(pcms[line["blob"]], 16000)


def test_peaks_are_levels_of_fifty_milliseconds() -> None:
    quiet, loud = b"\x00\x00" * 800, b"\x00\x80" * 800
    assert list(peaks(quiet + loud + quiet[:100], 16000)) == [0, 255, 0]
    assert len(peaks(speech(60), 16000)) == 60 * PER_SECOND


async def test_the_verdict_says_what_waits_and_what_is_missing(
    http: aiohttp.ClientSession,
    local_folder: ConversationFolder,
    settings: Callable[..., Settings],
    redis_client: redis.asyncio.Redis,
) -> None:
    await local_folder.put(".bin", T0, noise(2), described=True, more={"seqs": "0-1", "chunks": "2"})
    await local_folder.put(".bin", T0 + 4, noise(2), described=True, more={"seqs": "4-5", "chunks": "2"})
    for name in await local_folder.files():
        await describe_again(local_folder.store, f"chunks/user/talk/{name}")
    partition = partition_of("talk", 8)
    fields: Any = {"uid": "user", "conversation_id": "talk", "timestamp": str(T0 + 6), "seq": "6", "pcm": noise(1)}
    await redis_client.xadd(f"{settings().stream_prefix}:{{{partition}}}", fields)

    found = await told(http, f"/api/audit?{TALK}")
    assert found["verdict"] == "incomplete"
    assert found["missing"] == [{"session": "", "seqs": "2-3", "after": T0 + 2}]
    assert [(each["start"], each["end"], each["seq"]) for each in found["waiting"]] == [(T0 + 6, T0 + 7, 6)]


async def test_without_redis_the_archive_part_works_and_the_other_way_round(
    settings: Callable[..., Settings], local_folder: ConversationFolder
) -> None:
    await local_folder.put(".bin", T0, noise(1))
    async with web_page(settings(), redis=False) as page, page.entered() as http:
        assert (await told(http, f"/api/conversation?{TALK}"))["seconds"] == 1
        assert "REDIS_URL" in (await first_event(http, "/api/now"))["error"]
        assert "REDIS_URL" in (await told(http, f"/api/audit?{TALK}"))["unavailable"]
        async with http.get("/api/letters") as reply:
            assert (reply.status, "REDIS_URL" in (await reply.json())["error"]) == (503, True)
    async with web_page(settings(store_url="")) as page, page.entered() as http:
        assert (await first_event(http, "/api/now"))["totals"]["entries"] == 0
        async with http.get(f"/api/conversation?{TALK}") as reply:
            assert (reply.status, "STORE_URL" in (await reply.json())["error"]) == (503, True)


async def test_now_is_what_status_shows(http: aiohttp.ClientSession, page: WebPage) -> None:
    look = await first_event(http, "/api/now")
    assert any("no worker is alive" in concern["text"] for concern in look["concerns"])
    assert len(look["partitions"]) == page.site.settings.partitions
    assert len(look["history"]) == 1


async def test_dead_letters_by_reason_by_page_with_their_fields_and_audio(
    http: aiohttp.ClientSession, settings: Callable[..., Settings]
) -> None:
    pcm = speech(1)
    fields: Fields = ["uid", HOSTILE, "conversation_id", "talk", "timestamp", "x", "sample_rate", "16000", "pcm", pcm]
    async with dead_letter_streams(settings()) as streams:
        for number in range(5):
            await streams.dead_letter(fields, f"timestamp 'x{number}' is not a number", number % 2)
        await streams.dead_letter(["x-\u202e<b>", b"\xff\xfe" * 40], "no uid")

    found = await told(http, "/api/letters?limit=2&uid=" + HOSTILE.replace("&", "%26").replace("<", "%3C"))
    assert (found["count"], found["more"], found["allow_replay"]) == (6, True, False)
    assert {group["kind"]: group["count"] for group in found["groups"]} == {
        "timestamp … is not a number": 5,
        "no uid": 1,
    }
    names = [letter["name"] for letter in found["letters"]]
    following = await told(http, f"/api/letters?limit=9&reason=timestamp&after={names[-1]}")
    assert len(following["letters"]) == 3
    assert not set(names) & {letter["name"] for letter in following["letters"]}

    one = await told(http, f"/api/letter?letter={names[0]}")
    assert one["fields_shown"][0] == {"name": "uid", "bytes": len(HOSTILE.encode()), "text": HOSTILE, "hex": None}
    assert one["fields_shown"][-1]["text"] is None
    async with http.get(f"/letter.wav?letter={names[0]}") as reply:
        assert (await reply.read())[44:] == pcm
    other = (await told(http, "/api/letters?reason=no+uid"))["letters"][0]
    shown = (await told(http, f"/api/letter?letter={other['name']}"))["fields_shown"]
    assert (shown[0]["text"], shown[0]["hex"][:5]) == (None, "ff fe")
    async with http.get(f"/letter.wav?letter={other['name']}") as reply:
        assert reply.status == 404
    async with http.get("/api/letter?letter=0/1-1") as reply:
        assert reply.status == 404


async def test_letters_are_pushed_again_only_where_that_is_allowed(settings: Callable[..., Settings]) -> None:
    async with dead_letter_streams(settings()) as streams:
        await streams.dead_letter(["uid", "u"])
        name = (await streams.found())[0].name
        wrongs: list[Any] = [[], {"letters": "x"}, {"letters": ["x"]}, {"letters": [name] * 501}]
        for allowed, status, left in ((False, 403, 1), (True, 200, 0)):
            async with web_page(settings(), PageOptions(allow_replay=allowed)) as page, page.entered() as http:
                headers = {"Origin": page.url}
                async with http.post("/api/letters/replay", json={"letters": [name]}, headers=headers) as reply:
                    assert reply.status == status
                    body = await reply.json()
                assert len(await streams.found()) == left
                for wrong in wrongs:
                    async with http.post("/api/letters/replay", json=wrong, headers=headers) as reply:
                        assert reply.status == (400 if allowed else 403)
        assert body == {"outcomes": {"replayed": 1}}
        assert len(await streams.ids()) == 1


async def test_events_come_the_newest_first_and_then_as_they_are_announced(
    http: aiohttp.ClientSession, settings: Callable[..., Settings], redis_client: redis.asyncio.Redis
) -> None:
    prefix = settings().stream_prefix

    async def announce(number: int) -> None:
        fields: Any = DoneEvent("user", HOSTILE, f"object-{number}", start=T0).to_fields()
        await redis_client.xadd(f"{prefix}:{{{number % 8}}}:done", fields)

    for number in range(3):
        await announce(number)
    async with http.get("/api/events") as reply:
        first = json.loads((await reply.content.readuntil(b"\n\n")).removeprefix(b"data: "))
        assert [event["object"] for event in first] == ["object-0", "object-1", "object-2"]
        await announce(8)
        following = b":"
        while following.startswith(b":"):
            following = await reply.content.readuntil(b"\n\n")
        (event,) = json.loads(following.removeprefix(b"data: "))
        assert (event["object"], event["conversation_id"], event["partition"]) == ("object-8", HOSTILE, 0)


async def test_redis_is_looked_at_only_while_people_watch(page: WebPage, http: aiohttp.ClientSession) -> None:
    live = page.server.live
    assert not live.is_looking
    async with http.get("/api/now") as reply:
        await reply.content.readuntil(b"\n\n")
        assert live.is_looking
        async with page.entered() as other:
            await first_event(other, "/api/now")
        assert live.is_looking
    await eventually(lambda: not live.is_looking)
