"""A model of one Redis primary: the keys, the plain commands and the scripts that the worker uses, in plain Python.

`test_redis_model.py` compares it with a real server.
"""

from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha1
from itertools import chain
from typing import Any

from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from worker.stream.scripting import script

RANDOM_PART = re.compile(r"\b([0-9a-f]{16}){1,2}\b")
EPOCH_MS = 1_700_000_000_000
"""What Redis' clock says when virtual time is 0."""

Id = tuple[int, int]
Argument = Any
"""Whatever redis-py takes."""
Value = str | bytes | int | float
Reply = Any
"""Whatever redis-py would return."""
Script = Callable[["Database", list[str], list[bytes]], Reply]


class Ailment(StrEnum):
    """What may be wrong with a server for a while."""

    REFUSES = "refuses"  # it accepts no connections
    HANGS = "hangs"  # it does what it is asked only when it goes on
    BREAKS_OFF = "breaks off"  # it does what it is asked, and closes the connection instead of an answer


@dataclass(slots=True)
class Pending:
    consumer: str
    deliveries: int = 1


@dataclass(slots=True)
class Group:
    pending: dict[Id, Pending] = field(default_factory=dict)
    consumers: dict[str, None] = field(default_factory=dict)


@dataclass(slots=True)
class Stream:
    entries: dict[Id, dict[bytes, bytes]] = field(default_factory=dict)
    last: Id = (0, 0)
    added: int = 0
    groups: dict[str, Group] = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        """Whether Redis knows the key; an empty stream stays."""
        return self.added > 0 or bool(self.groups) or self.last > (0, 0)


class Database:
    """The data of one server at Redis time `now_ms`."""

    def __init__(self, process: int = 0) -> None:
        self.now_ms = 0
        self.run_id = run_id(process)
        self.replication_id = run_id(process)
        self.streams: dict[str, Stream] = {}
        self.hashes: dict[str, dict[str, bytes]] = {}
        self.strings: dict[str, bytes] = {}
        self.expiries: dict[str, int] = {}

    @property
    def server(self) -> str:
        """The process and its data's history, as scripts say it."""
        return f"{self.run_id}:{self.replication_id}"

    def has(self, key: str) -> bool:
        """Whether Redis knows the key."""
        stream = self.streams.get(key)
        return self.get(key) is not None or bool(self.hashes.get(key)) or (stream is not None and stream.exists)

    def known_keys(self) -> list[str]:
        """All keys that Redis knows."""
        return [key for key in dict.fromkeys((*self.streams, *self.hashes, *self.strings)) if self.has(key)]

    def drop(self, key: str) -> None:
        """Forget a key of any type."""
        self.delete(key)
        self.hashes.pop(key, None)
        self.streams.pop(key, None)

    def hand_over(self, key: str, to: Database) -> None:
        """MIGRATE: another server gets the key, with the time that it has left."""
        to.drop(key)
        if key in self.streams:
            to.streams[key] = self.streams[key]
        if key in self.hashes:
            to.hashes[key] = self.hashes[key]
        if (value := self.get(key)) is not None:
            to.set(key, value, self.expiries[key] - self.now_ms)
        self.drop(key)

    def get(self, key: str) -> bytes | None:
        if self.expiries.get(key, self.now_ms + 1) <= self.now_ms:
            self.delete(key)
        return self.strings.get(key)

    def set(self, key: str, value: bytes, ttl_ms: int) -> None:
        self.strings[key] = value
        self.expiries[key] = self.now_ms + ttl_ms

    def delete(self, key: str) -> None:
        self.strings.pop(key, None)
        self.expiries.pop(key, None)

    def hash(self, key: str) -> dict[str, bytes]:
        return self.hashes.setdefault(key, {})

    def stream(self, key: str) -> Stream:
        return self.streams.setdefault(key, Stream())

    def group(self, key: str, name: str) -> Group:
        stream = self.streams.get(key)
        if stream is None or name not in stream.groups:
            raise ResponseError(f"NOGROUP No such key '{key}' or consumer group '{name}'")
        return stream.groups[name]

    def add(self, key: str, fields: Mapping[bytes, bytes]) -> Id:
        stream = self.stream(key)
        entry = (self.now_ms, 0) if self.now_ms > stream.last[0] else (stream.last[0], stream.last[1] + 1)
        stream.entries[entry] = dict(fields)
        stream.last = entry
        stream.added += 1
        return entry

    def claim(self, key: str, name: str, consumer: str, entry: Id, *, force: bool, deliveries: int | None) -> bool:
        """XCLAIM … JUSTID of one entry, idle time 0; whether it exists."""
        group = self.group(key, name)
        if entry not in self.streams[key].entries:
            group.pending.pop(entry, None)
            return False
        pending = group.pending.get(entry)
        if pending is None:
            if not force:
                return False
            pending = group.pending[entry] = Pending(consumer)
        group.consumers[consumer] = None
        pending.consumer = consumer
        if deliveries is not None:
            pending.deliveries = deliveries
        return True

    def remove(self, key: str, name: str, entry: Id) -> None:
        """XACK and XDEL."""
        stream = self.streams.get(key)
        if stream is not None:
            stream.entries.pop(entry, None)
            if name in stream.groups:
                stream.groups[name].pending.pop(entry, None)


class ModelRedis:
    """One server name: its primary may fail over to a replica that has not got the latest writes.

    `process` is the number of its first process; each later one has the next number. `behind` is by how many seconds
    its clock is late.
    """

    def __init__(self, clock: Callable[[], float], scripts: Mapping[str, Script], process: int = 0) -> None:
        self._clock = clock
        self._first_process = process
        self._scripts = {_digest(script(name)): name for name in scripts}
        self._bodies = scripts
        self._loaded: set[str] = set()
        self.data = Database(process)
        self.readonly = False
        self.incarnation = 0
        self.read: set[tuple[str, str]] = set()
        """Streams and entries that any worker was given."""
        self.behind = 0.0
        self.ailment: Ailment | None = None
        self.ails_until = 0.0

    def fall_ill(self, ailment: Ailment, seconds: float) -> None:
        """Let something be wrong with the server for a while."""
        self.ailment, self.ails_until = ailment, self._clock() + seconds

    def ails(self, ailment: Ailment) -> bool:
        """Whether this is wrong with the server now."""
        return self.ailment is ailment and self.ailing_seconds > 0

    @property
    def ailing_seconds(self) -> float:
        """For how long something is wrong with it yet."""
        return max(0.0, self.ails_until - self._clock()) if self.ailment is not None else 0.0

    def snapshot(self) -> Database:
        """What a replica holds that has received everything until now."""
        return copy.deepcopy(self.data)

    def fail_over(self, replica: Database, behind: float = 0.0) -> None:
        """The replica becomes the primary: later writes are forgotten, scripts too, and connections break.

        Its clock is some seconds behind.
        """
        self.data = replica
        self.behind = behind
        self.ailment = None
        self._loaded.clear()
        self.readonly = False
        self.incarnation += 1
        self.data.run_id = self.data.replication_id = run_id(self._first_process + self.incarnation)

    def execute_all(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """Run the commands of one pipeline, one after the other."""
        return [self.execute(*command) for command in commands]

    def execute(self, name: str, *args: Argument) -> Reply:
        """Run one command; an error reply is returned as a value, as in a pipeline."""
        self.tick()
        try:
            return getattr(self, f"_{name.lower()}")(*args)
        except ResponseError as error:
            return error

    def tick(self) -> None:
        """Let the data know the time."""
        self.data.now_ms = EPOCH_MS + int((self._clock() - self.behind) * 1000)

    def describe(self, command: Sequence[Any]) -> str:
        """A command as a line of a trace shows it."""
        name, *args = command
        name = name.lower()
        if name in ("eval", "evalsha"):
            source, count, *args = args
            name = self._scripts[source if name == "evalsha" else _digest(source)]
            return f"{name}({' '.join(shortened(value) for value in (args[0], *args[count:]))})"
        return f"{name}({' '.join(shortened(value) for value in args)})"

    def push(self, key: str, fields: Mapping[str, bytes | str]) -> str:
        """XADD by a pusher; returns the id."""
        self.tick()
        return text_id(self.data.add(key, {name.encode(): as_bytes(value) for name, value in fields.items()}))

    def _info(self, *_: str) -> dict[str, Any]:
        process = {"run_id": self.data.run_id, "master_replid": self.data.replication_id}
        return {**process, "redis_version": "7.0.15", "used_memory": 0, "maxmemory": 0, "connected_slaves": 0}

    def _role(self) -> list[Any]:
        return [b"master", 0, []]

    def _time(self) -> tuple[int, int]:
        return self.data.now_ms // 1000, self.data.now_ms % 1000 * 1000

    def _cluster(self, _slots: str) -> Reply:
        raise ResponseError("This instance has cluster support disabled")

    def _xread(self, _count: bytes, count: str, _streams: bytes, *rest: str) -> Reply:
        keys, cursors = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        found = {key: self._after(key, parsed_id(at), int(count)) for key, at in zip(keys, cursors, strict=True)}
        self.read |= {(key, entry.decode()) for key, entries in found.items() for entry, _ in entries}
        return [[key.encode(), entries] for key, entries in found.items() if entries]

    def _after(self, key: str, cursor: Id, count: int) -> list[tuple[bytes, list[bytes]]]:
        stream = self.data.streams.get(key)
        entries = {} if stream is None else stream.entries
        found = [entry for entry in entries if entry > cursor][:count]
        return [(text_id(entry).encode(), list(chain.from_iterable(entries[entry].items()))) for entry in found]

    def _mget(self, *keys: str) -> list[bytes | None]:
        return [self.data.get(key) for key in keys]

    def _hgetall(self, key: str) -> dict[bytes, bytes]:
        return {field.encode(): value for field, value in self.data.hash(key).items()}

    def _hmget(self, key: str, *names: str) -> list[bytes | None]:
        return [self.data.hash(key).get(name) for name in names]

    def _hdel(self, key: str, *names: str) -> int:
        if self.readonly:
            return self._refuse()
        return sum(self.data.hash(key).pop(name, None) is not None for name in names)

    def _scan(self, *_: Argument) -> tuple[int, list[bytes]]:
        return 0, [key.encode() for key in self.data.streams]

    def _script_load(self, source: str) -> str:
        digest = _digest(source)
        self._loaded.add(digest)
        return digest

    def _eval(self, source: str, count: int, *rest: Value) -> Reply:
        return self._evalsha(self._script_load(source), count, *rest)

    def _evalsha(self, digest: str, count: int, *rest: Value) -> Reply:
        if digest not in self._loaded:
            raise NoScriptError("No matching script. Please use EVAL.")
        if self.readonly:
            return self._refuse()
        keys = [str(key) for key in rest[:count]]
        name, args = self._scripts[digest], [as_bytes(value) for value in rest[count:]]
        reply = self._bodies[name](self.data, keys, args)
        if name == "next" and reply:
            self.read.add((keys[0], reply[0].decode()))
        return reply

    def _refuse(self) -> int:
        raise ReadOnlyError("You can't write against a read only replica.")


def _digest(source: str) -> str:
    return sha1(source.encode(), usedforsecurity=False).hexdigest()


def run_id(process: int) -> str:
    return uuid.UUID(int=process).hex


def as_bytes(value: Value) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def parsed_id(entry: str | bytes) -> Id:
    ms, _, sequence = (entry.decode() if isinstance(entry, bytes) else entry).partition("-")
    return int(ms), int(sequence or 0)


def text_id(entry: Id) -> str:
    return f"{entry[0]}-{entry[1]}"


def shortened(value: object) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    first = text.partition("\n")[0]
    shown = RANDOM_PART.sub("…", first)
    return shown if len(shown) <= 40 else f"{shown[:40]}…"
