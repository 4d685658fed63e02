"""What the worker's Lua scripts do, once more in Python, on the model of Redis: one function per script."""

from __future__ import annotations

from collections.abc import Mapping

from redis.exceptions import ResponseError

from tests.tools.simulation.redis_model import Database, Group, Id, Reply, Script, parsed_id, text_id
from worker.stream.leases import LIST
from worker.stream.scripting import script

Args = list[bytes]

ENTRY_BYTES = 200
"""Memory that each entry is said to take."""


def abandon(data: Database, keys: list[str], args: Args) -> Reply:
    stream, events, withdrawn = keys
    told = data.stream(events)
    start = 5 + int(args[4])
    name, conversation, digest, others, entries = args[0], args[2], args[3], args[5:start], args[start:]
    first_ms = parsed_id(entries[0])[0]
    naming = {
        entry: event[b"object"]
        for entry, event in sorted(told.entries.items())
        if (
            event[b"object"] == name
            or (event.get(b"conversation_id"), event.get(b"chunks_digest")) == (conversation, digest)
        )
        and event[b"object"] not in others
    }
    for entry, found in naming.items():
        if entry[0] >= first_ms:
            return [b"counted", found]
    if any(parsed_id(entry) in data.stream(stream).entries for entry in entries):
        return [b"waiting", b""]
    if naming:
        return [b"counted", next(iter(naming.values()))]
    never_cut = events in data.streams and told.added > 0 and told.added == len(told.entries)
    if not never_cut and not (told.entries and min(told.entries)[0] < first_ms):
        return [b"unknown", b""]
    data.set(withdrawn, b"1", int(args[1]))
    return [b"uncounted", b""]


def accept(data: Database, keys: list[str], args: Args) -> Reply:
    group, consumer = args[1].decode(), args[2].decode()
    accepted = [
        entry
        for entry in args[4:]
        if data.claim(keys[1], group, consumer, parsed_id(entry), force=True, deliveries=None)
    ]
    epoch = data.hash(keys[2])
    highest = parsed_id(epoch.get("highest", b"0-0"))
    first_read = [entry for entry in args[4:] if parsed_id(entry) > highest]
    if first_read:
        epoch["highest"] = args[-1]
        epoch["accepted"] = b"%d" % (int(epoch.get("accepted", b"0")) + len(first_read))
    return accepted


def account(data: Database, keys: list[str], args: Args) -> Reply:  # noqa: ARG001 -- the token is the fence's
    stream, epoch, lost = data.stream(keys[1]), data.hash(keys[2]), data.hash(keys[3])
    if "highest" not in epoch or any(entry > parsed_id(epoch["highest"]) for entry in stream.entries):
        return 0
    if "recount" in epoch:
        epoch["accepted"] = b"%d" % (stream.added - int(epoch.get("missed", b"0")))
        del epoch["recount"]
        return 0
    missed = stream.added - int(epoch.get("accepted", b"0")) - int(epoch.get("missed", b"0"))
    if missed > 0:
        epoch["missed"] = b"%d" % (int(epoch.get("missed", b"0")) + missed)
        lost["unread"] = b"%d" % (int(lost.get("unread", b"0")) + missed)
    return max(0, missed)


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


def dead_letter(data: Database, keys: list[str], args: Args) -> Reply:
    entry = parsed_id(args[2])
    fields = data.stream(keys[1]).entries.get(entry)
    if fields is None:
        return 0
    at = b"%.3f" % (data.now_ms / 1000)
    data.add(keys[2], {**fields, b"reason": args[3], b"entry": args[2], b"at": at})
    data.remove(keys[1], args[1].decode(), entry)
    return 1


def between(data: Database, keys: list[str], args: Args) -> Reply:
    uid, conversation, last, page, size = args
    ids = [
        entry
        for entry in data.stream(keys[0]).entries
        if entry <= parsed_id(last)
        and (entry > parsed_id(page[1:]) if page.startswith(b"(") else page == b"-" or entry >= parsed_id(page))
    ][: int(size)]
    found = [(entry, data.stream(keys[0]).entries[entry]) for entry in ids]
    ours = [
        (entry, fields)
        for entry, fields in found
        if (fields.get(b"uid"), fields.get(b"conversation_id")) == (uid, conversation) and b"pcm" in fields
    ]
    following = f"({text_id(ids[-1])}" if len(ids) == int(size) else ""
    return [
        following.encode(),
        [[text_id(entry).encode(), [part for field in fields.items() for part in field]] for entry, fields in ours],
    ]


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
    partitions, contract = recorded.setdefault("partitions", args[0]), recorded.setdefault("contract", args[1])
    return [partitions, contract, recorded.setdefault("layouts", partitions)]


def discard(data: Database, keys: list[str], args: Args) -> Reply:
    if not _is_known_server(data, keys[2]):
        return 0
    for entry in args[2:]:
        data.remove(keys[1], args[1].decode(), parsed_id(entry))
    return 1


def done(data: Database, keys: list[str], args: Args) -> Reply:
    if data.hash(keys[1]).get(args[1].decode()) != args[2]:
        return b"deleted" if _is_deleted(data, keys[4], args[1], args[3:5]) else b"gone"
    if not _is_deleted(data, keys[4], args[1], args[3:5]):
        if data.get(keys[5]) is not None:
            return b"withdrawn"
        if args[7] != data.server.encode():
            return b"changed " + data.server.encode()
    return finish(data, keys, args)


def finish(data: Database, keys: list[str], args: Args) -> bytes:
    """The done step without its fence."""
    stream, ready, events, seen, tombstones, _ = keys
    deleted = _is_deleted(data, tombstones, args[1], args[3:5])
    first_id = 12 + int(args[11])
    for entry in args[first_id:]:
        data.remove(stream, args[0].decode(), parsed_id(entry))
    data.hash(ready).pop(args[1].decode(), None)
    if deleted:
        return b"deleted"
    event = args[12:first_id]
    data.add(events, dict(zip(event[::2], event[1::2], strict=True)))
    last, known = _remembered(data, seen, tombstones, args[3:5])
    last = max(last, args[6], key=parsed_id)
    data.set(seen, last + b"\n" + (known + args[5])[-int(args[8]) :], int(args[9]))
    return b"done"


def heartbeat(data: Database, keys: list[str], args: Args) -> Reply:
    known, worker, others_version = data.hash(keys[0]), args[0].decode(), args[3]
    has_changed = worker not in known or others_version == b""
    known[worker] = b"%d %s" % (data.now_ms + int(args[1]), args[2])
    words = known.get(LIST, b"").split()
    version, swept = (words[1], int(words[3])) if words else (None, 0)
    if version == others_version and not has_changed and swept <= data.now_ms < swept + int(args[5]):
        return [version]
    dead = [name for name, value in known.items() if name != LIST and not _is_alive(value, data.now_ms)]
    for name in dead:
        del known[name]
    if has_changed or dead or version is None:
        version = args[4]
    known[LIST] = b"version %s swept %d" % (version, data.now_ms)
    if version == others_version:
        return [version]
    live = [[name.encode(), value.partition(b" ")[2]] for name, value in known.items() if name != LIST]
    return [version, [part for facts in live for part in facts]]


def identify(data: Database, keys: list[str], args: Args) -> Reply:
    stream, epoch, server = data.stream(keys[1]), data.hash(keys[2]), data.server.encode()
    group = data.group(keys[1], args[1].decode())
    last, first = stream.last, min(stream.entries, default=stream.last)
    known_id = _known_stream_id(group)
    before, highest = epoch.get("server"), epoch.get("highest")
    survived = known_id is None and args[3] != b"" and bool(stream.entries) and first <= parsed_id(args[4])
    if known_id is None:
        group.consumers[f"stream:{(args[3] if survived else args[2]).decode()}"] = None
    read_to = highest if known_id is not None and highest is not None else b"0-0"
    went_back = parsed_id(read_to) > last
    if known_id is None or highest is None or went_back:
        unread = stream.added - len(stream.entries)
        epoch.update({"highest": b"0-0", "accepted": b"%d" % unread, "missed": b"0"})
    if known_id is None:
        epoch["born"] = text_id(last).encode() if stream.entries else b"0-0"
    epoch["server"] = server
    other_record = before is not None and (before != server or args[6] not in (b"", before))
    if other_record:
        epoch["recount"] = b"1"
    unidentified = known_id is None and bool(stream.entries)
    forgot = unidentified or went_back or other_record or (before is None and known_id is not None)
    if forgot:
        epoch["changed"] = text_id(last).encode()
    changed = epoch.get("changed", b"0-0")
    stream_id = (_known_stream_id(group) or "").encode()
    return [stream_id, text_id(first).encode(), read_to, changed, epoch.get("born", b"0-0"), server, b"%d" % forgot]


def following(data: Database, keys: list[str], args: Args) -> Reply:
    entries = data.stream(keys[0]).entries
    entry = next((entry for entry in entries if entry > parsed_id(args[0])), None)
    if entry is None:
        return []
    flat = [part for field in entries[entry].items() for part in field]
    size = sum(map(len, flat))
    return [text_id(entry).encode(), size, flat if size <= int(args[1]) else []]


def forget(data: Database, keys: list[str], args: Args) -> Reply:
    letters = data.stream(keys[0]).entries
    page = [entry for entry in letters if _is_on_page(entry, args[2].decode())][: int(args[3])]
    ours = [
        entry
        for entry in page
        if letters[entry].get(b"uid") == args[0] and args[1] in (b"", letters[entry].get(b"conversation_id"))
    ]
    for entry in ours:
        del letters[entry]
    return [f"({text_id(page[-1])}".encode() if len(page) == int(args[3]) else b"", len(ours)]


def lost(data: Database, keys: list[str], args: Args) -> Reply:
    stream, seen_key, tombstones, dead, book = keys
    group = data.stream(stream).groups.get(args[0].decode())
    if (args[1], args[2].decode()) == (data.server.encode(), group and _known_stream_id(group)):
        return [b"same"]
    token, most, names = args[3], int(args[5]), args[7:9]
    remembered = _remembered(data, seen_key, tombstones, names)[1]
    accounted = {remembered[at : at + 8] for at in range(0, len(remembered), 8)}
    letters = list(data.stream(dead).entries.values())[-int(args[6]) :]
    accounted |= {letter[b"entry"] for letter in letters if b"entry" in letter}
    gone = [
        entry
        for entry, identity in zip(args[9::2], args[10::2], strict=True)
        if not _is_here(data, stream, entry, names[1])
        and not _is_deleted(data, tombstones, entry, names)
        and not {entry, identity} & accounted
    ]
    return [b"lost", *(entry for entry in gone if _is_counted_by(data.hash(book), entry, token, most))]


def record_lost(data: Database, keys: list[str], args: Args) -> Reply:
    for entry in args[3:]:
        _is_counted_by(data.hash(keys[0]), entry, args[0], int(args[2]))
    return 1


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
    _, stream, ready, tombstones, epoch = keys
    group, consumer = args[1].decode(), args[2].decode()
    if not _is_known_server(data, epoch):
        return [b"redis_changed"]
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


def restore(data: Database, keys: list[str], args: Args) -> Reply:
    last = text_id(data.stream(keys[0]).last).encode() if keys[0] in data.streams else b"0-0"
    covered = min(args[1], last, key=parsed_id)
    tombstones = data.hash(keys[1])
    if args[0].decode() not in tombstones or _tombstone(tombstones[args[0].decode()]) < parsed_id(covered):
        tombstones[args[0].decode()] = covered
    return covered


def seen(data: Database, keys: list[str], args: Args) -> Reply:
    return _remembered(data, keys[0], keys[1], args[:2])[1]


def sizes(data: Database, keys: list[str], args: Args) -> Reply:  # noqa: ARG001 -- as of all scripts
    entries = [len(data.stream(key).entries) for key in keys]
    return [size for count in entries for size in (count, ENTRY_BYTES * count)]


def standing(data: Database, keys: list[str], args: Args) -> Reply:
    stream, epoch, tombstones, withdrawn = keys
    group = data.stream(stream).groups.get(args[0].decode())
    known = data.hash(epoch)
    changed = known.get("changed", b"0-0")
    if known.get("server", data.server.encode()) != data.server.encode():
        changed = b"%d-%d" % (2**64 - 1, 2**64 - 1)
    deleted = _is_deleted(data, tombstones, args[1], args[2:4])
    stream_id = (group and _known_stream_id(group)) or ""
    return [int(deleted), int(data.get(withdrawn) is not None), stream_id.encode(), changed]


def sweep(data: Database, keys: list[str], args: Args) -> Reply:
    group = data.group(keys[1], args[1].decode())
    busy = {pending.consumer for pending in group.pending.values()} | {args[2].decode()}
    idle = [consumer for consumer in group.consumers if consumer not in busy and not consumer.startswith("stream:")]
    for consumer in idle:
        del group.consumers[consumer]
    return len(idle)


def suspect(data: Database, keys: list[str], args: Args) -> Reply:
    trials, conversation = data.hash(keys[1]), args[1].decode()
    last = f"{conversation}\n"
    if args[2] == b"0":
        return len([field for field in (conversation, last) if trials.pop(field, None) is not None])
    if trials.get(last) != args[0]:
        trials[last] = args[0]
        trials[conversation] = b"%d" % (int(trials.get(conversation, b"0")) + 1)
    return int(trials[conversation])


def tombstone(data: Database, keys: list[str], args: Args) -> Reply:
    stream, deleted = data.streams.get(keys[0]), data.hash(keys[2])
    here = [*(() if stream is None else stream.entries), *map(parsed_id, data.hash(keys[1]))]
    oldest = min([data.now_ms - int(args[1]), *(entry[0] for entry in here)])
    for name, last in list(deleted.items()):
        if min(parsed_id(last)[0], data.now_ms) < oldest:
            del deleted[name]
    if stream is None or not stream.exists:
        return [b"0-0", b""]
    group = stream.groups.setdefault(args[2].decode(), Group())
    stream_id, position = _known_stream_id(group), text_id(stream.last).encode()
    if stream_id is None:
        stream_id = args[3].decode()
        group.consumers[f"stream:{stream_id}"] = None
        data.hash(keys[3])["born"] = position if stream.entries else b"0-0"
    deleted[args[0].decode()] = position
    return [position, stream_id.encode()]


def unseal(data: Database, keys: list[str], args: Args) -> Reply:
    return int(data.hash(keys[1]).pop(args[1].decode(), None) is not None)


def fenced(body: Script) -> Script:
    """Only for the owner of the partition."""

    def run(data: Database, keys: list[str], args: Args) -> Reply:
        if data.get(keys[0]) != args[0]:
            raise ResponseError("LEASELOST another worker owns this partition")
        return body(data, keys, args)

    return run


def _is_counted_by(book: dict[str, bytes], entry: bytes, token: bytes, most: int) -> bool:
    counter = book.get(entry.decode())
    if counter is None and len(book) < most:
        book[entry.decode()] = token
    return counter in (None, token)


def _is_here(data: Database, stream: str, entry: bytes, conversation: bytes) -> bool:
    fields = data.stream(stream).entries.get(parsed_id(entry))
    return fields is not None and conversation == b"/".join(fields.get(n, b"") for n in (b"uid", b"conversation_id"))


def _is_alive(heartbeat_of_a_worker: bytes, now_ms: int) -> bool:
    expiry, _, _ = heartbeat_of_a_worker.partition(b" ")
    return expiry.isdigit() and int(expiry) > now_ms


def _is_on_page(entry: Id, page: str) -> bool:
    return page == "-" or entry > parsed_id(page.removeprefix("("))


def _remembered(data: Database, key: str, tombstones: str, names: Args) -> tuple[bytes, bytes]:
    """The last entry that was stored, and the identities; nothing if they were deleted since."""
    last, _, identities = (data.get(key) or b"").partition(b"\n")
    if not last or _is_deleted(data, tombstones, last, names):
        return b"0-0", b""
    return last, identities


def _is_known_server(data: Database, epoch: str) -> bool:
    return data.hash(epoch).get("server") == data.server.encode()


def _is_deleted(data: Database, tombstones: str, entry: bytes, names: Args) -> bool:
    deleted = data.hash(tombstones)
    return any(parsed_id(entry) <= _tombstone(deleted[name.decode()]) for name in names if name.decode() in deleted)


def _tombstone(value: bytes) -> Id:
    """A deletion's position; older versions wrote a time, which covers its whole millisecond."""
    return parsed_id(value) if b"-" in value else (int(value), 2**64)


def _known_stream_id(group: Group) -> str | None:
    return next((name.removeprefix("stream:") for name in group.consumers if name.startswith("stream:")), None)


_BODIES: Mapping[str, Script] = {
    body.__name__: body
    for body in (
        *(abandon, accept, account, acquire, between, dead_letter, claim, config, discard, done, forget, heartbeat),
        *(identify, lost, record_lost, release, renew, restore, seal, seen, sizes, standing, suspect, sweep),
        *(tombstone, unseal),
    )
} | {"next": following}
SCRIPTS: Mapping[str, Script] = {
    name: fenced(body) if "LEASELOST" in script(name) else body for name, body in _BODIES.items()
}
