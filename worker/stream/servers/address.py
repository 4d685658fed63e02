"""REDIS_URL: where Redis is, who we are there, and the few options that an operator may choose.

The URL is read strictly, because a password with `#`, `/`, `?` or `@` in it would name another server otherwise.
No message of this module repeats anything that may be a part of a password.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from codec.errors import escaped
from worker.errors import SettingsError

FORM = "redis://[user:password@]host[:port][/db]"

_SCHEME = re.compile(r"(rediss?|unix)://")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[\w.-]+)(?::(?P<port>[0-9]{1,5}))?")
_DATABASE = re.compile(r"/?|/(?P<db>[0-9]{1,9})/?")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_CLIENT_NAME = re.compile(r"[!-~]{1,64}")
_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")

Value = str | int | bool


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
OPTIONS: Mapping[str, Option] = MappingProxyType({**_PLAIN, **_TLS})
"""All options that REDIS_URL may have. The worker relies on its own values of all others."""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A parsed REDIS_URL; its text form leaves out user and password."""

    scheme: str
    host: str = ""
    port: int = 6379
    path: str = ""
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, Value] = field(default_factory=dict)

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme == "rediss"

    def arguments(self) -> dict[str, Any]:
        """What the library's connection of this kind takes."""
        place: dict[str, Any] = {"path": self.path} if self.scheme == "unix" else {"host": self.host, "port": self.port}
        who = {"username": self.user, "password": self.password}
        return place | {name: value for name, value in who.items() if value is not None} | dict(self.options)

    def __str__(self) -> str:
        """The URL with `***` in place of user and password."""
        who = "***@" if self.user is not None or self.password is not None else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        place = quote(self.path) if self.scheme == "unix" else f"{host}:{self.port}"
        options = "&".join(f"{name}={quote(_text(value), safe='/')}" for name, value in self.options.items())
        return f"{self.scheme}://{who}{place}{'?' if options else ''}{options}"


def parse(url: str) -> RedisAddress:
    """Read REDIS_URL; opens nothing.

    Raises:
        SettingsError: one sentence, without a part of the password.
    """
    if not isinstance(url, str):
        raise SettingsError(f"REDIS_URL is {type(url).__name__}, not text: give {FORM}")
    scheme = _SCHEME.match(url)
    if not scheme:
        raise SettingsError(f"REDIS_URL must start with redis:// or rediss://: give {FORM}")
    who, place, query = _divide(url[scheme.end() :])
    user, password = _credentials(who)
    options = _options(query, scheme[1])
    if scheme[1] == "unix":
        return RedisAddress("unix", path=_decoded(place, "the path"), user=user, password=password, options=options)
    host, port, database = _host(place)
    if database is not None and options.setdefault("db", database) != database:
        raise SettingsError("REDIS_URL names two databases: give the number after the port, or the option db")
    return RedisAddress(scheme[1], host, port, user=user, password=password, options=options)


def check_files(address: RedisAddress) -> None:
    """Make sure that the files that the TLS options name exist and hold what they should.

    Raises:
        SettingsError: one sentence that names the option and the file.
    """
    for option in ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"):
        if option in address.options:
            _check_readable(option, Path(str(address.options[option])))
    if "ssl_ca_certs" in address.options:
        _check_authorities(str(address.options["ssl_ca_certs"]))
    if "ssl_certfile" in address.options:
        key = address.options.get("ssl_keyfile")
        _check_certificate(str(address.options["ssl_certfile"]), None if key is None else str(key))
    elif "ssl_keyfile" in address.options:
        raise SettingsError("REDIS_URL has ssl_keyfile without ssl_certfile: give both")


def _check_authorities(path: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(f"REDIS_URL: ssl_ca_certs {path} holds no certificates: {error}") from None


def _check_certificate(certificate: str, key: str | None) -> None:
    try:
        # Without a password the library would ask for one on the terminal, and wait.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        files = certificate if key is None else f"{certificate} with ssl_keyfile {key}"
        raise SettingsError(
            f"REDIS_URL: ssl_certfile {files} is not a certificate with an unencrypted key: {error}"
        ) from None


def _check_readable(option: str, path: Path) -> None:
    try:
        if option == "ssl_ca_path":
            next(path.iterdir(), None)
        else:
            path.open("rb").close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"REDIS_URL: {option} names {path}, which can't be read: {reason}") from None


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


def _host(place: str) -> tuple[str, int, int | None]:
    address, slash, database = place.partition("/")
    found, number = _HOST.fullmatch(address), _DATABASE.fullmatch(slash + database)
    if not found or not number:
        raise SettingsError(
            f"REDIS_URL can't be understood: give {FORM}, with the port and the database as numbers and special"
            " characters of the password percent-encoded"
        )
    port = int(found["port"] or 6379)
    if not 0 < port < 65536:
        raise SettingsError("REDIS_URL has a port that is not from 1 to 65535")
    return found["host"].strip("[]"), port, None if number["db"] is None else int(number["db"])


def _options(query: str, scheme: str) -> dict[str, Value]:
    options: dict[str, Value] = {}
    for pair in query.split("&") if query else ():
        name, _, text = pair.partition("=")
        if name in options:
            raise SettingsError(f"REDIS_URL has the option {name} twice")
        options[name] = _option(name, _decoded(text, "an option"), scheme)
    return options


def _option(name: str, text: str, scheme: str) -> Value:
    if name in ("username", "password"):
        raise SettingsError(f"REDIS_URL has the option {name}: user and password belong before the host: {FORM}")
    if name not in OPTIONS:
        raise SettingsError(
            f"REDIS_URL has the option {escaped(name)}: leave it out; the worker relies on its own value."
            f" An operator may give {', '.join(OPTIONS)}"
        )
    if name in _TLS and scheme != "rediss":
        raise SettingsError(f"REDIS_URL has the option {name}, which needs TLS: begin with rediss://")
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
