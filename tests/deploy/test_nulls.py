"""A value that is null is as absent, or it is refused in a sentence that names it. Helm takes defaults away for it."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.deploy.chart import CHART, Refused, nested, render, run_helm, walk
from tests.deploy.test_render import CUSTOM, OLDEST_AND_NEWEST

pytestmark = pytest.mark.helm

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
PATHS = [path for path, _ in walk(VALUES)]
HANDED_ON = ("resources", "podSecurityContext", "securityContext", "topologySpreadConstraints", "dashboard.labels")
"""What goes to Kubernetes as it is: without it, Kubernetes' own default holds."""

CALCULATED = ("batchMaxAge", "leaseTtl", "httpPort", "shutdown", "shutdownGrace")
"""Settings that the chart itself needs; the others are the worker's alone."""

EMPTY_IS_THE_CLUSTERS = "spool.claim.storageClass"
USED_ONLY_BY = {"autoscaling.keda": "keda", "autoscaling.hpa.externalMetric": "hpa-metric"}
KEPT_APART = {"replicas": "{autoscaling: {kind: none}}", "resources": "{autoscaling: {kind: none}}"}
"""What makes the chart do without a value, or use it."""

REFUSED = {
    "resources.requests": "the HPA measures CPU against it",
    "resources.requests.cpu": "the HPA measures CPU against it",
    "autoscaling.keda.serverAddress": "KEDA needs the URL",
    "podSecurityContext.seccompProfile.type": "Kubernetes needs it",
    "priorityClass.name": "the class to make needs a name",
}
"""What other values ask for in the scenario."""


def default(path: str) -> object:
    found: Any = VALUES
    for key in path.split("."):
        found = found[key]
    return found


def is_needed(path: str) -> bool:
    """The rule that README.md tells."""
    value = default(path)
    if path.startswith(HANDED_ON) or path == EMPTY_IS_THE_CLUSTERS:
        return False
    if path.startswith("config."):
        return path.removeprefix("config.") in CALCULATED
    if isinstance(value, dict):
        return any(is_needed(f"{path}.{key}") for key in value)
    return value not in (None, "", [], {})


def merged(*values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in values:
        for key, value in one.items():
            both = isinstance(value, dict) and isinstance(found.get(key), dict)
            found[key] = merged(found[key], value) if both else value
    return found


def scenario(path: str) -> str:
    return next((name for start, name in USED_ONLY_BY.items() if path.startswith(start)), "everything")


def is_alone(path: str) -> bool:
    """Whether its null can't be tried together with others: it is a section, or other values depend on it."""
    return isinstance(default(path), dict) or path in REFUSED or path in KEPT_APART


def complaint(path: str) -> str | None:
    return r"must not be null; leave the key out\b" if is_needed(path) else REFUSED.get(path)


def alike() -> dict[str, list[str]]:
    """Paths whose nulls have the same outcome, by where they are and whether they are refused."""
    groups: dict[str, list[str]] = defaultdict(list)
    for path in PATHS:
        section = "" if is_needed(path) else f" {path.split('.')[0]}"
        outcome = "accepted" if complaint(path) is None else "refused"
        groups[path if is_alone(path) else f"{outcome} {scenario(path)}{section}"].append(path)
    return groups


@pytest.mark.parametrize("paths", alike().values(), ids=alike())
def test_null_is_as_absent_or_refused_by_name(paths: list[str]) -> None:
    apart = [yaml.safe_load(KEPT_APART.get(path, "{}")) for path in paths]
    values = merged(*apart, *(nested(path, None) for path in paths))

    told = {path: text for path in paths if (text := complaint(path)) is not None}
    if told:
        with pytest.raises(Refused) as refused:
            render(values, scenario=scenario(paths[0]))
        for path, text in told.items():
            assert re.search(rf"(^|\s){re.escape(path)}[\w.]*: {text}", str(refused.value))
        return
    rendered = render(values, scenario=scenario(paths[0]))
    for manifest in rendered.manifests:
        if manifest["kind"] in CUSTOM:
            jsonschema.validate(manifest, CUSTOM[manifest["kind"]])
        else:
            kubernetes_validate.validate(manifest, OLDEST_AND_NEWEST[1], strict=True)
        assert not [where for where, value in walk(manifest) if value is None]


def test_null_for_what_is_empty_by_default_changes_nothing() -> None:
    paths = [path for path in PATHS if default(path) in (None, "", [], {}) and not is_needed(path)]

    assert len(paths) > 20
    assert render(merged(*(nested(path, None) for path in paths)), scenario=None) == render(scenario=None)


def test_the_chart_needs_what_the_rule_says() -> None:
    text = (CHART / "templates/_needed.tpl").read_text()
    listed = yaml.safe_load(text.partition('"audio-batch-worker.needed" -}}')[2].partition("{{- end }}")[0])
    paths = {f"{section}.{key}".removeprefix(".") for section, keys in listed.items() for key in keys}

    assert paths == {path for path in PATHS if is_needed(path) and not isinstance(default(path), dict)}


def test_several_nulls_are_told_together_and_a_section_only_once() -> None:
    with pytest.raises(Refused) as refused:
        render({"probes": None, "redis": {"existingSecret": None}, "tmpSize": None})

    told = [line for line in str(refused.value).splitlines() if "must not be null" in line]
    assert [line.split(":")[0].strip() for line in told] == ["tmpSize", "probes", "redis.existingSecret"]


@pytest.mark.parametrize("template", sorted((CHART / "templates").rglob("*.yaml")), ids=lambda path: path.name)
def test_each_template_first_makes_sure_that_what_it_reads_is_well_formed(template: Any) -> None:  # noqa: ANN401 -- pytest's ids
    assert template.read_text().startswith(
        ('{{- include "audio-batch-worker.wellFormed" . -}}\n', '{{- include "audio-batch-worker.checks" . -}}\n')
    )


def test_null_in_a_list_is_refused_by_name() -> None:
    for values, name in (
        ({"image": {"pullSecrets": [{"name": None}]}}, "image.pullSecrets"),
        ({"extraEnv": [{"name": None}]}, "extraEnv"),
        ({"encryption": {"oldSecrets": [None]}}, "encryption.oldSecrets"),
        ({"networkPolicy": {"redisPorts": [None]}}, "networkPolicy.redisPorts"),
        ({"nodeSelector": {"pool": None}}, "nodeSelector"),
    ):
        slashed = name.replace(".", "/")  # as Helm 3.18 and newer name it
        with pytest.raises(
            Refused, match=rf"- (at '/{slashed}[/\w]*': got null|{re.escape(name)}[.\w]*: Invalid type)"
        ):
            render(values)


def test_helm_itself_is_the_one_that_takes_defaults_away() -> None:
    text = run_helm("template", "abw", str(CHART), "--kube-version", "1.33.0", "--set", "resources.limits=null")

    assert "limits:" not in text.partition("kind: Deployment")[2].partition("kind: Pod\n")[0]


@pytest.mark.parametrize("url", ["http://host:port", "host\nname"])
def test_a_value_that_a_template_takes_apart_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(
        Refused, match=r"config\.storageEmulatorHost: must be http://host:port without a path"
    ) as refused:
        render({"config": {"storageEmulatorHost": url}})
    assert "urlParse" not in str(refused.value)
