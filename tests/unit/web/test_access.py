"""Who gets in: the link works once, its session only from the same site, and nothing else is answered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
import pytest

from tests.support.web_page import web_page
from worker.web.operating import events, letters, live
from worker.web.recordings import audio, auditing, finding, timeline, waveform
from worker.web.replies import HEADERS
from worker.web.sessions import MOST_SESSIONS, SESSION_SECONDS, Sessions
from worker.web.site import PageLimits, PageOptions
from worker.web.static_files import VIEWS, routes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.web_page import WebPage
    from worker.settings import Settings

PARTS = (audio, auditing, events, finding, letters, live, timeline, waveform)
PATHS = [*(each.path for part in PARTS for each in part.routes()), *(each.path for each in routes()), "/", "/nothing"]
TRICKS = [
    "/static/../server.py",
    "/static/%2e%2e/server.py",
    "/static/..%2fserver.py",
    "/static//etc/passwd",
    "/static/%2fetc%2fpasswd",
    "/static/index.html%00.js",
    "/static/",
    "/static",
    "//evil.example/",
]


@pytest.fixture
async def stranger(page: WebPage) -> aiohttp.ClientSession:  # type: ignore[misc]
    async with aiohttp.ClientSession(page.url) as session:
        yield session


async def test_without_the_cookie_every_path_is_401_and_has_the_headers(stranger: aiohttp.ClientSession) -> None:
    for path in PATHS:
        for method in ("GET", "HEAD"):
            async with stranger.request(method, path) as reply:
                assert reply.status == 401, path
                assert {name: reply.headers[name] for name in HEADERS} == HEADERS
                assert "Server" not in reply.headers


async def test_a_made_up_cookie_opens_nothing(page: WebPage) -> None:
    async with page.entered() as http:
        (cookie,) = http.cookie_jar
    for value in ("", "x", cookie.value + "x", cookie.value[:-1], "\\x00"):
        async with aiohttp.ClientSession(page.url, cookies={cookie.key: value}) as made_up, made_up.get("/") as reply:
            assert reply.status == 401


async def test_the_link_works_once_and_then_another_one_is_told(page: WebPage) -> None:
    first = page.link
    async with page.entered() as http, http.get("/") as reply:
        assert reply.status == 200
    assert page.link != first
    async with aiohttp.ClientSession() as late:
        async with late.get(first) as reply:
            assert (reply.status, reply.cookies) == (401, {})
        async with late.get(page.link) as reply:
            assert reply.status == 200


async def test_a_look_that_only_previews_the_link_does_not_use_it(page: WebPage) -> None:
    async with aiohttp.ClientSession() as preview, preview.head(page.link) as reply:
        assert reply.status == 401
    async with page.entered():
        pass


async def test_the_cookie_is_of_this_server_and_out_of_reach_of_scripts_and_other_sites(page: WebPage) -> None:
    async with aiohttp.ClientSession() as http, http.get(page.link) as reply:
        header = reply.headers["Set-Cookie"]
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in header.split(";")}


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1", ""]
)
async def test_a_foreign_host_name_is_refused_even_with_the_cookie(http: aiohttp.ClientSession, host: str) -> None:
    async with http.get("/", headers={"Host": host}) as reply:
        assert reply.status in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1:80", "[::1]:8090"])
async def test_this_machine_is_known_by_its_names_at_any_port(http: aiohttp.ClientSession, host: str) -> None:
    async with http.get("/", headers={"Host": host}) as reply:
        assert reply.status == 200


async def test_a_proxys_host_name_is_answered_where_it_is_allowed(settings: Callable[..., Settings]) -> None:
    proxied = web_page(settings(), PageOptions(names=("audio.example",)))
    async with proxied as page, page.entered() as http, http.get("/", headers={"Host": "Audio.Example"}) as reply:
        assert reply.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
)
async def test_another_site_gets_nothing(http: aiohttp.ClientSession, headers: dict[str, str]) -> None:
    for path in ("/", "/api/users", "/audio.wav?uid=u&conversation=c"):
        async with http.get(path, headers=headers) as reply:
            assert reply.status == 403


async def test_a_change_must_say_where_it_comes_from(settings: Callable[..., Settings]) -> None:
    async with web_page(settings(), PageOptions(allow_replay=True)) as page, page.entered() as http:
        for origin, status in ((None, 403), ("https://evil.example", 403), (page.url, 200)):
            headers = {"Origin": origin} if origin else {}
            async with http.post("/api/letters/replay", json={"letters": []}, headers=headers) as reply:
                assert reply.status == status


@pytest.mark.parametrize("trick", TRICKS)
async def test_no_path_leads_to_another_file(page: WebPage, trick: str) -> None:
    async with page.entered() as http:
        (cookie,) = http.cookie_jar
    reader, writer = await asyncio.open_connection("127.0.0.1", page.server.port)
    writer.write(f"GET {trick} HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie.key}={cookie.value}\r\n\r\n".encode())
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert line.split()[1] in (b"400", b"404"), line


async def test_every_view_is_the_same_document(http: aiohttp.ClientSession) -> None:
    found = set()
    for view in VIEWS:
        async with http.get(view) as reply:
            assert reply.content_type == "text/html"
            found.add(await reply.text())
    assert len(found) == 1


async def test_parameters_that_make_no_sense_are_refused_in_words(http: aiohttp.ClientSession) -> None:
    long = "x" * 1025
    for path in (
        "/api/conversation",
        "/api/conversation?uid=u",
        "/api/conversation?uid=..&conversation=c",
        f"/api/conversation?uid={quote('a/b')}&conversation=c",
        f"/api/conversation?uid={long}&conversation=c",
        "/api/users?limit=-1",
        "/api/users?limit=501",
        "/api/conversations?uid=u&day=yesterday",
        "/api/letter?letter=1",
        "/api/letter?letter=0/0-0/..",
    ):
        async with http.get(path) as reply:
            assert reply.status == 400, path
            assert (await reply.json())["error"], path


async def test_connections_are_bounded(settings: Callable[..., Settings]) -> None:
    async with web_page(settings(), limits=PageLimits(connections=5)) as page:
        opened = [await asyncio.open_connection("127.0.0.1", page.server.port) for _ in range(30)]
        ended = await asyncio.gather(*(_is_closed(reader) for reader, _ in opened[5:]))
        for _, writer in opened:
            writer.close()
        assert all(ended)


async def _is_closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read(1) == b""
    except ConnectionError:
        return True


def test_sessions_end_after_their_time_and_when_there_are_too_many() -> None:
    now = 0.0
    sessions = Sessions(lambda: now)
    tokens = [sessions.redeem(sessions.new_link()) for _ in range(MOST_SESSIONS + 1)]
    assert None not in tokens
    assert [sessions.find(token or "") is not None for token in tokens] == [False] + [True] * MOST_SESSIONS
    sessions.end(tokens[1] or "")
    assert sessions.find(tokens[1] or "") is None
    now = SESSION_SECONDS
    assert sessions.find(tokens[-1] or "") is None


def test_only_the_newest_link_is_valid() -> None:
    sessions = Sessions(lambda: 0.0)
    old, new = sessions.new_link(), sessions.new_link()
    assert sessions.redeem(old) is None
    assert sessions.redeem("") is None
    assert sessions.redeem("\ud800") is None
    assert sessions.redeem(new) is not None
    assert sessions.redeem(new) is None
