"""The model of a cluster redirects commands as real servers do, also while a slot moves key by key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import product

import redis
from redis.exceptions import ResponseError

from tests.support.redis_cluster import RedisCluster
from tests.support.redis_server import RedisServer
from tests.tools.simulation.redis_cluster import ClusterServer, ModelServers
from tests.tools.simulation.redis_model import Reply
from tests.tools.simulation.redis_scripts import SCRIPTS

A, B, NEVER = "sim:{0}:ready", "sim:{0}:trials", "sim:{0}:deleted"
KEYS = [[A], [B], [NEVER], [A, B], [B, A], [A, NEVER], [B, NEVER], [NEVER, "sim:{0}:epoch"], [A, A], [A, "sim:{1}"]]


class Pair:
    """A real cluster of two servers, and the model of one; server 0 of both has the slot at first."""

    def __init__(self, cluster: RedisCluster) -> None:
        self.cluster = cluster
        self.model = ModelServers(lambda: 1.0, SCRIPTS, 2)
        source, modelled = cluster.owner(A), self.model.owner(A)
        self.real = [source, *(server for server in cluster.servers if server is not source)]
        self.modelled = [modelled, *self.model.others(modelled)]
        for key in (A, B):
            modelled.data.hash(key)["f"] = b"1"
            cluster.ask(source, "HSET", key, "f", "1")

    def assert_same_redirections(self) -> None:
        """For some keys, or one key twice, at each server, with and without ASKING before."""
        for keys, number, asking in product(KEYS, (0, 1), (False, True)):
            real = _outcome(self._asked(self.real[number], keys, asking=asking), self._real_number)
            modelled = self.modelled[number].redirection(keys, asking=asking)
            assert real == _outcome(modelled, self._modelled_number), (keys, number, asking)

    def hand_over(self, key: str) -> None:
        """Move one key of the open slot."""
        source, target = self.real
        self.cluster.ask(source, "MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        self.modelled[0].data.hand_over(key, self.modelled[1].data)

    def _asked(self, server: RedisServer, keys: list[str], *, asking: bool) -> Reply:
        with server.client() as client:
            pipe = client.pipeline(transaction=False)
            if asking:
                pipe.execute_command("ASKING")
            pipe.eval("return 1", len(keys), *keys)
            return pipe.execute(raise_on_error=False)[-1]

    def _real_number(self, port: int) -> int:
        return [server.port for server in self.real].index(port)

    def _modelled_number(self, host: str) -> int:
        return [server.place.host for server in self.modelled].index(host)


def _outcome(reply: Reply, number: Callable[..., int]) -> tuple[str, int]:
    if isinstance(reply, redis.exceptions.AskError):
        place = reply.port if reply.host == "127.0.0.1" else reply.host
        return type(reply).__name__, number(place)
    return type(reply).__name__ if isinstance(reply, ResponseError) else "", 0


def test_redirections_are_those_of_real_servers(own_cluster: Callable[..., RedisCluster]) -> None:
    pair = Pair(own_cluster(2))
    pair.assert_same_redirections()
    with pair.cluster.moving(A, pair.real[1]):
        pair.model.open(A, pair.modelled[1])
        pair.assert_same_redirections()
        pair.hand_over(A)
        pair.assert_same_redirections()
        pair.hand_over(B)
        pair.assert_same_redirections()
    asyncio.run(_closed(pair.model, pair.modelled[1]))
    pair.assert_same_redirections()


async def _closed(model: ModelServers, target: ClusterServer) -> None:
    model.close(A, target, spread=0.0)


def test_slots_are_told_without_gaps() -> None:
    model = ModelServers(lambda: 1.0, SCRIPTS, 3)
    for slot, number in ((0, 2), (5461, 0), (5462, 0), (9000, 0), (16383, 0)):
        model.slots.give(slot, model.others(None)[number])
    told = model.slots.told()
    assert [first for first, _, _ in told] == [0, *(last + 1 for _, last, _ in told[:-1])]
    assert told[-1][1] == 16383
    assert all(
        model.slots.owner(slot).place.host.encode() == place[0] for first, last, place in told for slot in (first, last)
    )
