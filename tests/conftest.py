"""Fixtures for all tests: a real redis-server, a clean environment, settings that fit a test."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis.asyncio
import structlog

from tests.support.harness import Harness, owned_before
from tests.support.proxy import Proxy
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_sentinels import RedisSentinels
from tests.support.redis_server import RedisServer
from tests.support.secret import TEST_SECRET
from tests.support.timing import SHORT_TURNS
from worker.runtime.cpu import cpu_limit
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.support.gcs.server import GcsServer
    from worker.runtime.timing import Timing

pytest_plugins = ("tests.support.gcs.fixtures",)

FOREIGN_VARIABLES = ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT")
UNIT_TESTS = Path(__file__).parent / "unit"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """With `-n auto` two more than there are processors, because many tests wait; with `-n logical` so many."""
    return cpu_limit() + (2 if config.option.numprocesses == "auto" else 0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The quick tests come last, so that all processes end at about the same time."""
    items.sort(key=lambda item: item.path.is_relative_to(UNIT_TESTS))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*(field.upper() for field in Settings.model_fields), *FOREIGN_VARIABLES):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def timing() -> Timing:
    """How long workers in the test's own process wait; a module that wants another timing overrides it."""
    return SHORT_TURNS


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """A command configures logging for its process, which here is that of all tests."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands take their standard input for a terminal, on which `command(answer=…)` is typed."""
    monkeypatch.setattr("worker.cli.confirming.at_terminal", lambda: True)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Shared by all tests, which must neither stop nor reconfigure it; for that there is `own_redis`."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture
def prefix(redis_server: RedisServer) -> Iterator[str]:
    """A STREAM_PREFIX of this test alone; its keys are deleted afterwards."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    with redis_server.client() as client:
        for key in client.scan_iter(match=f"{name}:*", count=1000):
            client.delete(key)


@pytest.fixture
async def redis_client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """A plain client of the shared server; replies are bytes."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    """A way to the shared server that this test may cut."""
    async with Proxy(redis_server.port) as running:
        yield running


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Start private servers: `own_redis(maxmemory="8mb", appendonly="yes")`."""
    servers: list[RedisServer] = []

    def start(**options: str) -> RedisServer:
        directory = tmp_path / f"redis-{len(servers)}"
        directory.mkdir()
        servers.append(RedisServer(directory, **options))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Callable[..., RedisCluster]]:
    """Start a private Redis Cluster: `own_cluster(3, replicas=1)`."""
    clusters: list[RedisCluster] = []

    def start(primaries: int = 1, replicas: int = 0, *, tls: Path | None = None, **options: str) -> RedisCluster:
        place = tmp_path / f"cluster-{len(clusters)}"
        clusters.append(RedisCluster(place, primaries, replicas, tls=tls, **options))
        clusters[-1].start()
        return clusters[-1]

    yield start
    for cluster in clusters:
        cluster.stop()


@pytest.fixture
def own_sentinels(tmp_path: Path) -> Iterator[Callable[..., RedisSentinels]]:
    """Start a private primary with a replica and three sentinels: `own_sentinels(lines=("requirepass secret",))`."""
    groups: list[RedisSentinels] = []

    def start(*, tls: Path | None = None, lines: tuple[str, ...] = (), **options: str) -> RedisSentinels:
        groups.append(RedisSentinels(tmp_path / f"sentinels-{len(groups)}", tls=tls, lines=lines, **options))
        groups[-1].start()
        return groups[-1]

    yield start
    for group in groups:
        group.stop()


@pytest.fixture
def settings(redis_url: str, prefix: str, tmp_path: Path) -> Callable[..., Settings]:
    """Make settings for this test: `settings(batch_max_seconds=5)`; blobs go to `tmp_path / "store"`."""

    def make(**changes: object) -> Settings:
        store = tmp_path / "store"
        store.mkdir(exist_ok=True)
        return Settings.model_validate(
            {
                "redis_url": redis_url,
                "store_url": store.as_uri(),
                "encryption_secret": TEST_SECRET,
                "partitions": 8,
                "stream_prefix": prefix,
                "http_host": "127.0.0.1",
                "http_port": 0,
            }
            | changes
        )

    return make


@pytest.fixture
async def harness(
    settings: Callable[..., Settings], redis_client: redis.asyncio.Redis, gcs_server: GcsServer, timing: Timing
) -> Harness:
    """On the shared Redis, with an empty bucket of its own."""
    return await owned_before(Harness(settings, redis_client, gcs_server, timing))
