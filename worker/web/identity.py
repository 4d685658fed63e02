"""Who asks, as an identity-aware proxy says it in a signed header, like Google's.

https://cloud.google.com/iap/docs/signed-headers-howto
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import structlog

from worker.errors import SettingsError

HEADER = "X-Goog-IAP-JWT-Assertion"
KEYS = "https://www.gstatic.com/iap/verify/public_key-jwk"
ISSUER = "https://cloud.google.com/iap"
ALGORITHM = "ES256"

LEEWAY_SECONDS = 30
FETCH_SECONDS = 60.0
"""Between two looks for a key that is not known: anyone may send a made-up key id."""

REQUEST_SECONDS = 10.0
MOST_KEY_BYTES = 1 << 20

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TrustedProxy:
    """Whose word counts: `audience` is the one that the proxy signs for this service, `keys` a URL or a file of JWK."""

    audience: str
    header: str = HEADER
    keys: str = KEYS
    issuer: str = ISSUER


class SignedIdentities:
    """Checks the signed header of every request, with keys that are fetched when a new one is named."""

    def __init__(
        self, proxy: TrustedProxy, clock: Callable[[], float], fetch: Callable[[str], Awaitable[str]] | None = None
    ) -> None:
        self._proxy = proxy
        self._clock = clock
        self._fetch = fetch or fetch_keys
        self._keys: dict[str, Any] = {}
        self._fetched: float | None = None

    async def who(self, headers: Mapping[str, str]) -> str | None:
        """The e-mail address or subject that the proxy vouches for; None without a valid signature."""
        token = headers.get(self._proxy.header, "")
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid", "")))
            if key is None:
                return None
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._proxy.audience,
                issuer=self._proxy.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "aud", "iss", "sub"]},
            )
        except jwt.PyJWTError as error:
            if token:
                log.warning("web.identity_refused", reason=str(error))
            return None
        return str(claims.get("email") or claims["sub"])

    async def _key(self, name: str) -> Any:  # noqa: ANN401 -- a key of the library
        if name not in self._keys and (self._fetched is None or self._clock() > self._fetched + FETCH_SECONDS):
            self._fetched = self._clock()
            try:
                self._keys = _parsed(await self._fetch(self._proxy.keys))
            except (OSError, aiohttp.ClientError, TimeoutError, ValueError, jwt.PyJWTError) as error:
                log.warning("web.identity_keys_missing", keys=self._proxy.keys, reason=str(error))
        return self._keys.get(name)


async def fetch_keys(place: str) -> str:
    """The text of a key set at a URL, or in a file."""
    if not place.startswith("https://"):
        return Path(place).read_text("utf-8")  # noqa: ASYNC240 -- a small file, read once an hour
    timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(place) as reply:
        reply.raise_for_status()
        return (await reply.content.read(MOST_KEY_BYTES)).decode()


def _parsed(text: str) -> dict[str, Any]:
    found = json.loads(text)
    keys = found["keys"] if isinstance(found, dict) and isinstance(found.get("keys"), list) else None
    if keys is None:
        raise ValueError("it is not a JSON Web Key Set")
    return {str(key["kid"]): jwt.PyJWK(key, ALGORITHM).key for key in keys if key.get("kty") == "EC" and "kid" in key}


def checked_proxy(audience: str, header: str, keys: str, issuer: str) -> TrustedProxy:
    """The proxy that options describe. Raises `SettingsError`."""
    if keys.startswith("http://"):
        raise SettingsError("--trust-keys: keys over http:// prove nothing; give https:// or a file")
    return TrustedProxy(audience, header, keys, issuer)
