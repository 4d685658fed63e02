"""The signed header of an identity-aware proxy: only its own signature, for this audience, in time, counts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.web_page import web_page
from worker.errors import SettingsError
from worker.settings import Settings
from worker.web.identity import FETCH_SECONDS, HEADER, ISSUER, SignedIdentities, TrustedProxy, checked_proxy, fetch_keys

AUDIENCE = "/projects/1/global/backendServices/2"
KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())


def key_set(**keys: ec.EllipticCurvePrivateKey) -> str:
    algorithm = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
    found = [json.loads(algorithm.to_jwk(key.public_key())) | {"kid": name} for name, key in keys.items()]
    return json.dumps({"keys": found})


def header(key: ec.EllipticCurvePrivateKey = KEY, name: str = "one", **claims: object) -> dict[str, str]:
    now = int(time.time())
    told: dict[str, Any] = {"aud": AUDIENCE, "iss": ISSUER, "sub": "1", "email": "a@b.c", "iat": now, "exp": now + 600}
    payload = {claim: value for claim, value in (told | claims).items() if value is not None}
    return {HEADER: jwt.encode(payload, key, algorithm="ES256", headers={"kid": name})}


class Keys:
    """The proxy's keys, and how often they were asked for."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked = 0

    async def fetch(self, _place: str) -> str:
        self.asked += 1
        return self.text


async def test_only_a_valid_signature_for_this_audience_counts() -> None:
    identities = SignedIdentities(TrustedProxy(AUDIENCE), lambda: 0.0, Keys(key_set(one=KEY)).fetch)
    unsigned = {HEADER: jwt.encode({"aud": AUDIENCE, "sub": "1"}, "", algorithm="none", headers={"kid": "one"})}
    hmac = {HEADER: jwt.encode({"aud": AUDIENCE, "sub": "1"}, "x" * 64, algorithm="HS256", headers={"kid": "one"})}
    refused = [
        {},
        {HEADER: ""},
        {HEADER: "a.b.c"},
        unsigned,
        hmac,
        header(OTHER),
        header(name="two"),
        header(aud="/another"),
        header(iss="https://evil.example"),
        header(exp=int(time.time()) - 60),
        header(exp=None),
        header(iat=int(time.time()) + 600),
    ]
    for headers in refused:
        assert await identities.who(headers) is None, headers
    assert await identities.who(header()) == "a@b.c"
    assert await identities.who(header(email=None)) == "1"


async def test_a_new_key_is_fetched_but_not_for_every_made_up_name() -> None:
    now, keys = 0.0, Keys(key_set(one=KEY))
    identities = SignedIdentities(TrustedProxy(AUDIENCE), lambda: now, keys.fetch)
    assert await identities.who(header()) is not None
    keys.text = key_set(two=OTHER)
    for number in range(50):
        assert await identities.who(header(OTHER, f"made up {number}")) is None
    assert keys.asked == 1
    now = FETCH_SECONDS + 1
    assert await identities.who(header(OTHER, "two")) == "a@b.c"
    assert await identities.who(header()) is None  # the old key is not valid any more


async def test_behind_a_proxy_its_word_counts_and_no_link(settings: Callable[..., Settings]) -> None:
    identities = SignedIdentities(TrustedProxy(AUDIENCE), lambda: 0.0, Keys(key_set(one=KEY)).fetch)
    async with web_page(settings(), identities=identities) as page:
        async with page.entered() as by_link, by_link.get("/") as reply:
            assert reply.status == 401
        async with aiohttp.ClientSession(page.url) as http:
            for headers, status in (
                (header(), 200),
                (header(OTHER), 401),
                ({"X-Goog-Authenticated-User-Email": "a"}, 401),
            ):
                async with http.get("/", headers=headers) as reply:
                    assert reply.status == status
            async with http.get("/", headers=header() | {"Origin": "https://evil.example"}) as reply:
                assert reply.status == 403


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": [{"kid": "one", "kty": "EC"}]}', '{"keys": 5}'])
async def test_keys_that_make_no_sense_open_nothing(text: str) -> None:
    identities = SignedIdentities(TrustedProxy(AUDIENCE), lambda: 0.0, Keys(text).fetch)
    assert await identities.who(header()) is None


async def test_keys_come_from_a_file_too_and_never_over_plain_http(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(key_set(one=KEY))
    identities = SignedIdentities(checked_proxy(AUDIENCE, HEADER, str(tmp_path / "keys.json"), ISSUER), lambda: 0.0)
    assert await identities.who(header()) == "a@b.c"
    assert await fetch_keys(str(tmp_path / "keys.json")) == key_set(one=KEY)
    with pytest.raises(SettingsError, match="http://"):
        checked_proxy(AUDIENCE, HEADER, "http://keys.example", ISSUER)
