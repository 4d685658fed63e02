"""The Lua scripts by name, and calls of them as commands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import ResponseError

from worker.errors import LeaseLost, StreamError
from worker.stream.servers.failures import stream_error

if TYPE_CHECKING:
    from redis.asyncio.client import Pipeline

FENCED = ("preamble", "fence")
BEGINNINGS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("heartbeat", "acquire", "renew", "config", "layouts", "store", "abandon"), ("preamble",)),
    **dict.fromkeys(("tombstone", "restore", "standing"), ("preamble", "order")),
    **dict.fromkeys(("done", "seen"), ("preamble", "order", "memory")),
    "lost": ("preamble", "order", "memory", "letter", "loss_book"),
    "record_lost": ("preamble", "loss_book"),
    **dict.fromkeys(("accept", "identify", "seal", "account"), (*FENCED, "order")),
    "claim": (*FENCED, "paging"),
    "between": ("reading", "paging"),
    "forget": ("preamble", "letter", "paging"),
    **dict.fromkeys(("look", "next", "sizes", "stray", "newest"), ("reading",)),
    "letters": ("reading", "letter", "paging"),
    "contents": ("reading", "letter"),
    "stray_page": ("reading", "paging"),
    "stray_move": (),
    "replay": ("pushing", "order", "letter"),
}
"""Parts that are prepended to a script. All scripts that are not listed get `FENCED`, which checks the partition's
lease."""


_COMMANDS = re.compile(r"redis\.p?call\('([A-Z]+)'")


@cache
def script(name: str) -> str:
    """Source of a script as Redis gets it."""
    folder = files(__package__) / "scripts"
    parts = [*BEGINNINGS.get(name, FENCED), name]
    return "\n".join((folder / f"{part}.lua").read_text() for part in parts)


@cache
def digest(name: str) -> str:
    """The name under which Redis caches a script."""
    return sha1(script(name).encode(), usedforsecurity=False).hexdigest()


@cache
def rights(name: str) -> Sequence[str]:
    """Rights to the commands that a script runs: Redis 7.0 does not say which one it refuses to a script."""
    return sorted({f"+{command.lower()}" for command in _COMMANDS.findall(script(name))})


@dataclass(frozen=True, slots=True)
class Call:
    """One script call inside a round trip; all its keys are in one slot of a cluster."""

    script: str
    keys: Sequence[str]
    args: Sequence[str | bytes | int | float]

    def queue_cached(self, pipe: Pipeline) -> None:
        """Let Redis run the script that it knows; it refuses if it does not know it."""
        pipe.evalsha(digest(self.script), len(self.keys), *self.keys, *self.args)

    def queue_whole(self, pipe: Pipeline) -> None:
        """Send the script too. EVAL caches it as well; after SCRIPT LOAD another SCRIPT FLUSH could come before."""
        pipe.eval(script(self.script), len(self.keys), *self.keys, *self.args)

    def translate(self, reply: Any) -> Any:
        """The script's reply, or the error it stands for."""
        if not isinstance(reply, Exception) or isinstance(reply, StreamError):
            return reply
        if isinstance(reply, ResponseError) and "LEASELOST" in str(reply):
            return LeaseLost(self.keys[0])
        error = stream_error(reply)
        advice = (
            f"; it needs {', '.join(rights(self.script))}"
            if "user executing the script can't run" in str(reply)
            else ""
        )
        return StreamError(f"{error} ({self.script} at {', '.join(self.keys[:1])}){advice}", cause=error.cause)


def texts(replies: Any) -> list[str]:
    """A list of byte strings as text."""
    return [reply.decode() for reply in cast("list[bytes]", replies)]
