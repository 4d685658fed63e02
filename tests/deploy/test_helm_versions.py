"""Helm 4 makes of the chart what Helm 3 makes of it, and says the same of wrong values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.deploy.chart import CHART, KUBERNETES, NAMESPACE, RELEASE, SCENARIOS, Refused, run_helm

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.helm, pytest.mark.helm4]

WHERE = ("--namespace", NAMESPACE, "--kube-version", KUBERNETES)
WRONG: dict[str, dict[str, Any]] = {
    "a type": {"podSecurityContext": {"seccompProfile": "word"}, "tolerations": 7},
    "null": {"probes": None, "tmpSize": None},
    "a form": {"rollingUpdate": {"maxSurge": "word"}},
    "several forms": {"tmpSize": "much", "nameOverride": "a\nb"},
    "a contradiction": {"prometheusRule": {"disabled": ["100%d"]}},
    "several contradictions": {"config": {"shutdownGrace": 3}, "spool": {"mode": "always"}},
}


def rendered(helm: str, scenario: str) -> list[dict[str, Any]]:
    """All manifests; Helm's order differs between objects of one kind."""
    text = run_helm("template", RELEASE, str(CHART), *WHERE, "-f", str(CHART / f"ci/{scenario}-values.yaml"), helm=helm)
    manifests = filter(None, yaml.safe_load_all(text))
    return sorted(manifests, key=lambda manifest: (manifest["kind"], manifest["metadata"]["name"]))


def keys_told(helm: str, values: dict[str, Any]) -> set[str]:
    """The keys that a refusal names."""
    files = ("-f", str(CHART / "ci/default-values.yaml"), "-f", "-")
    with pytest.raises(Refused) as refused:
        run_helm("template", RELEASE, str(CHART), *WHERE, *files, values=json.dumps(values), helm=helm)
    return set(refused.value.told)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_both_render_the_same(scenario: str) -> None:
    assert rendered("helm", scenario) == rendered("helm4", scenario)


@pytest.mark.parametrize("what", WRONG)
def test_both_refuse_the_same_by_name(what: str) -> None:
    told = keys_told("helm4", WRONG[what])

    assert told
    assert told == keys_told("helm", WRONG[what])


def test_both_pack_the_same_chart(tmp_path: Path) -> None:
    for helm in ("helm", "helm4"):
        run_helm("package", str(CHART), "--destination", str(tmp_path / helm), helm=helm)
    (ours,) = (tmp_path / "helm").iterdir()

    shown = [run_helm("show", "all", str(tmp_path / helm / ours.name), helm=helm) for helm in ("helm", "helm4")]
    assert shown[0] == shown[1]


def test_another_helm_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = tmp_path / "other-helm"
    named.write_text('#!/bin/sh\necho "other: $*"\n')
    named.chmod(0o700)
    monkeypatch.setenv("HELM", str(named))

    assert run_helm("version") == "other: version\n"
