import pytest

from tests.tools.bench import cost
from tests.tools.bench.cost import LIST_PRICES, Measured, Prices, bill

FREE = Prices(class_a=0.0, gb_month=0.0, vcpu_hour=0.0, gib_hour=0.0)
NOTHING = Measured(worker_cpu=0.0, redis_cpu=0.0, redis_bytes=0.0, worker_bytes=0.0, blob_bytes=0.0)


def test_one_object_per_minute_costs_what_the_predecessor_paid_for_60_second_batches() -> None:
    assert bill(200, NOTHING).operations == pytest.approx(43.2)


def test_a_session_that_needs_a_whole_cpu_pays_for_it_day_and_night_and_for_what_stands_idle() -> None:
    measured = Measured(worker_cpu=60.0, redis_cpu=0.0, redis_bytes=0.0, worker_bytes=0.0, blob_bytes=0.0)
    prices = Prices(class_a=0.0, gb_month=0.0, vcpu_hour=0.7, gib_hour=0.0)
    assert bill(1, measured, prices).worker == pytest.approx(720)


def test_redis_is_paid_for_twice_because_of_its_replica() -> None:
    measured = Measured(worker_cpu=0.0, redis_cpu=0.0, redis_bytes=2**30, worker_bytes=0.0, blob_bytes=0.0)
    prices = Prices(class_a=0.0, gb_month=0.0, vcpu_hour=0.0, gib_hour=0.7)
    assert bill(1, measured, prices).redis == pytest.approx(2 * 720)


def test_storage_is_that_of_one_months_audio() -> None:
    measured = Measured(worker_cpu=0.0, redis_cpu=0.0, redis_bytes=0.0, worker_bytes=0.0, blob_bytes=1e9)
    prices = Prices(class_a=0.0, gb_month=0.02, vcpu_hour=0.0, gib_hour=0.0)
    assert bill(1, measured, prices).stored == pytest.approx(720 * 60 * 0.02)


def test_without_prices_nothing_costs_anything() -> None:
    assert bill(200, cost.TYPICAL, FREE).running == 0


def test_costs_grow_as_sessions_do() -> None:
    few, many = (bill(sessions, cost.TYPICAL, LIST_PRICES) for sessions in (200, 2_000_000))
    assert many.running == pytest.approx(few.running * 10_000)


def test_the_table_has_the_predecessors_three_phases_beside_ours() -> None:
    (grid,) = cost.section().grids
    assert [row[0] for row in grid.rows] == [200.0, 20_000.0, 2_000_000.0]
    assert grid.texts()[0][-3:] == ["518", "43", "92"]
    assert grid.texts()[1][-3:] == ["51,800", "4,300", "9,200"]
