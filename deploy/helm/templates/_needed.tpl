{{- /*
Values that the chart can't do without: section to keys. A value that is null in a person's file is gone from .Values,
default and all. What is empty by default may be null, and so may what goes to Kubernetes as it is.
*/}}
{{- define "audio-batch-worker.needed" -}}
"": [minReadySeconds, revisionHistoryLimit, progressDeadlineSeconds, terminationMarginSeconds, automountServiceAccountToken, tmpSize]
image: [repository, pullPolicy]
redis: [auth]
redis.existingSecret: [key]
redis.caFile: [key]
store.existingSecret: [key]
encryption.existingSecret: [key]
config: [batchMaxAge, leaseTtl, httpPort, shutdown, shutdownGrace]
spool: [mode, maxBytes, afterSeconds, mountPath]
spool.claim: [create, accessModes, size]
autoscaling: [kind, minReplicas, maxReplicas]
autoscaling.behavior: [scaleDownWindowSeconds, scaleDownPods, scaleDownPeriodSeconds, scaleUpWindowSeconds, scaleUpPercent]
autoscaling.hpa: [targetCPUUtilization]
autoscaling.hpa.externalMetric: [targetAverageValue]
autoscaling.keda: [threshold, pollingInterval, fallbackReplicas, fallbackFailures]
podDisruptionBudget: [enabled, maxUnavailable]
rollingUpdate: [maxSurge, maxUnavailable]
probes.startup: [periodSeconds, failureThreshold, timeoutSeconds]
probes.liveness: [periodSeconds, failureThreshold, timeoutSeconds]
probes.readiness: [periodSeconds, failureThreshold, timeoutSeconds]
serviceAccount: [create]
priorityClass: [create, value]
networkPolicy: [enabled, metricsFrom, dnsTo, redisPorts, storageTo, metadataServer]
podMonitor: [enabled, interval, scrapeTimeout]
prometheusRule: [enabled, runbookURL]
prometheusRule.thresholds: [oldestAudioWarning, oldestAudioCritical, storeFailing, spoolFilling, deadLetters, redisMemoryWarning, redisMemoryCritical]
dashboard: [enabled]
web: [enabled, allowReplay]
helmTest: [enabled, timeoutSeconds]
{{- end }}

{{- define "audio-batch-worker.checks.needed" -}}
{{- range $path, $keys := include "audio-batch-worker.needed" . | fromYaml }}
{{- $section := $.Values }}
{{- $parts := list }}
{{- range splitList "." $path | compact }}
{{- if kindIs "map" $section }}
{{- $section = index $section . }}
{{- $parts = append $parts . }}
{{- end }}
{{- end }}
{{- if kindIs "map" $section }}
{{- range $keys }}
{{- if kindIs "invalid" (index $section .) }}
- '{{ join "." (append $parts .) }}: must not be null; leave the key out, and it has its default'
{{- end }}
{{- end }}
{{- else }}
- '{{ join "." $parts }}: must not be null; leave the key out, and its keys have their defaults'
{{- end }}
{{- end }}
{{- end }}
