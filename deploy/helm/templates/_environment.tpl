{{- /* ConfigMap data: `config` by its own names, and what other sections decide. */}}
{{- define "audio-batch-worker.settings" -}}
{{- range $key, $value := .Values.config }}
{{- if not (kindIs "invalid" $value) }}
{{ snakecase $key | upper }}: {{ include "audio-batch-worker.scalar" $value | quote }}
{{- end }}
{{- end }}
{{- with .Values.store.url }}
STORE_URL: {{ quote . }}
{{- end }}
{{- if ne .Values.redis.auth "password" }}
REDIS_AUTH: {{ quote .Values.redis.auth }}
{{- end }}
{{- if include "audio-batch-worker.hasRedisCa" . }}
REDIS_CA_FILE: {{ printf "/etc/redis-ca/%s" .Values.redis.caFile.key | quote }}
{{- end }}
SPOOL_MODE: {{ .Values.spool.mode | quote }}
{{- if include "audio-batch-worker.hasSpool" . }}
SPOOL_DIR: {{ .Values.spool.mountPath | quote }}
SPOOL_MAX_BYTES: {{ include "audio-batch-worker.scalar" .Values.spool.maxBytes | quote }}
SPOOL_AFTER: {{ include "audio-batch-worker.scalar" .Values.spool.afterSeconds | quote }}
{{- end }}
{{- end }}

{{- /* Data of the Secret for development; empty when all secrets exist already. */}}
{{- define "audio-batch-worker.developmentSecrets" -}}
{{- with .Values.redis.url }}
REDIS_URL: {{ quote . }}
{{- end }}
{{- with .Values.encryption.secret }}
ENCRYPTION_SECRET: {{ quote . }}
{{- end }}
{{- with .Values.encryption.oldSecrets }}
ENCRYPTION_SECRETS_OLD: {{ join "\n" . | quote }}
{{- end }}
{{- end }}

{{- /* From (dict "root" $ "name" variable "value" development value "from" existingSecret [“key” key]). */}}
{{- define "audio-batch-worker.secretVariable" -}}
{{- $full := include "audio-batch-worker.fullname" .root }}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ ternary (printf "%s-development" $full) (default $full .from.name) (not (empty .value)) | quote }}
      key: {{ ternary .name (default .from.key .key) (not (empty .value)) | quote }}
{{- end }}

{{- /* Whether a private authority of Redis is mounted at /etc/redis-ca. */}}
{{- define "audio-batch-worker.hasRedisCa" -}}
{{- with .Values.redis.caFile }}{{ if or .configMap .secret }}true{{ end }}{{ end }}
{{- end }}

{{- /* The volume with it; a list with one item. */}}
{{- define "audio-batch-worker.redisCaVolume" -}}
- name: redis-ca
{{- with .Values.redis.caFile }}
{{- if .secret }}
  secret:
    secretName: {{ quote .secret }}
{{- else }}
  configMap:
    name: {{ quote .configMap }}
{{- end }}
{{- end }}
{{- end }}

{{- define "audio-batch-worker.env" -}}
{{- with .Values.redis }}
{{- include "audio-batch-worker.secretVariable" (dict "root" $ "name" "REDIS_URL" "value" .url "from" .existingSecret) }}
{{- end }}
{{- with .Values.store }}
{{- if not .url }}
{{- include "audio-batch-worker.secretVariable" (dict "root" $ "name" "STORE_URL" "value" "" "from" .existingSecret) }}
{{- end }}
{{- end }}
{{- with .Values.encryption }}
{{- include "audio-batch-worker.secretVariable" (dict "root" $ "name" "ENCRYPTION_SECRET" "value" .secret "from" .existingSecret) }}
{{- if or .oldSecrets .existingSecret.oldSecretsKey }}
{{- include "audio-batch-worker.secretVariable" (dict "root" $ "name" "ENCRYPTION_SECRETS_OLD" "value" .oldSecrets "from" .existingSecret "key" .existingSecret.oldSecretsKey) }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Later entries win, so that nothing in envFrom silently replaces a setting of the chart. */}}
{{- define "audio-batch-worker.envFrom" -}}
{{- with .Values.envFrom }}
{{- toYaml . }}
{{ end -}}
- configMapRef:
    name: {{ include "audio-batch-worker.fullname" . | quote }}
{{- end }}
