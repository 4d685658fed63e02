"""Whatever the chart can render is what Kubernetes and its operators accept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.deploy.chart import CHART, NAMESPACE, RELEASE, SCENARIOS, Manifest, Refused, Rendered, render, run_helm, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.helm

OLDEST_AND_NEWEST = ("1.27", "1.37")
CUSTOM = yaml.safe_load((Path(__file__).parent / "custom-resources.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


@pytest.fixture(params=[None, *SCENARIOS])
def rendered(request: pytest.FixtureRequest) -> Rendered:
    return render(scenario=request.param)


@pytest.mark.parametrize("scenario", [None, *SCENARIOS])
def test_strict_lint_finds_nothing(scenario: str | None) -> None:
    values = ["-f", str(CHART / "ci" / f"{scenario}-values.yaml")] if scenario else []

    found = run_helm("lint", "--strict", str(CHART), *values)
    assert "0 chart(s) failed" in found
    assert not [line for line in found.splitlines() if line.startswith("[")]


@pytest.mark.parametrize("version", OLDEST_AND_NEWEST)
def test_every_manifest_fits_the_kubernetes_schemas_strictly(rendered: Rendered, version: str) -> None:
    for manifest in rendered.manifests:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_strict_validation_finds_a_misspelt_field() -> None:
    deployment = render().one("Deployment") | {"spec": {**render().one("Deployment")["spec"], "replicsa": 1}}

    with pytest.raises(kubernetes_validate.ValidationError, match="replicsa"):
        kubernetes_validate.validate(deployment, OLDEST_AND_NEWEST[0], strict=True)


def test_manifests_of_operators_have_only_fields_that_their_definitions_have(rendered: Rendered) -> None:
    for manifest in rendered.manifests:
        if manifest["kind"] in CUSTOM:
            jsonschema.validate(manifest, CUSTOM[manifest["kind"]])


def test_everything_renders_each_kind_of_object() -> None:
    kinds = {manifest["kind"] for manifest in render(scenario="everything").manifests}

    assert kinds == {
        "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "PersistentVolumeClaim", "Pod",
        "PodDisruptionBudget", "PodMonitor", "PriorityClass", "PrometheusRule", "ServiceAccount",
    }  # fmt: skip


def test_names_are_unique_and_belong_to_the_release(rendered: Rendered) -> None:
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in rendered.manifests]

    assert len(names) == len(set(names))
    assert all(name.startswith(RELEASE) or kind == "PriorityClass" for kind, name in names)
    assert {m["metadata"].get("namespace", NAMESPACE) for m in rendered.manifests} == {NAMESPACE}


def test_common_labels_are_on_every_object_of_the_chart() -> None:
    manifests = render({"extraObjects": []}, scenario="everything").manifests

    assert all(manifest["metadata"]["labels"]["team"] == "audio" for manifest in manifests)


def test_the_same_values_render_the_same_manifests() -> None:
    arguments = (
        "template",
        RELEASE,
        str(CHART),
        "-f",
        str(CHART / "ci/everything-values.yaml"),
        "--kube-version",
        "1.33",
    )

    assert run_helm(*arguments) == run_helm(*arguments)


def test_a_cluster_older_than_the_objects_used_is_refused() -> None:
    with pytest.raises(Refused, match="incompatible with Kubernetes"):
        run_helm("template", RELEASE, str(CHART), "--kube-version", "1.26.0")


def _objects(schema: Manifest, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if schema.get("additionalProperties") is False:  # what goes to Kubernetes as it is may have any key
        yield path or "(top)", schema
    for key, inner in schema.get("properties", {}).items():
        yield from _objects(inner, f"{path}.{key}" if path else key)


@pytest.mark.parametrize("path", [path for path, _ in _objects(SCHEMA)])
def test_an_unknown_key_is_refused_at_every_level_and_named(path: str) -> None:
    values: dict[str, Any] = {"unheardOf": 1}
    for key in reversed([] if path == "(top)" else path.split(".")):
        values = {key: values}

    with pytest.raises(Refused, match="unheardOf"):
        render(values)


def test_schema_and_values_have_the_same_keys() -> None:
    in_schema = {path: set(node["properties"]) for path, node in _objects(SCHEMA)}
    closed = {f"{path}.{key}".removeprefix("(top).") for path, keys in in_schema.items() for key in keys}
    in_values = {path for path, _ in walk(VALUES) if path in closed or path.rpartition(".")[0] in in_schema}
    reference = "autoscaling.keda.authenticationRef"

    assert in_values <= closed
    assert closed - in_values == {"enabled", "global", f"{reference}.name", f"{reference}.kind"}
