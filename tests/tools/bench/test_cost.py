from dataclasses import replace

import pytest

from tests.tools.bench import cost
from tests.tools.bench.cost import TYPICAL, Measured, Plan, bill, lifetime
from tests.tools.bench.prices import CLASSES, MachinePrices

FREE_MACHINES = MachinePrices(vcpu_hour=0.0, gib_hour=0.0)
FREE_STORAGE = replace(CLASSES["standard"], gib_month=0.0, class_a=0.0)
NOTHING = Measured(worker_cpu=0, quiet_cpu=0, redis_cpu=0, redis_bytes=0, worker_bytes=0, minute_bytes=0, quiet_bytes=0)
DENSE = Plan(quiet_share=0)


def test_one_object_per_minute_costs_what_the_predecessor_paid_for_60_second_batches() -> None:
    assert bill(200, NOTHING, DENSE).operations == pytest.approx(43.2)


def test_longer_blobs_need_fewer_operations_and_more_of_redis() -> None:
    short, long = (bill(200, TYPICAL, Plan(blob_seconds=seconds)) for seconds in (60, 85))
    assert long.operations == pytest.approx(short.operations * 60 / 85)
    assert short.redis < long.redis < short.redis * 85 / 60


def test_a_session_that_needs_a_whole_cpu_pays_for_it_day_and_night_and_for_what_stands_idle() -> None:
    machines = MachinePrices(vcpu_hour=0.7, gib_hour=0.0)
    assert bill(1, replace(NOTHING, worker_cpu=60), DENSE, machines).worker == pytest.approx(720)


def test_quiet_audio_costs_what_was_measured_for_it_in_proportion() -> None:
    machines = MachinePrices(vcpu_hour=0.7, gib_hour=0.0)
    measured = replace(NOTHING, worker_cpu=60, quiet_cpu=20, minute_bytes=3e6, quiet_bytes=1e6)
    half = bill(1, measured, Plan(quiet_share=0.5), machines)
    assert half.worker == pytest.approx(720 * 40 / 60)
    assert half.stored == pytest.approx(bill(1, measured, DENSE, machines).stored * 2 / 3)


def test_redis_is_paid_for_twice_because_of_its_replica() -> None:
    machines = MachinePrices(vcpu_hour=0.0, gib_hour=0.7)
    assert bill(1, replace(NOTHING, redis_bytes=2**30), DENSE, machines).redis == pytest.approx(2 * 720)


def test_storage_is_billed_by_the_gib_for_every_month_that_it_is_kept() -> None:
    measured = replace(NOTHING, minute_bytes=2**30)
    assert bill(1, measured, DENSE).stored == pytest.approx(720 * 60 * 0.02)
    assert bill(1, measured, replace(DENSE, months=7)).stored == pytest.approx(7 * 720 * 60 * 0.02)


def test_an_early_deletion_is_billed_as_if_it_had_come_later() -> None:
    coldline = replace(DENSE, storage=CLASSES["coldline"])
    assert bill(1, TYPICAL, coldline).stored == bill(1, TYPICAL, replace(coldline, months=3)).stored


def test_without_prices_nothing_costs_anything() -> None:
    assert bill(200, TYPICAL, Plan(storage=FREE_STORAGE), FREE_MACHINES).all_in == 0


def test_costs_grow_as_sessions_do() -> None:
    few, many = (bill(sessions, TYPICAL, Plan()) for sessions in (200, 2_000_000))
    assert many.all_in == pytest.approx(few.all_in * 10_000)


@pytest.mark.parametrize(
    ("months", "cheapest"), [(1, "standard"), (3, "standard"), (4, "nearline"), (12, "nearline"), (13, "coldline")]
)
def test_the_class_to_choose_depends_on_the_months_that_a_minute_is_kept(months: float, cheapest: str) -> None:
    assert min(CLASSES, key=lambda name: lifetime(147e3, months, CLASSES[name])) == cheapest


def test_the_table_has_the_predecessors_three_phases_beside_ours_for_both_kinds_of_day() -> None:
    months, _, _ = cost.section().grids
    assert [row[0] for row in months.rows] == [200.0, 200.0, 20_000.0, 20_000.0, 2_000_000.0, 2_000_000.0]
    assert [row[1] for row in months.rows[:2]] == ["speech all day", "52% quiet"]
    assert months.texts()[0][-3:] == ["518", "43", "92"]
    assert months.texts()[2][-3:] == ["51,800", "4,300", "9,200"]


def test_the_table_of_classes_marks_the_cheapest_for_each_time() -> None:
    _, _, classes = cost.section(plan=DENSE).grids
    marked = [[row[0] for row in classes.texts() if row[column].startswith("*")] for column in range(1, 8)]
    assert marked == [["standard"]] * 2 + [["nearline"]] * 3 + [["coldline"]] * 2


@pytest.mark.parametrize(("audio", "ways"), [("speech all day", cost.SPEECH_WAYS), ("the built day", cost.DAY_WAYS)])
def test_every_saving_lowers_the_bill(audio: str, ways: tuple[cost.Way, ...]) -> None:
    _, savings, _ = cost.section().grids
    shares = [float(row[-1]) for row in savings.rows if row[0] == audio]
    assert shares[0] == 1
    assert shares == sorted(set(shares), reverse=True)
    assert len(shares) == len(ways)


def test_plan_is_told_in_the_titles() -> None:
    months, _, classes = cost.section(plan=Plan(CLASSES["nearline"], months=6, blob_seconds=85, quiet_share=0)).grids
    assert "nearline class, blobs of 85 s" in months.title
    assert ("storage of 6 months", ",.0f") in months.columns
    assert "blobs of 208 kB" in classes.title
