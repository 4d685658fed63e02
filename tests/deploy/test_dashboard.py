"""The dashboard asks for what workers export, in queries that Prometheus understands."""

from __future__ import annotations

import json
import subprocess
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.deploy.chart import find_tool, render
from tests.deploy.drawing import page
from tests.deploy.metric_names import series, unknown_labels, used
from tests.deploy.panels import DASHBOARD, PANELS, Curve, Shown, filled
from tests.deploy.prometheus import Series
from worker.model.causes import StoreCause

if TYPE_CHECKING:
    from pathlib import Path

QUESTIONS = ["Is audio safe?", "How late is it?", "Who owns what?", "What costs how much?", "What goes wrong?"]
NOT_SHOWN = {
    "audio_batch_abandoned_uploads_total",  # nothing is to be done
    "audio_batch_batch_failures_total",  # alerted on
    "audio_batch_chunks_total",  # seconds and bytes of audio say more
    "audio_batch_dead_letters_bytes",  # alerted on; how many there are is shown
    "audio_batch_deleted_entries_total",  # somebody asked for it
    "audio_batch_recoveries_total",  # a failover of Redis is seen elsewhere
    "audio_batch_redis_eviction_policy",  # alerted on
    "audio_batch_redis_nodes",  # alerted on
    "audio_batch_redis_persistence",
    "audio_batch_redis_replicas",
    "audio_batch_silence_seconds_total",  # the gaps are shown
    "audio_batch_spool_bytes",  # alerted on; blobs and their age are shown
    "audio_batch_spool_limit_bytes",
    "audio_batch_spool_uploads_total",
    "audio_batch_workers",  # counted by their own series instead
}


def queries() -> list[str]:
    return [target["expr"] for panel in PANELS for target in panel["targets"]]


def test_the_dashboard_answers_its_questions_in_order() -> None:
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == QUESTIONS


@pytest.mark.promtool
def test_prometheus_parses_every_query(tmp_path: Path) -> None:
    recorded = [{"record": f"panel:{number}", "expr": filled(query)} for number, query in enumerate(queries())]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))

    subprocess.run([find_tool("promtool") or "promtool", "check", "rules", str(file)], check=True, capture_output=True)


def test_queries_ask_for_series_and_labels_that_workers_have() -> None:
    known = series()

    for query in queries():
        assert used(query)
        assert used(query) <= set(known)
        assert not unknown_labels(query, known), query


def test_every_series_of_the_worker_is_on_the_dashboard() -> None:
    shown = {name for query in queries() for name in used(query)}
    families = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in shown}

    exported = {name for name in series() if name.startswith("audio_batch_")}
    plain = {name for name in exported if not name.endswith(("_bucket", "_sum", "_count"))}
    histograms = {name.removesuffix("_bucket") for name in exported if name.endswith("_bucket")}
    assert (plain | histograms) - shown - families == NOT_SHOWN


def test_every_query_is_limited_to_the_release() -> None:
    assert all('namespace="$namespace",job="$job"' in query for query in queries())


def test_every_panel_says_what_it_shows() -> None:
    assert all(
        panel["description"].endswith((".", "!")) and panel["fieldConfig"]["defaults"]["unit"] for panel in PANELS
    )


def test_panels_do_not_cover_each_other() -> None:
    for one, other in combinations((panel["gridPos"] for panel in DASHBOARD["panels"]), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above


def test_the_picture_of_many_causes_names_those_that_happened() -> None:
    (panel,) = (panel for panel in PANELS if panel["title"] == "Store")
    curves = [
        Curve(str(cause), Series({}, [(0.0, 0.0), (1.0, float(cause is StoreCause.SERVER))])) for cause in StoreCause
    ]

    picture = page([panel], [Shown(panel, [curves])], 0.0, 1.0)

    assert ">server</text>" in picture
    assert ">timeout</text>" not in picture
    assert f">and {len(curves) - 1} that stay 0</text>" in picture


def test_ids_are_unique() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]

    assert len(ids) == len(set(ids))


@pytest.mark.helm
def test_the_chart_ships_the_file_as_it_is() -> None:
    (shipped,) = (m for m in render(scenario="everything").of("ConfigMap") if "dashboard" in m["metadata"]["name"])

    assert json.loads(shipped["data"]["audio-batch-worker.json"]) == DASHBOARD
    assert shipped["metadata"]["labels"]["grafana_dashboard"] == "1"
