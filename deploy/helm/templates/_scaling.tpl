{{- /* The behaviour that the HPA and KEDA's HPA share. */}}
{{- define "audio-batch-worker.scalingBehavior" -}}
{{- with .Values.autoscaling.behavior -}}
scaleDown:
  stabilizationWindowSeconds: {{ .scaleDownWindowSeconds }}
  policies:
    - type: Pods
      value: {{ .scaleDownPods }}
      periodSeconds: {{ .scaleDownPeriodSeconds }}
scaleUp:
  stabilizationWindowSeconds: {{ .scaleUpWindowSeconds }}
  policies:
    - type: Percent
      value: {{ .scaleUpPercent }}
      periodSeconds: 60
{{- end }}
{{- end }}
