"""Values that do not fit, alone or together, are refused before anything changes, and the message names the key."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from tests.deploy.chart import CHART, Refused, render

pytestmark = pytest.mark.helm

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
NEEDED = json.loads((CHART / "values.schema.json").read_text())["required"]
DIGEST = "sha256:" + "0" * 64
TOO_SMALL = "{resources: {limits: {memory: 512Mi}}}"

TOGETHER = {
    "image.tag": f"{{image: {{tag: v1, digest: '{DIGEST}'}}}}",
    "redis.url": "{redis: {url: 'redis://redis', existingSecret: {name: redis}}}",
    "store.url": "{store: {existingSecret: {name: store}}}",
    "encryption.secret": f"{{encryption: {{secret: {'s' * 32}, existingSecret: {{name: secret}}}}}}",
    "encryption.oldSecrets": f"{{encryption: {{oldSecrets: [{'s' * 32}], existingSecret: {{oldSecretsKey: old}}}}}}",
    "spool.mode": "{spool: {mode: outage}}",
    "spool.existingClaim": "{spool: {mode: outage, existingClaim: files, claim: {create: true}}}",
    "spool.claim.accessModes": "{spool: {mode: outage, claim: {create: true, accessModes: [ReadWriteOnce]}}}",
    "spool.maxBytes": "{spool: {mode: outage, claim: {create: true, size: 5Gi}}}",
    "replicas": "{autoscaling: {kind: none}, replicas: 65}",
    "autoscaling.maxReplicas": "{autoscaling: {maxReplicas: 65}}",
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
}
FITTING = {
    "the grace period may be longer": "{terminationGracePeriodSeconds: 120}",
    "the window just longer than age and lease": "{autoscaling: {behavior: {scaleDownWindowSeconds: 76}}}",
    "as many pods as partitions": "{autoscaling: {maxReplicas: 64}}",
    "hand-over needs no time": "{config: {shutdown: handoff, shutdownGrace: 5}}",
    "no limits to compare with": "{resources: {limits: null}, config: {encodeThreads: 8}}",
    "a fraction of a CPU still has one thread": "{resources: {limits: {cpu: 500m}}, config: {encodeThreads: 1}}",
    "files on a mounted volume": "{store: {url: 'file:///blobs/a'}, extraVolumeMounts: [{name: b, mountPath: /blobs}]}",
    "labels that nothing is selected by": "{commonLabels: {app.kubernetes.io/part-of: x}, podLabels: {team: x}}",
    "the port of Redis is the usual one": "{redis: {url: 'redis://:7777@redis'}}",
    "the port of Redis is let through": "{redis: {url: 'redis://r:7777?db=1'}, networkPolicy: {redisPorts: [7777]}}",
    "somebody knows where Redis is": "{redis: {url: 'redis://r:7777'}, networkPolicy: {extraEgress: [{ports: []}]}}",
    "volumes beside the chart's": "{extraVolumes: [{name: spool}], extraVolumeMounts: [{name: spool, mountPath: /x}]}",
    "an empty spool is left mounted": "{spool: {mode: 'off', existingClaim: files}}",
}
ALONE = {
    "config.blobCodec": "mp3",
    "config.blobNaming": "hash",
    "config.shutdown": "drop",
    "config.partitions": 0,
    "config.batchMaxSeconds": 91,
    "config.opusBitrate": 100,
    "config.opusComplexity": 11,
    "config.streamPrefix": "pcm{}",
    "config.httpPort": 80,
    "config.logLevel": "loud",
    "spool.mode": "sometimes",
    "autoscaling.kind": "both",
    "autoscaling.minReplicas": 0,
    "image.digest": "sha256:short",
    "image.pullPolicy": "Sometimes",
    "store.url": "s3://bucket",
    "redis.url": "http://redis",
    "encryption.secret": "too short",
    "podDisruptionBudget.maxUnavailable": 0,
    "serviceAccount.workloadIdentity": "somebody",
    "resources.limits.memory": "much",
    "prometheusRule.disabled": ["Typo"],
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
    values: Any = ALONE[key]
    for part in reversed(key.split(".")):
        values = {part: values}

    with pytest.raises(Refused, match=rf"- {re.escape(key)}(\.\d+)?: "):
        render(values)


@pytest.mark.parametrize("key", [*NEEDED, "networkPolicy.redisPorts"])
def test_a_section_that_is_taken_away_is_missed_by_name(key: str) -> None:
    values: Any = None
    for part in reversed(key.split(".")):
        values = {part: values}

    with pytest.raises(Refused, match=rf"- .*: {key.rpartition('.')[2]} is required"):
        render(values)


@pytest.mark.parametrize("key", sorted(VALUES.keys() - set(NEEDED)))
def test_everything_else_may_be_taken_away(key: str) -> None:
    assert render({key: None}).one("Deployment")


def test_all_contradictions_are_told_at_once() -> None:
    with pytest.raises(Refused) as refused:
        render({"config": {"partitions": 4, "shutdownGrace": 3}, "spool": {"mode": "always"}})

    for key in ("autoscaling.maxReplicas", "config.shutdownGrace", "spool.mode"):
        assert f"\n  {key}: " in str(refused.value)
