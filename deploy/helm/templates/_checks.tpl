{{- /*
Values that are malformed, and values that are each fine and together are not. All complaints of a step come at once,
each starting with the key to change. Go's `and` and `or` evaluate everything in the Helm versions supported, hence the
nested ifs.
*/}}
{{- define "audio-batch-worker.checks" -}}
{{- include "audio-batch-worker.wellFormed" . }}
{{- include "audio-batch-worker.refuse" (dict "root" . "checks" (list "parent" "image" "secrets" "store" "spool" "scaling" "shutdown" "resources" "rollout" "environment" "alerts" "labels" "volumes" "network" "identity" "objects" "batches")) }}
{{- end }}

{{- /*
Each template includes this first, because Helm renders them in no fixed order: nothing that it reads is missing or has
a form that would break its YAML.
*/}}
{{- define "audio-batch-worker.wellFormed" -}}
{{- include "audio-batch-worker.refuse" (dict "root" . "checks" (list "needed")) }}
{{- include "audio-batch-worker.refuse" (dict "root" . "checks" (list "forms")) }}
{{- end }}

{{- /*
Each complaint is one line, whatever it quotes. Helm shows the text of `fail` alone. Before 3.7 it does so only with the
text of `required`, if that is one line, and takes it for a format; several complaints come behind the way through the
templates there. `helm lint` passes over `required`, so that `fail` follows.
*/}}
{{- define "audio-batch-worker.refuse" -}}
{{- $all := list }}
{{- range .checks }}
{{- $all = concat $all (include (printf "audio-batch-worker.checks.%s" .) $.root | fromYamlArray) }}
{{- end }}
{{- $lines := list }}
{{- range uniq $all }}{{ $lines = append $lines (regexReplaceAll "\\s+" . " ") }}{{ end }}
{{- if eq (len $lines) 1 }}
{{- if semverCompare "<3.7.0-0" .root.Capabilities.HelmVersion.Version }}{{ required (first $lines | replace "%" "%%") nil }}{{ end }}
{{- fail (first $lines) }}
{{- else if $lines }}
{{- fail (printf "\n\n  %s\n" (join "\n  " $lines)) }}
{{- end }}
{{- end }}

{{- define "audio-batch-worker.checks.parent" -}}
{{- if eq (toString .Values.enabled) "false" }}
- 'enabled: false has an effect only where a parent chart has `condition: {{ .Chart.Name }}.enabled` beside this dependency; remove a release of its own with helm uninstall'
{{- end }}
{{- end }}

{{- define "audio-batch-worker.checks.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- if .tag }}
- 'image.tag: must be empty when image.digest is given; the digest decides alone'
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "audio-batch-worker.checks.secrets" -}}
{{- with .Values.redis }}
{{- if and .url .existingSecret.name }}
- 'redis.url: give this (development) or redis.existingSecret.name, not both'
{{- end }}
{{- if and .caFile.configMap .caFile.secret }}
- 'redis.caFile.configMap: give this or redis.caFile.secret, not both'
{{- end }}
{{- end }}
{{- with .Values.store }}
{{- if and .url .existingSecret.name }}
- 'store.url: give this or store.existingSecret.name, not both'
{{- end }}
{{- end }}
{{- with .Values.encryption }}
{{- if and .secret .existingSecret.name }}
- 'encryption.secret: give this (development) or encryption.existingSecret.name, not both'
{{- end }}
{{- if and .oldSecrets .existingSecret.oldSecretsKey }}
- 'encryption.oldSecrets: give this (development) or encryption.existingSecret.oldSecretsKey, not both'
{{- end }}
{{- end }}
{{- end }}

{{- define "audio-batch-worker.checks.store" -}}
{{- $url := default "" .Values.store.url }}
{{- if hasPrefix "file://" $url }}
{{- $path := trimPrefix "file://" $url }}
{{- $mounted := false }}
{{- range .Values.extraVolumeMounts }}
{{- if hasPrefix (printf "%s/" (trimSuffix "/" .mountPath)) (printf "%s/" $path) }}{{ $mounted = true }}{{ end }}
{{- end }}
{{- if not $mounted }}
- {{ printf "store.url: %s is on no volume, so blobs would be lost with the pod; mount one with extraVolumes and extraVolumeMounts" $path | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "audio-batch-worker.checks.spool" -}}
{{- with .Values.spool }}
{{- if ne .mode "off" }}
{{- if not (include "audio-batch-worker.hasSpool" $) }}
- 'spool.mode: {{ .mode }} needs a volume; give spool.existingClaim or set spool.claim.create'
{{- end }}
{{- end }}
{{- if and .existingClaim .claim.create }}
- 'spool.existingClaim: give this or spool.claim.create, not both'
{{- end }}
{{- if .claim.create }}
{{- if not (has "ReadWriteMany" .claim.accessModes) }}
- 'spool.claim.accessModes: needs ReadWriteMany; every pod writes to the spool'
{{- end }}
{{- if gt (int64 .maxBytes) (int64 (include "audio-batch-worker.bytes" .claim.size)) }}
- 'spool.maxBytes: {{ int64 .maxBytes }} is more than spool.claim.size ({{ .claim.size }})'
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "audio-batch-worker.checks.scaling" -}}
{{- $partitions := int64 (default 256 .Values.config.partitions) }}
{{- with .Values.autoscaling }}
{{- if eq .kind "none" }}
{{- if gt (int64 (include "audio-batch-worker.replicas" $)) $partitions }}
- 'replicas: {{ include "audio-batch-worker.replicas" $ }} is more than config.partitions ({{ $partitions }}); the pods beyond have nothing to own'
{{- end }}
{{- else }}
{{- if $.Values.replicas }}
- 'replicas: has no effect with autoscaling.kind={{ .kind }}, which decides the number of pods; take it out and set autoscaling.minReplicas, or set autoscaling.kind=none'
{{- end }}
{{- if gt (int64 .maxReplicas) $partitions }}
- 'autoscaling.maxReplicas: {{ int64 .maxReplicas }} is more than config.partitions ({{ $partitions }}); the pods beyond have nothing to own'
{{- end }}
{{- if gt (int64 .minReplicas) (int64 .maxReplicas) }}
- 'autoscaling.minReplicas: {{ int64 .minReplicas }} is more than autoscaling.maxReplicas ({{ int64 .maxReplicas }})'
{{- end }}
{{- $needed := addf $.Values.config.batchMaxAge $.Values.config.leaseTtl }}
{{- if le (float64 .behavior.scaleDownWindowSeconds) (float64 $needed) }}
- 'autoscaling.behavior.scaleDownWindowSeconds: must be longer than config.batchMaxAge + config.leaseTtl ({{ $needed }} s), or pods go before their partitions settle'
{{- end }}
{{- end }}
{{- if eq .kind "hpa" }}
{{- if not (or .hpa.externalMetric.name (dig "requests" "cpu" "" (default dict $.Values.resources))) }}
- 'resources.requests.cpu: the HPA measures CPU against it; give it, or autoscaling.hpa.externalMetric.name'
{{- end }}
{{- end }}
{{- if eq .kind "keda" }}
{{- if not .keda.serverAddress }}
- 'autoscaling.keda.serverAddress: KEDA needs the URL of the Prometheus that scrapes the workers'
{{- end }}
{{- if gt (int64 .keda.fallbackReplicas) (int64 .maxReplicas) }}
- 'autoscaling.keda.fallbackReplicas: {{ int64 .keda.fallbackReplicas }} is more than autoscaling.maxReplicas ({{ int64 .maxReplicas }})'
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Readers join blobs whose starts are at most 90 s apart. One that is null is the worker's default. */}}
{{- define "audio-batch-worker.checks.batches" -}}
{{- with .Values.config }}
{{- $seconds := kindIs "invalid" .batchMaxSeconds | ternary 60 .batchMaxSeconds }}
{{- $tolerance := kindIs "invalid" .gapTolerance | ternary 2 .gapTolerance }}
{{- if gt (addf $seconds $tolerance | float64) 90.0 }}
- 'config.batchMaxSeconds: {{ $seconds }} and config.gapTolerance ({{ $tolerance }}) are more than 90 s together; blobs of audio without a gap could start so far apart that readers split it; make one of them smaller'
{{- end }}
{{- end }}
{{- end }}

{{- define "audio-batch-worker.checks.shutdown" -}}
{{- $grace := int64 (ceil .Values.config.shutdownGrace) }}
{{- $needed := int64 (add $grace .Values.terminationMarginSeconds) }}
{{- $period := int64 (include "audio-batch-worker.gracePeriod" .) }}
{{- if lt $period $needed }}
- 'terminationGracePeriodSeconds: {{ $period }} is less than config.shutdownGrace + terminationMarginSeconds ({{ $needed }}); leave it empty'
{{- end }}
{{- if eq .Values.config.shutdown "flush" }}
{{- if lt $grace 15 }}
- 'config.shutdownGrace: {{ $grace }} s is too short for config.shutdown=flush, which stores every open batch; give 15 or more, or set config.shutdown=handoff'
{{- end }}
{{- if eq (toString (get (default dict .Values.nodeSelector) "cloud.google.com/gke-spot")) "true" }}
- 'config.shutdown: spot nodes give a pod 15 s whatever its grace period says; set handoff'
{{- end }}
{{- end }}
{{- end }}

{{- define "audio-batch-worker.checks.resources" -}}
{{- with dig "limits" "memory" "" (default dict .Values.resources) }}
{{- $room := div (mul 3 (include "audio-batch-worker.bytes" .)) 4 }}
{{- if $.Values.config.memoryLimit }}
{{- if gt (int64 $.Values.config.memoryLimit) (int64 $room) }}
- 'config.memoryLimit: {{ int64 $.Values.config.memoryLimit }} is more than 3/4 of resources.limits.memory ({{ . }}); the process itself needs the rest'
{{- end }}
{{- end }}
{{- end }}
{{- with dig "limits" "cpu" "" (default dict .Values.resources) }}
{{- if $.Values.config.encodeThreads }}
{{- if gt (mul 1000 $.Values.config.encodeThreads) (max 1000 (include "audio-batch-worker.millicpu" .)) }}
- 'config.encodeThreads: {{ int64 $.Values.config.encodeThreads }} is more than resources.limits.cpu ({{ . }}); threads beyond it are throttled together and stall the event loop'
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "audio-batch-worker.checks.rollout" -}}
{{- with .Values.rollingUpdate }}
{{- if and (eq (toString .maxSurge | trimSuffix "%") "0") (eq (toString .maxUnavailable | trimSuffix "%") "0") }}
- 'rollingUpdate.maxSurge: must not be 0 when rollingUpdate.maxUnavailable is 0; nothing could ever roll'
{{- end }}
{{- end }}
{{- end }}

{{- define "audio-batch-worker.checks.environment" -}}
{{- $taken := list "REDIS_URL" "REDIS_AUTH" "REDIS_CA_FILE" "STORE_URL" "ENCRYPTION_SECRET" "ENCRYPTION_SECRETS_OLD" "SPOOL_DIR" "SPOOL_MODE" "SPOOL_MAX_BYTES" "SPOOL_AFTER" "REVISION" "WORKER_ID" }}
{{- range $key, $_ := .Values.config }}{{ $taken = append $taken (snakecase $key | upper) }}{{ end }}
{{- range .Values.extraEnv }}
{{- if has .name $taken }}
- {{ printf "extraEnv: %s is set by the chart; use the value of that setting" .name | quote }}
{{- end }}
{{- if not (regexMatch "^[A-Za-z_][A-Za-z0-9_]*$" .name) }}
- {{ printf "extraEnv: %s is not the name of a variable; give letters, digits and _, and no digit first" .name | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "audio-batch-worker.checks.labels" -}}
{{- $reserved := list "helm.sh/chart" }}
{{- range list "name" "instance" "component" "version" "managed-by" }}{{ $reserved = append $reserved (printf "app.kubernetes.io/%s" .) }}{{ end }}
{{- range $key := list "commonLabels" "podLabels" }}
{{- range $name, $_ := get $.Values $key | default dict }}
{{- if has $name $reserved }}
- {{ printf "%s: %s is set by the chart, which selects its pods by such labels" $key $name | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $_ := .Values.podLabels }}
{{- if hasKey (default dict $.Values.commonLabels) $name }}
- {{ printf "podLabels: %s is in commonLabels already" $name | quote }}
{{- end }}
{{- end }}
{{- range $name := list "checksum/config" "checksum/secret" }}
{{- if hasKey (default dict $.Values.podAnnotations) $name }}
- 'podAnnotations: {{ $name }} is set by the chart, which rolls the pods by it'
{{- end }}
{{- end }}
{{- end }}

{{- define "audio-batch-worker.checks.volumes" -}}
{{- $names := list "tmp" }}
{{- $paths := list "/tmp" }}
{{- if include "audio-batch-worker.hasSpool" . }}
{{- $names = append $names "spool" }}
{{- if eq (clean .Values.spool.mountPath) "/tmp" }}
- 'spool.mountPath: /tmp is another volume, which goes with the pod'
{{- end }}
{{- $paths = append $paths (clean .Values.spool.mountPath) }}
{{- end }}
{{- if include "audio-batch-worker.hasRedisCa" . }}
{{- $names = append $names "redis-ca" }}
{{- $paths = append $paths "/etc/redis-ca" }}
{{- end }}
{{- range .Values.extraVolumes }}
{{- if has .name $names }}
- {{ printf "extraVolumes: %s is a volume of the chart; give another name" .name | quote }}
{{- end }}
{{- end }}
{{- range .Values.extraVolumeMounts }}
{{- if has (clean .mountPath) $paths }}
- {{ printf "extraVolumeMounts: %s is where the chart mounts a volume; give another mountPath" .mountPath | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "audio-batch-worker.checks.network" -}}
{{- if .Values.networkPolicy.enabled }}
{{- $url := default "" .Values.redis.url }}
{{- if and (hasPrefix "redis" $url) (not .Values.networkPolicy.extraEgress) }}
{{- $open := list }}
{{- range .Values.networkPolicy.redisPorts }}{{ $open = append $open (int .) }}{{ end }}
{{- range splitList "," (regexReplaceAll "^[a-z+]+://([^@]*@)?([^/?]*).*$" $url "${2}") }}
{{- $port := regexFind ":[0-9]+$" . | trimPrefix ":" | default (ternary "26379" "6379" (contains "+sentinel://" $url)) | atoi }}
{{- if not (has $port $open) }}
- 'networkPolicy.redisPorts: lacks {{ $port }}, a port of redis.url'
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "audio-batch-worker.checks.identity" -}}
{{- range $key := list "podSecurityContext" "securityContext" }}
{{- $profile := get (default dict (get $.Values $key)) "seccompProfile" }}
{{- if and (kindIs "map" $profile) (not (get (default dict $profile) "type")) }}
- '{{ $key }}.seccompProfile.type: Kubernetes needs it; leave the key out, or set seccompProfile itself to null'
{{- end }}
{{- end }}
{{- if and .Values.priorityClass.create (not .Values.priorityClass.name) }}
- 'priorityClass.name: the class to make needs a name'
{{- end }}
{{- if .Values.serviceAccount.workloadIdentity }}
{{- if not .Values.serviceAccount.create }}
- 'serviceAccount.workloadIdentity: is an annotation of the service account that the chart makes; set serviceAccount.create, or annotate yours and leave this empty'
{{- end }}
{{- end }}
{{- end }}

{{- define "audio-batch-worker.checks.alerts" -}}
{{- $known := list }}
{{- range include "audio-batch-worker.alerts" . | fromYamlArray }}{{ $known = append $known .alert }}{{ end }}
{{- range .Values.prometheusRule.disabled }}
{{- if not (has . $known) }}
- {{ printf "prometheusRule.disabled: %s is not an alert of this chart; these are: %s" . (join ", " $known) | quote }}
{{- end }}
{{- end }}
{{- with .Values.prometheusRule.thresholds }}
{{- if lt (float64 .oldestAudioWarning) (mulf 2 $.Values.config.batchMaxAge) }}
- 'prometheusRule.thresholds.oldestAudioWarning: must be at least twice config.batchMaxAge; audio is that old in peace'
{{- end }}
{{- if le (float64 .oldestAudioCritical) (float64 .oldestAudioWarning) }}
- 'prometheusRule.thresholds.oldestAudioCritical: must be more than oldestAudioWarning'
{{- end }}
{{- if le (float64 .redisMemoryCritical) (float64 .redisMemoryWarning) }}
- 'prometheusRule.thresholds.redisMemoryCritical: must be more than redisMemoryWarning'
{{- end }}
{{- end }}
{{- end }}

{{- /* A text may hold several objects, or none where a condition of it says so. */}}
{{- define "audio-batch-worker.checks.objects" -}}
{{- range $number, $object := .Values.extraObjects }}
{{- range regexSplit "(?m)^---[ \t]*$" (tpl (kindIs "string" $object | ternary $object (toYaml $object)) $) -1 }}
{{- $found := fromYaml . }}
{{- if or (hasKey $found "Error") (and $found (not (and (get $found "apiVersion") (get $found "kind")))) }}
- 'extraObjects[{{ $number }}]: must be an object of Kubernetes with apiVersion and kind, a map or the text of one'
{{- end }}
{{- end }}
{{- end }}
{{- end }}
