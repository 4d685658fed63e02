"""The chart as a part of another chart: switched by a condition, with the parent's globals and nulls."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.deploy.chart import CHART, KUBERNETES, Refused, run_helm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.helm

CHART_NAME = "audio-batch-worker"
PARENT = {"apiVersion": "v2", "name": "parent", "version": "1.0.0"}
DEPENDENCY = {"name": CHART_NAME, "version": "0.1.0"}
CONDITION = {"condition": f"{CHART_NAME}.enabled"}


@pytest.fixture
def kinds(tmp_path: Path) -> Callable[..., list[str]]:
    """Render a parent chart with these values for ours; the kinds of all manifests, sorted."""
    parent = tmp_path / "parent"
    shutil.copytree(CHART, parent / "charts" / CHART_NAME)

    def rendered(values: dict[str, Any], *, condition: bool = True) -> list[str]:
        dependency = DEPENDENCY | CONDITION if condition else DEPENDENCY
        (parent / "Chart.yaml").write_text(yaml.safe_dump(PARENT | {"dependencies": [dependency]}))
        (parent / "values.yaml").write_text(yaml.safe_dump({"global": {"region": "eu"}, CHART_NAME: values}))
        text = run_helm("template", "abw", str(parent), "--kube-version", KUBERNETES)
        return sorted(document["kind"] for document in yaml.safe_load_all(text) if document)

    return rendered


def test_the_condition_switches_the_chart_on_and_off(kinds: Callable[..., list[str]]) -> None:
    assert "Deployment" in kinds({"enabled": True})
    assert "Deployment" in kinds({})
    assert kinds({"enabled": False}) == []


def test_a_parent_that_forgets_the_condition_is_told(kinds: Callable[..., list[str]]) -> None:
    with pytest.raises(Refused, match="enabled: false has an effect only where a parent chart has `condition: audio"):
        kinds({"enabled": False}, condition=False)


def test_nulls_of_a_parent_are_as_absent_or_refused_by_name(kinds: Callable[..., list[str]]) -> None:
    absent = kinds({})

    assert kinds({"serviceAccount": {"annotations": None}, "nodeSelector": None, "redis": {"url": None}}) == absent
    for values in ({"redis": {"existingSecret": None}}, {"probes": {"startup": None}}, {"tmpSize": None}):
        try:
            assert kinds(values) == absent  # Helm before 3.13 gives a dependency its defaults back
        except Refused as refused:
            assert "must not be null" in str(refused)  # noqa: PT017 -- either is right
