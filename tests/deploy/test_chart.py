"""What the chart promises of each object, one property per test."""

from __future__ import annotations

import base64
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.deploy.chart import CHART, SCENARIOS, TOP, Manifest, notes, render
from worker import __version__

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.helm

NUMBER_OF = {"hpa": "HorizontalPodAutoscaler", "keda": "ScaledObject"}
KEDA = {"autoscaling": {"kind": "keda", "keda": {"serverAddress": "http://prometheus:9090"}}}


def matches(selector: Manifest, labels: dict[str, str]) -> bool:
    wanted: dict[str, str] = selector["matchLabels"]
    return wanted.items() <= labels.items()


def test_chart_and_worker_have_one_version() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__
    assert render().worker["image"] == f"audio-batch-worker:{__version__}"


def test_the_chart_says_what_the_package_says_of_itself() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    package = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]

    assert [chart[key] for key in ("name", "description", "keywords")] == [
        package[key] for key in ("name", "description", "keywords")
    ]
    assert chart["annotations"]["artifacthub.io/license"] == package["license"]
    assert [person["name"] in (TOP / "LICENSE").read_text() for person in chart["maintainers"]] == [True]


def test_the_icon_is_a_picture() -> None:
    kind, _, data = yaml.safe_load((CHART / "Chart.yaml").read_text())["icon"].partition(",")

    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(data, validate=True).startswith(b"<svg ")


def test_a_digest_pins_the_image_for_worker_and_test() -> None:
    rendered = render(scenario="everything")

    images = {container["image"] for spec in rendered.pod_specs for container in spec["containers"]} - {"busybox:1.37"}
    assert [image.partition("@")[2][:7] for image in images] == ["sha256:"]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_replicas_are_the_autoscalers_alone_and_there_is_at_most_one(scenario: str) -> None:
    rendered = render(scenario=scenario)

    scalers = [kind for kind in NUMBER_OF.values() if rendered.of(kind)]
    assert len(scalers) <= 1
    assert ("replicas" in rendered.one("Deployment")["spec"]) == (not scalers)


def test_hpa_and_keda_scale_the_same_deployment_in_the_same_manner() -> None:
    by_hpa, by_keda = render().one("HorizontalPodAutoscaler")["spec"], render(KEDA).one("ScaledObject")["spec"]

    assert by_hpa["scaleTargetRef"]["name"] == by_keda["scaleTargetRef"]["name"]
    assert (by_hpa["minReplicas"], by_hpa["maxReplicas"]) == (by_keda["minReplicaCount"], by_keda["maxReplicaCount"])
    assert by_hpa["behavior"] == by_keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]


def test_two_pods_are_the_least_and_one_leaves_at_a_time() -> None:
    scaler = render().one("HorizontalPodAutoscaler")["spec"]

    assert scaler["minReplicas"] == 2
    assert scaler["behavior"]["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]


def test_the_hpa_has_one_metric_because_it_would_take_the_maximum_of_several() -> None:
    (cpu,) = render().one("HorizontalPodAutoscaler")["spec"]["metrics"]
    (total,) = render(scenario="hpa-metric").one("HorizontalPodAutoscaler")["spec"]["metrics"]

    assert (cpu["type"], cpu["containerResource"]["container"]) == ("ContainerResource", "worker")
    assert total["external"]["target"] == {"type": "AverageValue", "averageValue": "128Mi"}


def test_keda_asks_for_the_whole_backlog_and_keeps_pods_when_it_gets_no_answer() -> None:
    scaled = render(KEDA).one("ScaledObject")["spec"]

    metadata = scaled["triggers"][0]["metadata"]
    assert metadata["query"] == 'sum(audio_batch_backlog_bytes{namespace="audio",job="abw"})'
    assert metadata["ignoreNullValues"] == "false"
    assert scaled["fallback"] == {"failureThreshold": 3, "replicas": 4, "behavior": "currentReplicasIfHigher"}


@pytest.mark.parametrize(("grace", "margin", "period"), [(25, 5, 30), (40.5, 10, 51), (25, 20, 45)])
def test_grace_period_is_the_workers_deadline_and_a_margin(grace: float, margin: int, period: int) -> None:
    rendered = render({"config": {"shutdownGrace": grace}, "terminationMarginSeconds": margin})

    assert rendered.pod["spec"]["terminationGracePeriodSeconds"] == period


def test_a_rollout_starts_all_new_pods_before_any_old_one_goes() -> None:
    strategy = render().one("Deployment")["spec"]["strategy"]

    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}}


def test_liveness_asks_for_progress_and_readiness_for_the_way_to_the_store() -> None:
    worker = render().worker

    paths = {probe: worker[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}


def test_revision_is_the_hash_of_the_pod_template_and_worker_id_is_left_to_the_worker() -> None:
    variables = {variable["name"]: variable for variable in render().worker["env"]}

    assert variables["REVISION"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['pod-template-hash']"
    assert "WORKER_ID" not in render().environment()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_pod_of_the_release_meets_the_restricted_standard(scenario: str) -> None:
    for spec in render(scenario=scenario).pod_specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (c for c in spec["containers"] if c["name"] != "side"):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_pod_gets_a_token_or_other_services_addresses(scenario: str) -> None:
    rendered = render(scenario=scenario)

    assert {spec["automountServiceAccountToken"] for spec in rendered.pod_specs} == {False}
    assert {spec["enableServiceLinks"] for spec in rendered.pod_specs} == {False}
    assert {account["automountServiceAccountToken"] for account in rendered.of("ServiceAccount")} <= {False}


def test_workload_identity_is_an_annotation_beside_others() -> None:
    annotations = render(scenario="everything").one("ServiceAccount")["metadata"]["annotations"]

    identity = {"iam.gke.io/gcp-service-account": "worker@project.iam.gserviceaccount.com"}
    assert annotations == {"team": "audio"} | identity


def test_a_changed_setting_rolls_the_pods_and_a_changed_scale_does_not() -> None:
    def checksum(**values: Any) -> str:  # noqa: ANN401 -- values are any YAML
        return str(render(values).pod["metadata"]["annotations"]["checksum/config"])

    assert checksum() != checksum(config={"blobCodec": "pcm"})
    assert checksum() == checksum(autoscaling={"maxReplicas": 20})


def test_a_changed_development_secret_rolls_the_pods() -> None:
    def checksum(secret: str) -> str:
        rendered = render({"encryption": {"secret": secret}}, scenario="development")
        return str(rendered.pod["metadata"]["annotations"]["checksum/secret"])

    assert checksum("a" * 32) != checksum("b" * 32)


def test_secrets_are_in_no_config_map() -> None:
    rendered = render(scenario="development")

    secret = rendered.one("Secret")["stringData"]
    assert set(secret) == {"REDIS_URL", "ENCRYPTION_SECRET", "ENCRYPTION_SECRETS_OLD"}
    assert not set(secret) & set(rendered.one("ConfigMap")["data"])


def test_without_secrets_in_the_values_the_chart_makes_none() -> None:
    assert render().of("Secret") == []


def test_what_the_chart_sets_wins_over_foreign_environment() -> None:
    sources = [source["configMapRef"]["name"] for source in render(scenario="everything").worker["envFrom"]]

    assert sources == ["proxies", "abw-audio-batch-worker"]


def test_budget_and_deployment_count_workers_and_never_the_test_pod() -> None:
    rendered = render()
    worker, test = rendered.pod["metadata"]["labels"], rendered.one("Pod")["metadata"]["labels"]

    for kind in ("Deployment", "PodDisruptionBudget"):
        selector = rendered.one(kind)["spec"]["selector"]
        assert matches(selector, worker)
        assert not matches(selector, test)


def test_the_budget_lets_pods_go_that_are_not_ready() -> None:
    assert render().one("PodDisruptionBudget")["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_pods_spread_over_zones_and_nodes_counted_per_revision() -> None:
    constraints = render().pod["spec"]["topologySpreadConstraints"]

    assert [c["topologyKey"] for c in constraints] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert all(matches(c["labelSelector"], render().pod["metadata"]["labels"]) for c in constraints)
    assert all(c["matchLabelKeys"] == ["pod-template-hash"] for c in constraints)


def test_the_network_is_open_to_dns_redis_google_and_the_metadata_server_only() -> None:
    policy = render().one("NetworkPolicy")["spec"]

    ports = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    assert ports == {53, 6378, 6379, 443, 80, 8080, 987, 988}
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["http"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]


def test_the_network_policy_holds_for_worker_and_test_pod() -> None:
    rendered = render()
    selector = rendered.one("NetworkPolicy")["spec"]["podSelector"]

    assert matches(selector, rendered.pod["metadata"]["labels"])
    assert matches(selector, rendered.one("Pod")["metadata"]["labels"])


def test_an_emulators_port_is_let_through() -> None:
    policy = render(scenario="everything").one("NetworkPolicy")["spec"]

    assert {"ports": [{"protocol": "TCP", "port": 4443}]} in policy["egress"]


def test_the_spool_is_mounted_where_the_worker_looks_for_it() -> None:
    rendered = render(scenario="spool-claim")

    mounts = {mount["name"]: mount["mountPath"] for mount in rendered.worker["volumeMounts"]}
    (volume,) = (volume for volume in rendered.pod["spec"]["volumes"] if volume["name"] == "spool")
    assert mounts["spool"] == rendered.environment()["SPOOL_DIR"]
    assert volume["persistentVolumeClaim"] == {"claimName": "filestore"}


def test_the_charts_claim_outlives_the_release_and_takes_many_pods() -> None:
    rendered = render(scenario="everything")
    claim = rendered.one("PersistentVolumeClaim")

    (volume,) = (volume for volume in rendered.pod["spec"]["volumes"] if volume["name"] == "spool")
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_pod_monitor_scrapes_the_workers_under_the_releases_name() -> None:
    rendered = render(scenario="everything")
    monitor = rendered.one("PodMonitor")["spec"]

    labels = rendered.pod["metadata"]["labels"]
    assert matches(monitor["selector"], labels)
    assert labels[monitor["jobLabel"]] == "abw"
    assert monitor["podMetricsEndpoints"][0]["port"] in {port["name"] for port in rendered.worker["ports"]}


def test_the_priority_class_that_is_made_is_the_one_used() -> None:
    rendered = render(scenario="everything")

    assert rendered.one("PriorityClass")["metadata"]["name"] == rendered.pod["spec"]["priorityClassName"] == "audio"


def test_extra_objects_are_rendered_as_templates() -> None:
    names = {manifest["metadata"]["name"] for manifest in render(scenario="everything").of("ConfigMap")}

    assert {"abw-extra", "abw-audio-batch-worker-text"} <= names


def test_helm_test_runs_once_when_asked_and_with_the_workers_environment() -> None:
    rendered = render(scenario="everything")
    test = rendered.one("Pod")

    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert test["spec"]["restartPolicy"] == "Never"
    workers = rendered.environment()
    del workers["REVISION"]
    assert rendered.environment(test["spec"]["containers"][0]) == workers | {"TIMEOUT_SECONDS": "90"}


def test_kubernetes_would_not_rewrite_the_test_script() -> None:
    (script,) = render().one("Pod")["spec"]["containers"][0]["args"]

    assert "$$" not in script


def test_notes_name_the_secrets_and_how_to_see_that_it_works(tmp_path: Path) -> None:
    text = notes(tmp_path, {"store": {"url": "gs://bucket"}, "redis": {"existingSecret": {"name": "redis"}}})

    assert "redis/REDIS_URL, abw-audio-batch-worker/ENCRYPTION_SECRET" in text
    assert "helm -n audio test abw" in text
    assert "audio-batch-worker status" in text
    assert "partitions can't be changed" not in text


def test_notes_of_an_upgrade_say_how_partitions_change(tmp_path: Path) -> None:
    text = notes(tmp_path, {}, upgrade=True, running="64")

    assert "can't be changed on running streams" in text
    assert "WARNING" not in text


def test_notes_warn_when_an_upgrade_changes_partitions(tmp_path: Path) -> None:
    text = notes(tmp_path, {"config": {"partitions": 128}}, upgrade=True, running="64")

    assert "WARNING: this changes config.partitions from 64 to 128" in text


def test_notes_warn_of_secrets_in_the_values(tmp_path: Path) -> None:
    assert "WARNING: redis.url" in notes(tmp_path, {"redis": {"url": "redis://redis"}})
