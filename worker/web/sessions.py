"""One-time links and the sessions that they become. Pure: the clock is passed in, only digests are kept."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

LINK_BYTES = 32
"""Random bytes of a link and of a session."""

MOST_SESSIONS = 32
"""Sessions at once; a newer one ends the oldest."""

SESSION_SECONDS = 12 * 3600.0
"""After so many seconds a person needs a new link."""


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that came by a link; `name` is what the log says of it."""

    name: str
    ends: float


class Sessions:
    """One link is valid at a time. The browser that uses it gets a session, and the next link is another one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._link = ""
        self._held: OrderedDict[str, Session] = OrderedDict()
        self._count = 0

    def new_link(self) -> str:
        """Make the link's key; the one before is not valid any more."""
        key = secrets.token_urlsafe(LINK_BYTES)
        self._link = _digest(key)
        return key

    def redeem(self, key: str) -> str | None:
        """The token of a new session for the valid key, which is used up by that; None for any other key."""
        if not self._link or not secrets.compare_digest(_digest(key), self._link):
            return None
        self._link = ""
        self._count += 1
        token = secrets.token_urlsafe(LINK_BYTES)
        self._held[_digest(token)] = Session(f"session {self._count}", self._clock() + SESSION_SECONDS)
        while len(self._held) > MOST_SESSIONS:
            self._held.popitem(last=False)
        return token

    def find(self, token: str) -> Session | None:
        """The session of a token, if it has not ended."""
        session = self._held.get(_digest(token))
        return session if session is not None and self._clock() < session.ends else None

    def end(self, token: str) -> None:
        """End a session; harmless if there is none."""
        self._held.pop(_digest(token), None)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
