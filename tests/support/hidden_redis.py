"""A Redis that does not tell its users who it is: INFO and CONFIG are refused, also after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.proxy import Proxy
    from tests.support.redis_server import RedisServer

USERS = """
user default on nopass ~* &* +@all
user plain on >word ~* &* +@all -info -config
"""


def users_file(directory: Path) -> str:
    """The option `aclfile` of a server."""
    path = directory / "users.acl"
    path.write_text(USERS)
    return str(path)


def as_plain_user(way: RedisServer | Proxy) -> str:
    return way.url.replace("//", "//plain:word@")
