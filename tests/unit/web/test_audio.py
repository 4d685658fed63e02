"""The WAV that is never made: its ranges are those of the whole, whatever is asked, and listeners are bounded."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import structlog

from tests.support.speech import speech
from tests.support.stored_blobs import T0, noise
from tests.support.web_page import web_page
from worker.archive import Archive
from worker.audio.writing.wav import wav_header
from worker.web.recordings.opening import fitting
from worker.web.recordings.ranges import ByteRange, Unsatisfiable, asked_range
from worker.web.site import Bound, PageLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.stored_blobs import ConversationFolder
    from tests.support.web_page import WebPage
    from worker.settings import Settings

FILE = "/audio.wav?uid=user&conversation=talk"
RATE = 16000


@pytest.fixture
async def wav(local_folder: ConversationFolder) -> bytes:
    """The whole file: two blobs, five seconds of silence, another blob."""
    for start in (0, 2, 9):
        await local_folder.put(".opus.enc", T0 + start, speech(2, offset=start), described=True)
    archive = Archive(local_folder.store, [local_folder.secret])
    pcm = await local_folder.pcm(archive)
    return wav_header(RATE, len(pcm)) + pcm


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, (0, 100, False)),
        ("bytes=0-", (0, 100, True)),
        ("bytes=0-0", (0, 1, True)),
        ("bytes=99-", (99, 100, True)),
        ("bytes=10-19", (10, 20, True)),
        ("bytes=10-1000000", (10, 100, True)),
        ("bytes=-1", (99, 100, True)),
        ("bytes=-1000", (0, 100, True)),
        ("Bytes = 1 - 2 ", (1, 3, True)),
        ("seconds=1-2", (0, 100, False)),
        ("", (0, 100, False)),
    ],
)
def test_a_range_is_read_as_the_standard_says(header: str | None, expected: tuple[int, int, bool]) -> None:
    assert asked_range(header, 100) == ByteRange(*expected)


@pytest.mark.parametrize(
    "header",
    [
        "bytes=100-",
        "bytes=5-4",
        "bytes=-0",
        "bytes=-",
        "bytes=",
        "bytes=a-b",
        "bytes=0-1,2-3",
        "bytes=" + "9" * 19 + "-",
    ],
)
def test_what_is_no_single_range_is_not_satisfiable(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        asked_range(header, 100)


async def test_the_whole_and_its_ranges(http: aiohttp.ClientSession, wav: bytes) -> None:
    async with http.get(FILE) as reply:
        assert (reply.status, await reply.read()) == (200, wav)
        assert reply.headers["Accept-Ranges"] == "bytes"
    rng = random.Random(3)
    edges = [(0, 44), (43, 45), (44, 44), (45, 46), (len(wav) - 1, len(wav) - 1), (0, len(wav) - 1)]
    places = [tuple(sorted(rng.randrange(len(wav)) for _ in range(2))) for _ in range(40)]
    for first, last in [*edges, *places]:
        async with http.get(FILE, headers={"Range": f"bytes={first}-{last}"}) as reply:
            assert reply.status == 206
            assert reply.headers["Content-Range"] == f"bytes {first}-{last}/{len(wav)}"
            assert await reply.read() == wav[first : last + 1], (first, last)


async def test_head_tells_the_length_and_reads_nothing(http: aiohttp.ClientSession, wav: bytes) -> None:
    async with http.head(FILE, headers={"Range": "bytes=44-143"}) as reply:
        assert (reply.status, reply.headers["Content-Length"]) == (206, "100")
    async with http.head(FILE) as reply:
        assert (reply.status, reply.headers["Content-Length"]) == (200, str(len(wav)))


async def test_a_range_outside_is_416_and_tells_the_length(http: aiohttp.ClientSession, wav: bytes) -> None:
    for wrong in (f"bytes={len(wav)}-", "bytes=0-1,5-6", "bytes=" + ",".join(f"{i}-{i}" for i in range(500))):
        async with http.get(FILE, headers={"Range": wrong}) as reply:
            assert (reply.status, reply.headers["Content-Range"]) == (416, f"bytes */{len(wav)}")


@pytest.mark.usefixtures("wav")
async def test_ten_thousand_ranges_in_one_header_are_refused(http: aiohttp.ClientSession) -> None:
    async with http.get(FILE, headers={"Range": "bytes=" + ",".join(f"{i}-{i}" for i in range(10_000))}) as reply:
        assert reply.status in (400, 416)


async def test_a_condition_on_another_version_gets_the_whole(http: aiohttp.ClientSession, wav: bytes) -> None:
    async with http.head(FILE) as reply:
        tag = reply.headers["ETag"]
    for condition, status in ((tag, 206), ('"another"', 200)):
        async with http.get(FILE, headers={"Range": "bytes=0-9", "If-Range": condition}) as reply:
            assert reply.status == status
            assert (await reply.read())[:10] == wav[:10]


async def test_a_file_that_has_grown_is_gone(
    http: aiohttp.ClientSession, wav: bytes, local_folder: ConversationFolder
) -> None:
    async with http.get("/api/conversation?uid=user&conversation=talk") as reply:
        version = (await reply.json())["version"]
    async with http.get(f"{FILE}&v={version}", headers={"Range": "bytes=0-"}) as reply:
        assert await reply.read() == wav
    async with http.get(f"{FILE}&v=another") as reply:
        assert reply.status == 410
    await local_folder.put(".bin", T0 + 20, noise(1))
    async with http.get(f"{FILE}&v={version}&again") as reply:  # what was opened stays as it is
        assert await reply.read() == wav


async def test_a_download_has_the_name_of_its_conversation(http: aiohttp.ClientSession, page: WebPage) -> None:
    store = page.site.need_store()
    await store.create('chunks/user/a "b"; c\u202e/1.000.bin', noise(1), {})
    address = {"uid": "user", "conversation": 'a "b"; c\u202e', "download": "1"}
    async with http.get("/audio.wav", params=address) as reply:
        assert reply.status == 200
        said = reply.headers["Content-Disposition"]
    assert said == "attachment; filename*=UTF-8''a%20%22b%22%3B%20c%E2%80%AE.wav"


@pytest.mark.usefixtures("wav")
async def test_listeners_beyond_the_bound_are_asked_to_try_again(settings: Callable[..., Settings]) -> None:
    limits = PageLimits(listeners=Bound(2, "listeners"))
    async with web_page(settings(), limits=limits) as page, page.entered() as http:
        with limits.listeners.taken(), limits.listeners.taken():
            async with http.get(FILE) as reply:
                assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
        assert limits.listeners.used == 0
        async with http.get(FILE) as reply:
            assert reply.status == 200


@pytest.mark.slow
async def test_thousands_of_ranges_at_once_are_bounded(settings: Callable[..., Settings], wav: bytes) -> None:
    limits = PageLimits(connections=64)
    async with web_page(settings(), limits=limits) as page, page.entered() as http:
        (cookie,) = http.cookie_jar
        connector = aiohttp.TCPConnector(limit=200)
        async with aiohttp.ClientSession(page.url, cookies={cookie.key: cookie.value}, connector=connector) as many:
            results = await asyncio.gather(*(_status(many, number % len(wav)) for number in range(1_000)))
        assert set(results) <= {206, 503, 0}
        assert results.count(206) >= 8
        assert limits.listeners.used == 0
        async with http.get(FILE) as reply:
            assert await reply.read() == wav


async def _status(http: aiohttp.ClientSession, first: int) -> int:
    """0 if the connection was closed."""
    try:
        async with http.get(FILE, headers={"Range": f"bytes={first}-{first}"}) as reply:
            return reply.status
    except aiohttp.ClientError:
        return 0


@pytest.mark.usefixtures("wav")
async def test_every_listening_is_logged_with_its_time(http: aiohttp.ClientSession) -> None:
    with structlog.testing.capture_logs() as events:
        async with http.get(FILE, headers={"Range": f"bytes=44-{44 + 2 * 10 * RATE - 1}"}) as reply:
            await reply.read()
        async with http.get(FILE, headers={"Range": "bytes=0-43"}) as reply:  # no audio
            await reply.read()
    listened: list[Any] = [event for event in events if event["event"] == "web.listened"]
    (event,) = listened
    assert {name: event[name] for name in ("who", "uid", "conversation_id", "start", "end")} == {
        "who": "session 1",
        "uid": "user",
        "conversation_id": "talk",
        "start": T0,
        "end": T0 + 10,
    }


async def test_what_is_not_stored_is_told(http: aiohttp.ClientSession, local_folder: ConversationFolder) -> None:
    await local_folder.put(".bin", T0, noise(1))
    for path in ("/audio.wav", "/api/conversation", "/api/waveform"):
        async with http.get(f"{path}?uid=user&conversation=other") as reply:
            assert (reply.status, await reply.json()) == (404, {"error": "no audio of user/other is stored"})


async def test_what_outgrows_a_wav_is_played_at_a_lower_rate() -> None:
    day = FakeRecording(48000, 24 * 3600)
    assert fitting(day).sample_rate == 24000  # type: ignore[arg-type]
    with pytest.raises(Exception, match="75 hours"):
        fitting(FakeRecording(16000, 75 * 3600))  # type: ignore[arg-type]


class FakeRecording:
    """Only the length of a recording."""

    def __init__(self, sample_rate: int, seconds: float) -> None:
        self.sample_rate, self._seconds = sample_rate, seconds
        self.samples = round(seconds * sample_rate)

    def at_rate(self, sample_rate: int) -> FakeRecording:
        return FakeRecording(sample_rate, self._seconds)
