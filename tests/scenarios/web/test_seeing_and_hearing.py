"""The page in a real browser: every view with real data behind it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import numpy as np
import pytest

from codec.entry import partition_of
from tests.support.axe import violations
from tests.support.dead_letters import dead_letter_streams
from tests.support.speech import speech
from tests.support.stored_blobs import T0, ConversationFolder, describe_again, noise
from worker.demo.report import HeardAudio, write_report
from worker.model.done_event import DoneEvent

if TYPE_CHECKING:
    from pathlib import Path

    import redis.asyncio

    from tests.support.browser import Browser, Window
    from tests.support.web_page import WebPage

RATE = 16000
HOSTILE = '<img src=x onerror=alert(1)>\u202e"&\u05d0'
LONG = "w" * 256

HEAR = """
(async () => {
  const audio = document.querySelector("audio");
  window.hearing ??= (() => {
    const context = new AudioContext({ sampleRate: 16000 });
    const processor = context.createScriptProcessor(4096, 1, 1);
    context.createMediaElementSource(audio).connect(processor);
    processor.connect(context.destination);
    return { context, processor };
  })();
  const { context, processor } = window.hearing;
  await context.resume();
  const heard = [];
  const enough = new Promise((resolve) => {
    processor.onaudioprocess = (event) => {
      const samples = event.inputBuffer.getChannelData(0);
      if (heard.length || samples.some((each) => Math.abs(each) > 0.001)) heard.push(...samples);
      if (heard.length >= 16384) resolve();
    };
  });
  await enough;
  processor.onaudioprocess = null;
  audio.pause();
  return JSON.stringify(heard.map((each) => Math.round(each * 32768)));
})()
"""
"""What the media element plays, from its first sound on, as samples at 16 kHz."""

OVERLAPS = """
(() => {
  const parts = "main :is(button, a, input, audio, figure, h1, h2, .facts > div, .timeline), nav a";
  const shown = [...document.querySelectorAll(parts)].filter((node) => !node.closest(".scroll"));
  const boxes = shown.map((node) => node.getBoundingClientRect());
  const found = [];
  shown.forEach((one, i) => shown.forEach((other, j) => {
    const a = boxes[i], b = boxes[j];
    if (j <= i || one.contains(other) || !a.width || !b.width) return;
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 1 && high > 1) found.push(`${one.outerHTML.slice(0, 80)} over ${other.outerHTML.slice(0, 80)}`);
  }));
  const width = document.documentElement.scrollWidth;
  if (width > innerWidth + 1) found.push(`wider than the window: ${width}`);
  return found.join("; ");
})()
"""
"""What lies over something else, or beside the window."""

LOUDNESS = """
(() => {
  const canvas = document.querySelector(".timeline canvas"), pen = canvas.getContext("2d");
  const highest = (from, to) => {
    let most = 0;
    for (let x = Math.ceil((from / 45) * canvas.width); x < (to / 45) * canvas.width; x++) {
      const data = pen.getImageData(x, 0, 1, Math.floor(canvas.height * 0.6)).data;
      most = Math.max(most, data.filter((value, i) => i % 4 === 3 && value).length);
    }
    return most;
  };
  return JSON.stringify([highest(1, 29), highest(31, 34), highest(36, 44), canvas.height]);
})()
"""
"""The height of the drawing in seconds of audio, in a gap and in audio behind it; and that of the canvas."""

LOWEST_PIXEL = """
(share) => {
  const canvas = document.querySelector(".timeline canvas");
  return canvas.getContext("2d").getImageData(canvas.width * share, canvas.height - 3, 1, 1).data[3] > 0;
}
"""
"""Whether something is drawn in the lane of what is in Redis, at a share of the width."""


def address(page: WebPage, path: str, **parameters: object) -> str:
    return f"{page.url}{path}?{urlencode(parameters)}" if parameters else page.url + path


async def store_audio(folder: ConversationFolder) -> bytes:
    """Speech and noise in four blobs, with five seconds of silence before the last; what should be heard."""
    pcm = speech(10) + noise(30, deviation=3000)
    for number in range(4):
        start = 10 * number + (5 if number == 3 else 0)
        part = pcm[number * 20 * RATE : (number + 1) * 20 * RATE]
        await folder.put(".bin" if number else ".opus.enc", T0 + start, part, described=True)
    return pcm[: 60 * RATE] + bytes(10 * RATE) + pcm[60 * RATE :]


async def open_talk(page: WebPage, window: Window) -> None:
    await window.go(address(page, "/conversation", uid="user", conversation="talk"))
    await window.until("document.querySelector('audio').readyState >= 1")
    await window.until("document.querySelector('.note')")


def place_of(heard: list[int], pushed: bytes) -> tuple[float, float]:
    """The second of the pushed audio at which the heard samples lie, and how well they correlate there."""
    part = np.array(heard[6000:16000], float)  # the first ones may be of what played before
    whole = np.frombuffer(pushed, "<i2").astype(float)
    size = 1 << (len(whole) + len(part)).bit_length()
    product = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(part, size)), size)[: len(whole) - len(part)]
    first = int(np.argmax(product))
    there = whole[first : first + len(part)]
    return first / RATE, float(product[first] / (np.linalg.norm(there) * np.linalg.norm(part) or 1))


@pytest.mark.slow
async def test_what_is_heard_after_a_seek_are_the_samples_that_were_pushed(
    page: WebPage, window: Window, local_folder: ConversationFolder
) -> None:
    pushed = await store_audio(local_folder)
    await open_talk(page, window)
    assert await window.run("document.querySelector('audio').duration") == 45

    for second in (21.0, 36.0, 12.5):
        await window.run(f"document.querySelector('audio').currentTime = {second}")
        await window.run("document.querySelector('audio').play()")
        place, alike = place_of(json.loads(await window.run(HEAR)), pushed)
        assert second <= place < second + 2, (second, place)
        assert alike > 0.98, (second, alike)

    await window.run("document.querySelectorAll('tbody button')[3].click()")  # the blob after the gap
    await window.until("!document.querySelector('audio').paused && document.querySelector('audio').currentTime >= 35")
    place, alike = place_of(json.loads(await window.run(HEAR)), pushed)
    assert 35 <= place < 37
    assert alike > 0.98


async def test_the_time_line_shows_audio_and_gaps_and_is_moved_by_keys(
    page: WebPage, window: Window, local_folder: ConversationFolder
) -> None:
    await store_audio(local_folder)
    await open_talk(page, window)
    await window.until(f"JSON.parse({LOUDNESS})[2] > 20")
    first, gap, last, height = json.loads(await window.run(LOUDNESS))
    assert min(first, last) > height / 8
    assert gap < height / 20

    await window.run("document.querySelector('.timeline').focus()")
    await window.press("ArrowRight", 39)
    await window.until("document.querySelector('audio').currentTime === 5")
    await window.press("End", 35)
    await window.until("document.querySelector('.timeline').getAttribute('aria-valuenow') === '45'")
    await window.press("Home", 36)
    await window.until(
        "document.querySelector('.timeline').getAttribute('aria-valuetext').startsWith('00:00:00 of 00:00:45')"
    )


async def test_what_is_still_in_redis_lies_behind_the_stored_audio(
    page: WebPage, window: Window, local_folder: ConversationFolder, redis_client: redis.asyncio.Redis
) -> None:
    await local_folder.put(".bin", T0, speech(6), described=True, more={"seqs": "0-2", "chunks": "3"})
    (name,) = await local_folder.files()
    await describe_again(local_folder.store, f"chunks/user/talk/{name}", identities=b"chunk  1chunk  2chunk  3")
    stream = f"{page.site.settings.stream_prefix}:{{{partition_of('talk', 8)}}}"
    fields: Any = {"uid": "user", "conversation_id": "talk", "timestamp": str(T0 + 6), "seq": "3", "pcm": speech(2)}
    await redis_client.xadd(stream, fields)
    await open_talk(page, window)

    await window.until("document.querySelector('.note.warning').innerText.includes('still on its way')")
    for share, is_drawn in ((0.5, "false"), (0.95, "true")):  # six of eight seconds are stored
        await window.until(f"({LOWEST_PIXEL})({share}) === {is_drawn}")


async def test_names_and_fields_of_others_are_only_text(
    page: WebPage, window: Window, local_folder: ConversationFolder, redis_client: redis.asyncio.Redis
) -> None:
    settings = page.site.settings
    for uid, conversation in ((HOSTILE.replace("/", ""), LONG), (LONG, HOSTILE.replace("/", ""))):
        await ConversationFolder(local_folder.store, uid=uid, conversation=conversation).put(".bin", T0, speech(1))
    fields: Any = DoneEvent(HOSTILE, LONG, HOSTILE, trigger=HOSTILE).to_fields()
    await redis_client.xadd(f"{settings.stream_prefix}:{{0}}:done", fields)
    async with dead_letter_streams(settings) as streams:
        await streams.dead_letter(["uid", HOSTILE, "conversation_id", LONG, HOSTILE, HOSTILE * 50], HOSTILE)
    views = [
        address(page, "/find"),
        address(page, "/find", uid=HOSTILE),
        address(page, "/conversation", uid=HOSTILE, conversation=LONG),
        address(page, "/conversation", uid=LONG, conversation=HOSTILE),
        address(page, "/letters"),
        address(page, "/events"),
    ]
    for view in views:
        await window.go(view)
        await window.until(
            r"document.querySelector('main').innerText.includes('<img src=x onerror=alert(1)>\\u{202e}')"
        )
        assert await window.run("document.querySelectorAll('main img, main script').length") == 0
        await window.resize(320, 800, phone=True)
        assert await window.run(OVERLAPS) == ""
        await window.resize(1280, 800)
    await window.go(address(page, "/letters"))
    await window.until("document.querySelector('button[aria-label^=\"Show letter\"]')")
    await window.run("document.querySelector('button[aria-label^=\"Show letter\"]').click()")
    await window.until("document.querySelector('section h2')")
    assert await window.run("document.querySelectorAll('main img').length") == 0


async def test_the_views_follow_what_happens(page: WebPage, window: Window, redis_client: redis.asyncio.Redis) -> None:
    prefix, partition = page.site.settings.stream_prefix, partition_of("talk", 8)
    await window.until("document.querySelector('.facts').innerText.includes('0 chunks')")
    fields: Any = {"uid": "user", "conversation_id": "talk", "timestamp": str(T0), "pcm": speech(1)}
    await redis_client.xadd(f"{prefix}:{{{partition}}}", fields)
    await window.until("document.querySelector('.facts').innerText.includes('1 chunk,')")
    await window.until("document.querySelector('.note.danger').innerText.includes('no worker is alive')")

    await window.go(address(page, "/events"))
    await window.until("document.querySelector('table')")
    event: Any = DoneEvent(
        "user", "talk", "chunks/user/talk/1.000.opus", start=T0, samples=RATE, sample_rate=RATE
    ).to_fields()
    await redis_client.xadd(f"{prefix}:{{{partition}}}:done", event)
    await window.until("document.querySelector('tbody tr').innerText.includes('1.000.opus')")


async def test_a_dead_letter_is_pushed_again_after_a_question(page: WebPage, window: Window) -> None:
    async with dead_letter_streams(page.site.settings) as streams:
        await streams.dead_letter(["uid", "u", "conversation_id", "c", "pcm", speech(1)], "timestamp is missing")
        await window.go(address(page, "/letters"))
        await window.until("document.querySelector('button[aria-label^=Push]')")
        for answer, left in (("no", 1), ("yes", 0)):
            await window.run("document.querySelector('button[aria-label^=Push]').click()")
            await window.until("document.querySelector('dialog[open]')")
            await window.run(f"document.querySelector('dialog button[value={answer}]').click()")
            await window.until("!document.querySelector('dialog')")
            if answer == "yes":
                await window.until("document.querySelector('main').innerText.includes('replayed: 1')")
            assert len(await streams.found()) == left


async def test_the_demos_report_is_heard_and_seen_without_a_server(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    write_report(file, [HeardAudio("talk", RATE, speech(5), speech(5))], {"quality": ["good"]})
    async with browser.window() as window:
        await window.go(file.as_uri())
        ready = (
            "[...document.querySelectorAll('audio')].filter((each) => each.readyState && each.duration === 5).length"
        )
        await window.until(f"{ready} === 2")
        await window.until("[...document.images].every((each) => each.naturalWidth === 720)")
        assert await violations(window) == []
        assert not window.complaints


@pytest.mark.slow
async def test_every_view_is_for_everybody_at_every_size(
    page: WebPage, window: Window, local_folder: ConversationFolder, redis_client: redis.asyncio.Redis
) -> None:
    await store_audio(local_folder)
    event: Any = DoneEvent("user", "talk", "chunks/user/talk/1.000.opus", start=T0).to_fields()
    await redis_client.xadd(f"{page.site.settings.stream_prefix}:{{0}}:done", event)
    async with dead_letter_streams(page.site.settings) as streams:
        await streams.dead_letter(["uid", "u", "conversation_id", "c", "pcm", speech(1)], "timestamp is missing")
    views = {
        "/": "document.querySelector('figure')",
        "/find": "document.querySelector('td')",
        "/find?uid=user": "document.querySelector('td')",
        "/conversation?uid=user&conversation=talk": "document.querySelector('.note') && document.querySelector('td')",
        "/letters": "document.querySelectorAll('td').length > 3",
        "/events": "document.querySelector('td')",
    }
    for view, ready in views.items():
        await window.go(page.url + view)
        await window.until(ready)
        for scheme in ("light", "dark"):
            await window.prefer(scheme)
            assert await violations(window) == [], (view, scheme)
        for width in (320, 768, 2560):
            await window.resize(width, 900, phone=width == 320)
            assert await window.run(OVERLAPS) == "", (view, width)
        await window.resize(1280, 800)
