"""Dead letters: by reason, page by page, their fields, their audio; and pushing them again, where that is allowed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from aiohttp import web

from codec.entry import BYTES_PER_SAMPLE, DEFAULT_SAMPLE_RATE
from worker.audio.writing.wav import wav_header
from worker.errors import BadSelection
from worker.model.causes import ReplayOutcome
from worker.model.ids import EntryId, entry_order
from worker.model.reasons import kind_of
from worker.stream.config import recorded_layouts
from worker.stream.inspection.dead_letters import DeadLetter, DeadLetters
from worker.stream.inspection.letter_groups import LetterSummary
from worker.stream.keys import Keys
from worker.web.access import WHO
from worker.web.replies import json_reply, refusal
from worker.web.site import Site, number, optional, parameter, site_of

PAGE = 50
MOST_PAGE = 500
MOST_LOOKED_AT = 20_000
"""Letters that one look counts; then it says so."""

MOST_REPLAYED = 500
"""Letters that one request pushes again."""

SHOWN_BYTES = 4096
"""Bytes of a field that are shown."""

HIGHEST_RATE = 384_000

_NAME = re.compile(r"(?P<partition>0|[1-9][0-9]{0,5})/(?P<id>[0-9]{1,18}-[0-9]{1,18})")

log = structlog.get_logger()


def routes() -> list[web.RouteDef]:
    """The routes of the dead letters."""
    return [
        web.get("/api/letters", show_letters),
        web.get("/api/letter", show_letter),
        web.get("/letter.wav", listen_to_letter),
        web.post("/api/letters/replay", replay),
    ]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The letters to show; an empty text lets all pass."""

    reason: str
    uid: str
    conversation: str

    def passes(self, letter: DeadLetter) -> bool:
        """Whether it is one of them."""
        return (
            (not self.reason or self.reason in letter.reason or self.reason in kind_of(letter.reason))
            and (not self.uid or letter.uid == self.uid)
            and (not self.conversation or letter.conversation_id == self.conversation)
        )


async def show_letters(request: web.Request) -> web.Response:
    """All letters by reason, and a page of those that are wanted, after the letter `after`."""
    site = site_of(request)
    wanted = Wanted(*(optional(request, name) for name in ("reason", "uid", "conversation")))
    after, limit = optional(request, "after"), number(request, "limit", PAGE, MOST_PAGE)
    begin = _position(after) if after else (-1, (0, 0))
    groups, page, more = LetterSummary(), list[DeadLetter](), False
    with site.limits.searches.taken():
        async for letter in _all(site):
            groups.add(letter)
            if wanted.passes(letter) and (letter.partition, entry_order(letter.id)) > begin:
                more = len(page) == limit
                page += [] if more else [letter]
            if groups.count >= MOST_LOOKED_AT:
                break
    return json_reply(
        {
            "count": groups.count,
            "bytes": groups.bytes,
            "unfinished": groups.count >= MOST_LOOKED_AT,
            "groups": [{"kind": kind, "count": group.count, "bytes": group.bytes} for kind, group in groups.ordered()],
            "letters": [_facts(letter) for letter in page],
            "more": more,
            "allow_replay": site.page.allow_replay,
        }
    )


async def show_letter(request: web.Request) -> web.Response:
    """All fields of one letter, as they were pushed; long ones are cut."""
    letter, found = await _contents(site_of(request), parameter(request, "letter"))
    return json_reply(_facts(letter) | {"fields_shown": [_field(*field) for field in found]})


async def listen_to_letter(request: web.Request) -> web.Response:
    """The audio of one letter as a WAV, at the rate that it claims."""
    letter, found = await _contents(site_of(request), parameter(request, "letter"))
    pcm = next((value for name, value in found if name == b"pcm"), b"")
    rate = _rate(found)
    if not pcm or rate is None:
        raise web.HTTPNotFound(text="the entry has no audio, or no sample rate that makes sense")
    pcm = pcm[: len(pcm) // BYTES_PER_SAMPLE * BYTES_PER_SAMPLE]
    told = {"uid": letter.uid, "conversation_id": letter.conversation_id}
    log.info("web.listened_to_dead_letter", who=request[WHO], letter=letter.name, **told)
    return web.Response(body=wav_header(rate, len(pcm)) + pcm, content_type="audio/wav")


async def replay(request: web.Request) -> web.Response:
    """Push letters again; the body is {"letters": [names]}."""
    site = site_of(request)
    if not site.page.allow_replay:
        return refusal(403, "this page changes nothing; start it with --allow-replay")
    names = await _names(request)
    letters, outcomes = _letters(site), Counter[str]()
    for name in names:
        letter = await _found(site, name)
        outcome = ReplayOutcome.GONE if letter is None else await letters.replay(letter)
        outcomes[outcome] += 1
        log.info("web.replayed", who=request[WHO], letter=name, outcome=str(outcome))
    return json_reply({"outcomes": outcomes})


async def _names(request: web.Request) -> Sequence[str]:
    try:
        names = (await request.json())["letters"]
    except (ValueError, KeyError, TypeError):
        raise BadSelection('the body must be {"letters": [names]}') from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) > MOST_REPLAYED:
        raise BadSelection(f"the body must name at most {MOST_REPLAYED} letters")
    for name in names:
        _position(name)
    return names


def _letters(site: Site) -> DeadLetters:
    return DeadLetters(site.need_client(), Keys(site.settings.stream_prefix))


async def _all(site: Site) -> AsyncIterator[DeadLetter]:
    client, letters = site.need_client(), _letters(site)
    layouts = await recorded_layouts(client, Keys(site.settings.stream_prefix), site.settings.partitions)
    newest = await client.pipeline(
        lambda pipe: [pipe.xlen(Keys(site.settings.stream_prefix).dead(number)) for number in range(layouts.total)]
    )
    for partition, count in enumerate(newest):
        if count:  # also a failure, which the next request explains
            async for letter in letters.list(partition):
                yield letter


async def _found(site: Site, name: str) -> DeadLetter | None:
    partition, _ = _position(name)
    entry: EntryId = name.partition("/")[2]
    async for letter in _letters(site).list(partition, entry, start=entry):
        return letter
    return None


async def _contents(site: Site, name: str) -> tuple[DeadLetter, Sequence[tuple[bytes, bytes]]]:
    letter = await _found(site, name)
    found = None if letter is None else await _letters(site).contents(letter)
    if letter is None or found is None:
        raise web.HTTPNotFound(text="there is no such dead letter any more")
    return letter, found


def _position(name: str) -> tuple[int, tuple[int, int]]:
    """Partition and order of a letter by its name. Raises `BadSelection`."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise BadSelection("a dead letter's name is PARTITION/ID, as in 7/1700000000000-0")
    return int(match["partition"]), entry_order(match["id"])


def _facts(letter: DeadLetter) -> dict[str, Any]:
    return asdict(letter) | {"name": letter.name, "kind": kind_of(letter.reason), "moved_ms": letter.moved_ms}


def _field(name: bytes, value: bytes) -> dict[str, Any]:
    """A field for a person: text where it is UTF-8, else the first bytes in hex."""
    shown = value[:SHOWN_BYTES]
    try:
        text = None if name == b"pcm" else shown.decode()
    except UnicodeDecodeError:
        text = None
    head = shown[:64].hex(" ") if text is None else None
    return {"name": name.decode(errors="backslashreplace"), "bytes": len(value), "text": text, "hex": head}


def _rate(found: Sequence[tuple[bytes, bytes]]) -> int | None:
    claims = [value for name, value in found if name == b"sample_rate"]
    if not claims:
        return DEFAULT_SAMPLE_RATE
    rate = int(claims[0]) if claims[0].isdigit() and len(claims[0]) <= 6 else 0
    return rate if 0 < rate <= HIGHEST_RATE else None
