{{- define "audio-batch-worker.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "audio-batch-worker.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- default $full .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "audio-batch-worker.selectorLabels" -}}
app.kubernetes.io/name: {{ include "audio-batch-worker.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "audio-batch-worker.workerLabels" -}}
{{ include "audio-batch-worker.selectorLabels" . }}
app.kubernetes.io/component: worker
{{- end }}

{{- define "audio-batch-worker.labels" -}}
{{ include "audio-batch-worker.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "audio-batch-worker.metadata" -}}
name: {{ include "audio-batch-worker.fullname" . | quote }}
namespace: {{ .Release.Namespace | quote }}
labels:
  {{- include "audio-batch-worker.labels" . | nindent 2 }}
{{- end }}

{{- define "audio-batch-worker.serviceAccountName" -}}
{{- $made := ternary (include "audio-batch-worker.fullname" .) "default" .Values.serviceAccount.create }}
{{- default $made .Values.serviceAccount.name }}
{{- end }}

{{- define "audio-batch-worker.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{- define "audio-batch-worker.spoolClaim" -}}
{{- default (printf "%s-spool" (include "audio-batch-worker.fullname" .)) .Values.spool.existingClaim }}
{{- end }}

{{- /* True if there is a volume: what lies on it is uploaded in any mode. */}}
{{- define "audio-batch-worker.hasSpool" -}}
{{- if or .Values.spool.existingClaim .Values.spool.claim.create }}true{{ end }}
{{- end }}

{{- define "audio-batch-worker.matchers" -}}
{{- default (printf "namespace=%q,job=%q" .Release.Namespace .Release.Name) .Values.prometheusRule.selector }}
{{- end }}

{{- /* A number as the worker reads it: YAML's numbers are floats, and Go would print 8388608 as 8.388608e+06. */}}
{{- define "audio-batch-worker.scalar" -}}
{{- if and (kindIs "float64" .) (eq (toString .) (toString (floor .))) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{- /* Bytes of a Kubernetes quantity of memory. */}}
{{- define "audio-batch-worker.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- $text := include "audio-batch-worker.scalar" . }}
{{- $unit := regexFind "[A-Za-z]*$" $text }}
{{- mulf (float64 (trimSuffix $unit $text)) (get $units $unit) | int64 }}
{{- end }}

{{- /* Thousandths of a CPU of a Kubernetes quantity. */}}
{{- define "audio-batch-worker.millicpu" -}}
{{- $text := toString . }}
{{- if hasSuffix "m" $text }}{{ trimSuffix "m" $text }}{{ else }}{{ mulf (float64 $text) 1000 | int64 }}{{ end }}
{{- end }}

{{- define "audio-batch-worker.gracePeriod" -}}
{{- $sum := add (ceil .Values.config.shutdownGrace) .Values.terminationMarginSeconds }}
{{- default $sum .Values.terminationGracePeriodSeconds | int64 }}
{{- end }}

{{- /* Pods without an autoscaler. */}}
{{- define "audio-batch-worker.replicas" -}}
{{- default .Values.autoscaling.minReplicas .Values.replicas | int64 }}
{{- end }}
