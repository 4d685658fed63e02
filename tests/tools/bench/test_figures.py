import json

import pytest
from rich.console import Console

from tests.tools.bench.figures import Figure, Grid, Section, Spread, at_least, at_most, exactly, percentile
from tests.tools.bench.load import quantile
from tests.tools.bench.report import as_json, show

SECTION = Section(
    "Title",
    figures=[
        Figure("ratio", 1.2, "x", at_most(1.05), Spread.of([1.2, 1.3, 1.5])),
        Figure("store requests", 1.0, "", exactly(1.00), note="a note"),
    ],
    grids=[Grid("Grid", (("name", ""), ("seconds", ".2f")), [("speech", 0.3456)])],
    notes=["something was not measured"],
)


def test_the_spread_of_runs_is_their_least_their_median_and_how_far_they_lie_apart() -> None:
    runs = Spread.of([2.0, 1.0, 1.5])
    assert (runs.least, runs.middle, runs.noise) == (1.0, 1.5, 1.0)


def test_no_runs_have_no_spread() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        Spread.of([])


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 5), (0.99, 10), (1.0, 10)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: float) -> None:
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], share) == value


def test_targets_hold_at_their_limit() -> None:
    assert at_most(1.05).holds(1.05)
    assert not at_most(1.05).holds(1.051)
    assert at_least(1.9).holds(1.9)
    assert not at_least(1.9).holds(1.89)


def test_exactly_one_request_per_batch_forgives_no_hundredth() -> None:
    assert exactly(1.00).holds(1.0)
    assert not exactly(1.00).holds(1.01)
    assert not exactly(1.00).holds(0.99)


def test_a_quantile_of_a_histogram_lies_inside_its_bucket() -> None:
    buckets = {0.001: 90.0, 0.01: 100.0, float("inf"): 100.0}
    assert quantile(buckets, 0.5) == pytest.approx(0.001 * 50 / 90)
    assert quantile(buckets, 0.95) == pytest.approx(0.001 + 0.009 / 2)


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    assert quantile({0.001: 1.0, float("inf"): 100.0}, 0.99) == 0.001


def test_a_histogram_without_observations_has_no_quantile() -> None:
    with pytest.raises(ValueError, match="nothing was observed"):
        quantile({0.001: 0.0, float("inf"): 0.0}, 0.5)


def test_the_json_has_every_run_and_verdict() -> None:
    facts = json.loads(as_json([SECTION]))["sections"][0]
    assert facts["figures"][0]["runs"] == [1.2, 1.3, 1.5]
    assert [figure["verdict"] for figure in facts["figures"]] == ["missed", "reached"]
    assert facts["tables"][0]["rows"] == [{"name": "speech", "seconds": 0.3456}]
    assert facts["notes"] == ["something was not measured"]


def test_the_tables_show_value_median_target_and_notes() -> None:
    shown = Console(width=140, record=True)
    with shown.capture() as captured:
        show(SECTION, shown)
    for text in ("1.200 x", "1.300", "+25%", "at most 1.05", "missed", "reached", "a note", "0.35", "not measured"):
        assert text in captured.get()


def test_a_figure_is_found_by_its_name() -> None:
    assert SECTION.value("ratio") == 1.2
    assert SECTION.value("unknown") is None
