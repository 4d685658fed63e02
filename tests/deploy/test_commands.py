"""Whatever an operator copies at night from the pages of the chart works, and names what exists."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.deploy.chart import CHART
from tests.deploy.commands import PAGES, Block, Cluster, blocks, calls, check_command
from tests.support.paths import ROOT
from tests.support.process import Process, environment
from worker.model.causes import SpoolCause, StoreCause, StreamCause

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.redis_server import RedisServer
    from worker.settings import Settings

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
BLOCKS = [block for page in PAGES for block in blocks(page)]
RUNBOOKS = (CHART / "RUNBOOKS.md").read_text()
SOURCES = "\n".join(path.read_text() for path in (ROOT / "worker").rglob("*.py"))
LOGGING = re.findall(r"(?:log\.(?:info|warning|error)|digest\.note)\((?:[^()]|\([^()]*\))*\)", SOURCES)
EVENTS = {event for call in LOGGING for event in re.findall(r"\"([a-z_]+\.[a-z_]+)\"", call)}
NO_TROUBLE = {StoreCause.EXISTS, StoreCause.MISSING, StoreCause.CLOSED}
"""Answers that the worker handles itself."""

RUNNING = ("RUNBOOKS.md", "OPERATIONS.md")
COMPLAINTS = re.compile(
    r"command not found|syntax error|unbound variable|jq: |No such option|No such command|Missing (option|argument)"
    r"|Invalid value|Traceback|unrecognized|ERR "
)


def section(heading: str) -> str:
    return RUNBOOKS.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}-{block.heading}")
def test_a_shell_understands_each_block(block: Block) -> None:
    subprocess.run(["bash", "-n", "-c", block.text], check=True)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}-{block.heading}")
def test_each_command_of_the_worker_exists_with_its_options(block: Block) -> None:
    for arguments in calls(block.text):
        check_command(arguments)


def test_a_misspelt_option_is_found() -> None:
    with pytest.raises(Exception, match="raeson"):
        check_command(["dead-letters", "drop", "--raeson", "x"])
    with pytest.raises(AssertionError, match="no such command"):
        check_command(["statsu"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_value_that_a_page_names_is_one_of_the_charts(page: Path) -> None:
    sections = "|".join(key for key, value in VALUES.items() if isinstance(value, dict) and value)
    text = page.read_text()
    named = re.findall(rf"`((?:{sections})(?:\.[a-zA-Z]+)+)\b", text)
    set_by_helm = re.findall(r"--set(?:-string)? ([a-zA-Z.]+)", text)

    for path in {*named, *set_by_helm} - EVENTS:
        found = VALUES
        for key in path.split("."):
            if found == {} or path.startswith("podSecurityContext"):
                break  # whatever Kubernetes knows, or labels and annotations
            assert key in found, path
            found = found[key]


def test_each_log_event_that_a_command_asks_for_is_logged() -> None:
    texts = "\n".join(page.read_text() for page in PAGES)
    asked = re.findall(r"\.message == \"([^\"]+)\"|jsonPayload\.message=\"([^\"]+)\"", texts)

    assert asked
    assert {name for names in asked for name in names if name} <= EVENTS


def test_each_runbook_has_commands() -> None:
    alerts = {heading for heading in re.findall(r"^## (.+)$", RUNBOOKS, re.MULTILINE) if heading.startswith("Audio")}

    assert {block.heading for block in BLOCKS if block.page == "RUNBOOKS.md"} >= alerts


def test_each_cause_of_a_refusal_has_its_remedy() -> None:
    for heading, causes in (
        ("AudioBatchStoreRefusing", set(StoreCause) - NO_TROUBLE),
        ("AudioBatchRedisErrors", set(StreamCause)),
        ("AudioBatchSpoolRefusing", set(SpoolCause)),
    ):
        assert not {cause for cause in causes if f"`{cause}`" not in section(heading)}, heading


def test_each_cause_of_a_refusal_is_among_the_troubles() -> None:
    troubles = (CHART / "TROUBLES.md").read_text()
    told = " ".join(re.findall(r"cause ([a-z -]+)", troubles)).replace(" or ", " ").split()

    assert set(map(str, set(StoreCause) - NO_TROUBLE)) <= set(told)


@pytest.mark.jq
@pytest.mark.parametrize("page", RUNNING)
async def test_the_commands_of_a_page_run(
    page: str, settings: Callable[..., Settings], own_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    server = own_redis()
    variables = environment(settings(redis_url=server.url, partitions=1))
    first, *others = [block for block in BLOCKS if block.page == page]
    async with Process(variables, "run") as worker:
        await worker.said("worker.started")
        (started,) = worker.events("worker.started")
        with server.client() as client:
            client.xadd(f"{variables['STREAM_PREFIX']}:{{0}}", {"nonsense": "1"})
        await worker.said("entries.dead_lettered")
        cluster = Cluster(tmp_path, variables | {"HTTP_PORT": str(started["http_port"])}, worker.lines)
        for heading in dict.fromkeys(block.heading for block in others):
            said = await cluster.run(first.text, *(block.text for block in others if block.heading == heading))
            assert not COMPLAINTS.search(said), f"{heading}:\n{said}"


async def test_redis_is_asked_from_a_workers_pod_with_its_url(
    settings: Callable[..., Settings], own_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    server = own_redis()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "operator", "on", ">p@ss", "~*", "+@read", "+info")
        client.execute_command("ACL", "SETUSER", "default", "off")
    url = f"redis://operator:p%40ss@localhost:{server.port}/0"
    (first,) = [block for block in BLOCKS if block.page == "RUNBOOKS.md"][:1]
    cluster = Cluster(tmp_path, environment(settings(redis_url=url)), [])

    said = await cluster.run(first.text, "redis-cli INFO stats | grep evicted_keys >&2", "redis-cli CONFIG GET dir")
    assert said.startswith("evicted_keys:0")
    assert "redis-cli: Redis refused: " in said
    assert "Traceback" not in said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_tool_of_redis_that_a_block_calls_is_defined_on_its_page(page: Path) -> None:
    texts = "\n".join(block.text for block in BLOCKS if block.page == page.name)

    assert "redis-cli() {" in texts or not re.search(r"^ *redis-cli ", texts, re.MULTILINE)
