{{- /*
The forms of single values, with the words for a person. They are not in values.schema.json because Helm would show the
regular expression. A list or a map stands for each of its values. Messages never repeat a value: it may be a secret.
*/}}
{{- define "audio-batch-worker.forms" -}}
- at: [nameOverride, fullnameOverride, redis.existingSecret.name, redis.caFile.configMap, redis.caFile.secret, store.existingSecret.name, encryption.existingSecret.name, spool.existingClaim, spool.claim.storageClass, serviceAccount.name, priorityClass.name]
  fits: '^$|^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$'
  must: be a name of Kubernetes, at most 253 lower-case letters, digits, - and ., with a letter or digit at both ends
- at: [redis.existingSecret.key, redis.caFile.key, store.existingSecret.key, encryption.existingSecret.key]
  fits: '^[-._a-zA-Z0-9]+$'
  must: be a key of a Secret, made of letters, digits, -, _ and .
- at: [encryption.existingSecret.oldSecretsKey]
  fits: '^[-._a-zA-Z0-9]*$'
  must: be a key of a Secret, made of letters, digits, -, _ and ., or empty
- at: [image.repository]
  fits: '^[a-z0-9][a-z0-9._/:-]*$'
  must: be a registry and a name in lower case without tag and digest, like registry.example/audio-batch-worker
- at: [image.tag]
  fits: '^$|^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$'
  must: be a tag of at most 128 letters, digits, _, . and -, or empty for the chart's appVersion
- at: [image.digest]
  fits: '^$|^sha256:[0-9a-f]{64}$'
  must: be sha256 and a colon with 64 hex digits in lower case, or empty
- at: [redis.url]
  fits: '^$|^(rediss?(\+sentinel)?|unix)://'
  must: begin with redis://, rediss://, redis+sentinel://, rediss+sentinel:// or unix://, or be empty
- at: [store.url]
  fits: '^$|^gs://[a-z0-9]|^file:///.'
  must: be gs://bucket with or without /prefix, or file:///directory, or empty
- at: [encryption.secret]
  fits: '^$|^[\s\S]{32,}$'
  must: have at least 32 characters, or be empty
- at: [encryption.oldSecrets]
  fits: '^[^,\n]{32,}$'
  must: have at least 32 characters each, without commas and line breaks
- at: [config.streamPrefix]
  fits: '^[A-Za-z0-9_.:-]{1,64}$'
  must: be 1 to 64 letters, digits, _, ., colons and -
- at: [config.httpHost]
  fits: '^[0-9a-fA-F.:]+$'
  must: be an IP address, like 0.0.0.0 or ::, not a name
- at: [config.storageEmulatorHost]
  fits: '^https?://[^/:]+:[0-9]+$'
  must: be http://host:port without a path, or null
- at: [spool.mountPath]
  fits: '^/.'
  must: be an absolute path below /
- at: [spool.claim.size, tmpSize, autoscaling.hpa.externalMetric.targetAverageValue, resources.requests, resources.limits]
  fits: '^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$'
  must: be a quantity of Kubernetes, a number with m, k, Ki, M, Mi, G, Gi, T, Ti or nothing after it, like 500m or 1Gi
- at: [podMonitor.interval, podMonitor.scrapeTimeout]
  fits: '^[0-9]+(ms|s|m|h)$'
  must: be a time with its unit, ms, s, m or h, like 15s
- at: [rollingUpdate.maxSurge, rollingUpdate.maxUnavailable]
  fits: '^[0-9]+%?$'
  must: be a number of pods or per cent, like 1 or 25%
- at: [podDisruptionBudget.maxUnavailable]
  fits: '^[1-9][0-9]*%?$'
  must: be a number of pods or per cent, like 1 or 25%, and more than 0
- at: [autoscaling.keda.serverAddress]
  fits: '^$|^https?://'
  must: begin with http:// or https://, or be empty
- at: [serviceAccount.workloadIdentity, web.workloadIdentity]
  fits: '^$|^[a-z0-9-]+@[a-z0-9.:-]+\.iam\.gserviceaccount\.com$'
  must: be the e-mail address of a Google service account, name@project.iam.gserviceaccount.com, or empty
- at: [autoscaling.hpa.externalMetric.name]
  fits: '^[A-Za-z0-9_.:|-]*$'
  must: be the name of a metric, made of letters, digits, _, ., colons, bars and -, or empty for CPU
- at: [prometheusRule.selector]
  fits: '^$|^ *[A-Za-z_][A-Za-z0-9_]* *(=|!=|=~|!~) *"([^"\\\n]|\\.)*" *(, *[A-Za-z_][A-Za-z0-9_]* *(=|!=|=~|!~) *"([^"\\\n]|\\.)*" *)*$'
  must: be label matchers with commas between and without braces, like cluster="eu",job="audio", or empty
- at: [prometheusRule.runbookURL]
  fits: '^\S*$'
  must: be a URL without spaces, or empty for no links
{{- end }}

{{- define "audio-batch-worker.checks.forms" -}}
{{- range $form := include "audio-batch-worker.forms" . | fromYamlArray }}
{{- range $path := $form.at }}
{{- $found := $.Values }}
{{- range splitList "." $path }}
{{- if kindIs "map" $found }}{{ $found = index $found . }}{{ end }}
{{- end }}
{{- $each := dict $path $found }}
{{- if kindIs "slice" $found }}
{{- $each = dict }}
{{- range $number, $item := $found }}{{ $_ := set $each (printf "%s[%d]" $path $number) $item }}{{ end }}
{{- else if kindIs "map" $found }}
{{- $each = dict }}
{{- range $key, $item := $found }}{{ $_ := set $each (printf "%s.%s" $path $key) $item }}{{ end }}
{{- end }}
{{- range $name, $value := $each }}
{{- if not (kindIs "invalid" $value) }}
{{- if not (regexMatch $form.fits (include "audio-batch-worker.scalar" $value)) }}
- {{ printf "%s: must %s" $name $form.must | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
