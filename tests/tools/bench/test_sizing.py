from dataclasses import replace

import pytest

from tests.tools.bench import sizing
from tests.tools.bench.cost import TYPICAL
from tests.tools.bench.sizing import GIGABYTE, NODE_STREAMS, STREAM_SESSIONS, memory, plan
from worker.stream.keys import DEFAULT_PARTITIONS, MAX_PARTITIONS


def test_half_a_core_at_two_milliseconds_per_megabyte_carries_250_megabytes_a_second() -> None:
    assert sizing.sessions_per_node(2.0) == 250_000_000 // 32_000


def test_an_outage_of_ten_minutes_takes_eleven_times_the_memory_of_a_steady_minute() -> None:
    steady = memory(20_000, 0)
    assert steady == pytest.approx(39.4 * GIGABYTE)
    assert memory(20_000, 10) == pytest.approx(11 * steady)


def test_few_sessions_need_one_node_and_the_streams_of_a_default() -> None:
    small = plan(200, 10)
    assert (small.nodes, small.cells, small.streams, small.cores) == (1, 1, DEFAULT_PARTITIONS, 1)


@pytest.mark.parametrize("sessions", sizing.SESSIONS)
@pytest.mark.parametrize("outage", [0, 10])
def test_no_node_stream_or_cell_has_more_than_it_can_bear(sessions: int, outage: int) -> None:
    found = plan(sessions, outage)
    nodes, each = found.nodes / found.cells, sessions / found.cells
    assert found.streams <= MAX_PARTITIONS
    assert each / found.streams <= STREAM_SESSIONS
    assert nodes == 1 or found.streams >= NODE_STREAMS * nodes
    assert memory(sessions, outage) / found.nodes <= sizing.NODE_BYTES
    assert sessions / found.nodes <= sizing.sessions_per_node(2.0)


def test_more_memory_per_session_needs_more_nodes() -> None:
    measured = replace(TYPICAL, redis_bytes=2 * TYPICAL.redis_bytes)
    assert plan(200_000, 10, measured).nodes == pytest.approx(2 * plan(200_000, 10).nodes, abs=1)


def test_every_table_has_a_source_for_its_numbers() -> None:
    *tables, sources = sizing.section().grids
    assert [len(table.texts()) for table in tables] == [
        len(sizing.REDIS_CPU),
        len(sizing.SESSIONS),
        len(sizing.SESSIONS),
    ]
    assert all(text for row in sources.texts() for text in row)
