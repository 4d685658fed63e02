"""The model of Redis answers as a real server does, script by script, and ends with the same data."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import redis
from redis.exceptions import ResponseError

from tests.support.redis_server import RedisServer
from tests.tools.simulation.redis_model import EPOCH_MS, ModelRedis, Reply, text_id
from tests.tools.simulation.redis_scripts import SCRIPTS
from worker.stream.keys import GROUP, Keys
from worker.stream.scripting import script

STEPS = 60
LEASE_MS = 60_000
SEEN_MS = 10**13


class Pair:
    """The same calls to the model and to a server; both must answer alike."""

    def __init__(self, server: redis.Redis, prefix: str, random: Random) -> None:
        self.now = 1.0
        self.model = ModelRedis(lambda: self.now, SCRIPTS)
        self.server: Any = server
        self.model.data.run_id = self.server.info("server")["run_id"]
        self.model.data.replication_id = self.server.info("replication")["master_replid"]
        self.keys = Keys(prefix)
        self.random = random
        self.tokens = ["nobody 0 x"]
        self.ids: list[str] = []
        self.versions: list[str] = []
        self.seals: dict[str, tuple[str, list[str]]] = {}

    def push(self) -> None:
        self.now += 0.001 * self.random.randint(0, 3)
        fields = {"uid": "u", "conversation_id": self.random.choice("cd"), "pcm": "1"}
        entry = self.model.push(self.keys.stream(0), fields)
        self.server.xadd(self.keys.stream(0), fields, id=entry)
        self.ids.append(entry)

    def run(self, name: str, keys: list[str], *args: str | int) -> Reply:
        modelled, answered = self.ask(name, keys, *args)
        assert _comparable(modelled) == _comparable(answered), name
        return modelled

    def ask(self, name: str, keys: list[str], *args: str | int) -> tuple[Reply, Reply]:
        call = (script(name), len(keys), *keys, *args)
        try:
            answered = self.server.eval(*call)
        except ResponseError as error:
            answered = error
        return self.model.execute("eval", *call), answered

    def acquire(self) -> None:
        worker = self.random.choice("ab")
        part = f"{self.random.random()}"
        reply = self.run("acquire", [self.keys.lease(0), self.keys.epoch(0)], worker, part, LEASE_MS)
        if reply:
            self.tokens.append(reply[0].decode())

    def release(self) -> None:
        self.run("release", [self.keys.lease(0), self.keys.epoch(0)], self.token())

    def renew(self) -> None:
        self.run("renew", [self.keys.lease(0), self.keys.lease(1)], LEASE_MS, self.token(), "no token")

    def accept(self) -> None:
        ids = self.some_ids()
        keys = [self.keys.lease(0), self.keys.stream(0), self.keys.epoch(0)]
        self.run("accept", keys, self.token(), GROUP, self.random.choice("ab"), ids[-1], *ids)

    def account(self) -> None:
        keys = [self.keys.lease(0), self.keys.stream(0), self.keys.epoch(0), self.keys.lost(0)]
        self.run("account", keys, self.token(), LEASE_MS)

    def lost(self) -> None:
        """Also of chunks that are in the stream, stored, deleted or dead letters, and in a stream that is the same."""
        keys = [
            self.keys.stream(0),
            self.keys.seen(0, "u/c"),
            self.keys.deleted(0),
            self.keys.dead(0),
            self.keys.lost(0),
        ]
        server = self.random.choice((self.model.data.server, "another"))
        facts: list[str | int] = [
            GROUP,
            server,
            "1b" * 16,
            self.random.choice("xy"),
            LEASE_MS,
            self.random.choice((3, 100)),
            100,
        ]
        chunks = [part for entry in self.some_ids() for part in (entry, self.random.choice(("12345678", "unstored")))]
        self.run("lost", keys, *facts, "u/", "u/c", *chunks)

    def record_lost(self) -> None:
        self.run("record_lost", [self.keys.lost(0)], "z", LEASE_MS, 5, *self.some_ids())

    def abandon(self) -> None:
        upload = self.random.choice("xy")
        keys = [self.keys.stream(0), self.keys.done(0), self.keys.withdrawn(0, upload)]
        told = self.random.choice([(), (self.random.choice(self.ids),)])
        chunks = self.random.choice([("c", "d1"), ("c", "none")])
        modelled, answered = self.ask(
            "abandon", keys, self.random.choice(self.ids), LEASE_MS, *chunks, len(told), *told, *self.some_ids()
        )
        # The server's events have its own clock's ids: what depends on these is shown on a server alone.
        outcomes = {modelled[0], answered[0]}
        if b"unknown" not in outcomes and outcomes != {b"waiting", b"counted"}:
            assert modelled == answered
        for value in {modelled[0], answered[0]} & {b"uncounted"}:
            self.model.data.set(keys[2], value, 10**15)
            self.server.set(keys[2], value)

    def between(self) -> None:
        ids = self.some_ids()
        self.run("between", [self.keys.stream(0)], "u", "c", ids[-1], self.random.choice(("-", ids[0])), 2)

    def restore(self) -> None:
        if self.random.random() < 0.1:
            self.run("restore", [self.keys.stream(0), self.keys.deleted(0)], "u/", self.random.choice(self.ids))

    def standing(self) -> None:
        partition = self.random.choice((0, 0, 3))
        keys = [self.keys.stream(partition), self.keys.epoch(partition), self.keys.deleted(partition)]
        self.run("standing", [*keys, self.keys.withdrawn(0, "x")], GROUP, self.random.choice(self.ids), "u/", "u/c")

    def next(self) -> None:
        self.run("next", [self.keys.stream(0)], self.random.choice(["0-0", *self.ids]), self.random.choice((1, 100)))

    def sizes(self) -> None:
        """How much memory streams take is no part of the model."""
        modelled, answered = self.ask("sizes", [self.keys.stream(0), self.keys.dead(0)])
        assert modelled[::2] == answered[::2]

    def claim(self) -> None:
        page = self.random.choice(("-", f"({self.random.choice(self.ids)}"))
        self.fenced("claim", self.random.choice("ab"), self.random.randint(0, 1), page, self.random.choice((2, 500)))

    def sweep(self) -> None:
        """From 7.2 on, Redis makes a consumer also for a claim of nothing but vanished entries: one more is swept."""
        keys = [self.keys.lease(0), self.keys.stream(0)]
        modelled, answered = self.ask("sweep", keys, self.token(), GROUP, self.random.choice("ab"))
        if isinstance(modelled, int):
            assert answered - modelled in {0, 1}
        else:
            assert _comparable(modelled) == _comparable(answered)

    def discard(self) -> None:
        keys = [self.keys.lease(0), self.keys.stream(0), self.keys.epoch(0)]
        self.run("discard", keys, self.token(), GROUP, *self.some_ids())

    def dead_letter(self) -> None:
        keys = [self.keys.lease(0), self.keys.stream(0), self.keys.dead(0)]
        self.run("dead_letter", keys, self.token(), GROUP, self.random.choice(self.ids), "because")

    def seal(self) -> None:
        ids = self.some_ids()
        text = f"seal of {ids}"
        keys = [self.keys.lease(0), self.keys.stream(0), self.keys.ready(0), self.keys.deleted(0), self.keys.epoch(0)]
        reply = self.run("seal", keys, self.token(), GROUP, self.random.choice("ab"), ids[0], text, "u/", "u/c", *ids)
        if reply == [b"sealed"]:
            self.seals[ids[0]] = (text, ids)

    def unseal(self) -> None:
        self.run("unseal", [self.keys.lease(0), self.keys.ready(0)], self.token(), self.random.choice(self.ids))

    def done(self) -> None:
        if not self.seals:
            return
        seal = self.random.choice(list(self.seals))
        text, ids = self.seals[seal]
        keys = [self.keys.stream(0), self.keys.ready(0), self.keys.done(0), self.keys.seen(0, "u/c")]
        event = ["object", seal, "conversation_id", "c", "chunks_digest", self.random.choice(("d1", "d2"))]
        keys += [self.keys.deleted(0), self.keys.withdrawn(0, self.random.choice("xyzzz"))]
        server = self.random.choice([self.model.data.server] * 9 + ["another"])
        args: list[str | int] = [
            GROUP,
            seal,
            text,
            "u/",
            "u/c",
            "12345678",
            ids[-1],
            server,
            16,
            SEEN_MS,
            10_000,
            len(event),
        ]
        self.run("done", keys, *args, *event, *ids)
        if keys[3] in self.model.data.expiries:  # the server's clock is another one
            self.server.pexpireat(keys[3], self.model.data.expiries[keys[3]])

    def seen(self) -> None:
        deleted, last = self.keys.deleted(0), self.random.choice(self.ids)
        self.model.data.hash(deleted)["v/"] = last.encode()
        self.server.hset(deleted, "v/", last)
        self.run("seen", [self.keys.seen(0, "u/c"), deleted], "v/", "v/c")

    def suspect(self) -> None:
        keys = [self.keys.lease(0), self.keys.trials(0)]
        self.run("suspect", keys, self.token(), "u/c", self.random.randint(0, 1))

    def config(self) -> None:
        self.run("config", [self.keys.config], self.random.choice((8, 64)), 1)

    def heartbeat(self) -> None:
        """The clocks differ; who lives is the same, and so is who looks for the dead: always, or never."""
        if self.random.random() < 0.5:
            stale = self.random.choice([b"1 {}", b"nonsense", b"9999999999999 {}"])
            self.model.data.hash(self.keys.workers)["stale"] = stale
            self.server.hset(self.keys.workers, "stale", stale)
        known, following = self.random.choice(["", *self.versions[-2:]]), f"{self.random.getrandbits(64):x}"
        call: list[str | int] = [self.random.choice("ab"), LEASE_MS, "{}", known, following]
        modelled, answered = self.ask("heartbeat", [self.keys.workers], *call, self.random.choice((0, 10**9)))
        assert modelled[0] == answered[0]
        assert [_members(live) for live in modelled[1:]] == [_members(live) for live in answered[1:]]
        self.versions.append(modelled[0].decode())

    def identify(self) -> None:
        """Also on another server, with a past that was lost, and with a stream that forgot its group."""
        epoch, stream = self.keys.epoch(0), self.keys.stream(0)
        if self.random.random() < 0.3:
            self.model.data.hash(epoch)["server"] = b"another"
            self.server.hset(epoch, "server", "another")
        if self.random.random() < 0.1:
            self.model.data.hashes.pop(epoch, None)
            self.server.delete(epoch)
        if self.random.random() < 0.1:
            self.model.data.stream(stream).groups.clear()
            self.server.xgroup_destroy(stream, GROUP)
            self.claim()
        known = self.random.choice([("", "0-0"), ("5d" * 16, self.random.choice(self.ids))])
        self.run(
            "identify",
            [self.keys.lease(0), stream, epoch],
            self.token(),
            GROUP,
            "1b" * 16,
            *known,
            "hidden:1",
            self.random.choice(("", self.model.data.server, "another")),
        )

    def tombstone(self) -> None:
        """Not of the conversation that is pushed all the time, or nothing of it would be left to compare."""
        if self.random.random() < 0.2:
            keys = [self.keys.stream(0), self.keys.ready(0), self.keys.deleted(0), self.keys.epoch(0)]
            self.run(
                "tombstone",
                keys,
                self.random.choice(("v/", "u/d")),
                10**15,
                GROUP,
                f"{self.random.getrandbits(128):032x}",
            )

    def forget(self) -> None:
        if self.random.random() < 0.1:
            self.run("forget", [self.keys.dead(0)], "u", self.random.choice(("", "c", "d")), "-", 1000)

    def delete(self) -> None:
        if self.random.random() < 0.1:
            last = self.random.choice(self.ids)
            last = self.random.choice((last, last.partition("-")[0]))
            self.model.data.hash(self.keys.deleted(0))["u/c"] = last.encode()
            self.server.hset(self.keys.deleted(0), "u/c", last)

    def fenced(self, name: str, *args: str | int) -> None:
        self.run(name, [self.keys.lease(0), self.keys.stream(0)], self.token(), GROUP, *args)

    def token(self) -> str:
        return self.random.choice(self.tokens[-2:] + self.tokens[-1:] * 8)

    def some_ids(self) -> list[str]:
        first = self.random.randrange(len(self.ids))
        return self.ids[first : first + self.random.randint(1, 4)]

    def assert_same_data(self) -> None:
        data, keys = self.model.data, self.keys
        assert [text_id(entry).encode() for entry in data.stream(keys.stream(0)).entries] == [
            entry for entry, _ in self.server.xrange(keys.stream(0))
        ]
        for key in (keys.ready(0), keys.trials(0), keys.epoch(0), keys.lost(0), keys.deleted(0)):
            assert {name.encode(): value for name, value in data.hash(key).items()} == self.server.hgetall(key)
        assert data.get(keys.seen(0, "u/c")) == self.server.get(keys.seen(0, "u/c"))
        for key in (keys.dead(0), keys.done(0)):
            modelled = [_without_time(fields) for fields in data.stream(key).entries.values()]
            assert modelled == [_without_time(fields) for _, fields in self.server.xrange(key)]
        self._assert_same_pending()

    def _assert_same_pending(self) -> None:
        groups = self.model.data.stream(self.keys.stream(0)).groups
        if GROUP in groups:
            pending = {
                entry["message_id"]: (entry["consumer"].decode(), entry["times_delivered"])
                for entry in self.server.xpending_range(self.keys.stream(0), GROUP, "-", "+", 10_000)
            }
            modelled = groups[GROUP].pending.items()
            assert pending == {text_id(entry).encode(): (held.consumer, held.deliveries) for entry, held in modelled}


def _comparable(reply: Reply) -> object:
    return f"{reply}".split(" ")[0].split(".")[0] if isinstance(reply, ResponseError) else reply


def _members(live: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(live[::2], live[1::2], strict=True))


def _without_time(fields: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {name: value for name, value in fields.items() if name != b"at"}


def test_every_script_of_the_model_is_compared() -> None:
    assert set(vars(Pair)) >= SCRIPTS.keys()


@pytest.mark.parametrize("seed", range(30))
def test_the_model_answers_as_redis_does(redis_server: RedisServer, prefix: str, seed: int) -> None:
    random = Random(seed)
    with redis_server.client() as server:
        pair = Pair(server, prefix, random)
        pair.push()
        steps: list[Callable[[], None]] = [
            *4 * [pair.push, pair.accept, pair.seal, pair.done],
            *2 * [pair.acquire, pair.claim],
            *(pair.release, pair.renew, pair.sweep, pair.discard, pair.dead_letter, pair.unseal, pair.suspect),
            *(pair.delete, pair.next, pair.seen, pair.sizes, pair.config, pair.heartbeat, pair.identify),
            *(pair.account, pair.abandon, pair.between, pair.restore, pair.standing, pair.lost, pair.record_lost),
            *(pair.tombstone, pair.forget),
        ]
        pair.acquire()
        pair.claim()
        for _ in range(STEPS):
            random.choice(steps)()
        pair.assert_same_data()
    assert pair.model.data.now_ms > EPOCH_MS
