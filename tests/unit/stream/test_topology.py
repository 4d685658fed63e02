"""The nodes of a cluster, as redirections tell of them."""

from __future__ import annotations

import time

from redis.crc import REDIS_CLUSTER_HASH_SLOTS

from worker.stream.servers.address import Place
from worker.stream.servers.connecting import connect
from worker.stream.servers.topology import Topology, slot_of


def test_nodes_are_those_that_have_slots_now() -> None:
    topology = Topology(connect("redis://seed:6379"), time.monotonic)
    seed = topology.nodes[0]
    assert [node.name for node in topology.nodes] == ["seed:6379"]
    topology.redirected(7, seed, Place("other", 6379))
    assert [node.name for node in topology.nodes] == ["seed:6379", "other:6379"]
    for slot in range(REDIS_CLUSTER_HASH_SLOTS):
        topology.redirected(slot, seed, Place("other", 6379))
    assert [node.name for node in topology.nodes] == ["other:6379"]


def test_list_of_nodes_is_the_callers_own() -> None:
    topology = Topology(connect("redis://seed:6379"), time.monotonic)
    topology.redirected(7, topology.nodes[0], Place("other", 6379))
    topology.nodes.clear()
    assert len(topology.nodes) == 2


def test_a_slot_that_came_back_has_moved_twice() -> None:
    topology = Topology(connect("redis://seed:6379"), time.monotonic)
    (seed,) = topology.nodes
    key, slot = "pcm:{7}", slot_of("pcm:{7}")
    topology.redirected(slot, topology.redirected(slot, seed, Place("other", 6379)), Place("seed", 6379))
    assert topology.node_of(key) is seed
    assert (topology.moves_of(key), topology.moves_of("pcm:{8}"), topology.changes) == (2, 0, 2)
