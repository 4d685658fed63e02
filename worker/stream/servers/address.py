"""REDIS_URL: where Redis is, who we are there, and the few options that an operator may choose.

The URL is read strictly, because a password with `#`, `/`, `?` or `@` in it would name another server otherwise.
No message of this module repeats anything that may be a part of a password.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from codec.errors import escaped
from worker.errors import SettingsError

FORM = "redis://[user:password@]host[:port][/db]"
SENTINEL_FORM = "redis+sentinel://[user:password@]host[:port],host[:port]…/name[/db]"

REDIS_PORT = 6379
SENTINEL_PORT = 26379

_SCHEME = re.compile(r"(?P<kind>(?P<tls>rediss?)(?P<sentinel>\+sentinel)?|unix)://")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[\w.-]+)(?::(?P<port>[0-9]{1,5}))?")
_DATABASE = re.compile(r"/?|/(?P<db>[0-9]{1,9})/?")
_SERVICE = re.compile(r"/(?P<name>[\w.-]+)(?P<database>/.*)?")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_CLIENT_NAME = re.compile(r"[!-~]{1,64}")
_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")

Value = str | int | bool


class Auth(StrEnum):
    """How a connection proves who we are: REDIS_AUTH, or the option `auth`."""

    PASSWORD = "password"  # noqa: S105 -- the name of a way
    GOOGLE_IAM = "google-iam"  # an access token is the password


class Place(NamedTuple):
    """Where a server listens; a Unix socket has a path as its host, a primary that sentinels name has its name."""

    host: str
    port: int = 0

    def __str__(self) -> str:
        """The place for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else self.host


@dataclass(frozen=True, slots=True)
class Option:
    """An option of REDIS_URL: what it says in words, and the value that its text means (None: it has no meaning)."""

    wanted: str
    value: Callable[[str], Value | None]


def _number(text: str) -> int | None:
    return int(text) if _WHOLE_NUMBER.fullmatch(text) else None


def _yes_or_no(text: str) -> bool | None:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(text.lower())


_TLS = {
    "ssl_ca_certs": Option("the path of a PEM file", str),
    "ssl_ca_path": Option("the path of a directory of certificates", str),
    "ssl_certfile": Option("the path of a PEM file", str),
    "ssl_keyfile": Option("the path of a PEM file", str),
    "ssl_cert_reqs": Option(
        "none, optional or required", lambda text: text if text in ("none", "optional", "required") else None
    ),
    "ssl_check_hostname": Option("true or false", _yes_or_no),
}
_PLAIN = {
    "db": Option("a whole number", _number),
    "client_name": Option(
        "1 to 64 printable characters without spaces", lambda text: text if _CLIENT_NAME.fullmatch(text) else None
    ),
    "health_check_interval": Option("a whole number of seconds", _number),
}
_SENTINEL = {
    "sentinel_user": Option("the name of a user", str),
    "sentinel_password": Option("a password", str),
}
_AUTH = {"auth": Option("password or google-iam", lambda text: text if text in {*Auth} else None)}
OPTIONS: Mapping[str, Option] = MappingProxyType({**_PLAIN, **_TLS, **_SENTINEL, **_AUTH})
"""All options that REDIS_URL may have. The worker relies on its own values of all others."""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A parsed REDIS_URL; its text form leaves out users and passwords.

    `scheme` is redis, rediss (TLS) or unix. `places` are several nodes of a cluster, one server, or the path of a Unix
    socket. With a `service` they are sentinels, which know where the primary of that name is.
    """

    scheme: str
    places: tuple[Place, ...]
    service: str = ""
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    sentinel_user: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    auth: Auth = Auth.PASSWORD
    options: Mapping[str, Value] = field(default_factory=dict)

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted, those to sentinels too."""
        return self.scheme == "rediss"

    def arguments(self) -> dict[str, Any]:
        """What the library's connections to servers take, except their place."""
        return _login(self.user, self.password) | dict(self.options)

    def sentinel_arguments(self) -> dict[str, Any]:
        """What the library's connections to sentinels take, except their place: they have no databases."""
        options = {name: value for name, value in self.options.items() if name != "db"}
        return _login(self.sentinel_user, self.sentinel_password) | options

    def __str__(self) -> str:
        """The URL with `***` in place of users and passwords."""
        who = "***@" if self.user is not None or self.password is not None else ""
        places = quote(self.places[0].host) if self.scheme == "unix" else ",".join(map(str, self.places))
        scheme, service = (f"{self.scheme}+sentinel", f"/{self.service}") if self.service else (self.scheme, "")
        secret = {"sentinel_user": self.sentinel_user, "sentinel_password": self.sentinel_password}
        shown = dict(self.options) | {name: "***" for name, value in secret.items() if value is not None}
        if self.auth is not Auth.PASSWORD:
            shown["auth"] = str(self.auth)
        options = "&".join(f"{name}={quote(_text(value), safe='/*')}" for name, value in shown.items())
        return f"{scheme}://{who}{places}{service}{'?' if options else ''}{options}"


def _login(user: str | None, password: str | None) -> dict[str, Any]:
    return {name: value for name, value in (("username", user), ("password", password)) if value is not None}


def parse_address(url: str) -> RedisAddress:
    """Read REDIS_URL; opens nothing.

    Raises:
        SettingsError: one sentence, without a part of a password.
    """
    if not isinstance(url, str):
        raise SettingsError(f"REDIS_URL is {type(url).__name__}, not text: give {FORM}")
    scheme = _SCHEME.match(url)
    if not scheme:
        raise SettingsError(
            f"REDIS_URL must start with redis://, rediss://, redis+sentinel:// or rediss+sentinel://: give {FORM}"
        )
    who, place, query = _divide(url[scheme.end() :])
    options = _options(query, scheme)
    places, service, database = _places(place, scheme)
    if database is not None and options.setdefault("db", database) != database:
        raise SettingsError("REDIS_URL names two databases: give the number after the place, or the option db")
    user, password = _credentials(who)
    auth = Auth(str(options.pop("auth", Auth.PASSWORD)))
    if auth is Auth.GOOGLE_IAM and password is not None:
        raise SettingsError(f"REDIS_URL has a password, but an access token takes its place with {auth}: leave it out")
    sentinel_user, sentinel_password = (_popped(options, name) for name in _SENTINEL)
    return RedisAddress(
        scheme["tls"] or "unix", places, service, user, password, sentinel_user, sentinel_password, auth, options
    )


def with_options(url: str, **options: str) -> str:
    """The same URL with more options, whose values are plain text."""
    for name, value in options.items():
        url += f"{'&' if '?' in url else '?'}{name}={quote(value, safe='/')}"
    return url


def _popped(options: dict[str, Value], name: str) -> str | None:
    return str(options.pop(name)) if name in options else None


def _divide(rest: str) -> tuple[str | None, str, str]:
    """User and password, host or path, and options; a character that stands for itself nowhere is refused."""
    if _UNPRINTABLE.search(rest):
        raise _must_be_encoded("a space or a character that is not printable")
    if "#" in rest:
        raise _must_be_encoded("a #")
    before, at, after = rest.rpartition("@")
    for character in "/?@":
        if character in before:
            raise _must_be_encoded(f"a {character} before the @")
    place, _, query = after.partition("?")
    return before if at else None, place, query


def _must_be_encoded(what: str) -> SettingsError:
    return SettingsError(
        f"REDIS_URL has {what}: percent-encode special characters of user, password and options"
        " (# is %23, % is %25, / is %2F, ? is %3F, @ is %40)"
    )


def _credentials(who: str | None) -> tuple[str | None, str | None]:
    if who is None:
        return None, None
    user, colon, password = who.partition(":")
    name = _decoded(user, "the user") or None
    if not colon:
        return name, None
    return name, _decoded(password, "the password") or None


def _places(text: str, scheme: re.Match[str]) -> tuple[tuple[Place, ...], str, int | None]:
    """Where servers or sentinels are, the name of the primary that these know, and the number of the database."""
    if not scheme["tls"]:
        return (Place(_decoded(text, "the path")),), "", None
    hosts, slash, rest = text.partition("/")
    service, default_port, form = "", REDIS_PORT, FORM
    if scheme["sentinel"]:
        named = _SERVICE.fullmatch(slash + rest)
        if not named:
            raise SettingsError(f"REDIS_URL does not name the primary that the sentinels know: give {SENTINEL_FORM}")
        service, slash, rest = named["name"], named["database"] or "", ""
        default_port, form = SENTINEL_PORT, SENTINEL_FORM
    found = [_HOST.fullmatch(host) for host in hosts.split(",")]
    number = _DATABASE.fullmatch(slash + rest)
    if not number or not all(found):
        raise SettingsError(
            f"REDIS_URL can't be understood: give {form}, with the port and the database as numbers and special"
            " characters of the password percent-encoded"
        )
    places = tuple(_place(host, default_port) for host in found if host)
    return places, service, None if number["db"] is None else int(number["db"])


def _place(found: re.Match[str], default_port: int) -> Place:
    port = int(found["port"] or default_port)
    if not 0 < port < 65536:
        raise SettingsError("REDIS_URL has a port that is not from 1 to 65535")
    return Place(found["host"].strip("[]"), port)


def _options(query: str, scheme: re.Match[str]) -> dict[str, Value]:
    options: dict[str, Value] = {}
    for pair in query.split("&") if query else ():
        name, _, text = pair.partition("=")
        if name in options:
            raise SettingsError(f"REDIS_URL has the option {name} twice")
        options[name] = _option(name, _decoded(text, "an option"), scheme)
    return options


def _option(name: str, text: str, scheme: re.Match[str]) -> Value:
    if name in ("username", "password"):
        raise SettingsError(f"REDIS_URL has the option {name}: user and password belong before the host: {FORM}")
    if name not in OPTIONS:
        raise SettingsError(
            f"REDIS_URL has the option {escaped(name)}: leave it out; the worker relies on its own value."
            f" An operator may give {', '.join(OPTIONS)}"
        )
    if name in _TLS and scheme["tls"] != "rediss":
        raise SettingsError(f"REDIS_URL has the option {name}, which needs TLS: begin with rediss://")
    if name in _SENTINEL and not scheme["sentinel"]:
        raise SettingsError(f"REDIS_URL has the option {name}, which is for sentinels: give {SENTINEL_FORM}")
    value = OPTIONS[name].value(text) if text else None
    if value is None:
        raise SettingsError(f"REDIS_URL has the option {name} with a value that is not {OPTIONS[name].wanted}")
    return value


def _decoded(text: str, what: str) -> str:
    if _BROKEN_ESCAPE.search(text):
        raise _must_be_encoded(f"a % in {what} that two hexadecimal digits don't follow")
    try:
        decoded = unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise SettingsError(f"REDIS_URL: {what} is not UTF-8 after its percent-decoding") from None
    if "\x00" in decoded and what in ("the path", "an option"):
        raise SettingsError(f"REDIS_URL: {what} has a zero byte")
    return decoded


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
