"""What the worker's Lua scripts do, once more in Python, on the model of Redis: one function per script."""

from __future__ import annotations

from collections.abc import Mapping

from redis.exceptions import ResponseError

from tests.simulation.redis_model import Database, Group, Id, Reply, Script, parsed_id, text_id
from worker.stream.client import script

Args = list[bytes]

ENTRY_BYTES = 200
"""Memory that each entry is said to take."""


def accept(data: Database, keys: list[str], args: Args) -> Reply:
    group, consumer = args[1].decode(), args[2].decode()
    return [
        entry
        for entry in args[4:]
        if data.claim(keys[1], group, consumer, parsed_id(entry), force=True, deliveries=None)
    ]


def acquire(data: Database, keys: list[str], args: Args) -> Reply:
    if data.get(keys[0]) is not None:
        return None
    epoch = data.hash(keys[1])
    epoch["generation"] = b"%d" % (int(epoch.get("generation", b"0")) + 1)
    clean = epoch.get("clean", b"1")
    epoch["clean"] = b"0"
    token = b" ".join((args[0], epoch["generation"], args[1]))
    data.set(keys[0], token, int(args[2]))
    return [token, clean]


def bury(data: Database, keys: list[str], args: Args) -> Reply:
    entry = parsed_id(args[2])
    fields = data.stream(keys[1]).entries.get(entry)
    if fields is None:
        return 0
    at = b"%.3f" % (data.now_ms / 1000)
    data.add(keys[2], {**fields, b"reason": args[3], b"entry": args[2], b"at": at})
    data.remove(keys[1], args[1].decode(), entry)
    return 1


def changed(data: Database, keys: list[str], args: Args) -> Reply:  # noqa: ARG001 -- the token is the fence's
    epoch = data.hash(keys[1])
    known = epoch.get("server", data.run_id.encode())
    epoch["server"] = data.run_id.encode()
    if known != epoch["server"]:
        epoch["changed"] = b"%d" % data.now_ms
    return int(epoch.get("changed", b"0"))


def claim(data: Database, keys: list[str], args: Args) -> Reply:
    name, consumer, deaths, page, size = (arg.decode() for arg in args[1:6])
    group = data.stream(keys[1]).groups.setdefault(name, Group())
    ids = [entry for entry in sorted(group.pending) if _is_on_page(entry, page)][: int(size)]
    vanished, survivors = [], []
    for entry in ids:
        deliveries = group.pending[entry].deliveries + int(deaths)
        if not data.claim(keys[1], name, consumer, entry, force=False, deliveries=deliveries):
            vanished.append(text_id(entry).encode())
        elif deliveries > 1:
            survivors.append(text_id(entry).encode())
    following = f"({text_id(ids[-1])}" if len(ids) == int(size) else ""
    return [following.encode(), vanished, survivors]


def config(data: Database, keys: list[str], args: Args) -> Reply:
    recorded = data.hash(keys[0])
    return [recorded.setdefault("partitions", args[0]), recorded.setdefault("contract", args[1])]


def discard(data: Database, keys: list[str], args: Args) -> Reply:
    for entry in args[2:]:
        data.remove(keys[1], args[1].decode(), parsed_id(entry))
    return len(args) - 2


def done(data: Database, keys: list[str], args: Args) -> Reply:
    if data.hash(keys[1]).get(args[1].decode()) != args[2]:
        return b"deleted" if _is_deleted(data, keys[4], args[1], args[3:5]) else b"gone"
    return finish(data, keys, args)


def finish(data: Database, keys: list[str], args: Args) -> bytes:
    """The done step without its fence."""
    stream, ready, events, seen, tombstones = keys
    deleted = _is_deleted(data, tombstones, args[1], args[3:5])
    first_id = 10 + int(args[9])
    for entry in args[first_id:]:
        data.remove(stream, args[0].decode(), parsed_id(entry))
    data.hash(ready).pop(args[1].decode(), None)
    if deleted:
        return b"deleted"
    event = args[10:first_id]
    data.add(events, dict(zip(event[::2], event[1::2], strict=True)))
    data.set(seen, (_remembered(data, seen, tombstones, args[3:5], args[7]) + args[5])[-int(args[6]) :], int(args[7]))
    return b"done"


def heartbeat(data: Database, keys: list[str], args: Args) -> Reply:
    known = data.hash(keys[0])
    known[args[0].decode()] = b"%d %s" % (data.now_ms + int(args[1]), args[2])
    live: list[bytes] = []
    for worker, value in list(known.items()):
        expiry, _, description = value.partition(b" ")
        if expiry.isdigit() and int(expiry) > data.now_ms:
            live += [worker.encode(), description]
        else:
            del known[worker]
    return [data.now_ms, live, data.run_id.encode()]


def following(data: Database, keys: list[str], args: Args) -> Reply:
    entries = data.stream(keys[0]).entries
    entry = next((entry for entry in entries if entry > parsed_id(args[0])), None)
    if entry is None:
        return []
    flat = [part for field in entries[entry].items() for part in field]
    size = sum(map(len, flat))
    return [text_id(entry).encode(), size, flat if size <= int(args[1]) else []]


def release(data: Database, keys: list[str], args: Args) -> Reply:  # noqa: ARG001 -- the token is the fence's
    data.hash(keys[1])["clean"] = b"1"
    data.delete(keys[0])
    return 1


def renew(data: Database, keys: list[str], args: Args) -> Reply:
    kept = []
    for lease, token in zip(keys, args[1:], strict=True):
        ours = data.get(lease) == token
        if ours:
            data.expiries[lease] = data.now_ms + int(args[0])
        kept.append(int(ours))
    return kept


def seal(data: Database, keys: list[str], args: Args) -> Reply:
    _, stream, ready, tombstones = keys
    group, consumer = args[1].decode(), args[2].decode()
    if any(pending.consumer != consumer for pending in data.group(stream, group).pending.values()):
        return [b"foreign"]
    if _is_deleted(data, tombstones, args[3], args[5:7]):
        return [b"deleted"]
    vanished = [
        entry
        for entry in args[7:]
        if not data.claim(stream, group, consumer, parsed_id(entry), force=False, deliveries=None)
    ]
    if vanished:
        return [b"vanished", *vanished]
    if data.hash(ready).setdefault(args[3].decode(), args[4]) != args[4]:
        return [b"other"]
    return [b"sealed"]


def seen(data: Database, keys: list[str], args: Args) -> Reply:
    return _remembered(data, keys[0], keys[1], args[:2], args[2])


def sizes(data: Database, keys: list[str], args: Args) -> Reply:  # noqa: ARG001 -- as of all scripts
    entries = [len(data.stream(key).entries) for key in keys]
    return [size for count in entries for size in (count, ENTRY_BYTES * count)]


def sweep(data: Database, keys: list[str], args: Args) -> Reply:
    group = data.group(keys[1], args[1].decode())
    busy = {pending.consumer for pending in group.pending.values()} | {args[2].decode()}
    idle = [consumer for consumer in group.consumers if consumer not in busy]
    for consumer in idle:
        del group.consumers[consumer]
    return len(idle)


def trial(data: Database, keys: list[str], args: Args) -> Reply:
    trials, conversation = data.hash(keys[1]), args[1].decode()
    if args[2] == b"0":
        return int(trials.pop(conversation, None) is not None)
    trials[conversation] = b"%d" % (int(trials.get(conversation, b"0")) + 1)
    return int(trials[conversation])


def unseal(data: Database, keys: list[str], args: Args) -> Reply:
    return int(data.hash(keys[1]).pop(args[1].decode(), None) is not None)


def fenced(body: Script) -> Script:
    """Only for the owner of the partition."""

    def run(data: Database, keys: list[str], args: Args) -> Reply:
        if data.get(keys[0]) != args[0]:
            raise ResponseError("LEASELOST another worker owns this partition")
        return body(data, keys, args)

    return run


def _is_on_page(entry: Id, page: str) -> bool:
    return page == "-" or entry > parsed_id(page.removeprefix("("))


def _remembered(data: Database, key: str, tombstones: str, names: Args, ttl: bytes) -> bytes:
    identities = data.get(key)
    if identities is None:
        return b""
    noted_at = data.expiries[key] - int(ttl)
    deleted = data.hash(tombstones)
    gone = any(noted_at <= int(deleted.get(name.decode(), b"-1")) for name in names)
    return b"" if gone else identities


def _is_deleted(data: Database, tombstones: str, first: bytes, names: Args) -> bool:
    deleted = data.hash(tombstones)
    return any(parsed_id(first)[0] <= int(deleted.get(name.decode(), b"-1")) for name in names)


_BODIES: Mapping[str, Script] = {
    body.__name__: body
    for body in (
        *(accept, acquire, bury, changed, claim, config, discard, done, heartbeat),
        *(release, renew, seal, seen, sizes, sweep, trial, unseal),
    )
} | {"next": following}
SCRIPTS: Mapping[str, Script] = {
    name: fenced(body) if "LEASELOST" in script(name) else body for name, body in _BODIES.items()
}
