"""A value of a wrong type is refused by name; a text with odd characters is kept as it is, or refused by name, too."""

from __future__ import annotations

import json
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.chart import CHART, KUBERNETES, Manifest, Refused, nested, render, run_helm, walk

pytestmark = pytest.mark.helm

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = dict(walk(VALUES))

SAMPLES: dict[type, Any] = {str: "word", int: 7, bool: True, list: ["word"], dict: {"word": "word"}}
BESIDE_NULL = {
    "config.opusBitrate": int,
    "config.encodeThreads": int,
    "config.storageEmulatorHost": str,
    "replicas": int,
    "terminationGracePeriodSeconds": int,
}
"""The types of what is null by default."""

TEXT_OR_NUMBER = {
    "spool.claim.size",
    "autoscaling.hpa.externalMetric.targetAverageValue",
    "podDisruptionBudget.maxUnavailable",
    "rollingUpdate.maxSurge",
    "rollingUpdate.maxUnavailable",
    "resources.requests.cpu",
    "resources.requests.memory",
    "resources.limits.cpu",
    "resources.limits.memory",
    "tmpSize",
}
ITEMS: dict[str, set[type]] = {
    "encryption.oldSecrets": {str},
    "spool.claim.accessModes": {str},
    "prometheusRule.disabled": {str},
    "securityContext.capabilities.drop": {str},
    "networkPolicy.redisPorts": {int},
    "extraObjects": {dict, str},
}
"""The types of the items of lists; those of all others are maps."""

OF_KUBERNETES = {"affinity", "autoscaling.keda.authenticationRef"}
"""Empty maps whose keys are not labels or annotations."""

ODD_TEXTS = ("a\nb", "abc\n", "100%d", 'it\'s "x": 1 # 2', "- a", "{{ x", "*a", "a\\b\té")
LIKE_OTHER_TYPES = ("true", "1", "null", "1e3", "0x1f")


def types(path: str) -> set[type]:
    """The types that a value may have."""
    if path in TEXT_OR_NUMBER:
        return {str, int}
    found: type = BESIDE_NULL.get(path) or type(DEFAULTS[path])
    return {int} if found is float else {found}


def values(wrong: dict[str, Any]) -> dict[str, Any]:
    """Values in which each of these paths is set."""
    found: dict[str, Any] = {}
    for path, value in wrong.items():
        *sections, key = path.split(".")
        section = found
        for name in sections:
            section = section.setdefault(name, {})
        section[key] = value
    return found


def told(wrong: dict[str, Any]) -> set[str]:
    """The paths that the complaints about these values name, without places in lists."""
    with pytest.raises(Refused) as refused:
        render(values(wrong))
    return {path for complaint in refused.value.told for path in wrong if f"{complaint}.".startswith(f"{path}.")}


@pytest.mark.parametrize("sample", SAMPLES)
def test_each_value_of_a_wrong_type_is_refused_by_name(sample: type) -> None:
    leaves = [path for path, value in DEFAULTS.items() if not (isinstance(value, dict) and value)]
    wrong = {path: SAMPLES[sample] for path in leaves if sample not in types(path)}

    assert told(wrong) == set(wrong)


@pytest.mark.parametrize("sample", [sample for sample in SAMPLES if sample is not dict])
def test_each_section_that_is_no_map_is_refused_by_name(sample: type) -> None:
    sections = [path for path, value in DEFAULTS.items() if isinstance(value, dict)]

    for depth in {path.count(".") for path in sections}:
        wrong = {path: SAMPLES[sample] for path in sections if path.count(".") == depth}
        assert told(wrong) == set(wrong)


@pytest.mark.parametrize("sample", SAMPLES)
def test_each_list_with_an_item_of_a_wrong_type_is_refused_by_name(sample: type) -> None:
    lists = [path for path, value in DEFAULTS.items() if isinstance(value, list)]
    wrong = {path: [SAMPLES[sample]] for path in lists if sample not in ITEMS.get(path, {dict})}

    assert told(wrong) == set(wrong)


@pytest.mark.parametrize("sample", [sample for sample in SAMPLES if sample is not str])
def test_labels_and_annotations_that_are_no_texts_are_refused_by_name(sample: type) -> None:
    maps = [path for path, value in DEFAULTS.items() if value == {} and path not in OF_KUBERNETES]
    wrong = {f"{path}.word": SAMPLES[sample] for path in maps}

    assert told(wrong) == set(wrong)


def test_parts_of_affinity_and_volumes_have_types_too() -> None:
    wrong = {
        "affinity.nodeAffinity": "word",
        "affinity.podAffinity": 7,
        "affinity.podAntiAffinity": ["word"],
        "autoscaling.keda.authenticationRef.name": 7,
        "extraVolumes": [{"name": 7}],
        "extraVolumeMounts": [{"name": "word", "mountPath": 7}],
        "extraEnv": [{"name": "WORD", "value": 7}],
    }

    assert told(wrong) == set(wrong)


def test_a_text_for_the_system_call_filter_is_refused_without_a_template_in_sight() -> None:
    with pytest.raises(Refused) as refused:
        render({"podSecurityContext": {"seccompProfile": "word"}})

    assert "template" not in str(refused.value)


def free_texts() -> set[str]:
    """Paths of texts that are not chosen from a list."""
    found = set()
    for path in (path for path in DEFAULTS if types(path) == {str}):
        node: Manifest = SCHEMA
        for key in path.split("."):
            node = node.get("properties", {}).get(key) or {}
        if "enum" not in node:
            found.add(path)
    return found


def accepted(texts: dict[str, str], scenario: str) -> tuple[dict[str, str], list[Manifest]]:
    """What is not refused by name of some texts, and the manifests with it.

    Raises:
        Refused: no path was named.
    """
    while True:
        try:
            return texts, list(render(values(texts), scenario=scenario).manifests)
        except Refused as refused:
            left = {path: text for path, text in texts.items() if path not in refused.told}
            if left == texts:
                raise
            texts = left


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_a_text_with_odd_characters_is_kept_or_refused_by_name(text: str) -> None:
    numbered = enumerate(sorted(free_texts()))
    texts = {path: f"{number}{text}" if text.endswith("\n") else f"{text}{number}" for number, path in numbered}
    scaling = {path: one for path, one in texts.items() if path.startswith("autoscaling.")}
    others = {path: one for path, one in texts.items() if path not in scaling}

    kept: set[str] = set()
    shown: set[str] = set()
    for scenario, given in (("everything", others), ("keda", scaling), ("hpa-metric", scaling)):
        left, manifests = accepted(given, scenario)
        found = [value for manifest in manifests for value in strings(manifest)]
        kept |= set(left)
        shown |= {path for path, one in left.items() if any(one in value for value in found)}
    assert "dashboard.labels.grafana_dashboard" in kept
    assert shown == kept


def strings(value: object) -> list[str]:
    """All texts in a manifest, keys left out."""
    if isinstance(value, dict):
        return [found for inner in value.values() for found in strings(inner)]
    if isinstance(value, list):
        return [found for inner in value for found in strings(inner)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("name", LIKE_OTHER_TYPES)
def test_names_that_look_like_other_types_stay_names(name: str) -> None:
    names = dict.fromkeys(
        [
            "nameOverride",
            "fullnameOverride",
            "redis.existingSecret.name",
            "redis.existingSecret.key",
            "encryption.existingSecret.oldSecretsKey",
            "spool.claim.storageClass",
            "serviceAccount.name",
            "priorityClass.name",
            "prometheusRule.alertLabels.team",
        ],
        name,
    )

    for manifest in render(values(names), scenario="everything").manifests:
        if "monitoring" not in manifest["apiVersion"]:
            kubernetes_validate.validate(manifest, "1.37", strict=True)


def test_a_release_and_a_namespace_may_have_names_that_are_numbers() -> None:
    flags = ("--kube-version", KUBERNETES, "-f", str(CHART / "ci/everything-values.yaml"))
    text = run_helm("template", "12", str(CHART), "--namespace", "34", *flags)

    for manifest in filter(None, yaml.safe_load_all(text)):
        assert manifest["metadata"].get("namespace", "34") == "34"
        if "monitoring" not in manifest["apiVersion"]:
            kubernetes_validate.validate(manifest, "1.37", strict=True)


def test_large_numbers_stay_whole_numbers() -> None:
    large = ("minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds", "terminationGracePeriodSeconds")
    text = render(values(dict.fromkeys(large, 12_345_678)))

    spec = text.one("Deployment")["spec"]
    assert [spec.get(key, spec["template"]["spec"].get(key)) for key in large] == [12_345_678] * len(large)


@pytest.mark.parametrize("text", ["100%", "100%d", "%s %%"])
def test_percent_signs_are_told_as_they_are(text: str) -> None:
    with pytest.raises(Refused) as refused:
        render({"prometheusRule": {"disabled": [text]}})

    assert refused.value.told["prometheusRule.disabled"].startswith(f"{text} is not an alert of this chart")
    assert "error calling" not in str(refused.value)


def test_a_sentence_with_a_percent_sign_of_its_own_comes_alone() -> None:
    with pytest.raises(Refused) as refused:
        render({"rollingUpdate": {"maxSurge": "word"}})

    assert refused.value.told == {"rollingUpdate.maxSurge": "must be a number of pods or per cent, like 1 or 25%"}
    assert "error calling" not in str(refused.value)


@pytest.mark.parametrize("selector", ['{job="a"}', "job", "job=a", 'job="a" cluster="b"', 'job="a"\n,b="c"', "100%d"])
def test_a_selector_that_prometheus_would_not_read_is_refused(selector: str) -> None:
    with pytest.raises(Refused) as refused:
        render({"prometheusRule": {"enabled": True, "selector": selector}})

    assert refused.value.told["prometheusRule.selector"].startswith("must be label matchers")


@pytest.mark.parametrize("selector", ['job="a"', 'job = "a: b #c", cluster=~"x|\\"y\\""', 'job!~"%d"'])
def test_a_selector_is_told_to_prometheus_as_it_is(selector: str) -> None:
    (group,) = render({"prometheusRule": {"enabled": True, "selector": selector}}).one("PrometheusRule")["spec"][
        "groups"
    ]

    assert all(f"{{{selector}" in rule["expr"] for rule in group["rules"])


@pytest.mark.parametrize("text", ["word", "- kind: ConfigMap", "kind: ConfigMap", "a: b: c", "---\nkind: Pod"])
def test_extra_objects_that_are_none_are_refused_by_number(text: str) -> None:
    with pytest.raises(Refused) as refused:
        render(
            {"extraObjects": [nested("apiVersion", "v1") | {"kind": "ConfigMap", "metadata": {"name": "abw-x"}}, text]}
        )

    assert refused.value.told == {
        "extraObjects[1]": "must be an object of Kubernetes with apiVersion and kind, a map or the text of one"
    }


def test_extra_objects_may_be_several_in_a_text_or_none() -> None:
    one = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"
    texts = [one % "abw-1" + "---\n" + one % "abw-2", "{{ if false }}" + one % "abw-3" + "{{ end }}", "# nothing"]
    names = {manifest["metadata"]["name"] for manifest in render({"extraObjects": texts}).of("ConfigMap")}

    assert names >= {"abw-1", "abw-2"}
    assert "abw-3" not in names
