"""REDIS_URL: read strictly, a few options allowed, and no part of a password in any output."""

from __future__ import annotations

import inspect
import io
import logging
import random
import string
import traceback
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from redis.asyncio import connection as library
from structlog.testing import capture_logs

from tests.support.certificates import self_signed
from tests.support.redis_server import RedisServer, free_port
from worker.errors import SettingsError, StreamError
from worker.runtime import logs
from worker.stream.client import Client
from worker.stream.servers.address import OPTIONS, Place, parse_address
from worker.stream.servers.checks import check_servers
from worker.stream.servers.connecting import connect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HERE = Place("host", 6379)

KINDS = (
    library.AbstractConnection,
    library.Connection,
    library.SSLConnection,
    library.UnixDomainSocketConnection,
    library.ConnectionPool,
)
KNOWN_TO_THE_LIBRARY = {name for kind in KINDS for name in inspect.signature(kind.__init__).parameters} | {
    *library.URL_QUERY_ARGUMENT_PARSERS
} - {"self", "kwargs", "connection_kwargs"}

VALUES: dict[str, tuple[list[tuple[str, object]], list[str]]] = {
    "db": ([("4", 4)], ["four", "-1", "1.0", ""]),
    "client_name": ([("w-1", "w-1")], ["a%20b", "a%0Ab", "", "x" * 65]),
    "health_check_interval": ([("5", 5), ("0", 0)], ["soon", "-1", ""]),
    "ssl_ca_certs": ([("/etc/a%20b.pem", "/etc/a b.pem"), ("/a+b.pem", "/a+b.pem")], ["", "/a%00b"]),
    "ssl_ca_path": ([("/etc/ssl", "/etc/ssl")], [""]),
    "ssl_certfile": ([("/c.pem", "/c.pem")], [""]),
    "ssl_keyfile": ([("/k.pem", "/k.pem")], [""]),
    "ssl_cert_reqs": (
        [(word, word) for word in ("none", "optional", "required")],
        ["CERT_NONE", "CERT_REQUIRED", "None", "0", ""],
    ),
    "ssl_check_hostname": (
        [("true", True), ("False", False), ("no", False), ("1", True)],
        ["maybe", ""],
    ),
}
OURS = ("sentinel_user", "sentinel_password", "auth")
"""Options that are not the library's."""


def test_table_of_this_test_is_that_of_the_code() -> None:
    assert [*VALUES, *OURS] == list(OPTIONS)
    assert set(VALUES) <= KNOWN_TO_THE_LIBRARY


@pytest.mark.parametrize(
    ("name", "text", "value"), [(name, text, value) for name, (good, _) in VALUES.items() for text, value in good]
)
def test_option_that_is_allowed_means_its_value(name: str, text: str, value: object) -> None:
    assert parse_address(f"rediss://host?{name}={text}").arguments()[name] == value


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, (_, bad) in VALUES.items() for text in bad])
def test_option_with_another_value_is_refused_with_what_it_may_be(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_address(f"rediss://host?{name}={text}")
    assert str(caught.value).startswith("REDIS_URL")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*sorted(KNOWN_TO_THE_LIBRARY - set(OPTIONS)), "no_such_option", ""])
@pytest.mark.parametrize("value", ["1", "true", "none", ""])
def test_every_other_option_of_the_library_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match="REDIS_URL has the option") as caught:
        connect(f"redis://host?{name}={value}")
    assert name[:30] in str(caught.value)


@pytest.mark.parametrize("name", [name for name in OPTIONS if name.startswith("ssl_")])
@pytest.mark.parametrize("scheme", ["redis", "unix"])
def test_option_of_tls_needs_tls(scheme: str, name: str) -> None:
    with pytest.raises(SettingsError, match=f"option {name}, which needs TLS"):
        parse_address(f"{scheme}://host/0?{name}={VALUES[name][0][0][0]}")


def test_option_that_is_given_twice_is_refused() -> None:
    with pytest.raises(SettingsError, match="option db twice"):
        parse_address("redis://host?db=1&db=1")


@pytest.mark.parametrize(
    ("url", "places", "service", "database"),
    [
        ("redis://a:7000,b,c:7002", ["a:7000", "b:6379", "c:7002"], "", None),
        ("rediss://u:p@[::1]:7000,b/0", ["[::1]:7000", "b:6379"], "", 0),
        ("redis+sentinel://a,b:1/audio", ["a:26379", "b:1"], "audio", None),
        ("rediss+sentinel://u:p,q@a/my-audio.1/3", ["a:26379"], "my-audio.1", 3),
        ("redis+sentinel://a/audio/?db=2", ["a:26379"], "audio", 2),
    ],
)
def test_several_servers_or_sentinels_may_be_named(
    url: str, places: list[str], service: str, database: int | None
) -> None:
    address = parse_address(url)
    assert ([str(place) for place in address.places], address.service) == (places, service)
    assert address.arguments().get("db") == database
    assert "db" not in address.sentinel_arguments()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redis+sentinel://a,b", "does not name the primary"),
        ("redis+sentinel://a/", "does not name the primary"),
        ("redis+sentinel:///audio", "can't be understood"),
        ("redis+sentinel://a/audio/b", "can't be understood"),
        ("redis+sentinel://a/au%64io", "does not name the primary"),
        ("unix+sentinel://a/audio", "must start with"),
        ("redis://a,,b", "can't be understood"),
        ("redis://a,b:0", "port that is not"),
        ("redis://a?sentinel_user=x", "sentinel_user, which is for sentinels"),
        ("rediss://a,b?sentinel_password=x", "sentinel_password, which is for sentinels"),
        ("redis+sentinel://a/audio?sentinel_user=", "sentinel_user with a value that is not"),
        ("redis+sentinel://a/audio?ssl_cert_reqs=none", "needs TLS: begin with rediss"),
        ("redis://a?auth=gcp", "auth with a value that is not password or google-iam"),
        ("redis://:secret@a?auth=google-iam", "has a password"),
    ],
)
def test_place_that_makes_no_sense_is_refused(url: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=rf"^REDIS_URL .*{sentence}") as caught:
        connect(url)
    assert "secret" not in str(caught.value)


def test_credentials_of_sentinels_are_theirs_alone_and_never_shown() -> None:
    url = "redis+sentinel://alice:Vq7xZk@a/audio?sentinel_user=bob&sentinel_password=jW9tRb%2F&db=1"
    address = parse_address(url)
    assert (address.arguments()["username"], address.arguments()["password"]) == ("alice", "Vq7xZk")
    assert address.sentinel_arguments() == {"username": "bob", "password": "jW9tRb/"}
    shown = f"{address} {address!r} {connect(url)!r}"
    assert seen_in(shown) == []
    assert "alice" not in shown
    assert "bob" not in shown


@pytest.mark.parametrize(
    ("url", "database"),
    [
        ("redis://h", 0),
        ("redis://h/", 0),
        ("redis://h:1/3", 3),
        ("redis://h/3?db=3", 3),
        ("rediss://u:p@[::1]:1/3?health_check_interval=5", 3),
        ("redis://h?db=4", 4),
        ("unix:///run/redis?db=2", 2),
    ],
)
def test_address_of_redis_may_leave_out_what_has_a_default(url: str, database: int) -> None:
    assert connect(url).pool(HERE).connection_kwargs.get("db", 0) == database


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:port/0",
        "redis://localhost:0",
        "redis://localhost:65536",
        "redis://localhost/zero",
        "redis://localhost/1?db=2",
        "redis://localhost:6379/0/1",
        "redis://:6379",
        "redis:///0",
        "redis://",
        "redis://a b",
        "redis://%",
        "redis://host\n",
        "http://localhost",
        "localhost:6379",
        "",
    ],
)
def test_url_that_is_not_understood_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^REDIS_URL "):
        connect(url)


def test_worker_keeps_the_values_that_it_relies_on() -> None:
    pool = connect("rediss://host?client_name=me", timeout=3.0).pool(HERE)
    arguments = pool.connection_kwargs
    assert (arguments["protocol"], arguments["socket_timeout"], arguments["socket_connect_timeout"]) == (2, 3.0, 3.0)
    assert "decode_responses" not in arguments


SPECIAL = "".join(chr(code) for code in range(1, 128) if not chr(code).isalnum()) + "\x00äß€é\u2028\U0001f511"
PARTS = ("Vq7xZk", "jW9tRb")
"""Parts of every password below; neither may be seen anywhere."""


def passwords() -> list[str]:
    """Each special character alone between the parts, then any mix of them."""
    mixes = random.Random(9)
    first, last = PARTS
    several = [
        first + "".join(mixes.choices(SPECIAL + string.digits, k=mixes.randint(1, 8))) + last for _ in range(300)
    ]
    return [f"{first}{character}{last}" for character in SPECIAL] + several + [f"57#{first}{last}", f"57?{first}{last}"]


def seen_in(text: str) -> list[str]:
    return [part for part in PARTS if part in text]


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
@pytest.mark.parametrize("user", ["", "alice"])
def test_password_is_taken_exactly_or_refused_and_never_shown(scheme: str, user: str) -> None:
    accepted = 0
    for password in passwords():
        url = f"{scheme}://{user}:{password}@host:7000/0"
        try:
            address = parse_address(url)
        except SettingsError as error:
            shown = "".join(traceback.format_exception(error))
        else:
            accepted += 1
            assert (address.user or "", address.places) == (user, (Place("host", 7000),))
            assert address.password == password or "%" in password
            shown = f"{address} {address!r} {connect(url)!r} {connect(url).pool(Place('host'))!r}"
        assert seen_in(shown) == [], password
        assert parse_address(f"{scheme}://{user}:{quote(password, safe='')}@host:7000/0").password == password
    assert accepted > 20


@pytest.mark.parametrize("character", "#/?@% \t\n")
def test_character_that_would_change_the_server_is_refused_with_what_to_do(character: str) -> None:
    with pytest.raises(SettingsError, match=r"REDIS_URL has .* percent-encode"):
        connect(f"redis://:57{character}secret@host")


async def test_server_takes_the_percent_encoded_password_and_no_log_shows_it(
    own_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, output = own_redis(), io.StringIO()
    monkeypatch.setattr("sys.stderr", output)
    logs.configure("debug", "json")
    with server.client() as admin:
        for number, password in enumerate(passwords()[:70]):
            admin.acl_setuser(f"u{number}", enabled=True, reset=True, passwords=[f"+{password}"], categories=["+@all"])
    for number, password in enumerate(passwords()[:70]):
        for given, right in ((password, True), (f"{password}x", False)):
            url = server.url.replace("redis://", f"redis://u{number}:{quote(given, safe='')}@")
            async with Client(connect(url)) as client:
                try:
                    await check_servers(client)
                    taken = True
                except SettingsError as error:
                    taken = False
                    logging.getLogger("test").warning("refused", exc_info=error)
            assert taken == right, password
    assert output.getvalue().count("refused") >= 70
    assert seen_in(output.getvalue()) == []


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"])
def test_file_that_is_missing_is_named(option: str, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    with pytest.raises(SettingsError, match=rf"REDIS_URL: {option} names {missing}, which can't be read: No such file"):
        connect(f"rediss://host?{option}={missing}")


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
def test_file_that_holds_no_certificate_is_named(option: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    with pytest.raises(SettingsError, match=rf"REDIS_URL: {option} (names )?{wrong}"):
        connect(f"rediss://host?{option}={wrong}")


def test_key_without_a_certificate_is_refused(tmp_path: Path) -> None:
    key = self_signed("localhost", tmp_path)
    with pytest.raises(SettingsError, match="ssl_keyfile without ssl_certfile"):
        connect(f"rediss://host?ssl_keyfile={key}")


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ("ssl_ca_certs={own}", ""),
        ("ssl_cert_reqs=none", ""),
        ("ssl_ca_certs={own}&ssl_certfile={own}&ssl_keyfile={own}&client_name=me&health_check_interval=1", ""),
        ("ssl_check_hostname=false", "CERTIFICATE_VERIFY_FAILED"),
    ],
)
async def test_options_of_tls_do_what_they_say(
    own_redis: Callable[..., RedisServer], tmp_path: Path, options: str, refused: str
) -> None:
    own, port = self_signed("localhost", tmp_path), free_port()
    files = dict.fromkeys(("tls_cert_file", "tls_key_file", "tls_ca_cert_file"), str(own))
    try:
        own_redis(tls_port=str(port), tls_auth_clients="optional", **files)
    except RuntimeError as error:
        if "tls" not in str(error):
            raise
        pytest.skip("this server is built without TLS")
    with capture_logs() as logged:
        connector = connect(f"rediss://localhost:{port}?{options.format(own=own)}")
    warned = ["redis.unverified"] if options == "ssl_cert_reqs=none" else []
    assert [entry["event"] for entry in logged] == warned
    async with Client(connector) as client:
        if refused:
            with pytest.raises(StreamError, match=refused):
                await client.command(lambda pipe: pipe.get("none"), "none")
        else:
            assert await client.command(lambda pipe: pipe.exists("none"), "none") == 0
