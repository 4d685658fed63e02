"""Values that do not fit, alone or together, are refused before anything changes, and the message names the key."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.deploy.chart import CHART, Refused, nested, render

pytestmark = pytest.mark.helm

DIGEST = "sha256:" + "0" * 64
TOO_SMALL = "{resources: {limits: {memory: 512Mi}}}"

TOGETHER = {
    "image.tag": f"{{image: {{tag: v1, digest: '{DIGEST}'}}}}",
    "redis.url": "{redis: {url: 'redis://redis', existingSecret: {name: redis}}}",
    "redis.caFile.configMap": "{redis: {caFile: {configMap: ca, secret: ca}}}",
    "store.url": "{store: {existingSecret: {name: store}}}",
    "encryption.secret": f"{{encryption: {{secret: {'s' * 32}, existingSecret: {{name: secret}}}}}}",
    "encryption.oldSecrets": f"{{encryption: {{oldSecrets: [{'s' * 32}], existingSecret: {{oldSecretsKey: old}}}}}}",
    "spool.mode": "{spool: {mode: outage}}",
    "spool.existingClaim": "{spool: {mode: outage, existingClaim: files, claim: {create: true}}}",
    "spool.claim.accessModes": "{spool: {mode: outage, claim: {create: true, accessModes: [ReadWriteOnce]}}}",
    "spool.maxBytes": "{spool: {mode: outage, claim: {create: true, size: 5Gi}}}",
    "replicas": "{autoscaling: {kind: none}, replicas: 257}",
    "autoscaling.maxReplicas": "{autoscaling: {maxReplicas: 257}}",
    "autoscaling.minReplicas": "{autoscaling: {minReplicas: 20}}",
    "autoscaling.behavior.scaleDownWindowSeconds": "{autoscaling: {behavior: {scaleDownWindowSeconds: 75}}}",
    "autoscaling.keda.serverAddress": "{autoscaling: {kind: keda}}",
    "autoscaling.keda.fallbackReplicas": "{autoscaling: {kind: keda, keda: {fallbackReplicas: 17}}}",
    "resources.requests.cpu": "{resources: {requests: {cpu: null}}}",
    "terminationGracePeriodSeconds": "{terminationGracePeriodSeconds: 29}",
    "config.shutdownGrace": "{config: {shutdownGrace: 14}}",
    "config.shutdown": "{nodeSelector: {cloud.google.com/gke-spot: 'true'}}",
    "config.memoryLimit": TOO_SMALL,
    "config.encodeThreads": "{config: {encodeThreads: 2}}",
    "config.batchMaxSeconds": "{config: {batchMaxSeconds: 85, gapTolerance: 5.5}}",
    "rollingUpdate.maxSurge": "{rollingUpdate: {maxSurge: 0%, maxUnavailable: 0}}",
    "extraEnv": "{extraEnv: [{name: PARTITIONS, value: '8'}]}",
    "prometheusRule.thresholds.oldestAudioWarning": "{config: {batchMaxAge: 100}}",
    "prometheusRule.thresholds.oldestAudioCritical": "{prometheusRule: {thresholds: {oldestAudioCritical: 100}}}",
    "prometheusRule.thresholds.redisMemoryCritical": "{prometheusRule: {thresholds: {redisMemoryCritical: 0.5}}}",
    "commonLabels": "{commonLabels: {app.kubernetes.io/name: other}}",
    "podLabels": "{podLabels: {app.kubernetes.io/component: other}}",
    "podAnnotations": "{podAnnotations: {checksum/config: constant}}",
    "spool.mountPath": "{spool: {existingClaim: files, mountPath: /tmp/}}",
    "extraVolumes": "{extraVolumes: [{name: tmp, emptyDir: {}}]}",
    "extraVolumeMounts": "{extraVolumeMounts: [{name: cache, mountPath: /tmp}]}",
    "networkPolicy.redisPorts": "{redis: {url: 'rediss://:6379@redis:7777/0?ssl_ca_certs=/ca'}}",
    "serviceAccount.workloadIdentity": (
        "{serviceAccount: {create: false, workloadIdentity: worker@project.iam.gserviceaccount.com}}"
    ),
    "priorityClass.name": "{priorityClass: {create: true}}",
    "enabled": "{enabled: false}",
    "podSecurityContext.seccompProfile.type": "{podSecurityContext: {seccompProfile: {type: null}}}",
}
FITTING = {
    "the grace period may be longer": "{terminationGracePeriodSeconds: 120}",
    "the window just longer than age and lease": "{autoscaling: {behavior: {scaleDownWindowSeconds: 76}}}",
    "blobs as long as readers join": "{config: {batchMaxSeconds: 85, gapTolerance: 5, batchMaxAge: 90}}",
    "a tolerance that the worker decides": "{config: {batchMaxSeconds: 88, gapTolerance: null}}",
    "as many pods as partitions": "{autoscaling: {maxReplicas: 256}}",
    "hand-over needs no time": "{config: {shutdown: handoff, shutdownGrace: 5}}",
    "no limits to compare with": "{resources: {limits: null}, config: {encodeThreads: 8}}",
    "a fraction of a CPU still has one thread": "{resources: {limits: {cpu: 500m}}, config: {encodeThreads: 1}}",
    "files on a mounted volume": "{store: {url: 'file:///blobs/a'}, extraVolumeMounts: [{name: b, mountPath: /blobs}]}",
    "labels that nothing is selected by": "{commonLabels: {app.kubernetes.io/part-of: x}, podLabels: {team: x}}",
    "the port of Redis is the usual one": "{redis: {url: 'redis://:7777@redis'}}",
    "the port of Redis is let through": "{redis: {url: 'redis://r:7777?db=1'}, networkPolicy: {redisPorts: [7777]}}",
    "somebody knows where Redis is": "{redis: {url: 'redis://r:7777'}, networkPolicy: {extraEgress: [{ports: []}]}}",
    "ports of a cluster": (
        "{redis: {url: 'redis://u:p@a:7000,b:7001,[::1]'}, networkPolicy: {redisPorts: [7000, 7001, 6379]}}"
    ),
    "ports of sentinels": (
        "{redis: {url: 'rediss+sentinel://a,b:7001/n/1'}, networkPolicy: {redisPorts: [26379, 7001]}}"
    ),
    "volumes beside the chart's": "{extraVolumes: [{name: spool}], extraVolumeMounts: [{name: spool, mountPath: /x}]}",
    "an empty spool is left mounted": "{spool: {mode: 'off', existingClaim: files}}",
    "what a parent's condition reads": "{enabled: true, global: {region: eu}}",
    "an alert that only a spool has": "{prometheusRule: {enabled: true, disabled: [AudioBatchSpoolFilling]}}",
    "no pods' number": "{autoscaling: {kind: none}, replicas: null}",
}
FORMS = {
    "nameOverride": "Upper",
    "fullnameOverride": "-dash",
    "image.repository": "Registry/worker",
    "image.tag": "not a tag",
    "image.digest": "sha256:short",
    "redis.url": "http://redis",
    "redis.existingSecret.name": "my secret",
    "redis.existingSecret.key": "a/b",
    "redis.caFile.secret": "my secret",
    "redis.caFile.key": "a/b",
    "store.url": "s3://bucket",
    "encryption.secret": "too short",
    "encryption.oldSecrets": ["too short"],
    "encryption.existingSecret.oldSecretsKey": "a b",
    "config.streamPrefix": "pcm{}",
    "config.httpHost": "localhost",
    "config.storageEmulatorHost": "emulator",
    "spool.mountPath": "spool",
    "spool.claim.size": "1 TB",
    "spool.claim.storageClass": "a b",
    "tmpSize": "64MB",
    "autoscaling.keda.serverAddress": "prometheus:9090",
    "autoscaling.hpa.externalMetric.targetAverageValue": "many",
    "podDisruptionBudget.maxUnavailable": "0%",
    "rollingUpdate.maxSurge": "all",
    "resources.limits.memory": "much",
    "serviceAccount.workloadIdentity": "somebody",
    "podMonitor.interval": "15",
    "priorityClass.name": "Audio",
    "prometheusRule.runbookURL": "over there",
    "prometheusRule.disabled": ["Typo"],
    "extraEnv": [{"name": "1ST", "value": "x"}],
}
ALONE = {
    "config.blobCodec": "mp3",
    "config.blobNaming": "hash",
    "config.shutdown": "drop",
    "config.partitions": 0,
    "config.batchMaxSeconds": 91,
    "config.opusBitrate": 100,
    "config.opusComplexity": 11,
    "config.httpPort": 80,
    "config.logLevel": "loud",
    "spool.mode": "sometimes",
    "autoscaling.kind": "both",
    "autoscaling.minReplicas": 0,
    "image.pullPolicy": "Sometimes",
    "podDisruptionBudget.maxUnavailable": 0,
    "priorityClass.value": "high",
}


@pytest.mark.parametrize("key", TOGETHER)
def test_values_that_contradict_each_other_are_refused_by_name(key: str) -> None:
    with pytest.raises(Refused, match=rf"(^|\s|: ){re.escape(key)}: \S+ \S+"):
        render(yaml.safe_load(TOGETHER[key]))


@pytest.mark.parametrize("mount", ["/other", "/blob"])
def test_files_outside_a_volume_are_refused(mount: str) -> None:
    with pytest.raises(Refused, match=r"store\.url: /blobs is on no volume"):
        render({"store": {"url": "file:///blobs"}, "extraVolumeMounts": [{"name": "v", "mountPath": mount}]})


@pytest.mark.parametrize("case", FITTING)
def test_values_at_the_border_are_accepted(case: str) -> None:
    assert render(yaml.safe_load(FITTING[case])).one("Deployment")


@pytest.mark.parametrize("key", ALONE)
def test_a_value_outside_its_range_is_refused_by_name(key: str) -> None:
    slashed = key.replace(".", "/")  # as Helm 3.18 and newer name it
    with pytest.raises(Refused, match=rf"- (at '/{slashed}'|{re.escape(key)}): "):
        render(nested(key, ALONE[key]))


@pytest.mark.parametrize("key", FORMS)
def test_a_malformed_value_is_refused_in_words_that_repeat_neither_it_nor_an_expression(key: str) -> None:
    values = nested(key, FORMS[key])
    with pytest.raises(Refused, match=rf"(^|\s){re.escape(key)}(\[0\])?: \w+ \w+ \w+") as refused:
        render(values)

    (told,) = re.findall(rf"(?<!\S){re.escape(key)}(?:\[0\])?: .*", str(refused.value))
    assert not re.search(r"pattern|[\^$|\\]|\]\*|\)\?", told)
    if "ecret" in key or key.endswith(".url"):
        assert str(FORMS[key]) not in told


def test_the_schema_has_no_expressions_because_helm_would_show_them() -> None:
    assert "pattern" not in (CHART / "values.schema.json").read_text()


def test_values_that_end_a_quotation_are_told_all_the_same() -> None:
    with pytest.raises(Refused, match=r"store\.url: /it's is on no volume"):
        render({"store": {"url": "file:///it's"}})


def test_a_number_of_pods_is_refused_beside_an_autoscaler() -> None:
    for autoscaler in ("hpa", "keda"):
        scaled = {"autoscaling": {"kind": autoscaler, "keda": {"serverAddress": "http://prometheus:9090"}}}
        with pytest.raises(Refused, match=rf"replicas: has no effect with autoscaling\.kind={autoscaler}"):
            render(scaled | {"replicas": 3})


def test_without_an_autoscaler_and_a_number_there_are_as_many_pods_as_an_autoscaler_starts_with() -> None:
    assert render({"autoscaling": {"kind": "none"}}).one("Deployment")["spec"]["replicas"] == 2


def test_an_unknown_alert_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(Refused, match=r"prometheusRule\.disabled: AudioBatchStoreRefused is not an alert") as refused:
        render({"prometheusRule": {"disabled": ["AudioBatchStoreRefused"]}})

    runbooks = (CHART / "RUNBOOKS.md").read_text()
    names = re.findall(r"^## (AudioBatch\w+)$", runbooks, re.MULTILINE)
    assert "these are: " + ", ".join(sorted(names)) == "these are: " + ", ".join(
        sorted(re.findall(r"AudioBatch\w+", str(refused.value).partition("these are: ")[2]))
    )


def test_all_contradictions_are_told_at_once() -> None:
    with pytest.raises(Refused) as refused:
        render({"config": {"partitions": 4, "shutdownGrace": 3}, "spool": {"mode": "always"}})

    for key in ("autoscaling.maxReplicas", "config.shutdownGrace", "spool.mode"):
        assert f"\n  {key}: " in str(refused.value)


def test_all_malformed_values_are_told_at_once() -> None:
    with pytest.raises(Refused) as refused:
        render({"config": {"streamPrefix": "{}"}, "tmpSize": "much", "encryption": {"oldSecrets": ["a", "b"]}})

    for key in ("config.streamPrefix", "tmpSize", "encryption.oldSecrets[0]", "encryption.oldSecrets[1]"):
        assert f"\n  {key}: " in str(refused.value)
