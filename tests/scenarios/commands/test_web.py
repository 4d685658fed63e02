"""`web` as a process of its own: the link that it writes, what it serves without Redis or without a store, its end."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.support.command import command
from tests.support.process import Process, environment
from tests.support.stored_blobs import T0, ConversationFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worker.settings import Settings

WAY_IN = ("web", "--port", "0", "--link-file")


@pytest.mark.slow
async def test_a_person_gets_in_by_the_link_and_sigterm_ends_it(
    settings: Callable[..., Settings], local_folder: ConversationFolder, tmp_path: Path
) -> None:
    await local_folder.put(".bin", T0, b"ab" * 16000)
    link = tmp_path / "link"
    async with Process(environment(settings()), *WAY_IN, str(link)) as process:
        await process.said("web.serving")
        assert link.stat().st_mode & 0o777 == 0o600
        first = link.read_text().strip()
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
            async with http.get(first) as reply:
                assert reply.status == 200
            assert link.read_text().strip() != first
            async with http.get(f"{first.partition('/enter')[0]}/api/conversation?uid=user&conversation=talk") as reply:
                assert (await reply.json())["seconds"] == 1
            async with http.get(f"{first.partition('/enter')[0]}/api/audit?uid=user&conversation=talk") as reply:
                assert (await reply.json())["verdict"] == "complete"
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    assert "key=" not in "".join(process.lines)


def test_options_that_make_no_sense_are_refused(settings: Callable[..., Settings]) -> None:
    for arguments, complaint in (
        (["--trust-keys", "keys.json"], "--trust-audience"),
        (["--trust-audience", "a", "--trust-keys", "http://keys.example"], "http://"),
        (["--port", "70000"], "65535"),
    ):
        result = command(settings(), "web", *arguments)
        assert result.exit_code != 0
        assert complaint in result.output + str(result.exception)


def test_a_port_that_is_taken_is_told(settings: Callable[..., Settings], redis_url: str) -> None:
    port = redis_url.rpartition(":")[2].partition("/")[0]
    result = command(settings(), "web", "--port", port)
    assert f"--port {port}" in str(result.exception)
