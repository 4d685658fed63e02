"""The pusher in TypeScript: its types are right, and what it repeats after errors is stored once."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.examples.stage import EXAMPLES
from tests.support.proxy import Proxy
from tests.support.speech import speech

if TYPE_CHECKING:
    from tests.examples.stage import Stage

EXAMPLE = EXAMPLES / "node"
MODULES = Path(sys.prefix) / "node" / "node_modules"
"""Where .ci/setup puts what the example's package-lock.json names."""

NODE = shutil.which("node", path=str(Path(sys.prefix) / "bin")) or "node"
START = 1_700_000_000


@pytest.fixture
def pusher(tmp_path: Path) -> Path:
    """The example as after `npm ci`."""
    place = tmp_path / "node"
    shutil.copytree(EXAMPLE, place, ignore=shutil.ignore_patterns("node_modules"))
    (place / "node_modules").symlink_to(MODULES)
    return place / "pusher.ts"


def test_its_types_are_right(stage: Stage, pusher: Path) -> None:
    stage.run(NODE, MODULES / "typescript/bin/tsc", "-p", pusher.parent)


async def test_a_lost_reply_and_a_lost_server_cost_and_double_no_sample(stage: Stage, pusher: Path) -> None:
    pcm = speech(23)
    async with Proxy(stage.redis.port) as way:
        lost = way.drop_reply(to=b"$3\r\nseq\r\n$1\r\n1\r\n")
        environment = {"REDIS_URL": way.url}
        async with stage.program(NODE, pusher, "alice", "lunch", START, environment=environment) as program:
            assert program.stdin is not None
            program.stdin.write(pcm[: 15 * 32000])
            await lost.wait()
            await stage.until(lambda: stage.entries() == 4, "three chunks are in Redis, and one of them twice")
            await way.refuse()
            before = stage.said().count("pushed again")
            program.stdin.write(pcm[15 * 32000 :])
            program.stdin.close()
            await stage.until(lambda: stage.said().count("pushed again") > before, "it tries again")
            await way.accept()
            assert await stage.ended(program) == 0, stage.said()
    assert stage.entries() >= 5 + 1 + 1  # chunks, end, and what came twice
    assert stage.faults() == []
    stage.drain()
    assert stage.exported("alice", "lunch") == pcm
    assert stage.audit("alice", "lunch")["verdict"] == "complete"


async def test_an_entry_that_redis_refuses_for_good_ends_it(stage: Stage, pusher: Path) -> None:
    with stage.redis.client() as client:
        client.set("pcm:{0}", "no stream")
    environment = {"PARTITIONS": "1"}
    async with stage.program(NODE, pusher, "alice", "lunch", environment=environment) as program:
        assert program.stdin is not None
        program.stdin.write(bytes(1000))
        program.stdin.close()
        assert await stage.ended(program) == 1
    assert "WRONGTYPE" in stage.said()
